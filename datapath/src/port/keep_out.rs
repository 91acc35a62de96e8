//! Keeping the host's own stack out of attached devices.
//!
//! Without this the host would process every frame a second time: answer ARP for its own addresses, and forward or
//! reject what is not its business. A packet socket taps frames before the tc hook, so a classifier there that drops
//! everything leaves the switch its copy.
//!
//! It hangs on a tcx link (Linux 6.6), which goes when the descriptor closes, however the process ends; on older kernels
//! on a clsact filter, which a killed process leaves behind until it is started again. Making a link waits for the whole
//! kernel (an RCU grace period, 9 to 18 ms, one device after the other), a filter is there in a tenth of a millisecond.
//! So most devices get a filter, and the link instead of it as soon as nothing else is to be attached.
//!
//! It does not stop what the host *sends* on the device.

use super::bpf::{Program, R0, sys};
use super::clsact::Filter;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// What becomes of a frame that a classifier says so of (linux/pkt_cls.h).
const TC_ACT_SHOT: i32 = 2;

/// As shown by `bpftool net` and `tc filter show`.
const NAME: &str = "vswitch_keepout";

/// How long nothing must have been attached before filters become links, and how long is left to others between two: the
/// kernel's lock on devices is taken while one does.
const QUIET: Duration = Duration::from_millis(250);
const BETWEEN: Duration = Duration::from_millis(20);

/// What the program hangs on.
pub(crate) enum Hold {
    Link { _link: OwnedFd },
    Filter { _filter: Filter, ifindex: u32 },
}

/// Holds the host's stack off a device until it is dropped.
pub(crate) struct KeepOut {
    hold: Arc<Mutex<Hold>>,
}

