//! `coverage/show`: everything that is counted, with its rates over the last seconds, minute and hour.
//!
//! The datapath's counters are sums over all ports, those that are gone included, so none ever decreases. Samples are
//! taken every five seconds and kept for an hour: some seventy of some thirty numbers.

use super::Context;
use datapath::control::{Datapath, PortStats, Totals};
use datapath::switch::verdict::DropReason;
use std::collections::VecDeque;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// How often a sample is taken.
const PERIOD: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What the daemon itself counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// Requests on the control socket.
    ControlRequest,
    /// Transactions of clients.
    Commit,
    /// Devices that died by themselves.
    DeviceLost,
    /// Wake-ups by the host's network.
    NetworkEvent,
    /// Comparisons of what should be with what is.
    Reconciliation,
}

const COUNTS: [&str; 5] = ["control_request", "db_commit", "device_lost", "network_event", "reconciliation"];
const TRAFFIC: [&str; 10] = [
    "copied",
    "generated",
    "headroom_copied",
    "mac_learning_static_none_move",
    "merged",
    "rx_bytes",
    "rx_packets",
    "split",
    "tx_bytes",
    "tx_packets",
];

/// All counters at one moment, in the order of [`names`].
type Values = Vec<u64>;

fn names() -> impl Iterator<Item = String> {
    let drops = DropReason::ALL.iter().map(|r| format!("drop_{}", r.name()));
    COUNTS.into_iter().chain(TRAFFIC).map(str::to_owned).chain(drops)
}

/// The daemon's own counters, and the past values of all.
#[derive(Debug)]
pub struct Coverage {
    counts: [u64; COUNTS.len()],
    /// One every five seconds, for a minute.
    fine: VecDeque<(Instant, Values)>,
    /// One a minute, for an hour.
    coarse: VecDeque<(Instant, Values)>,
}

impl Coverage {
    /// All zero at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let zero = (now, vec![0; names().count()]);
        Self { counts: Default::default(), fine: [zero.clone()].into(), coarse: [zero].into() }
    }

    /// Counts one.
    pub fn count(&mut self, what: Count) {
        if let Some(n) = self.counts.get_mut(what as usize) {
            *n += 1;
        }
    }

    /// When the next sample is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.fine.back().map(|(last, _)| *last + PERIOD)
    }

    /// Takes a sample if it is time.
    pub fn sample(&mut self, now: Instant, datapath: &Datapath) {
        if self.due().is_some_and(|due| due <= now) {
            datapath.count_assisted();
            let values = self.values(&datapath.all_ports(), &datapath.totals());
            self.keep(now, values);
        }
    }

    fn keep(&mut self, now: Instant, values: Values) {
        if self.coarse.back().is_none_or(|(last, _)| *last + MINUTE <= now) {
            self.coarse.push_back((now, values.clone()));
        }
        self.fine.push_back((now, values));
        for (samples, window) in [(&mut self.fine, MINUTE), (&mut self.coarse, HOUR)] {
            // The first that is as old as the window stays, to measure from.
            while samples.get(1).is_some_and(|(at, _)| *at + window <= now) {
                samples.pop_front();
            }
        }
    }

    fn values(&self, ports: &PortStats, totals: &Totals) -> Values {
        let drops = |reason: &DropReason| -> u64 {
            let all = ports.drops.iter().chain(&totals.portless);
            all.filter(|(r, _)| r == reason).map(|(_, n)| n).sum()
        };
        let portless: u64 = totals.portless.iter().map(|(_, n)| n).sum();
        let traffic = [
            totals.copied,
            totals.generated,
            totals.headroom_copied,
            totals.static_none_move,
            totals.merged,
            ports.rx_bytes,
            ports.rx_packets + portless,
            totals.split,
            ports.tx_bytes,
            ports.tx_packets,
        ];
        self.counts.into_iter().chain(traffic).chain(DropReason::ALL.iter().map(drops)).collect()
    }

    /// The text of `coverage/show` for the latest `values`.
    fn show(&self, values: &Values) -> String {
        let hit: Vec<_> = names().zip(values).enumerate().filter(|(_, (_, n))| **n > 0).collect();
        let hash = hit.iter().flat_map(|(_, (name, _))| name.bytes()).fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193) // FNV-1a
        });
        let mut text = format!(
            "Event coverage, avg rate over last: {} seconds, last minute, last hour,  hash={hash:08x}:\n",
            PERIOD.as_secs()
        );
        let previous = self.fine.len().checked_sub(2).and_then(|i| self.fine.get(i));
        for (i, (name, total)) in &hit {
            let rate = |since: Option<&(Instant, Values)>, window| self.rate(*i, since, window);
            let (now, minute, hour) =
                (rate(previous, PERIOD), rate(self.fine.front(), MINUTE), rate(self.coarse.front(), HOUR));
            let _ = writeln!(text, "{name:<24} {now:>5.1}/sec {minute:>9.3}/sec {hour:>13.4}/sec   total: {total}");
        }
        let _ = writeln!(text, "{} events never hit", values.len() - hit.len());
        text
    }

    /// Events a second from the sample `since` to the last one, over no less than `window`.
    #[allow(clippy::cast_precision_loss)] // shown with few digits
    fn rate(&self, counter: usize, since: Option<&(Instant, Values)>, window: Duration) -> f64 {
        let (Some((from, old)), Some((to, new))) = (since, self.fine.back()) else { return 0.0 };
        let at = |values: &Values| values.get(counter).copied().unwrap_or_default();
        let n = at(new).saturating_sub(at(old));
        n as f64 / to.saturating_duration_since(*from).max(window).as_secs_f64()
    }
}

