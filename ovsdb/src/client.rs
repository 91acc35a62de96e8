//! An OVSDB client over a Unix socket or TCP: requests one at a time, notifications kept until asked for.
//!
//! No task of its own: whoever awaits a [`Client`] moves its bytes, so it lives on any tokio runtime, and
//! every method may be dropped half-way (in a timeout, in `select!`) without losing a byte. Input and output
//! are pumped together, so a server that will not read before we do cannot bring us to a standstill. The
//! server is trusted as far as [`Limits::CLIENT`].

use crate::address::Address;
use crate::io_error_text;
use crate::jsonrpc::{Limits, Message, ProtocolError, Scanner};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

/// Why a client could not do what it was asked.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error("{at}: database connection failed ({}){}", io_error_text(source), hint(at, source))]
    Connect {
        /// Where.
        at: Address,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection broke.
    #[error("{at}: connection lost ({})", io_error_text(source))]
    Io {
        /// Where.
        at: Address,
        /// What the kernel said.
        source: io::Error,
    },
    /// The server closed the connection.
    #[error("{at}: the server closed the connection{}", said.as_deref().unwrap_or_default())]
    Closed {
        /// Where.
        at: Address,
        /// Its last words, if any: `: why`.
        said: Option<String>,
    },
    /// The peer does not speak JSON-RPC.
    #[error("{at}: {source}")]
    Protocol {
        /// Where.
        at: Address,
        /// What it said instead.
        source: ProtocolError,
    },
    /// The server refused the request.
    #[error("{method}: {}", show_error(error))]
    Refused {
        /// The method called.
        method: String,
        /// The `error` member of the reply.
        error: Value,
    },
}

fn hint(at: &Address, error: &io::Error) -> &'static str {
    if let Address::Tcp { .. } = at {
        return "; does the server listen on TCP there?";
    }
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "; is the vswitch daemon running, and is this its socket?"
        }
        io::ErrorKind::PermissionDenied => "; the socket is for root and its group",
        _ => "",
    }
}

/// An OVSDB error (`{"error": word, "details": text}` or a bare string) as one line.
fn show_error(error: &Value) -> String {
    match (error.get("error").and_then(Value::as_str), error.get("details").and_then(Value::as_str)) {
        (Some(word), Some(details)) => format!("{word}: {details}"),
        (Some(word), None) => word.to_owned(),
        _ => error.as_str().map_or_else(|| error.to_string(), str::to_owned),
    }
}

/// Pause before another attempt to connect to a busy server.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// A notification from the server: `update`, `update2`, `update3`…
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// Method name.
    pub method: String,
    /// Positional parameters.
    pub params: Vec<Value>,
}

/// A connection to an OVSDB server.
#[derive(Debug)]
pub struct Client {
    at: Address,
    stream: Stream,
    scanner: Scanner,
    /// Bytes still to be sent.
    out: Vec<u8>,
    next_id: u64,
    notifications: VecDeque<Notification>,
    /// An error that the server sent without the id of any request.
    said: Option<String>,
}

impl Client {
    /// Connects to the Unix socket at `path`; see [`Client::connect_to`].
    pub async fn connect(path: impl AsRef<Path>) -> Result<Client, ClientError> {
        Client::connect_to(Address::Unix(path.as_ref().to_owned())).await
    }

    /// Connects to a server. Waits, as a blocking connect would, while a server behind a Unix socket has no time to
    /// accept. Needs a runtime with time enabled.
    pub async fn connect_to(at: Address) -> Result<Client, ClientError> {
        match Stream::connect(&at).await {
            Ok(stream) => Ok(Client {
                at,
                stream,
                scanner: Scanner::new(Limits::CLIENT),
                out: Vec::new(),
                next_id: 0,
                notifications: VecDeque::new(),
                said: None,
            }),
            Err(source) => Err(ClientError::Connect { at, source }),
        }
    }

    /// Calls a method and waits for its result. Notifications that arrive meanwhile are kept for
    /// [`Client::notification`]. A reply to an earlier call that was dropped half-way is skipped.
    pub async fn call(&mut self, method: &str, params: Vec<Value>) -> Result<Value, ClientError> {
        self.next_id += 1;
        let id = json!(self.next_id);
        self.send(Message::Request { id: id.clone(), method: method.to_owned(), params });
        loop {
            match self.reply().await? {
                (reply_id, result) if reply_id == id => {
                    return result.map_err(|error| ClientError::Refused { method: method.to_owned(), error });
                }
                (Value::Null, Err(error)) => self.said = Some(format!(": {}", show_error(&error))),
                _ => {}
            }
        }
    }

