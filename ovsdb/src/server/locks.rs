//! The database locks of RFC 7047 §4.1.8: advisory, by name, one owner at a time. Pure.
//!
//! Of everybody who has asked for a lock and not given it back, the first in the queue holds it. `lock` joins
//! at the end, `steal` at the front: the victim is told, stays, and is the next in turn. A client that goes
//! away leaves all its queues.

use super::connection::SessionId;
use crate::error::OpError;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};

/// Locks that one client may hold or wait for.
const MAX_LOCKS: usize = 64;
/// Longest name of a lock in bytes.
const MAX_NAME: usize = 1024;

/// Who holds and awaits which lock.
#[derive(Debug, Default)]
pub(super) struct Locks {
    /// Never an empty queue.
    queues: BTreeMap<String, VecDeque<SessionId>>,
}

impl Locks {
    /// Joins the queue of the lock `name`; true if that makes `session` its holder.
    pub fn lock(&mut self, name: &str, session: SessionId) -> Result<bool, OpError> {
        self.check(name, session, "lock")?;
        let queue = self.queues.entry(name.to_owned()).or_default();
        queue.push_back(session);
        Ok(queue.len() == 1)
    }

    /// Makes `session` the holder. Returns from whom it was taken.
    pub fn steal(&mut self, name: &str, session: SessionId) -> Result<Option<SessionId>, OpError> {
        self.check(name, session, "steal")?;
        let queue = self.queues.entry(name.to_owned()).or_default();
        let victim = queue.front().copied();
        queue.push_front(session);
        Ok(victim)
    }

    /// Leaves the queue. Returns who holds the lock instead, if that is news to it.
    pub fn unlock(&mut self, name: &str, session: SessionId) -> Result<Option<SessionId>, OpError> {
        let place = self.queues.get(name).and_then(|queue| queue.iter().position(|s| *s == session));
        let Some(place) = place else {
            return Err(OpError::syntax(&json!([name]), r#"unlock: "unlock" without "lock" or "steal""#));
        };
        Ok(self.leave(name, place))
    }

    /// Leaves all queues. Returns the locks that have a new holder, and who that is.
    pub fn leave_all(&mut self, session: SessionId) -> Vec<(String, SessionId)> {
        let place = |queue: &VecDeque<SessionId>| queue.iter().position(|s| *s == session);
        let mine: Vec<_> = self.queues.iter().filter_map(|(name, queue)| Some((name.clone(), place(queue)?))).collect();
        mine.into_iter().filter_map(|(name, place)| self.leave(&name, place).map(|next| (name, next))).collect()
    }

    /// Does `session` hold the lock `name`?
    pub fn is_held(&self, name: &str, session: SessionId) -> bool {
        self.queues.get(name).and_then(VecDeque::front) == Some(&session)
    }

    fn leave(&mut self, name: &str, place: usize) -> Option<SessionId> {
        let queue = self.queues.get_mut(name)?;
        queue.remove(place);
        let next = queue.front().copied();
        if next.is_none() {
            self.queues.remove(name);
        }
        next.filter(|_| place == 0)
    }

    fn check(&self, name: &str, session: SessionId, method: &str) -> Result<(), OpError> {
        let is_in = |queue: &VecDeque<SessionId>| queue.contains(&session);
        if self.queues.get(name).is_some_and(is_in) {
            let details = format!(r#"must issue "unlock" before new "{method}""#);
            return Err(OpError::syntax(&json!([name]), details));
        }
        if name.len() > MAX_NAME {
            let details = format!("the name of a lock may have {MAX_NAME} bytes, not {}", name.len());
            return Err(OpError::new("resources exhausted", details));
        }
        if self.queues.values().filter(|queue| is_in(queue)).count() >= MAX_LOCKS {
            let details = format!("a session may hold or await {MAX_LOCKS} locks; unlock one first");
            return Err(OpError::new("resources exhausted", details));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The turns as ovsdb-server 3.1 gives them.
    #[test]
    fn a_lock_goes_round_in_the_order_of_the_queue() {
        let mut locks = Locks::default();
        let [a, b, c] = [1, 2, 3].map(SessionId::of);
        assert_eq!(locks.lock("L", a), Ok(true));
        assert_eq!(locks.lock("L", b), Ok(false));
        assert_eq!(locks.lock("L", c), Ok(false));
        assert!(locks.is_held("L", a) && !locks.is_held("L", b) && !locks.is_held("M", a));
        assert_eq!(locks.unlock("L", b), Ok(None), "it only waited");
        assert_eq!(locks.unlock("L", a), Ok(Some(c)));
        assert_eq!(locks.steal("L", b), Ok(Some(c)));
        assert!(locks.is_held("L", b));
        assert_eq!(locks.lock("L", a), Ok(false));
        assert_eq!(locks.leave_all(b), [("L".to_owned(), c)], "the victim is next, not who asked later");
        assert_eq!(locks.unlock("L", c), Ok(Some(a)));
        assert_eq!(locks.unlock("L", a), Ok(None));
        assert!(locks.queues.is_empty());
        assert_eq!(locks.steal("L", a), Ok(None));
    }

    #[test]
    fn refusals() {
        let mut locks = Locks::default();
        let [a, b] = [1, 2].map(SessionId::of);
        let error = |result: Result<(), OpError>| result.expect_err("refused");
        assert_eq!(
            error(locks.unlock("L", a).map(drop)),
            OpError::syntax(&json!(["L"]), "unlock: \"unlock\" without \"lock\" or \"steal\"")
        );
        locks.lock("L", a).expect("free");
        let again =
            |method: &str| OpError::syntax(&json!(["L"]), format!("must issue \"unlock\" before new \"{method}\""));
        assert_eq!(error(locks.lock("L", a).map(drop)), again("lock"));
        assert_eq!(error(locks.steal("L", a).map(drop)), again("steal"));
        assert_eq!(error(locks.lock(&"x".repeat(1025), a).map(drop)).error, "resources exhausted");
        for n in 1..64 {
            locks.lock(&format!("n{n}"), a).expect("within the limit");
        }
        assert_eq!(error(locks.steal("one_more", a).map(drop)).error, "resources exhausted");
        assert_eq!(locks.lock("one_more", b), Ok(true), "the limit is per session");
        assert_eq!(locks.leave_all(a), []);
        assert_eq!(locks.queues.len(), 1);
    }
}
