//! The server: sessions, their requests, and the one database they work on.
//!
//! [`Server`] is synchronous and has one owner, the daemon's event loop: it takes [`SessionEvent`]s, answers
//! into the sessions' outboxes, and returns what was committed, for the daemon to act on. So
//! transactions are serial, and a reply is sent after the notifications of everything committed before it.
//! [`Listener`] and its tasks only move bytes.
//!
//! A client's transaction is on disk before anybody hears of it. What a client may try is bounded where
//! it enters: message size and depth by the scanner, waiting bytes by its outbox, connections and
//! monitors by number. A broken client loses its connection; the server goes on.

mod connection;
mod info;
mod listen;
mod outbox;
mod request;
mod session;
#[cfg(test)]
mod tests;

use crate::db::log::Durability;
use crate::db::store::{OpenError, Store};
use crate::db::{Commit, Database, Prepared};
use crate::error::OpError;
use crate::jsonrpc::{Message, ProtocolError};
use crate::schema::DatabaseSchema;
use crate::value::Uuid;
pub use connection::SessionId;
pub use listen::{ListenError, Listener, MAX_CONNECTIONS};
pub use outbox::{OUTBOX_BYTES, Outbox, OutboxReader, SendError, outbox};
use request::Request;
use serde_json::{Value, json};
use session::Session;
use std::collections::BTreeMap;
use std::path::Path;

/// What happens on a connection.
#[derive(Debug)]
pub enum SessionEvent {
    /// A client has connected.
    Opened {
        /// The new session.
        session: SessionId,
        /// Who it is, for log lines.
        peer: String,
        /// Where its messages go.
        out: Outbox,
    },
    /// It says something.
    Message {
        /// Who.
        session: SessionId,
        /// What.
        message: Message,
    },
    /// It says something that is no JSON-RPC; nothing more will come from it.
    Garbage {
        /// Who.
        session: SessionId,
        /// What is wrong with it.
        error: ProtocolError,
    },
    /// It has hung up, or is no longer listened to.
    Closed {
        /// Who.
        session: SessionId,
    },
}

/// The database, its file, and everybody connected to it.
#[derive(Debug)]
pub struct Server {
    database: Database,
    store: Store,
    /// The read-only `_Server` database.
    info: Database,
    sessions: BTreeMap<SessionId, Session>,
    id: Uuid,
}

impl Server {
    /// Opens (or creates) the database file at `path` for a database of `schema`. `date` is the wall
    /// clock in ms since 1970, here and below; it is only written to the file.
    pub fn open(path: &Path, schema: DatabaseSchema, date: i64) -> Result<Server, OpenError> {
        let info = info::server_database(&schema);
        let (store, database) = Store::open(path, schema, date)?;
        Ok(Server { database, store, info, sessions: BTreeMap::new(), id: Uuid::new_v4() })
    }

