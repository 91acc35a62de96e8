//! CPU time: of the switch's processes, of softirqs, where the kernel does the work of devices, and of the whole machine.
//!
//! The machine's time includes the ends and generators of a load, and whatever else runs on it.

use std::fs;
use vswitch_tests::process::cpu_ticks;

/// Ticks in a second of `/proc` (USER_HZ, the same on every Linux that we run on).
const TICKS: f64 = 100.0;

/// Clock ticks since the start of the processes and of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Ticks {
    switch: u64,
    softirq: u64,
    machine: u64,
}

impl Ticks {
    fn now(switch: &[u32]) -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        Self { switch: switch.iter().map(|&pid| cpu_ticks(pid)).sum(), ..Self::of_machine(&stat) }
    }

    /// From the first line of `/proc/stat` (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq …
    fn of_machine(stat: &str) -> Self {
        let line = stat.lines().next().unwrap_or_default();
        let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
        let field = |n: usize| fields.get(n).copied().unwrap_or_default();
        Self { switch: 0, softirq: field(6), machine: [0, 1, 2, 5, 6].map(field).iter().sum() }
    }
}

/// CPU time in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Of the switch's processes.
    pub switch: f64,
    /// Of softirqs on all cores.
    pub softirq: f64,
    /// Of all cores, softirqs and the switch included.
    pub machine: f64,
}

impl Spent {
    /// Each divided by `amount`: seconds for one of whatever that counts.
    #[must_use]
    pub fn for_one_of(self, amount: f64) -> [f64; 3] {
        [self.switch, self.softirq, self.machine].map(|seconds| seconds / amount)
    }
}

/// Does `work`; what it came to, and what CPU time that took.
pub fn spent_on<T>(switch: &[u32], work: impl FnOnce() -> T) -> (T, Spent) {
    let before = Ticks::now(switch);
    let done = work();
    let after = Ticks::now(switch);
    let seconds = |of: fn(&Ticks) -> u64| of(&after).saturating_sub(of(&before)) as f64 / TICKS;
    let spent =
        Spent { switch: seconds(|t| t.switch), softirq: seconds(|t| t.softirq), machine: seconds(|t| t.machine) };
    (done, spent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn the_machine_s_ticks() {
        let ticks = Ticks::of_machine("cpu  10 2 30 4000 50 6 7 8 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n");
        assert_eq!(ticks, Ticks { switch: 0, softirq: 7, machine: 10 + 2 + 30 + 6 + 7 });
    }

    #[test]
    fn a_busy_process_is_seen() {
        let busy = || {
            let end = Instant::now() + Duration::from_millis(100);
            while Instant::now() < end {}
        };
        // However busy the machine is, one of these tries gets some of it.
        let worked = (0..50).any(|_| spent_on(&[std::process::id()], busy).1.switch > 0.0);
        assert!(worked, "no CPU time in 5 s of work");
        assert_eq!(Spent { switch: 1.0, softirq: 2.0, machine: 4.0 }.for_one_of(2.0), [0.5, 1.0, 2.0]);
    }
}
