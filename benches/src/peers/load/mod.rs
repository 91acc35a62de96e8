//! The workloads, and what each of them measures.

mod echo;
mod packets;
mod tcp;

use super::Stage;
use super::cpu::spent_on;
use crate::resident_mib;
use packets::Senders;
use std::thread;
use std::time::Duration;

/// How long each part of a load takes.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    /// A transfer.
    pub transfer: Duration,
    /// The watch over an idle switch.
    pub idle: Duration,
    /// Requests that are answered, at most.
    pub exchanges: usize,
}

/// Something that is done to a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// One TCP connection.
    Tcp,
    /// Eight of them.
    Tcp8,
    /// Frames of 64 bytes, as many as can be sent.
    Packets,
    /// The same, each from another station: what MAC tables meet at worst.
    Flood,
    /// More of them than a switch takes, for those that use XDP.
    Overload,
    /// One request, its response, the next request …
    Latency,
    /// Nothing.
    Idle,
}

/// What a figure of a workload is.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// In the names of files.
    pub key: &'static str,
    /// The words of the report.
    pub title: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Whether it is about the processes of a switch alone.
    pub of_processes: bool,
}

impl Metric {
    const fn new(key: &'static str, title: &'static str, unit: &'static str) -> Self {
        Self { key, title, unit, of_processes: false }
    }

    const fn of_processes(key: &'static str, title: &'static str, unit: &'static str) -> Self {
        Self { key, title, unit, of_processes: true }
    }
}

const TCP: &[Metric] = &[
    Metric::new("rate", "rate", "Gbit/s"),
    Metric::of_processes("cpu-switch", "CPU of the switch", "s/Gbit"),
    Metric::new("cpu-softirq", "CPU of softirqs", "s/Gbit"),
    Metric::new("cpu-machine", "CPU of the machine", "s/Gbit"),
];
const PACKETS: &[Metric] = &[
    Metric::new("rate", "rate", "Mpps"),
    Metric::of_processes("cpu-switch", "CPU of the switch", "s/Mpkt"),
    Metric::new("cpu-softirq", "CPU of softirqs", "s/Mpkt"),
    Metric::new("cpu-machine", "CPU of the machine", "s/Mpkt"),
];
const OVERLOAD: &[Metric] =
    &[PACKETS[0], PACKETS[1], PACKETS[2], PACKETS[3], Metric::new("offered", "offered", "Mpps")];
const LATENCY: &[Metric] = &[Metric::new("p50", "p50", "µs"), Metric::new("p99", "p99", "µs")];
const IDLE: &[Metric] = &[
    Metric::of_processes("cpu", "CPU of the switch", "% of a core"),
    Metric::of_processes("memory", "resident memory", "MiB"),
];

impl Workload {
    /// All of them, in the order in which a stage meets them.
    pub const ALL: [Self; 7] =
        [Self::Tcp, Self::Tcp8, Self::Packets, Self::Overload, Self::Latency, Self::Flood, Self::Idle];

    /// The word that chooses it on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tcp8 => "tcp8",
            Self::Packets => "packets",
            Self::Flood => "flood",
            Self::Overload => "overload",
            Self::Latency => "latency",
            Self::Idle => "idle",
        }
    }

    /// The words of the report.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Tcp => "TCP, 1 flow",
            Self::Tcp8 => "TCP, 8 flows",
            Self::Packets => "frames of 64 B, one flow",
            Self::Flood => "frames of 64 B, each from a new station",
            Self::Overload => "frames of 64 B, more than a switch takes, by XDP",
            Self::Latency => "UDP request and response",
            Self::Idle => "idle",
        }
    }

    /// What [`Self::run`] measures.
    #[must_use]
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Self::Tcp | Self::Tcp8 => TCP,
            Self::Packets | Self::Flood => PACKETS,
            Self::Overload => OVERLOAD,
            Self::Latency => LATENCY,
            Self::Idle => IDLE,
        }
    }

    /// Puts the load on the stage; a figure for each of the metrics, or what went wrong.
    pub fn run(self, stage: &Stage, length: Length) -> Result<Vec<f64>, String> {
        match self {
            Self::Tcp => tcp::run(stage, 1, length.transfer),
            Self::Tcp8 => tcp::run(stage, 8, length.transfer),
            Self::Packets => packets::run(stage, Senders::One, length.transfer),
            Self::Flood => packets::run(stage, Senders::New, length.transfer),
            Self::Overload => packets::run(stage, Senders::Kernel, length.transfer),
            Self::Latency => echo::run(stage, length.exchanges),
            Self::Idle => Ok(idle(stage, length.idle)),
        }
    }
}

fn idle(stage: &Stage, time: Duration) -> Vec<f64> {
    // What the last load has left behind comes to rest.
    thread::sleep(Duration::from_secs(1));
    let ((), spent) = spent_on(&stage.switch, || thread::sleep(time));
    let memory = stage.switch.iter().map(|&pid| resident_mib(pid)).sum();
    vec![100.0 * spent.switch / time.as_secs_f64(), memory]
}
