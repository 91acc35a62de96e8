//! The server: sessions, their requests, and the one database they work on.
//!
//! [`Server`] is synchronous and has one owner, the daemon's event loop: it takes [`SessionEvent`]s, answers
//! into the sessions' outboxes, and returns what was committed, for the daemon to act on. So
//! transactions are serial, and a reply is sent after the notifications of everything committed before it.
//! A transaction that waits is put aside and run again after every commit; the loop calls [`Server::tick`] at
//! [`Server::next_deadline`]. [`Listener`] and its tasks only move bytes.
//!
//! A client's transaction is on disk before anybody hears of it. What a client may try is bounded where
//! it enters: message size and depth by the scanner, waiting bytes by its outbox, connections, monitors, locks
//! and waiting transactions by number. A broken client loses its connection; the server goes on.

mod connection;
mod info;
mod listen;
mod locks;
mod outbox;
mod parked;
mod probe;
mod request;
mod session;
mod target;
#[cfg(test)]
mod tests;
mod transact;
mod unix_socket;

use crate::db::log::Durability;
use crate::db::store::{OpenError, Store};
use crate::db::{Commit, Database, Prepared};
use crate::error::OpError;
use crate::jsonrpc::{Message, ProtocolError};
use crate::schema::DatabaseSchema;
use crate::value::Uuid;
pub use connection::SessionId;
pub use listen::{ListenError, Listener, MAX_CONNECTIONS, Remote, Room, Sessions};
use locks::Locks;
pub use outbox::{OUTBOX_BYTES, Outbox, OutboxReader, SendError, outbox};
use parked::{Parked, Transaction};
use request::{Db, Request};
use serde_json::{Value, json};
use session::Session;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Instant, SystemTime};
pub use target::Target;

/// What time it is: by the clock that times waits, and by the calendar, which is only written to the file.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Never steps.
    pub monotonic: Instant,
    /// The wall clock in ms since 1970.
    pub date: i64,
}

impl Now {
    /// Reads both clocks, for the loop that owns the server.
    pub fn read() -> Now {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { monotonic: Instant::now(), date: i64::try_from(since.as_millis()).unwrap_or(i64::MAX) }
    }
}

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
    locks: Locks,
    parked: Parked,
    /// Something was committed since the parked transactions were run.
    stale: bool,
    id: Uuid,
}