    /// Runs `operations` on database `db` as one transaction (RFC 7047 §4.1.3). The result has one element
    /// per operation, and one more if the commit failed; errors of operations are among them.
    pub async fn transact(&mut self, db: &str, operations: Vec<Value>) -> Result<Vec<Value>, ClientError> {
        let mut params = vec![json!(db)];
        params.extend(operations);
        match self.call("transact", params).await? {
            Value::Array(results) => Ok(results),
            other => {
                let detail = format!("transact was answered with {other}, not an array");
                Err(self.protocol(ProtocolError::BadMessage { id: Value::Null, detail }))
            }
        }
    }

    /// The next notification, in the order sent; waits for one.
    pub async fn notification(&mut self) -> Result<Notification, ClientError> {
        loop {
            if let Some(notification) = self.notifications.pop_front() {
                return Ok(notification);
            }
            match self.next_message()? {
                Some(Message::Reply { .. }) => {} // to a call that was dropped half-way
                Some(message) => self.take_unasked(message),
                None => self.pump().await?,
            }
        }
    }

    async fn reply(&mut self) -> Result<(Value, Result<Value, Value>), ClientError> {
        loop {
            match self.next_message()? {
                Some(Message::Reply { id, result }) => return Ok((id, result)),
                Some(message) => self.take_unasked(message),
                None => self.pump().await?,
            }
        }
    }

    fn take_unasked(&mut self, message: Message) {
        match message {
            Message::Notification { method, params } => {
                self.notifications.push_back(Notification { method, params });
            }
            // A server probes an idle connection with echo and drops it without an answer.
            Message::Request { id, method, params } if method == "echo" => {
                self.send(Message::Reply { id, result: Ok(Value::Array(params)) });
            }
            Message::Request { id, .. } => {
                self.send(Message::Reply { id, result: Err(json!("unknown method")) });
            }
            Message::Reply { .. } => {}
        }
    }

    fn send(&mut self, message: Message) {
        self.out.extend(message.encode());
    }

    fn next_message(&mut self) -> Result<Option<Message>, ClientError> {
        self.scanner.next_message().map_err(|e| self.protocol(e))
    }

    /// Waits until bytes can move, and moves some.
    async fn pump(&mut self) -> Result<(), ClientError> {
        let interest = if self.out.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        let ready = self.stream.ready(interest).await.map_err(|e| self.lost(e))?;
        if ready.is_writable() && !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // Its last words may still be there to be read.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => self.out.clear(),
                Err(e) => return Err(self.lost(e)),
            }
        }
        if ready.is_readable() {
            let mut piece = [0; 16 << 10];
            match self.stream.try_read(&mut piece) {
                Ok(0) => return Err(self.closed()),
                Ok(n) => self.scanner.push(piece.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // How a socket closes when some of what we sent was not read.
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Err(self.closed()),
                Err(e) => return Err(self.lost(e)),
            }
        }
        Ok(())
    }

    fn closed(&mut self) -> ClientError {
        ClientError::Closed { at: self.at.clone(), said: self.said.take() }
    }

    fn lost(&self, source: io::Error) -> ClientError {
        ClientError::Io { at: self.at.clone(), source }
    }

    fn protocol(&self, source: ProtocolError) -> ClientError {
        ClientError::Protocol { at: self.at.clone(), source }
    }
}

