//! Clients' transactions: run at once, put aside while they wait, run again, answered.

use super::parked::Transaction;
use super::request::Db;
use super::{Now, Server, SessionId};
use crate::db::log::Durability;
use crate::db::{Caller, Commit, Executed};
use crate::error::OpError;
use crate::jsonrpc::Message;
use serde_json::{Value, json};
use std::time::Instant;

impl Server {
    /// Runs the transactions that wait: all of them if something was committed since the last time, otherwise
    /// those whose time is over. Returns what they committed, in order.
    pub fn tick(&mut self, now: Now) -> Vec<Commit> {
        let mut commits = Vec::new();
        loop {
            let all = std::mem::take(&mut self.stale);
            let transactions = self.parked.take(now.monotonic, all);
            if transactions.is_empty() {
                return commits;
            }
            for transaction in transactions {
                commits.extend(self.run(transaction, now));
            }
        }
    }

    /// When [`Server::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.stale { self.parked.oldest() } else { self.parked.next_deadline() }
    }

    /// Takes in a transaction.
    pub(super) fn transact(&mut self, transaction: Transaction, now: Now) -> Option<Commit> {
        if !self.parked.contains(transaction.session, &transaction.id) {
            return self.run(transaction, now);
        }
        let Transaction { session, id, db, mut operations, .. } = transaction;
        operations.insert(0, json!(self.get(db).schema().name));
        let error = OpError::syntax(&Value::Array(operations), "transact: duplicate request ID").to_json();
        self.send(session, Message::Reply { id, result: Err(error) });
        None
    }

    /// Ends the wait of a transaction, as its client asks (RFC 7047 §4.1.4).
    pub(super) fn cancel(&mut self, session: SessionId, id: &Value) {
        if let Some(transaction) = self.parked.cancel(session, id) {
            self.send(session, Message::Reply { id: transaction.id, result: Err(json!("canceled")) });
        }
    }

    /// Runs a transaction, and answers or parks it.
    fn run(&mut self, mut transaction: Transaction, now: Now) -> Option<Commit> {
        let Transaction { session, db, .. } = transaction;
        if !self.sessions.contains_key(&session) {
            return None; // dropped by what others did before its turn
        }
        let caller = Caller {
            holds: &|lock| self.locks.is_held(lock, session),
            waited: now.monotonic.saturating_duration_since(transaction.since),
            read_only: db == Db::Info,
        };
        let executed = self.get(db).execute_for(&transaction.operations, caller);
        let (id, result, commit) = match executed.blocked {
            None => {
                let (reply, commit) = self.complete(executed, now);
                (transaction.id, Ok(reply), commit)
            }
            Some(timeout) => match self.parked.admit(&mut transaction) {
                Ok(()) => {
                    self.parked.park(transaction, timeout);
                    return None;
                }
                Err(error) => (transaction.id, Err(error.to_json()), None),
            },
        };
        self.send(session, Message::Reply { id, result });
        commit
    }

    fn complete(&mut self, executed: Executed, now: Now) -> (Value, Option<Commit>) {
        let Executed { mut reply, prepared, .. } = executed;
        let Some(prepared) = prepared else { return (reply, None) };
        // An error after all operations went well is one more element (RFC 7047 §4.1.3).
        let commit = self.commit(prepared, Durability::Synced, now.date).map_err(|error| {
            tracing::error!("transaction refused: {error}");
            if let Value::Array(results) = &mut reply {
                results.push(error.to_json());
            }
        });
        (reply, commit.ok())
    }
}
