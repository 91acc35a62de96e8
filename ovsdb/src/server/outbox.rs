//! What waits to be sent to one client: a queue bounded in bytes.
//!
//! The server core fills it without ever waiting; the connection's writer task empties it. A client that
//! does not read fills its own queue and is dropped; nobody else notices. The message that the writer is
//! busy with does not count, and an empty queue takes a message of any size: the first reply to a monitor
//! may well be larger than the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, mpsc};

/// Bytes that may wait for one client.
pub const OUTBOX_BYTES: usize = 32 << 20;

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The client does not read.
    Full {
        /// Bytes waiting.
        waiting: usize,
    },
    /// The connection is closed.
    Gone,
}

#[derive(Debug)]
struct Shared {
    /// Bytes in the queue. Added to by the core before it queues, subtracted from by the writer.
    waiting: AtomicUsize,
    limit: usize,
    aborted: Notify,
}

/// The core's end. Dropping it closes the connection once everything queued has been sent.
#[derive(Debug)]
pub struct Outbox {
    queue: mpsc::UnboundedSender<Vec<u8>>,
    shared: Arc<Shared>,
}

/// The core's end in other hands: does not keep the connection open.
#[derive(Debug)]
pub(super) struct WeakOutbox {
    queue: mpsc::WeakUnboundedSender<Vec<u8>>,
    shared: Arc<Shared>,
}

impl WeakOutbox {
    /// The core's end, while that is there.
    pub fn upgrade(&self) -> Option<Outbox> {
        Some(Outbox { queue: self.queue.upgrade()?, shared: self.shared.clone() })
    }
}

/// The writer's end.
#[derive(Debug)]
pub struct OutboxReader {
    queue: mpsc::UnboundedReceiver<Vec<u8>>,
    shared: Arc<Shared>,
}

/// An empty queue for at most `limit` bytes.
pub fn outbox(limit: usize) -> (Outbox, OutboxReader) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared { waiting: AtomicUsize::new(0), limit, aborted: Notify::new() });
    (Outbox { queue: sender, shared: shared.clone() }, OutboxReader { queue: receiver, shared })
}

impl Outbox {
    /// Queues one encoded message.
    pub fn send(&self, message: Vec<u8>) -> Result<(), SendError> {
        let length = message.len();
        let waiting = self.shared.waiting.fetch_add(length, Ordering::Relaxed);
        if waiting > 0 && waiting.saturating_add(length) > self.shared.limit {
            self.shared.waiting.fetch_sub(length, Ordering::Relaxed);
            return Err(SendError::Full { waiting });
        }
        self.queue.send(message).map_err(|_| SendError::Gone)
    }

    /// For who may send as long as the core does.
    pub(super) fn downgrade(&self) -> WeakOutbox {
        WeakOutbox { queue: self.queue.downgrade(), shared: self.shared.clone() }
    }

    /// Closes the connection at once; what is queued is not sent.
    pub fn abort(self) {
        self.shared.aborted.notify_one();
    }
}

impl OutboxReader {
    /// The next message; None when the core has dropped its end and all is sent, or has aborted.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let message = tokio::select! {
            message = self.queue.recv() => message?,
            () = self.shared.aborted.notified() => return None,
        };
        self.shared.waiting.fetch_sub(message.len(), Ordering::Relaxed);
        Some(message)
    }

    /// The next message if there is one now.
    pub fn try_next(&mut self) -> Option<Vec<u8>> {
        let message = self.queue.try_recv().ok()?;
        self.shared.waiting.fetch_sub(message.len(), Ordering::Relaxed);
        Some(message)
    }

    /// Completes when the core has aborted the connection.
    pub async fn aborted(&self) {
        self.shared.aborted.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_in_bytes_and_an_empty_queue_takes_anything() {
        let (sender, mut reader) = outbox(10);
        assert_eq!(sender.send(vec![0; 50]), Ok(()));
        assert_eq!(sender.send(vec![0; 1]), Err(SendError::Full { waiting: 50 }));
        assert_eq!(reader.try_next().map(|m| m.len()), Some(50));
        assert_eq!(sender.send(vec![1; 6]), Ok(()));
        assert_eq!(sender.send(vec![2; 4]), Ok(()));
        assert_eq!(sender.send(vec![3; 1]), Err(SendError::Full { waiting: 10 }));
        assert_eq!(reader.try_next(), Some(vec![1; 6]));
        assert_eq!(sender.send(vec![4; 6]), Ok(()));
        assert_eq!(reader.try_next(), Some(vec![2; 4]));
        assert_eq!(reader.try_next(), Some(vec![4; 6]));
        assert_eq!(reader.try_next(), None);
        drop(reader);
        assert_eq!(sender.send(vec![5]), Err(SendError::Gone));
    }

    #[tokio::test]
    async fn dropping_sends_the_rest_first_and_aborting_is_not_forgotten() {
        let (sender, mut reader) = outbox(10);
        sender.send(vec![1]).expect("room");
        drop(sender);
        assert_eq!(reader.next().await, Some(vec![1]));
        assert_eq!(reader.next().await, None);
        let (sender, reader) = outbox(10);
        let weak = sender.downgrade();
        weak.upgrade().expect("the core is there").send(vec![2]).expect("room");
        sender.abort();
        reader.aborted().await;
        assert!(weak.upgrade().is_none());
    }
}
