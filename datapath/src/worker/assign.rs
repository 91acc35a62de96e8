//! Which worker receives from which queue: where there is the least to do, and never moved without a clear gain. Pure.
//!
//! A queue that moves takes its frames' flows to another core's cache, so it moves only when a worker has much to do and
//! the move makes the busiest of the two it concerns clearly less busy. A queue that is busier than everything else
//! together gains nothing by moving, and stays. Of a device with several queues, no worker takes a second one: the kernel
//! has shared out its flows already.

use crate::types::DeviceId;
use std::cmp::Reverse;

/// How busy a worker must be, in parts of 1000 of its time, before a queue is taken from it.
const BUSY: u32 = 500;
/// By how much, in parts of 1000 of its time, a move must relieve it.
const GAIN: u32 = 100;
/// What a queue is taken for besides its load where there is not much of that, so that queues are spread all the same.
const QUEUE: u32 = 100;

/// A receive queue: whose it is, and how much of that worker's time it takes, in parts of 1000.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Assigned {
    /// The device.
    pub device: DeviceId,
    /// The worker.
    pub worker: usize,
    /// The load.
    pub load: u32,
}

/// Chooses, of these queues of so many workers, one that had better be another worker's, and which one's.
pub type Choice = fn(&[Assigned], usize) -> Option<(usize, usize)>;

/// The worker for a new queue, of which nothing is known: the least busy, and of those the one with the fewest queues.
#[must_use]
pub fn place(queues: impl Iterator<Item = Assigned> + Clone, workers: usize) -> usize {
    let of = |worker: usize| queues.clone().filter(move |queue| queue.worker == worker);
    let weight = |worker: usize| of(worker).map(|queue| queue.load + QUEUE).sum::<u32>();
    (0..workers).min_by_key(|&worker| weight(worker)).unwrap_or(0)
}

/// The queue that had better be another worker's, and which one's; `None`: it is well as it is.
#[must_use]
pub fn improve(queues: &[Assigned], workers: usize) -> Option<(usize, usize)> {
    best_move(queues, workers, BUSY, GAIN)
}

/// The same where a worker has come that has nothing to do: any gain is worth a move, traffic or not.
#[must_use]
pub fn spread(queues: &[Assigned], workers: usize) -> Option<(usize, usize)> {
    let weighed: Vec<_> = queues.iter().map(|queue| Assigned { load: queue.load + QUEUE, ..*queue }).collect();
    best_move(&weighed, workers, 0, 1)
}

/// The move that relieves the busiest worker most, if that one is `busy` at least and the move's `gain` is that large.
fn best_move(queues: &[Assigned], workers: usize, busy: u32, gain: u32) -> Option<(usize, usize)> {
    let load = |worker: usize| queues.iter().filter(|q| q.worker == worker).map(|q| q.load).sum::<u32>();
    let loads: Vec<_> = (0..workers).map(load).collect();
    let (from, &most) = loads.iter().enumerate().max_by_key(|(worker, load)| (**load, Reverse(*worker)))?;
    if most < busy {
        return None;
    }
    let is_there = |device, worker| queues.iter().any(|q| q.device == device && q.worker == worker);
    let candidates = queues.iter().enumerate().filter(|(_, queue)| queue.worker == from);
    let moves = candidates.flat_map(|(at, queue)| {
        let places = loads.iter().enumerate().filter(move |(to, _)| *to != from && !is_there(queue.device, *to));
        places.map(move |(to, load)| ((most - queue.load).max(load + queue.load), at, to))
    });
    // Of several, one of a device of which the worker has another queue, and to where there is the least to do.
    let surplus = |at: usize| queues.iter().filter(|q| q.device == queues[at].device && q.worker == from).count();
    let (after, at, to) = moves.min_by_key(|&(after, at, to)| (after, Reverse(surplus(at)), loads[to], at, to))?;
    (after + gain <= most).then_some((at, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of another device.
    fn queues(list: &[(usize, u32)]) -> Vec<Assigned> {
        let queue = |(device, &(worker, load))| Assigned { device: DeviceId(device), worker, load };
        (0..).zip(list).map(queue).collect()
    }

    /// The whole way of moves, each as queue and worker.
    fn moves(list: &[(usize, u32)], workers: usize) -> Vec<(usize, usize)> {
        all_moves(list, workers, improve)
    }

    fn all_moves(list: &[(usize, u32)], workers: usize, next: Choice) -> Vec<(usize, usize)> {
        let mut queues = queues(list);
        let mut moves = Vec::new();
        while let Some((queue, worker)) = next(&queues, workers) {
            queues[queue].worker = worker;
            moves.push((queue, worker));
            assert!(moves.len() < 20, "it goes round: {moves:?}");
        }
        moves
    }

    #[test]
    fn new_queues_are_spread_and_avoid_the_busy() {
        let mut all = Vec::new();
        for device in 0..6 {
            let worker = place(all.iter().copied(), 3);
            all.push(Assigned { device: DeviceId(device), worker, load: 0 });
        }
        assert_eq!(all.iter().map(|queue| queue.worker).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
        let busy = queues(&[(0, 900), (1, 0), (1, 0), (1, 0)]);
        assert_eq!(place(busy.iter().copied(), 2), 1);
        assert_eq!(place([].into_iter(), 1), 0);
    }

    #[test]
    fn a_new_worker_gets_its_part() {
        let spread = |list: &[(usize, u32)], workers| all_moves(list, workers, spread);
        assert_eq!(spread(&[(0, 0), (0, 0), (0, 0), (0, 0)], 2), [(0, 1), (1, 1)]);
        assert_eq!(spread(&[(0, 0); 6], 3).len(), 4);
        // One that is busy stays, and the others make room.
        assert_eq!(spread(&[(0, 800), (0, 0), (0, 0)], 2), [(0, 1)]);
        assert_eq!(spread(&[(0, 800), (1, 0), (1, 0)], 2), []);
    }

    #[test]
    fn no_worker_takes_a_second_queue_of_a_device() {
        let queue = |device, worker, load| Assigned { device: DeviceId(device), worker, load };
        assert_eq!(improve(&[queue(0, 0, 450), queue(1, 0, 450), queue(0, 1, 0)], 2), Some((1, 1)));
        assert_eq!(improve(&[queue(0, 0, 900), queue(0, 1, 0)], 2), None);
        // It had two while there were fewer workers: that one goes first.
        assert_eq!(spread(&[queue(1, 0, 0), queue(0, 0, 0), queue(0, 0, 0)], 2), Some((1, 1)));
    }

    #[test]
    fn a_queue_moves_only_where_that_clearly_helps() {
        // Both ends of a flow on one worker, nothing on the other.
        assert_eq!(moves(&[(0, 500), (0, 450), (1, 0)], 2), [(0, 1)]);
        // Nobody has much to do.
        assert_eq!(moves(&[(0, 300), (0, 150), (1, 0)], 2), []);
        // The one that makes it busy would only make the other busy.
        assert_eq!(moves(&[(0, 900), (0, 50), (1, 0)], 2), []);
        // It would gain next to nothing.
        assert_eq!(moves(&[(0, 400), (0, 400), (1, 390), (1, 390)], 2), []);
        assert_eq!(moves(&[(0, 300), (0, 300), (0, 300), (1, 10), (2, 0)], 3), [(0, 2), (1, 1)]);
        assert_eq!(moves(&[(0, 900)], 1), []);
        assert_eq!(moves(&[], 2), []);
    }
}
