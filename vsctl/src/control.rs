//! The switch's control socket, for what is in no table: JSON-RPC as ovs-appctl speaks it, one question a connection.

use std::io::{BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ovsdb::address::{Address, control_socket};
use serde_json::{Deserializer, Value, json};

use crate::error::{Result, fail, failed};
use crate::globals::Globals;

/// Where it is, and how to deal with it.
#[derive(Debug)]
pub(crate) struct Control {
    /// Beside the database's first Unix socket; `None`: only TCP was named.
    at: Option<PathBuf>,
    patience: Option<Duration>,
    /// Whether nothing may change.
    pub dry_run: bool,
}

impl Control {
    /// That of the switch which the options name.
    pub(crate) fn of(globals: &Globals) -> Control {
        let unix = |address: &Address| match address {
            Address::Unix(path) => Some(control_socket(path)),
            Address::Tcp { .. } => None,
        };
        let at = globals.remotes.iter().find_map(unix);
        Control { at, patience: globals.timeout, dry_run: globals.dry_run }
    }

    /// Asks the running switch, and waits for its answer.
    pub(crate) fn ask(&self, method: &str, params: &[&str]) -> Result<String> {
        let Some(at) = &self.at else {
            fail!("the control socket is beside the database's Unix socket: ask on the switch's own host");
        };
        let failure = |error| unreachable(at, &error);
        let mut stream = UnixStream::connect(at).map_err(failure)?;
        stream.set_read_timeout(self.patience).map_err(failure)?;
        stream.set_write_timeout(self.patience).map_err(failure)?;
        let request = json!({"id": 0, "method": method, "params": params}).to_string();
        stream.write_all(request.as_bytes()).map_err(failure)?;
        let reply = Deserializer::from_reader(BufReader::new(stream)).into_iter::<Value>().next();
        let reply = match reply {
            Some(Ok(reply)) => reply,
            Some(Err(error)) => fail!("the switch's control socket {}: {error}", at.display()),
            None => fail!("the switch closed its control socket {} instead of answering", at.display()),
        };
        match (&reply["result"], &reply["error"]) {
            (Value::String(text), Value::Null) => Ok(text.clone()),
            (_, Value::String(error)) => fail!("{}", error.trim_end()),
            _ => fail!("the switch's control socket {} sent {reply}", at.display()),
        }
    }

    /// Asks for what the switch tells in JSON.
    pub(crate) fn json(&self, method: &str, params: &[&str]) -> Result<Value> {
        let answer = self.ask(method, params)?;
        serde_json::from_str(&answer).map_err(|e| failed!("what the switch answers to {method} cannot be read: {e}"))
    }

    /// The same when it is a list.
    pub(crate) fn rows(&self, method: &str, params: &[&str]) -> Result<Vec<Value>> {
        match self.json(method, params)? {
            Value::Array(rows) => Ok(rows),
            other => fail!("the switch answers {method} with {other}, which is no list"),
        }
    }
}

fn unreachable(at: &Path, error: &std::io::Error) -> crate::error::Error {
    let at = at.display();
    match error.kind() {
        ErrorKind::NotFound => failed!("the switch has no control socket {at}; is it vswitch, and does it run here?"),
        _ => failed!("the switch's control socket {at}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::net::UnixListener;

    /// What comes of a question that is answered by `reply`, and what was asked.
    fn asked(reply: &str) -> (Result<String>, String) {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("db.ctl");
        let listener = UnixListener::bind(&at).unwrap();
        let reply = reply.to_owned();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 200];
            let len = stream.read(&mut request).unwrap();
            stream.write_all(reply.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..len]).into_owned()
        });
        let control = Control { at: Some(at), patience: Some(Duration::from_secs(10)), dry_run: false };
        (control.ask("fdb/list", &["br0"]), server.join().unwrap())
    }

    #[test]
    fn questions_and_answers() {
        let (answer, request) = asked(r#"{"id":0,"result":"[]\n","error":null}"#);
        assert_eq!(answer.unwrap(), "[]\n");
        let request: Value = serde_json::from_str(&request).unwrap();
        assert_eq!(request, json!({"id": 0, "method": "fdb/list", "params": ["br0"]}));
        let refused = |reply| asked(reply).0.unwrap_err().to_string();
        assert_eq!(refused(r#"{"id":0,"result":null,"error":"no such bridge\n"}"#), "no such bridge");
        assert!(refused("").contains("instead of answering"));
        assert!(refused("{]").contains("db.ctl: "));
        assert!(refused(r#"{"id":0,"result":5,"error":null}"#).contains("sent {"));
    }

    #[test]
    fn without_a_socket() {
        let ask = |at: Option<&str>| {
            let control = Control { at: at.map(PathBuf::from), patience: None, dry_run: false };
            control.ask("version", &[]).unwrap_err().to_string()
        };
        assert!(ask(None).contains("on the switch's own host"));
        assert!(ask(Some("/nonexistent/db.ctl")).contains("no control socket /nonexistent/db.ctl"));
    }
}