    /// The database as it is now.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        self.store.path()
    }

    /// Number of connected clients.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Takes in what happened on a connection. Returns what a client committed by it.
    pub fn handle(&mut self, event: SessionEvent, date: i64) -> Option<Commit> {
        match event {
            SessionEvent::Opened { session, peer, out } => {
                tracing::debug!("{session} ({peer}): connected");
                self.sessions.insert(session, Session::new(peer, out));
            }
            SessionEvent::Message { session, message: Message::Request { id, method, params } } => {
                return self.request(session, id, &method, params, date);
            }
            // None that a client may send (`cancel`) concerns us: no request is ever left waiting.
            SessionEvent::Message { message: Message::Notification { .. }, .. } => {}
            SessionEvent::Message { session, message: Message::Reply { id, .. } } => {
                let detail = "a reply, but the server has asked nothing".to_owned();
                self.refuse(session, &ProtocolError::BadMessage { id, detail });
            }
            SessionEvent::Garbage { session, error } => self.refuse(session, &error),
            SessionEvent::Closed { session } => {
                if let Some(Session { peer, .. }) = self.sessions.remove(&session) {
                    tracing::debug!("{session} ({peer}): closed");
                }
            }
        }
        None
    }

    /// Commits a transaction: to the file, to the database, to every monitor. On an error (the disk is
    /// full…) nothing has changed. For the daemon's own rows; clients' transactions come by
    /// [`Server::handle`].
    pub fn commit(&mut self, prepared: Prepared, durability: Durability, date: i64) -> Result<Commit, OpError> {
        self.store.write(self.database.schema(), &prepared, durability, date)?;
        let commit = self.database.apply(prepared);
        let slow: Vec<_> = self
            .sessions
            .iter()
            .filter_map(|(id, session)| Some((*id, session.notify(&commit, &self.database).err()?)))
            .collect();
        for (session, error) in slow {
            self.drop_session(session, error);
        }
        self.store.compact_if_due(&self.database, date);
        Ok(commit)
    }

    fn request(
        &mut self,
        session: SessionId,
        id: Value,
        method: &str,
        params: Vec<Value>,
        date: i64,
    ) -> Option<Commit> {
        if !self.sessions.contains_key(&session) {
            return None; // dropped, but its last messages were on their way
        }
        let mut commit = None;
        let result = Request::parse(method, params).and_then(|request| match request {
            Request::Transact { db, operations } => {
                let (result, committed) = self.transact(&db, &operations, date)?;
                commit = committed;
                Ok(result)
            }
            other => self.answer(session, method, other),
        });
        self.send(session, Message::Reply { id, result });
        commit
    }

    /// Everything but transactions.
    fn answer(&mut self, session: SessionId, method: &str, request: Request) -> Result<Value, Value> {
        match request {
            Request::ListDbs => Ok(json!([self.database.schema().name, self.info.schema().name])),
            Request::GetSchema { db } => Ok(find([&self.database, &self.info], &db, method)?.schema().to_json()),
            Request::Echo { params } => Ok(Value::Array(params)),
            Request::SetDbChangeAware => Ok(json!({})),
            Request::GetServerId => Ok(json!(self.id.to_string())),
            Request::Monitor { version, db, id, requests } => {
                let database = find([&self.database, &self.info], &db, method)?;
                let client = self.sessions.get_mut(&session).ok_or_else(|| json!("unknown session"))?;
                client.monitor(version, id, &requests, database)
            }
            Request::MonitorCancel { id } => match self.sessions.get_mut(&session) {
                Some(client) => client.cancel(&id),
                None => Err(json!("unknown monitor")),
            },
            Request::Transact { .. } => Err(json!("unknown method")),
        }
    }

    fn transact(&mut self, db: &str, operations: &[Value], date: i64) -> Result<(Value, Option<Commit>), Value> {
        let database = find([&self.database, &self.info], db, "transact")?;
        let executed = database.execute(operations);
        let mut reply = executed.reply;
        let Some(prepared) = executed.prepared else { return Ok((reply, None)) };
        let committed = if db == self.database.schema().name {
            self.commit(prepared, Durability::Synced, date)
        } else {
            Err(OpError::new("not allowed", format!("the database {db} is read-only")))
        };
        // An error after all operations went well is one more element (RFC 7047 §4.1.3).
        let commit = committed.map_err(|error| {
            tracing::error!("transaction refused: {error}");
            if let Value::Array(results) = &mut reply {
                results.push(error.to_json());
            }
        });
        Ok((reply, commit.ok()))
    }

    fn send(&mut self, session: SessionId, message: Message) {
        let sent = self.sessions.get(&session).map(|client| client.send(message));
        if let Some(Err(error)) = sent {
            self.drop_session(session, error);
        }
    }

    /// Tells a client why, and closes its connection.
    fn refuse(&mut self, session: SessionId, error: &ProtocolError) {
        self.send(session, error.to_reply());
        if let Some(client) = self.sessions.remove(&session) {
            tracing::warn!("{session} ({}): connection closed: {error}", client.peer);
        }
    }

    fn drop_session(&mut self, session: SessionId, error: SendError) {
        let Some(client) = self.sessions.remove(&session) else { return };
        if let SendError::Full { waiting } = error {
            let peer = &client.peer;
            tracing::warn!("{session} ({peer}): connection closed: it does not read, {waiting} bytes wait for it");
        }
        client.abort();
    }
}

fn find<'a>(databases: [&'a Database; 2], name: &str, method: &str) -> Result<&'a Database, Value> {
    databases.into_iter().find(|db| db.schema().name == name).ok_or_else(|| {
        let details = format!("{method} request specifies unknown database {name}");
        OpError::new("unknown database", details).at(&json!([name])).to_json()
    })
}