impl KeepOut {
    /// Makes it a link at once; an error where the kernel has none. What is linked before all others from then on comes
    /// before it.
    pub(crate) fn settle(&self) -> io::Result<()> {
        make_link(&mut self.hold.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Attaches to devices, all in one network namespace.
#[derive(Debug, Default)]
pub(crate) enum KeepOuts {
    /// The first one will tell whether the kernel has links.
    #[default]
    Untried,
    /// It has; filters are made links in a thread, which ends with this.
    Links(Sender<Weak<Mutex<Hold>>>),
    /// It has none.
    Filters,
}

impl KeepOuts {
    /// Attaches to the device with this index in the caller's network namespace, and says by what for
    /// `Interface:status`.
    pub(crate) fn attach(&mut self, ifindex: u32) -> io::Result<(KeepOut, &'static str)> {
        let hold = match self {
            Self::Untried => match link(ifindex) {
                // A kernel before 6.6 does not know the attach type.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                    *self = Self::Filters;
                    filter(ifindex)?
                }
                made => {
                    let made = made?;
                    // One that was killed may have left its filter.
                    Filter::remove(ifindex)?;
                    *self = Self::Links(start()?);
                    made
                }
            },
            Self::Links(_) => filter(ifindex).or_else(|_| link(ifindex))?,
            Self::Filters => filter(ifindex)?,
        };
        let keep_out = KeepOut { hold: Arc::new(Mutex::new(hold)) };
        let Self::Links(queue) = self else { return Ok((keep_out, "clsact filter (this kernel has no tcx links)")) };
        // The thread is there as long as the queue.
        let _ = queue.send(Arc::downgrade(&keep_out.hold));
        Ok((keep_out, "tcx"))
    }
}

/// Starts the thread that makes links of filters, in the caller's network namespace.
fn start() -> io::Result<Sender<Weak<Mutex<Hold>>>> {
    let (queue, waiting) = mpsc::channel();
    std::thread::Builder::new().name("keep-out".to_owned()).spawn(move || make_links(&waiting))?;
    Ok(queue)
}

fn make_links(queue: &Receiver<Weak<Mutex<Hold>>>) {
    while let Ok(first) = queue.recv() {
        let (mut waiting, mut patience) = (vec![first], QUIET);
        while !waiting.is_empty() {
            match queue.recv_timeout(patience) {
                Ok(next) => {
                    waiting.push(next);
                    patience = QUIET;
                }
                Err(RecvTimeoutError::Timeout) => {
                    waiting.pop().iter().for_each(improve);
                    patience = BETWEEN;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Has one that is still there hang on a link.
fn improve(hold: &Weak<Mutex<Hold>>) {
    let Some(hold) = hold.upgrade() else { return };
    let mut hold = hold.lock().unwrap_or_else(PoisonError::into_inner);
    let Hold::Filter { ifindex, .. } = *hold else { return };
    match make_link(&mut hold) {
        Ok(()) => {}
        // The device is gone, and the filter with it.
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => {}
        Err(e) => tracing::warn!(
            "interface {ifindex}: the host's stack is kept out by a clsact filter, not by a tcx link ({e}); should the \
             daemon be killed, it stays: 'tc filter del' removes it"
        ),
    }
}

/// Puts a link where a filter is; with both, the host is kept out all the same.
fn make_link(hold: &mut Hold) -> io::Result<()> {
    if let Hold::Filter { ifindex, .. } = *hold {
        *hold = link(ifindex)?;
    }
    Ok(())
}

/// The program is loaded anew for each device, because the kernel refuses the same one twice on a device.
fn link(ifindex: u32) -> io::Result<Hold> {
    Ok(Hold::Link { _link: sys::link_tcx_ingress(load()?.as_fd(), ifindex)? })
}

fn filter(ifindex: u32) -> io::Result<Hold> {
    Ok(Hold::Filter { _filter: Filter::attach(load()?.as_fd(), ifindex, NAME)?, ifindex })
}

fn load() -> io::Result<OwnedFd> {
    let drop_all = Program::new().set(R0, TC_ACT_SHOT).exit().finish();
    sys::load(sys::Kind::Classifier, &drop_all, NAME)
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

    /// A network namespace of its own for a test, where there may be one, and what removes it.
    fn space(name: &str) -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var("VSWITCH_REQUIRE_ALL").as_deref() != Ok("1"), "{name}: needs root");
            eprintln!("skipped: {name}: needs root");
            return None;
        }
        let space = format!("dpio-{}-{name}", std::process::id());
        assert_eq!(run(&format!("ip netns add {space}")), "");
        Some(space)
    }

    /// What `job` returns in that namespace.
    fn inside<T: Send>(space: &str, job: impl FnOnce() -> T + Send) -> T {
        let there = || {
            let file = File::open(format!("/run/netns/{space}")).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            job()
        };
        std::thread::scope(|s| s.spawn(there).join().unwrap())
    }

    #[test]
    fn a_clsact_filter_comes_is_replaced_and_goes() {
        let Some(space) = space("clsact") else { return };
        // Index 1 is the loopback device of the new namespace.
        let attach = || inside(&space, || Filter::attach(load().unwrap().as_fd(), 1, NAME).unwrap());
        let shown = || run(&format!("tc -n {space} filter show dev lo ingress"));
        let (first, second) = (attach(), attach());
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

    #[test]
    fn the_first_gets_a_link_and_the_others_a_filter_until_it_is_quiet() {
        let Some(space) = space("links") else { return };
        run(&format!("ip -n {space} link add v2 type veth peer name v3"));
        let index = |name: &str| run(&format!("ip -n {space} -o link show {name}")).split(':').next().unwrap().parse();
        let devices = ["lo", "v2", "v3"].map(|name| index(name).unwrap());
        let shown = |name: &str| run(&format!("tc -n {space} filter show dev {name} ingress")).matches(NAME).count();
        // A killed one has left its filter on the first device.
        inside(&space, || std::mem::forget(Filter::attach(load().unwrap().as_fd(), devices[0], NAME).unwrap()));
        let (all, filters) = inside(&space, || {
            let mut all = KeepOuts::default();
            let held = devices.map(|ifindex| all.attach(ifindex).unwrap());
            assert!(held.iter().all(|(_, by)| *by == "tcx"));
            let filters = held.each_ref().map(|(held, _)| matches!(*held.hold.lock().unwrap(), Hold::Filter { .. }));
            ((all, held), filters)
        });
        assert_eq!((filters, shown("lo")), ([false, true, true], 0));
        let patience = std::time::Instant::now();
        while shown("v2") + shown("v3") > 0 {
            assert!(patience.elapsed() < Duration::from_secs(20), "they are still filters");
            std::thread::sleep(Duration::from_millis(5));
        }
        let links = all.1.each_ref().map(|(held, _)| matches!(*held.hold.lock().unwrap(), Hold::Link { .. }));
        run(&format!("ip netns del {space}"));
        assert_eq!(links, [true; 3]);
    }
}
