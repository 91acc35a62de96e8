//! Keeping the host's own stack out of an attached device.
//!
//! Without this the host would process every frame a second time: answer ARP for its own addresses, and forward or
//! reject what is not its business. A packet socket taps frames before the tc hook, so a classifier there that drops
//! everything leaves the switch its copy. The program hangs on a tcx link (Linux 6.6), which goes when the descriptor
//! closes, however the process ends; on older kernels on a clsact filter.
//!
//! It does not stop what the host *sends* on the device.

use super::clsact::Filter;
use super::sys;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// `r0 = TC_ACT_SHOT; exit` (linux/bpf.h, linux/pkt_cls.h).
const DROP_ALL: [[u8; 8]; 2] = {
    let [a, b, c, d] = 2_i32.to_ne_bytes();
    [[0xb7, 0, 0, 0, a, b, c, d], [0x95, 0, 0, 0, 0, 0, 0, 0]]
};

/// As shown by `bpftool net` and `tc filter show`.
const NAME: &str = "vswitch_keepout";

/// Holds the host's stack off a device until it is dropped.
pub enum KeepOut {
    /// By a link.
    Tcx { _link: OwnedFd },
    /// By a filter.
    Clsact { _filter: Filter },
}

impl KeepOut {
    /// Attaches to the device with this index in the caller's network namespace. The program is loaded anew for each,
    /// because the kernel refuses the same one twice on a device.
    pub fn attach(ifindex: u32) -> io::Result<Self> {
        let program = load()?;
        match sys::link_tcx_ingress(program.as_fd(), ifindex) {
            // A kernel before 6.6 does not know the attach type.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                Ok(Self::Clsact { _filter: Filter::attach(program.as_fd(), ifindex, NAME)? })
            }
            link => Ok(Self::Tcx { _link: link? }),
        }
    }

    /// For `Interface:status`.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Tcx { .. } => "tcx",
            Self::Clsact { .. } => "clsact filter (this kernel has no tcx links)",
        }
    }
}

fn load() -> io::Result<OwnedFd> {
    let mut name = [0; 16];
    name[..NAME.len()].copy_from_slice(NAME.as_bytes());
    sys::load_classifier(&DROP_ALL, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    use std::fs::File;
    use std::process::Command;

    /// What `line` prints.
    fn run(line: &str) -> String {
        let mut words = line.split_whitespace();
        let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    #[test]
    fn a_clsact_filter_comes_is_replaced_and_goes() {
        let name = "a_clsact_filter_comes_is_replaced_and_goes";
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var("VSWITCH_REQUIRE_ALL").as_deref() != Ok("1"), "{name}: needs root");
            eprintln!("skipped: {name}: needs root");
            return;
        }
        let space = format!("dpio-{}-clsact", std::process::id());
        assert_eq!(run(&format!("ip netns add {space}")), "");
        let attach = || {
            let file = File::open(format!("/run/netns/{space}")).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            // Index 1 is the loopback device of the new namespace.
            Filter::attach(load().unwrap().as_fd(), 1, NAME)
        };
        let in_thread = || std::thread::scope(|s| s.spawn(attach).join().unwrap());
        let shown = || run(&format!("tc -n {space} filter show dev lo ingress"));
        let (first, second) = (in_thread(), in_thread());
        let while_on = shown();
        // As after a kill: the first one's memory of it is gone, the filter is not.
        std::mem::forget(first);
        drop(second);
        let after = shown();
        run(&format!("ip netns del {space}"));
        assert_eq!(while_on.matches("handle 0x5653").count(), 1, "{while_on}");
        assert!(while_on.contains("vswitch_keepout direct-action"), "{while_on}");
        assert_eq!(after, "");
    }
}
