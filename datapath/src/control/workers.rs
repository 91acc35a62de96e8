//! The worker threads: how many there are, on which CPUs, and how they are told what to do.

use super::spec::DatapathEvent;
use crate::port::assist::Table;
use crate::stats::{PerWorker, WorkerCounters};
use crate::switch::Switch;
use crate::switch::state::Snapshot;
use crate::time::{Duration, Instant};
use crate::worker::{Command, DeviceChanges, GivenUp, Remote, Team, Worker};
use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_setaffinity};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::JoinHandle;

/// How long a change waits for a worker before it goes on and says so in the log. A round of a worker takes
/// microseconds, so this only passes when the machine is badly overloaded.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why workers cannot be as asked; those there were go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkersError {
    /// A CPU that is none.
    #[error("CPU {cpu} does not exist, or this process may not run on it; it may run on {allowed}")]
    NoSuchCpu {
        /// The CPU.
        cpu: usize,
        /// Those that there are.
        allowed: String,
    },
    /// The operating system refused a thread, or to keep it on its CPU.
    #[error("worker {worker}: {source}")]
    Thread {
        /// Which.
        worker: usize,
        /// Why.
        source: io::Error,
    },
}

/// A worker as control has it.
#[derive(Debug)]
struct Member {
    remote: Remote,
    /// `None` when the caller drives the worker itself: then nothing is waited for.
    thread: Option<(JoinHandle<()>, Pid)>,
    /// The only CPU that it runs on.
    cpu: Option<usize>,
}

/// All workers, at least one.
#[derive(Debug)]
pub struct Workers {
    team: Team,
    members: Vec<Member>,
    counters: PerWorker<WorkerCounters>,
    events: Sender<DatapathEvent>,
    /// Where a worker may run.
    allowed: CpuSet,
}

impl Workers {
    /// No worker yet; the other end of what they tell.
    pub fn new(spare_buffers: usize) -> io::Result<(Self, Receiver<DatapathEvent>)> {
        let (events, told) = mpsc::channel();
        let team = Team::new(spare_buffers, events.clone())?;
        let allowed = sched_getaffinity(None)?;
        Ok((Self { team, members: Vec::new(), counters: PerWorker::default(), events, allowed }, told))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Which CPU each is kept on.
    pub fn cpus(&self) -> impl Iterator<Item = Option<usize>> {
        self.members.iter().map(|member| member.cpu)
    }

    /// The counters of each, and of those that have ended.
    pub fn counters(&self) -> impl Iterator<Item = &WorkerCounters> + Clone {
        self.counters.all()
    }

    /// One more, which the caller drives.
    pub fn add_driven(&mut self) -> io::Result<Worker> {
        let number = self.members.len();
        let (worker, remote) = self.team.worker(number, self.counters.of(number))?;
        self.members.push(Member { remote, thread: None, cpu: None });
        Ok(worker)
    }

    /// One more, on that CPU alone, or on any.
    pub fn add_thread(&mut self, cpu: Option<usize>) -> Result<(), WorkersError> {
        let number = self.members.len();
        let error = |source| WorkersError::Thread { worker: number, source };
        let (worker, remote) = self.team.worker(number, self.counters.of(number)).map_err(error)?;
        let (tell, told) = mpsc::sync_channel(1);
        let farewell = Farewell { events: self.events.clone(), worker: number, expected: false };
        let body = move || {
            let mut farewell = farewell;
            let _ = tell.send(gettid());
            farewell.expected = worker.run();
        };
        let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(body).map_err(error)?;
        let id = told.recv().map_err(|e| error(io::Error::other(e)))?;
        self.members.push(Member { remote, thread: Some((thread, id)), cpu: None });
        self.pin(number, cpu).inspect_err(|_| self.remove())
    }

    /// Ends the last one, which has given its queues up.
    pub fn remove(&mut self) {
        let Some(member) = self.members.pop() else { return };
        member.remote.send(Command::Stop);
        if let Some((thread, _)) = member.thread
            && thread.join().is_err()
        {
            tracing::error!("worker {} ended by a panic", self.members.len());
        }
    }

    /// The first of these CPUs that is none.
    pub fn check(&self, cpus: &[usize]) -> Result<(), WorkersError> {
        let is_allowed = |cpu: &usize| *cpu < CpuSet::MAX_CPU && self.allowed.is_set(*cpu);
        match cpus.iter().find(|cpu| !is_allowed(cpu)) {
            Some(&cpu) => Err(WorkersError::NoSuchCpu { cpu, allowed: ranges(&self.allowed) }),
            None => Ok(()),
        }
    }

    /// Keeps a worker on a CPU, or lets it go to any.
    pub fn pin(&mut self, worker: usize, cpu: Option<usize>) -> Result<(), WorkersError> {
        let member = &mut self.members[worker];
        let Some((_, id)) = member.thread.as_ref().filter(|_| member.cpu != cpu) else { return Ok(()) };
        let mut set = self.allowed;
        if let Some(cpu) = cpu {
            set = CpuSet::new();
            set.set(cpu);
        }
        sched_setaffinity(Some(*id), &set).map_err(|e| WorkersError::Thread { worker, source: e.into() })?;
        member.cpu = cpu;
        Ok(())
    }

    /// Has each worker forward by its snapshot from now on and take its changes over, and waits until all do; what they
    /// have given up. The first one sees to what the kernel forwards, by `flow_table`.
    pub fn adopt(&self, orders: Vec<(usize, Arc<Snapshot>, DeviceChanges)>, flow_table: Option<Arc<Table>>) -> GivenUp {
        let order = |(worker, snapshot, devices): (usize, _, _)| {
            let (done, acknowledged) = mpsc::sync_channel(1);
            let flow_table = flow_table.clone().filter(|_| worker == 0);
            self.members[worker].remote.send(Command::Adopt { snapshot, devices, flow_table, done });
            (worker, acknowledged)
        };
        let orders: Vec<_> = orders.into_iter().map(order).collect();
        let mut all = GivenUp::default();
        for (worker, acknowledged) in orders {
            if let Some(given_up) = self.wait(worker, &acknowledged, "a new configuration") {
                all.queues.extend(given_up.queues);
                all.closed.extend(given_up.closed);
            }
        }
        all
    }

    /// Has a worker look after something; `None` if there is no answer.
    pub fn ask<T: Send + 'static>(
        &self,
        worker: usize,
        what: &str,
        question: impl FnOnce(&mut Switch, Instant) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = mpsc::sync_channel(1);
        // Whoever has stopped waiting for the answer does not need it.
        let work = move |switch: &mut Switch, now| drop(reply.send(question(switch, now)));
        self.members.get(worker)?.remote.send(Command::Switch(Box::new(work)));
        self.wait(worker, &answer, what)
    }

