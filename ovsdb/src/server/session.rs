//! One client as the server core knows it: where its messages go, and what it monitors.

use super::outbox::{Outbox, SendError};
use super::request::Db;
use crate::db::{Commit, Database, Monitor, MonitorVersion};
use crate::error::OpError;
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
    db: Db,
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
        db: Db,
        database: &Database,
    ) -> Result<Value, Value> {
        self.check_free(&id)?;
        if self.monitors.len() >= MAX_MONITORS {
            let details = format!("a session may have {MAX_MONITORS} monitors; cancel one first");
            return Err(json!({"error": "resources exhausted", "details": details}));
        }
        let monitor = Monitor::new(version, requests, database).map_err(|e| e.to_json())?;
        let rows = monitor.initial(database);
        self.monitors.push(Monitored { id, db, monitor });
        Ok(match version {
            MonitorVersion::V1 | MonitorVersion::V2 => rows,
            // No history is kept: the client gets everything, whatever it had seen.
            MonitorVersion::V3 => Value::Array(vec![false.into(), no_transaction().into(), rows]),
        })
    }

    /// Gives a monitor other conditions and another id. The result is the notification of what that means to
    /// the client, if anything. `databases`: the main one, then `_Server`.
    pub fn change_monitor(
        &mut self,
        id: &Value,
        new_id: Value,
        requests: &Value,
        databases: [&Database; 2],
    ) -> Result<Option<Message>, Value> {
        if *id != new_id {
            self.check_free(&new_id)?;
        }
        let Some(monitored) = self.monitors.iter_mut().find(|m| m.id == *id) else {
            return Err(OpError::syntax(id, "unknown monitor session").to_json());
        };
        let [main, info] = databases;
        let database = if monitored.db == Db::Main { main } else { info };
        let rows = monitored.monitor.change_conditions(requests, database).map_err(|e| e.to_json())?;
        monitored.id = new_id;
        Ok(rows.map(|rows| monitored.notification(rows)))
    }

    pub fn cancel_monitor(&mut self, id: &Value) -> Result<Value, Value> {
        let before = self.monitors.len();
        self.monitors.retain(|m| m.id != *id);
        if self.monitors.len() < before { Ok(json!({})) } else { Err(json!("unknown monitor")) }
    }

    /// Tells the client what a commit to the main database means for its monitors. (`_Server` never changes.)
    pub fn notify(&self, commit: &Commit) -> Result<(), SendError> {
        for monitored in self.monitors.iter().filter(|m| m.db == Db::Main) {
            if let Some(rows) = monitored.monitor.update(commit) {
                self.send(monitored.notification(rows))?;
            }
        }
        Ok(())
    }

    fn check_free(&self, id: &Value) -> Result<(), Value> {
        if self.monitors.iter().any(|m| m.id == *id) {
            return Err(OpError::syntax(id, "duplicate monitor ID").to_json());
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
