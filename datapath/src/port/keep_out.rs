//! Keeping the host's own stack out of an attached device.
//!
//! Without this the host would process every frame a second time: answer ARP for its own addresses, and forward or
//! reject what is not its business. A packet socket taps frames before the tc hook, so a classifier there that drops
//! everything leaves the switch its copy. The program hangs on a tcx link (Linux 6.6): it goes when the descriptor
//! closes, however the process ends.
//!
//! It does not stop what the host *sends* on the device.

use super::sys;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// `r0 = TC_ACT_SHOT; exit` (linux/bpf.h, linux/pkt_cls.h).
const DROP_ALL: [[u8; 8]; 2] = {
    let [a, b, c, d] = 2_i32.to_ne_bytes();
    [[0xb7, 0, 0, 0, a, b, c, d], [0x95, 0, 0, 0, 0, 0, 0, 0]]
};

/// As shown by `bpftool net`.
const NAME: [u8; 16] = *b"vswitch_keepout\0";

/// Holds the host's stack off a device until it is dropped.
#[derive(Debug)]
pub struct KeepOut {
    _link: OwnedFd,
}

impl KeepOut {
    /// Attaches to the device with this index in the caller's network namespace. The program is loaded anew for each,
    /// because the kernel refuses the same one twice on a device.
    pub fn attach(ifindex: u32) -> io::Result<Self> {
        let program = sys::load_classifier(&DROP_ALL, NAME)?;
        Ok(Self { _link: sys::link_tcx_ingress(program.as_fd(), ifindex)? })
    }
}
