//! A client of JSON-RPC 1.0 that sends exactly what a test says: no more than RFC 7047 §4 asks of one.

use crate::process::PATIENCE;
use serde_json::de::IoRead;
use serde_json::{Deserializer, StreamDeserializer, Value, json};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A connection.
pub struct Rpc {
    stream: UnixStream,
    incoming: StreamDeserializer<'static, IoRead<UnixStream>, Value>,
    next_id: u64,
    /// Notifications that have come in, in order.
    pub notifications: Vec<Value>,
}

impl Rpc {
    /// Connects.
    ///
    /// # Panics
    /// If nobody listens there.
    #[must_use]
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let incoming = Deserializer::from_reader(stream.try_clone().expect("a second handle")).into_iter();
        Self { stream, incoming, next_id: 0, notifications: Vec::new() }
    }

    /// Sends a request and waits for its reply: the whole message, without the id.
    ///
    /// # Panics
    /// If the connection ends, or no reply comes.
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({"method": method, "params": params, "id": id});
        self.stream.write_all(request.to_string().as_bytes()).unwrap_or_else(|e| panic!("{request}: {e}"));
        loop {
            let mut message = self.receive(&request);
            if message["id"] == id {
                message.as_object_mut().expect("an object").remove("id");
                return message;
            }
            self.notifications.push(message);
        }
    }

    /// The first notification from now on, those that came in before included, that `wanted` accepts.
    ///
    /// # Panics
    /// If none comes.
    pub fn notification(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(at) = self.notifications.iter().position(&wanted) {
                return self.notifications.remove(at);
            }
            let message = self.receive(&json!("a notification"));
            self.notifications.push(message);
        }
    }

    fn receive(&mut self, waiting_for: &Value) -> Value {
        match self.incoming.next() {
            Some(message) => message.unwrap_or_else(|e| panic!("waiting for {waiting_for}: {e}")),
            None => panic!("waiting for {waiting_for}: the server has closed the connection"),
        }
    }
}