pub(super) fn show(cx: &mut Context<'_>, _: &[&str]) -> Result<String, String> {
    cx.view.datapath.count_assisted();
    let values = cx.coverage.values(&cx.view.datapath.all_ports(), &cx.view.datapath.totals());
    Ok(cx.coverage.show(&values))
}

pub(super) fn read_counter(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    cx.view.datapath.count_assisted();
    let values = cx.coverage.values(&cx.view.datapath.all_ports(), &cx.view.datapath.totals());
    let found = names().zip(values).find(|(name, _)| args.first() == Some(&name.as_str()));
    found.map(|(_, n)| n.to_string()).ok_or_else(|| "No such counter".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_values() {
        let mut coverage = Coverage::new(Instant::now());
        coverage.count(Count::ControlRequest);
        (0..5).for_each(|_| coverage.count(Count::Reconciliation));
        let drops = vec![(DropReason::Malformed, 1), (DropReason::TxError, 20)];
        let ports = PortStats { rx_packets: 11, rx_bytes: 12, tx_packets: 13, tx_bytes: 14, drops };
        let portless = vec![(DropReason::UnknownVni, 30), (DropReason::TxError, 1)];
        let totals = Totals {
            copied: 41,
            generated: 42,
            split: 43,
            merged: 44,
            static_none_move: 45,
            headroom_copied: 46,
            portless,
        };
        let values = coverage.values(&ports, &totals);
        assert_eq!(values.len(), names().count());
        let shown: Vec<_> = names().zip(values).filter(|(_, n)| *n > 0).map(|(k, n)| format!("{k}={n}")).collect();
        assert_eq!(
            shown.join(" "),
            "control_request=1 reconciliation=5 copied=41 generated=42 headroom_copied=46 mac_learning_static_none_move=45 \
             merged=44 rx_bytes=12 rx_packets=42 split=43 tx_bytes=14 tx_packets=13 drop_malformed=1 drop_unknown_vni=30 drop_tx_error=21"
        );
    }

    #[test]
    fn rates_are_those_of_the_last_seconds_minute_and_hour() {
        let start = Instant::now();
        let mut coverage = Coverage::new(start);
        let width = names().count();
        let all = |n: u64| vec![n; width];
        assert!(coverage.show(&all(0)).ends_with(&format!(":\n{width} events never hit\n")));
        let line = |coverage: &Coverage, n: u64| coverage.show(&all(n)).lines().nth(1).unwrap_or_default().to_owned();
        // 10 a second for two hours, then 100 in five seconds.
        for i in 1..=1440 {
            let now = start + PERIOD * i;
            assert_eq!(coverage.due(), Some(now));
            coverage.keep(now, all(u64::from(i) * 50));
            if i == 1 {
                let young = "control_request           10.0/sec     0.833/sec        0.0139/sec   total: 50";
                assert_eq!(line(&coverage, 50), young);
            }
        }
        coverage.keep(start + PERIOD * 1441, all(72_100));
        let shown = line(&coverage, 72_101);
        assert_eq!(shown, "control_request           20.0/sec    10.833/sec       10.0139/sec   total: 72101");
        assert!(coverage.fine.len() <= 13 && coverage.coarse.len() <= 62, "{}", coverage.coarse.len());
    }
}