    /// Gives the first worker a command that it answers; `None` if there is no answer.
    pub fn command<T>(&self, what: &str, command: impl FnOnce(SyncSender<T>) -> Command) -> Option<T> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.members.first()?.remote.send(command(reply));
        self.wait(0, &answer, what)
    }

    fn wait<T>(&self, worker: usize, answer: &Receiver<T>, what: &str) -> Option<T> {
        self.members[worker].thread.as_ref()?;
        match answer.recv_timeout(PATIENCE) {
            Ok(taken) => return Some(taken),
            Err(RecvTimeoutError::Timeout) => {
                tracing::error!("worker {worker} has not answered within {} s: {what}", PATIENCE.as_secs());
            }
            Err(RecvTimeoutError::Disconnected) => tracing::error!("worker {worker} has ended: {what} has no effect"),
        }
        None
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // All at once, not one after the other.
        self.members.iter().for_each(|member| member.remote.send(Command::Stop));
        while !self.members.is_empty() {
            self.remove();
        }
    }
}

/// Tells that a worker has ended that was not told to: it cannot wait for its devices, or it panicked.
struct Farewell {
    events: Sender<DatapathEvent>,
    worker: usize,
    expected: bool,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        if !self.expected {
            let _ = self.events.send(DatapathEvent::WorkerEnded { worker: self.worker });
        }
    }
}

/// A set of CPUs as people write it: `0-3,7`.
fn ranges(set: &CpuSet) -> String {
    let all: Vec<_> = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect();
    let runs = all.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    runs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_written_as_ranges() {
        let mut set = CpuSet::new();
        [0, 1, 2, 5, 7, 8].into_iter().for_each(|cpu| set.set(cpu));
        assert_eq!(ranges(&set), "0-2,5,7-8");
        assert_eq!(ranges(&CpuSet::new()), "");
    }
}