/// The socket.
#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    async fn connect(at: &Address) -> io::Result<Stream> {
        match at {
            Address::Unix(path) => loop {
                match UnixStream::connect(path).await {
                    // The server is there, but has more connections to accept than the kernel holds for it.
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(CONNECT_PAUSE).await,
                    connected => break connected.map(Stream::Unix),
                }
            },
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // Requests are small, and each waits for its reply.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }

    async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Stream::Unix(stream) => stream.ready(interest).await,
            Stream::Tcp(stream) => stream.ready(interest).await,
        }
    }

    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.try_read(buf),
            Stream::Tcp(stream) => stream.try_read(buf),
        }
    }

    fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.try_write(buf),
            Stream::Tcp(stream) => stream.try_write(buf),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    /// A client, and the other end of its connection.
    async fn pair() -> (Client, UnixStream, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("db.sock");
        let listener = UnixListener::bind(&path).expect("free");
        let client = Client::connect(&path).await.expect("listening");
        let (server, _) = listener.accept().await.expect("connected");
        (client, server, dir)
    }

    async fn expect(server: &mut UnixStream, text: &str) {
        let mut got = vec![0; text.len()];
        server.read_exact(&mut got).await.expect("sent");
        assert_eq!(String::from_utf8_lossy(&got), text);
    }

    #[tokio::test]
    async fn a_call_gets_its_reply_and_keeps_the_notifications() {
        let (mut client, mut server, _dir) = pair().await;
        let serve = async {
            expect(&mut server, r#"{"id":1,"method":"m","params":[7]}"#).await;
            let text = br#"{"id":null,"method":"update","params":[1]}{"id":"echo","method":"echo","params":["x"]}
                {"id":99,"result":"stale","error":null}{"id":1,"result":[true],"error":null}"#;
            server.write_all(text).await.expect("open");
        };
        let (result, ()) = tokio::join!(client.call("m", vec![json!(7)]), serve);
        assert_eq!(result.expect("replied"), json!([true]));
        let notification = client.notification().await.expect("kept");
        assert_eq!(notification, Notification { method: "update".into(), params: vec![json!(1)] });
        let serve = async {
            expect(&mut server, r#"{"error":null,"id":"echo","result":["x"]}"#).await;
            server.write_all(br#"{"id":null,"method":"update","params":[2]}"#).await.expect("open");
        };
        let (notification, ()) = tokio::join!(client.notification(), serve);
        assert_eq!(notification.expect("sent").params, [json!(2)]);
    }

    #[tokio::test]
    async fn tcp_does_the_same() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let at = Address::parse(&format!("tcp:127.0.0.1:{port}")).expect("an address");
        let mut client = Client::connect_to(at.clone()).await.expect("listening");
        let (mut server, _) = listener.accept().await.expect("connected");
        server.write_all(br#"{"id":1,"result":[true],"error":null}"#).await.expect("open");
        assert_eq!(client.call("m", vec![]).await.expect("replied"), json!([true]));
        drop((server, listener));
        let error = client.notification().await.expect_err("closed").to_string();
        assert_eq!(error, format!("tcp:127.0.0.1:{port}: the server closed the connection"));
        let error = Client::connect_to(at).await.expect_err("nobody there").to_string();
        let expected = format!("tcp:127.0.0.1:{port}: database connection failed (Connection refused)");
        assert!(error.starts_with(&expected), "{error}");
    }

    #[tokio::test]
    async fn errors_say_who_said_what() {
        let error = Client::connect("/nonexistent/db.sock").await.expect_err("nobody there").to_string();
        let expected = "/nonexistent/db.sock: database connection failed (No such file or directory); \
            is the vswitch daemon running, and is this its socket?";
        assert_eq!(error, expected);

        let (mut client, mut server, _dir) = pair().await;
        let replies = br#"{"id":1,"error":"unknown method"}{"id":2,"error":{"error":"syntax error","details":"no"}}
            {"id":3,"result":5,"error":null}{"id":null,"error":{"error":"e","details":"d"},"result":null}"#;
        server.write_all(replies).await.expect("open");
        assert_eq!(client.call("a", vec![]).await.expect_err("refused").to_string(), "a: unknown method");
        assert_eq!(client.call("b", vec![]).await.expect_err("refused").to_string(), "b: syntax error: no");
        let error = client.transact("D", vec![]).await.expect_err("wrong").to_string();
        assert!(error.contains("transact was answered with 5"), "{error}");
        drop(server);
        let error = client.call("c", vec![]).await.expect_err("closed").to_string();
        assert!(error.ends_with("db.sock: the server closed the connection: e: d"), "{error}");

        let (mut client, mut server, _dir) = pair().await;
        server.write_all(b"SSH-2.0").await.expect("open");
        let error = client.notification().await.expect_err("nonsense").to_string();
        assert!(error.contains("starts with '{', found 'S'"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_writes_before_it_reads_is_no_deadlock() {
        let (mut client, mut server, _dir) = pair().await;
        let big = "x".repeat(4 << 20);
        let serve = async {
            let notification = json!({"id": null, "method": "update", "params": [big]}).to_string();
            server.write_all(notification.as_bytes()).await.expect("open");
            expect(&mut server, r#"{"id":1,"method":"m","params":[""#).await;
            let mut rest = vec![0; big.len() + 3];
            server.read_exact(&mut rest).await.expect("sent");
            server.write_all(br#"{"id":1,"result":{},"error":null}"#).await.expect("open");
        };
        let (result, ()) = tokio::join!(client.call("m", vec![json!(big)]), serve);
        assert_eq!(result.expect("replied"), json!({}));
    }
}