impl Server {
    /// Opens (or creates) the database file at `path` for a database of `schema`. `date` is the wall
    /// clock in ms since 1970, here and below; it is only written to the file.
    pub fn open(path: &Path, schema: DatabaseSchema, date: i64) -> Result<Server, OpenError> {
        let info = info::server_database(&schema);
        let (store, database) = Store::open(path, schema, date)?;
        Ok(Server {
            database,
            store,
            info,
            sessions: BTreeMap::new(),
            locks: Locks::default(),
            parked: Parked::default(),
            stale: false,
            id: Uuid::new_v4(),
        })
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

    /// Takes in what happened on a connection. Returns what clients committed by it, in order: that one, and
    /// those whose transactions waited for it.
    pub fn handle(&mut self, event: SessionEvent, now: Now) -> Vec<Commit> {
        let mut commits = Vec::new();
        match event {
            SessionEvent::Opened { session, peer, out } => {
                tracing::debug!("{session} ({peer}): connected");
                self.sessions.insert(session, Session::new(peer, out));
            }
            SessionEvent::Message { session, message: Message::Request { id, method, params } } => {
                commits.extend(self.request(session, id, &method, params, now));
            }
            SessionEvent::Message { session, message: Message::Notification { method, params } } => {
                // No other concerns a server, and none gets an answer.
                if let ("cancel", [id]) = (&*method, &params[..]) {
                    self.cancel(session, id);
                }
            }
            SessionEvent::Message { session, message: Message::Reply { id, .. } } => {
                let detail = "a reply, but the server has asked nothing".to_owned();
                self.refuse(session, &ProtocolError::BadMessage { id, detail });
            }
            SessionEvent::Garbage { session, error } => self.refuse(session, &error),
            SessionEvent::Closed { session } => {
                if let Some(Session { peer, .. }) = self.forget(session) {
                    tracing::debug!("{session} ({peer}): closed");
                }
            }
        }
        commits.extend(self.tick(now));
        commits
    }

    /// Commits a transaction: to the file, to the database, to every monitor. On an error (the disk is
    /// full…) nothing has changed. For the daemon's own rows; clients' transactions come by
    /// [`Server::handle`]. Those that waited for it are run by the next [`Server::tick`].
    pub fn commit(&mut self, prepared: Prepared, durability: Durability, date: i64) -> Result<Commit, OpError> {
        self.store.write(self.database.schema(), &prepared, durability, date)?;
        let commit = self.database.apply(prepared);
        self.stale = true;
        let slow: Vec<_> =
            self.sessions.iter().filter_map(|(id, session)| Some((*id, session.notify(&commit).err()?))).collect();
        for (session, error) in slow {
            self.drop_session(session, error);
        }
        self.store.compact_if_due(&self.database, date);
        Ok(commit)
    }

    fn request(&mut self, session: SessionId, id: Value, method: &str, params: Vec<Value>, now: Now) -> Option<Commit> {
        if !self.sessions.contains_key(&session) {
            return None; // dropped, but its last messages were on their way
        }
        let result = match Request::parse(method, params, &self.database.schema().name) {
            Ok(Request::Transact { db, operations }) => {
                return self
                    .transact(Transaction { session, id, db, operations, since: now.monotonic, admitted: None }, now);
            }
            Ok(request) => self.answer(session, request),
            Err(error) => Err(error),
        };
        self.send(session, Message::Reply { id, result });
        None
    }

    /// Everything but transactions.
    fn answer(&mut self, session: SessionId, request: Request) -> Result<Value, Value> {
        let Some(client) = self.sessions.get_mut(&session) else { return Err(json!("unknown session")) };
        match request {
            Request::ListDbs => Ok(json!([self.database.schema().name, self.info.schema().name])),
            Request::GetSchema { db: Db::Main } => Ok(self.store.schema().clone()),
            Request::GetSchema { db: Db::Info } => Ok(self.info.schema().to_json()),
            Request::Echo { params } => Ok(Value::Array(params)),
            Request::SetDbChangeAware => Ok(json!({})),
            Request::GetServerId => Ok(json!(self.id.to_string())),
            Request::Monitor { version, db, id, requests } => {
                let database = if db == Db::Main { &self.database } else { &self.info };
                client.monitor(version, id, &requests, db, database)
            }
            Request::MonitorCondChange { id, new_id, requests } => {
                let change = client.change_monitor(&id, new_id, &requests, [&self.database, &self.info])?;
                if let Some(update) = change {
                    self.send(session, update);
                }
                Ok(json!({}))
            }
            Request::MonitorCancel { id } => client.cancel_monitor(&id),
            Request::Lock { name } => {
                let locked = self.locks.lock(&name, session).map_err(|e| e.to_json())?;
                Ok(json!({ "locked": locked }))
            }
            Request::Steal { name } => {
                let victim = self.locks.steal(&name, session).map_err(|e| e.to_json())?;
                self.tell_lock("stolen", &name, victim);
                Ok(json!({"locked": true}))
            }
            Request::Unlock { name } => {
                let next = self.locks.unlock(&name, session).map_err(|e| e.to_json())?;
                self.tell_lock("locked", &name, next);
                Ok(json!({}))
            }
            Request::Transact { .. } => Err(json!("unknown method")),
        }
    }

    fn get(&self, db: Db) -> &Database {
        match db {
            Db::Main => &self.database,
            Db::Info => &self.info,
        }
    }

    /// Tells `session`, if there is one, that it has got or lost a lock.
    fn tell_lock(&mut self, what: &str, name: &str, session: Option<SessionId>) {
        if let Some(session) = session {
            self.send(session, Message::Notification { method: what.to_owned(), params: vec![json!(name)] });
        }
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
        if let Some(client) = self.forget(session) {
            tracing::warn!("{session} ({}): connection closed: {error}", client.peer);
        }
    }

    fn drop_session(&mut self, session: SessionId, error: SendError) {
        let Some(client) = self.forget(session) else { return };
        if let SendError::Full { waiting } = error {
            let peer = &client.peer;
            tracing::warn!("{session} ({peer}): connection closed: it does not read, {waiting} bytes wait for it");
        }
        client.abort();
    }

    /// Removes a client with all that is its own. Its locks go to who waited for them.
    fn forget(&mut self, session: SessionId) -> Option<Session> {
        let client = self.sessions.remove(&session)?;
        self.parked.forget(session);
        for (name, next) in self.locks.leave_all(session) {
            self.tell_lock("locked", &name, Some(next));
        }
        Some(client)
    }
}
