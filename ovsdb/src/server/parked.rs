//! Transactions that wait for the database to change (RFC 7047 §5.2.6). Pure.
//!
//! What a client may try: to have many of them, or large ones, since all are run again after every commit of
//! anybody. Each client may have a number and an amount of them, and there is a number for all.

use super::connection::SessionId;
use super::request::Db;
use crate::error::OpError;
use serde_json::Value;
use std::io;
use std::time::{Duration, Instant};

/// Transactions of one client that may wait.
pub(super) const MAX_OF_SESSION: usize = 64;
/// Transactions that may wait in all.
const MAX: usize = 1024;
/// Length of the text of all operations of one client that may wait.
const MAX_BYTES_OF_SESSION: usize = 1 << 20;

/// A transaction of a client.
#[derive(Debug)]
pub(super) struct Transaction {
    pub session: SessionId,
    /// The client's name for the request: any JSON.
    pub id: Value,
    pub db: Db,
    pub operations: Vec<Value>,
    /// When it was run for the first time.
    pub since: Instant,
    /// Length of the operations as text, once it has been admitted to wait; what they cost in memory is
    /// proportional.
    pub admitted: Option<usize>,
}

#[derive(Debug)]
struct Waiting {
    transaction: Transaction,
    /// None: it waits for ever.
    deadline: Option<Instant>,
}

/// All that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Parked(Vec<Waiting>);

impl Parked {
    /// May `transaction` wait? Once admitted it may always.
    pub fn admit(&self, transaction: &mut Transaction) -> Result<(), OpError> {
        if transaction.admitted.is_none() {
            let bytes = transaction.operations.iter().map(text_length).sum();
            self.check(transaction.session, bytes)?;
            transaction.admitted = Some(bytes);
        }
        Ok(())
    }

    fn check(&self, session: SessionId, bytes: usize) -> Result<(), OpError> {
        let mine = || self.0.iter().map(|w| &w.transaction).filter(|t| t.session == session);
        let exhausted = |what: String| Err(OpError::new("resources exhausted", what));
        if mine().count() >= MAX_OF_SESSION {
            return exhausted(format!("a session may have {MAX_OF_SESSION} transactions waiting; cancel one first"));
        }
        if mine().filter_map(|t| t.admitted).sum::<usize>() + bytes > MAX_BYTES_OF_SESSION {
            return exhausted(format!("the waiting transactions of a session may have {MAX_BYTES_OF_SESSION} bytes"));
        }
        if self.0.len() >= MAX {
            return exhausted(format!("the server has its maximum of {MAX} waiting transactions; try again later"));
        }
        Ok(())
    }

    /// Lets `transaction`, which is admitted, wait until `timeout` after its first run.
    pub fn park(&mut self, transaction: Transaction, timeout: Duration) {
        let deadline = transaction.since.checked_add(timeout);
        self.0.push(Waiting { transaction, deadline });
    }

    /// Takes out those whose time is over at `now`; all, if asked for.
    pub fn take(&mut self, now: Instant, all: bool) -> Vec<Transaction> {
        let is_due = |w: &mut Waiting| all || w.deadline.is_some_and(|deadline| deadline <= now);
        self.0.extract_if(.., is_due).map(|w| w.transaction).collect()
    }

    /// Takes out the request `id` of `session`.
    pub fn cancel(&mut self, session: SessionId, id: &Value) -> Option<Transaction> {
        let place = self.position(session, id)?;
        Some(self.0.remove(place).transaction)
    }

    /// Is the request `id` of `session` among them?
    pub fn contains(&self, session: SessionId, id: &Value) -> bool {
        self.position(session, id).is_some()
    }

    /// Drops what a client that is gone was waiting for.
    pub fn forget(&mut self, session: SessionId) {
        self.0.retain(|w| w.transaction.session != session);
    }

    /// When the time of the next one is over.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.0.iter().filter_map(|w| w.deadline).min()
    }

    /// When the first one came.
    pub fn oldest(&self) -> Option<Instant> {
        self.0.iter().map(|w| w.transaction.since).min()
    }

    fn position(&self, session: SessionId, id: &Value) -> Option<usize> {
        self.0.iter().position(|w| w.transaction.session == session && w.transaction.id == *id)
    }
}

/// The length of `value` as JSON text, without the text.
fn text_length(value: &Value) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting cannot fail, and every key of a JSON value is a string.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SECOND: Duration = Duration::from_secs(1);

    fn transaction(session: u64, id: i64, since: Instant) -> Transaction {
        let operations = vec![json!({"op": "wait"})];
        Transaction { session: SessionId::of(session), id: json!(id), db: Db::Main, operations, since, admitted: None }
    }

    fn ids(transactions: &[Transaction]) -> Vec<i64> {
        transactions.iter().filter_map(|t| t.id.as_i64()).collect()
    }

    #[test]
    fn they_leave_in_order_when_their_time_is_over_or_all_at_once() {
        let start = Instant::now();
        let mut parked = Parked::default();
        for (id, timeout) in [(1, 3 * SECOND), (2, SECOND), (3, Duration::MAX), (4, SECOND)] {
            parked.park(transaction(0, id, start), timeout);
        }
        assert_eq!((parked.next_deadline(), parked.oldest()), (Some(start + SECOND), Some(start)));
        assert!(parked.take(start, false).is_empty());
        assert_eq!(ids(&parked.take(start + SECOND, false)), [2, 4]);
        assert_eq!(parked.next_deadline(), Some(start + 3 * SECOND));
        assert!(parked.contains(SessionId::of(0), &json!(3)) && !parked.contains(SessionId::of(1), &json!(3)));
        assert!(parked.cancel(SessionId::of(0), &json!(2)).is_none());
        assert_eq!(parked.cancel(SessionId::of(0), &json!(1)).map(|t| t.id), Some(json!(1)));
        assert_eq!(parked.next_deadline(), None);
        assert_eq!(ids(&parked.take(start, true)), [3]);
        assert_eq!(parked.oldest(), None);
    }

    #[test]
    fn limits_are_named_and_per_session() {
        let start = Instant::now();
        let mut parked = Parked::default();
        let mut park = |session, id, operations: Vec<Value>| -> Result<(), String> {
            let mut transaction = Transaction { operations, ..transaction(session, id, start) };
            parked.admit(&mut transaction).map_err(|error| error.to_string())?;
            parked.park(transaction, SECOND);
            Ok(())
        };
        let large = json!("x".repeat((1 << 20) - 1));
        assert_eq!(text_length(&large), (1 << 20) + 1);
        let error = park(0, 0, vec![large]).expect_err("too large");
        assert_eq!(error, "resources exhausted: the waiting transactions of a session may have 1048576 bytes");
        for session in 0..16 {
            for id in 0..64 {
                assert_eq!(park(session, id, vec![]), Ok(()));
            }
        }
        let error = park(3, 64, vec![]).expect_err("too many");
        assert_eq!(error, "resources exhausted: a session may have 64 transactions waiting; cancel one first");
        let error = park(99, 0, vec![]).expect_err("too many in all");
        assert!(error.contains("the server has its maximum of 1024"), "{error}");
        parked.forget(SessionId::of(3));
        assert_eq!(parked.0.len(), 960);
    }
}
