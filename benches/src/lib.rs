//! Benchmarks: what they share.
//!
//! - `src/bin/side-by-side.rs` compares a running `vswitch` with the Linux bridge and the kernel's VXLAN;
//! - `src/bin/peers.rs` compares it with every other switch that is installed, Open vSwitch among them;
//! - `src/bin/mirrored.rs` tells what a mirror costs the flow that it copies;
//! - `src/bin/black-hole.rs` sends TCP through tunnels that are too small for the pods, Open vSwitch beside us;
//! - `src/bin/add-ports.rs` adds 1,000 ports one by one, Open vSwitch beside us;
//! - `src/bin/rate-limits.rs` measures what TCP gets through rate limits of 100 and 200 Mbit/s;
//! - `benches/` holds criterion suites of single stages: headers and sums, the table of addresses, the walk through the
//!   switch, tunnels, segments, the database.

pub mod frames;
pub mod peers;
pub mod walk;

use std::fmt::Write as _;

/// The middle one of the values (of an even number, the lower of the two in the middle); 0 of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50.0)
}

/// The smallest value that at least `percent` of the values don't exceed (nearest rank); 0 of none.
#[must_use]
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// The memory that a process has now (`VmRSS`, proc_pid_status(5)), in MiB.
///
/// # Panics
/// If there is no such process.
#[must_use]
pub fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the status of a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    kib / 1024.0
}

/// Two things measured in turns.
#[derive(Default)]
pub struct Pair {
    /// Ours.
    pub ours: Vec<f64>,
    /// The one that we compare with.
    pub theirs: Vec<f64>,
}

impl Pair {
    /// Measures ours, theirs, ours, theirs … so that a drift of the machine meets both.
    pub fn in_turns(rounds: usize, mut ours: impl FnMut() -> f64, mut theirs: impl FnMut() -> f64) -> Self {
        let mut pair = Self::default();
        for _ in 0..rounds {
            pair.ours.push(ours());
            pair.theirs.push(theirs());
        }
        pair
    }

    /// The ratio of the medians, ours to theirs.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        median(&self.ours) / median(&self.theirs)
    }
}

/// Lines up the columns of a table: the first to the left, the others to the right.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width =
        |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (c, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[c] - cell.chars().count());
            let _ = if c == 0 { write!(text, "{cell}{pad}") } else { write!(text, "   {pad}{cell}") };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.0);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([50.0, 99.0, 100.0].map(|p| percentile(&hundred, p)), [50.0, 99.0, 100.0]);
        let (mut a, mut b) = (0.0, 0.0);
        let pair = Pair::in_turns(3, || (a += 1.0, a).1, || (b += 2.0, b).1);
        assert_eq!((pair.ours.as_slice(), pair.ratio()), (&[1.0, 2.0, 3.0][..], 0.5));
    }

    #[test]
    fn a_test_is_resident() {
        assert!((0.5..10_000.0).contains(&resident_mib(std::process::id())));
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["what".to_owned(), "Gbit/s".to_owned()], vec!["µ".to_owned(), "1.0".to_owned()]];
        assert_eq!(table(&rows), "what   Gbit/s\nµ         1.0\n");
    }
}
