//! One client as the server core knows it: where its messages go, and what it monitors.

use super::outbox::{Outbox, SendError};
use crate::db::{Commit, Database, Monitor, MonitorVersion};
use crate::jsonrpc::Message;
use crate::value::Uuid;
use serde_json::{Value, json};

/// Monitors that one client may have. Each costs work on every commit.
const MAX_MONITORS: usize = 64;

#[derive(Debug)]
pub(super) struct Session {
    /// Who it is, for log lines.
    pub peer: String,
    out: Outbox,
    monitors: Vec<Monitored>,
}

#[derive(Debug)]
struct Monitored {
    /// The client's name for it: any JSON.
    id: Value,
    db: String,
    monitor: Monitor,
}

impl Session {
    pub fn new(peer: String, out: Outbox) -> Session {
        Session { peer, out, monitors: Vec::new() }
    }

    pub fn send(&self, message: Message) -> Result<(), SendError> {
        self.out.send(message.encode())
    }

    /// Closes the connection without sending what waits.
    pub fn abort(self) {
        self.out.abort();
    }

    /// Adds a monitor of `database`; the result is the content of the reply.
    pub fn monitor(
        &mut self,
        version: MonitorVersion,
        id: Value,
        requests: &Value,
        database: &Database,
    ) -> Result<Value, Value> {
        if self.monitors.iter().any(|m| m.id == id) {
            return Err(json!({"error": "syntax error", "details": "duplicate monitor ID", "syntax": id.to_string()}));
        }
        if self.monitors.len() >= MAX_MONITORS {
            let details = format!("a session may have {MAX_MONITORS} monitors; cancel one first");
            return Err(json!({"error": "resources exhausted", "details": details}));
        }
        let monitor = Monitor::new(version, requests, database).map_err(|e| e.to_json())?;
        let rows = monitor.initial(database);
        self.monitors.push(Monitored { id, db: database.schema().name.clone(), monitor });
        Ok(match version {
            MonitorVersion::V1 | MonitorVersion::V2 => rows,
            // No history is kept: the client gets everything, whatever it had seen.
            MonitorVersion::V3 => json!([false, no_transaction(), rows]),
        })
    }

    pub fn cancel(&mut self, id: &Value) -> Result<Value, Value> {
        let before = self.monitors.len();
        self.monitors.retain(|m| m.id != *id);
        if self.monitors.len() < before { Ok(json!({})) } else { Err(json!("unknown monitor")) }
    }

    /// Tells the client what a commit to `database` means for its monitors.
    pub fn notify(&self, commit: &Commit, database: &Database) -> Result<(), SendError> {
        for monitored in self.monitors.iter().filter(|m| m.db == database.schema().name) {
            if let Some(rows) = monitored.monitor.update(commit) {
                self.send(monitored.notification(rows))?;
            }
        }
        Ok(())
    }
}

impl Monitored {
    fn notification(&self, rows: Value) -> Message {
        let id = self.id.clone();
        let (method, params) = match self.monitor.version() {
            MonitorVersion::V1 => ("update", vec![id, rows]),
            MonitorVersion::V2 => ("update2", vec![id, rows]),
            MonitorVersion::V3 => ("update3", vec![id, json!(no_transaction()), rows]),
        };
        Message::Notification { method: method.to_owned(), params }
    }
}

/// The transaction id of a database that keeps no history.
fn no_transaction() -> String {
    Uuid::nil().to_string()
}
