//! Probes through tunnels, written down byte by byte, and what came of them.

use super::{Lab, Packet, eth};
use datapath::switch::{probes, unclaimed};

impl Lab {
    /// Has all remote ends of a tunnel probed, with numbers from `first_id` on; [`Lab::run`] sends them.
    pub fn probe(&mut self, tunnel: &str, first_id: u64) {
        let port = self.members[self.index(tunnel)].id;
        self.engine.work(move |switch| switch.probe(&[port], first_id));
    }

    /// What came of that, for each end: its index, the MTU, and of the three probes the bytes that arrived there and
    /// those that came back.
    #[must_use]
    pub fn probed(&self) -> Vec<String> {
        let one = |end: &probes::Probed| {
            let answer = |answer: &Option<probes::Answer>| match answer {
                Some(a) => format!(" {}/{}{}", a.received, a.len, if a.intact { "" } else { " changed" }),
                None => " -".to_owned(),
            };
            let answers: String = end.answers.iter().map(answer).collect();
            format!("{} {}:{answers}", end.place.remote.0, end.mtu)
        };
        probes::merge(self.engine.switches().map(|switch| switch.probed().to_vec())).iter().map(one).collect()
    }

    /// The tunnel packets of the last minute that no port takes, as `"KEY REMOTE number"`.
    #[must_use]
    pub fn unclaimed(&self) -> Vec<String> {
        let seen = unclaimed::merge(self.engine.switches().map(|switch| switch.unclaimed(self.now)));
        let mut lines: Vec<_> =
            seen.iter().map(|(stray, n, _)| format!("{} {} {n}", stray.key, stray.remote)).collect();
        lines.sort();
        lines
    }
}

/// A request of `len` bytes for an answer of `answer` bytes.
#[must_use]
pub fn request(id: u64, len: usize, answer: u16) -> Packet {
    probe(1, id, len, answer)
}

/// An answer of `len` bytes to a request that arrived unchanged with `received` bytes.
#[must_use]
pub fn answer(id: u64, len: usize, received: u16) -> Packet {
    probe(0x82, id, len, received)
}

fn probe(kind: u8, id: u64, len: usize, length: u16) -> Packet {
    let mut payload = [&b"vswprobe"[..], &[1, kind], &length.to_be_bytes(), &[0, 0], &id.to_be_bytes()].concat();
    payload.extend((1..=251).cycle().take(len - 36));
    eth("02:00:00:00:88:b5→01:80:c2:00:00:0e").raw(0x88b5, payload)
}
