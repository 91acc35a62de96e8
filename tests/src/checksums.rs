//! Whether what arrives has right checksums, looked at where they mean something.
//!
//! Between namespaces a checksum is mostly left unfinished all the way: the receiver takes the sender's word, and
//! tcpdump calls what it sees "incorrect". So the near end of a receiver's cable is told to finish checksums and to cut
//! super-frames itself (`ethtool -K … tx off`): the kernel then computes each from what the switch says about it, the
//! frames on the cable are those of a real wire, the receiver's own stack verifies them, and so does `tcpdump -vv`. The
//! sender keeps its offloads. What the receiver sends itself is still unfinished where tcpdump sees it, so only what
//! comes in is looked at.

use crate::netns::{Running, Space};
use crate::process::eventually;
use std::path::Path;

/// Makes the frames that `near` sends through `device` those of a real wire.
pub fn finish(near: &Space, device: &str) {
    near.run(&format!("ethtool -K {device} tx off"));
}

/// A look at what comes in at a receiver.
pub struct Watch {
    receiver: Space,
    tcpdump: Running,
}

impl Watch {
    /// Begins to look at `device`, whose far end [`finish`] was called for; `log` is a file of its own.
    #[must_use]
    pub fn start(receiver: &Space, device: &str, log: &Path) -> Self {
        let filter = "tcp or udp or icmp or icmp6";
        let tcpdump = receiver.spawn(&format!("tcpdump -nn -vv -l -Q in -c 3000 -i {device} {filter}"), log);
        eventually("tcpdump listens", || {
            tcpdump.log().contains("listening on").then_some(()).ok_or_else(|| tcpdump.log())
        });
        Self { receiver: receiver.clone(), tcpdump }
    }

    /// Ends the look: there was traffic, and every checksum of it was right, for tcpdump and for the receiver's stack.
    ///
    /// # Panics
    /// If not.
    pub fn check(mut self, what: &str) {
        let text = eventually("tcpdump has seen frames", || {
            let text = self.tcpdump.log();
            if text.matches("(correct)").count() > 10 { Ok(text) } else { Err(text) }
        });
        self.tcpdump.terminate();
        let wrong: Vec<&str> = text.lines().filter(|l| l.contains("incorrect") || l.contains("bad cksum")).collect();
        assert!(wrong.is_empty(), "{what}: {} bad checksums, the first: {}", wrong.len(), wrong[0]);
        let counters = self.receiver.run("nstat -asz TcpInCsumErrors UdpInCsumErrors IpInHdrErrors Ip6InHdrErrors");
        for line in counters.lines().filter(|l| !l.starts_with('#')) {
            let count = line.split_whitespace().nth(1);
            assert!(count == Some("0"), "{what}: the receiver's stack refused some: {line}");
        }
    }
}
