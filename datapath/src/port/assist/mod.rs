//! In-kernel assist: frames of known flows go from one network device to another in the kernel, as they are and without
//! a copy to user space.
//!
//! ```text
//!                    ┌ program::filter, on the packet socket ─────┐    ┌ program::forward, on tcx ingress ┐
//!  frame ─▶ device ─▶│ flow in the table, and the frame may pass? │─┬─▶│ marked: redirect to the device   │─▶ out
//!                    │ yes: mark it, keep it from the socket      │ │  │ otherwise: on to the keep-out    │─▶ dropped
//!                    └────────────────────────────────────────────┘ └─▶ no: the socket, the worker, as ever
//! ```
//!
//! **One decision.** The kernel shows each frame to packet sockets first and to tcx then. If both looked the flow up, a
//! change of the table in between would deliver the frame twice or not at all. So the filter alone decides, and writes what
//! it has decided into the frame (`skb->cb`, which the kernel leaves alone from the one to the other, since they follow
//! each other within one receive call); `forward` does as it is told and looks nothing up. A frame that nobody has marked
//! goes nowhere. The mark begins with a number that is drawn when the programs are loaded, so what others left there does
//! not read as one.
//!
//! **The table** ([`Table`]) is memory that the worker shares with the filter: a few stores put a flow in, one takes it
//! out, one other empties it all.
//!
//! What the device out drops is in its own statistics (`ip -s link`): a redirection tells nobody what became of it.
//!
//! Needs tcx links (Linux 6.6). Links and socket filters end with their descriptors: a killed process leaves no program, no
//! map and no forwarding.
//!
//! What an attacker may try: to fill the table (it has a fixed size, and where a flow's places are taken it stays in user
//! space), to have a frame taken for another (flows are compared whole), to pass what is too large (checked for each
//! frame, since redirection does not), to forge marks (only programs of the host's administrator reach them).

mod program;
mod table;

pub use table::{Action, Counts, Key, Retag, Slot, Table};

use super::bpf::sys::{self, Kind, link_tcx_ingress, mappable_array};
use super::keep_out::KeepOut;
use super::sys::set_option;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

// asm-generic/socket.h.
const SO_ATTACH_BPF: libc::c_int = 50;
const SO_DETACH_FILTER: libc::c_int = 27;

/// The programs and their table; control's.
#[derive(Debug)]
pub struct Programs {
    filter: OwnedFd,
    forward: OwnedFd,
    /// The programs hold them, too; here they are known as this process's.
    _maps: [OwnedFd; 2],
    table: Arc<Table>,
}

impl Programs {
    /// Loads them, with an empty table.
    pub fn load() -> io::Result<Self> {
        let flows = mappable_array(table::SLOT_LEN, table::SLOTS, "vswitch_flows")?;
        let state = mappable_array(table::STATE_LEN, 1, "vswitch_state")?;
        let table = Table::new(flows.as_fd(), state.as_fd())?;
        let maps = program::Maps { flows: flows.as_fd(), state: state.as_fd(), seed: table.seed(), mark: mark() };
        let filter = sys::load(Kind::SocketFilter, &program::filter(&maps), "vswitch_flows")?;
        let forward = sys::load(Kind::Classifier, &program::forward(&maps), "vswitch_assist")?;
        Ok(Self { filter, forward, _maps: [flows, state], table: Arc::new(table) })
    }

    /// What a worker puts flows into.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table)
    }

    /// Has them see the frames of a device, which `socket` receives from and `keep_out` keeps the host out of.
    pub(crate) fn attach(&self, socket: Arc<OwnedFd>, ifindex: u32, keep_out: &KeepOut) -> io::Result<Attached> {
        // Whoever is linked last comes first, and behind the keep-out there is nothing.
        keep_out.settle()?;
        let link = link_tcx_ingress(self.forward.as_fd(), ifindex)?;
        set_option(socket.as_fd(), libc::SOL_SOCKET, SO_ATTACH_BPF, self.filter.as_raw_fd())?;
        Ok(Attached { socket, _link: link })
    }
}

/// The programs on one device, until it is dropped.
#[derive(Debug)]
pub(crate) struct Attached {
    socket: Arc<OwnedFd>,
    _link: OwnedFd,
}

impl Drop for Attached {
    /// The filter first: what it marks would be lost without the other.
    fn drop(&mut self) {
        if let Err(e) = detach_filter(self.socket.as_fd()) {
            tracing::error!("a socket's filter stays: {e}; frames of flows that it knows would be lost");
        }
    }
}

fn detach_filter(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option::<libc::c_int>(socket, libc::SOL_SOCKET, SO_DETACH_FILTER, 0)
}

/// A number that says that a mark is ours: positive, so that it is the same in 32 and in 64 bits.
fn mark() -> i32 {
    let drawn = table::random() as u32 >> 1;
    drawn.max(1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::super::bpf::sys::trial;
    use super::*;
    use crate::types::L3Mtu;
    use crate::wire::vlan::{CUSTOMER, SERVICE, Tag};

    /// What test frames come from.
    const LOOPBACK: u32 = 1;
    const OUT: u32 = 77;
    const MTU: L3Mtu = L3Mtu(1000);
    const ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    // Words of `struct __sk_buff`.
    const CB: usize = 12;
    const GSO_SIZE: usize = 44;

    /// The programs without a device; the filter as a classifier, since the kernel tries only those on whole frames.
    struct Bench {
        filter: OwnedFd,
        forward: OwnedFd,
        table: Table,
        mark: u32,
    }

    impl Bench {
        /// `None`, said by name, where nobody may load programs.
        fn new(test: &str) -> Option<Self> {
            if !rustix::process::geteuid().is_root() {
                assert!(std::env::var("VSWITCH_REQUIRE_ALL").as_deref() != Ok("1"), "{test}: needs root");
                eprintln!("skipped: {test}: needs root");
                return None;
            }
            let flows = mappable_array(table::SLOT_LEN, table::SLOTS, "test_flows").unwrap();
            let state = mappable_array(table::STATE_LEN, 1, "test_state").unwrap();
            let table = Table::new(flows.as_fd(), state.as_fd()).unwrap();
            let maps = program::Maps { flows: flows.as_fd(), state: state.as_fd(), seed: table.seed(), mark: mark() };
            let load = |program: Vec<_>| sys::load(Kind::Classifier, &program, "test").unwrap();
            let (filter, forward) = (load(program::filter(&maps)), load(program::forward(&maps)));
            Some(Self { filter, forward, table, mark: maps.mark.cast_unsigned() })
        }

        /// Puts the flow of the test's addresses in; where it is.
        fn put(&self, key: &Key, retag: Retag) -> Slot {
            let slot = self.table.places(key).start;
            self.table.put(slot, key, &Action { ifindex: OUT, mtu: MTU, retag });
            slot
        }

        /// Whether the filter takes the frame; then it has marked it for the device.
        fn takes(&self, frame: &[u8], gso_size: u32) -> bool {
            let mut skb = [0; trial::SKB_WORDS];
            skb[GSO_SIZE] = gso_size;
            let result = trial::run(self.filter.as_fd(), frame, &mut skb).unwrap();
            assert_eq!(result == 0, skb[CB..CB + 2] == [self.mark, OUT], "{result}: {skb:?}");
            result == 0
        }
    }

    fn key() -> Key {
        let mut head = [0; 16];
        head[..12].copy_from_slice(&ADDRESSES);
        Key { ifindex: LOOPBACK, head }
    }

    /// A frame of `len` bytes with the test's addresses and then these bytes.
    fn frame(rest: &[u8], len: usize) -> Vec<u8> {
        let mut frame = [&ADDRESSES[..], rest].concat();
        frame.resize(len, 0);
        frame
    }

    /// IPv4 with `options` bytes of them, and TCP with `tcp` bytes of header in all.
    fn tcp4(options: u8, tcp: u8) -> Vec<u8> {
        let mut rest = vec![8, 0, 0x45 + options / 4, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0];
        rest.resize(2 + 20 + usize::from(options) + 12, 0);
        rest.push((tcp / 4) << 4);
        rest
    }

    #[test]
    fn a_known_flow_is_taken_counted_and_forgotten() {
        let Some(bench) = Bench::new("a_known_flow_is_taken_counted_and_forgotten") else { return };
        let ip = frame(&[8, 0, 0x45], 60);
        assert!(!bench.takes(&ip, 0), "unknown");
        let slot = bench.put(&key(), Retag::default());
        assert!(bench.takes(&ip, 0) && bench.takes(&frame(&[0x88, 0xb5], 100), 0), "of any protocol");
        let counts = Counts { packets: 2, bytes: 160, ..Counts::default() };
        assert_eq!(bench.table.counts(slot), counts);
        for other in 0..12 {
            let mut changed = ip.clone();
            changed[other] ^= 0x10;
            assert!(!bench.takes(&changed, 0), "another address");
        }
        bench.table.remove(slot);
        assert!(!bench.takes(&ip, 0), "removed");
        bench.put(&key(), Retag::default());
        assert!(bench.takes(&ip, 0));
        bench.table.forget();
        assert!(!bench.takes(&ip, 0), "all forgotten");
        bench.put(&Key { ifindex: LOOPBACK + 1, ..key() }, Retag::default());
        assert!(!bench.takes(&ip, 0), "from another device");
        assert_eq!(bench.table.counts(slot).since(counts), Counts { packets: 1, bytes: 60, ..Counts::default() });
    }

    #[test]
    fn a_flow_is_found_wherever_it_is_in_its_set() {
        let Some(bench) = Bench::new("a_flow_is_found_wherever_it_is_in_its_set") else { return };
        for n in 0..500_u16 {
            let mut key = key();
            key.head[4..6].copy_from_slice(&n.to_be_bytes());
            let mut frame = frame(&[8, 0, 0x45], 60);
            frame[..12].copy_from_slice(&key.head[..12]);
            assert!(!bench.takes(&frame, 0));
            let slot = bench.table.places(&key).nth(usize::from(n) % 4).unwrap();
            bench.table.put(slot, &key, &Action { ifindex: OUT, mtu: MTU, retag: Retag::default() });
            assert!(bench.takes(&frame, 0), "{n}");
        }
    }

    #[test]
    fn what_needs_a_look_is_left_to_user_space() {
        let Some(bench) = Bench::new("what_needs_a_look_is_left_to_user_space") else { return };
        bench.put(&key(), Retag::default());
        assert!(!bench.takes(&frame(&[8, 6], 60), 0), "ARP");
        for tpid in [[0x81, 0], [0x88, 0xa8]] {
            assert!(!bench.takes(&frame(&tpid, 60), 0), "a tag below the one beside the frame");
        }
        let icmp6 = |kind: u8| {
            let mut rest = vec![0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 58];
            rest.resize(2 + 40, 0);
            rest.push(kind);
            frame(&rest, 80)
        };
        let left: Vec<u8> = (0..=255).filter(|&kind| !bench.takes(&icmp6(kind), 0)).collect();
        assert_eq!(left, [133, 134, 135, 136, 137], "neighbour discovery");
        assert!(!bench.takes(&icmp6(128)[..54], 0), "too short to tell");
    }

    #[test]
    fn what_the_device_does_not_carry_is_left_to_user_space() {
        let Some(bench) = Bench::new("what_the_device_does_not_carry_is_left_to_user_space") else { return };
        bench.put(&key(), Retag::default());
        let largest = 14 + MTU.0 as usize;
        assert!(bench.takes(&frame(&[8, 0, 0x45], largest), 0) && !bench.takes(&frame(&[8, 0, 0x45], largest + 1), 0));
        // The segments of a super-frame: what it is made of counts, with all headers.
        for (options, tcp) in [(0, 20), (0, 32), (8, 60), (40, 20)] {
            let fits = MTU.0 - 20 - u32::from(options) - u32::from(tcp);
            let frame = frame(&tcp4(options, tcp), 2000);
            assert!(bench.takes(&frame, fits) && !bench.takes(&frame, fits + 1), "{options} {tcp}");
        }
        let udp6 = frame(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17], 2000);
        assert!(bench.takes(&udp6, MTU.0 - 48) && !bench.takes(&udp6, MTU.0 - 47));
        let sctp = frame(&[8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 132], 2000);
        assert!(!bench.takes(&sctp, 100), "nobody knows its headers");
        let push = |tpid| Retag { pop: false, push: Some(Tag { tpid, tci: 5 }) };
        bench.put(&key(), push(CUSTOMER));
        assert!(bench.takes(&frame(&[8, 0, 0x45], largest), 0), "its tag does not count");
        bench.put(&key(), push(SERVICE));
        assert!(bench.takes(&frame(&[8, 0, 0x45], largest - 4), 0));
        assert!(!bench.takes(&frame(&[8, 0, 0x45], largest - 3), 0), "the other kind does");
    }

    #[test]
    fn only_a_mark_of_ours_is_followed() {
        const TCX_NEXT: i32 = -1;
        const TC_ACT_REDIRECT: i32 = 7;
        let Some(bench) = Bench::new("only_a_mark_of_ours_is_followed") else { return };
        let (ip, slot) = (frame(&[8, 0, 0x45], 60), 0);
        let forwarded = |mark, retag| {
            let mut skb = [0; trial::SKB_WORDS];
            skb[CB..CB + 4].copy_from_slice(&[mark, LOOPBACK, retag, slot]);
            let result = trial::run(bench.forward.as_fd(), &ip, &mut skb).unwrap();
            assert!(result == TCX_NEXT || skb[CB] == 0, "the next device does not find it");
            result
        };
        assert_eq!(forwarded(bench.mark, 0), TC_ACT_REDIRECT);
        assert_eq!([0, bench.mark ^ 1].map(|mark| forwarded(mark, 0)), [TCX_NEXT; 2]);
        let push = (table::PUSH | 0x2005).cast_unsigned();
        assert_eq!(forwarded(bench.mark, push), TC_ACT_REDIRECT);
    }

    #[test]
    fn counters_are_told_apart_where_they_share_a_word() {
        let counts = |lost| Counts { packets: 9, bytes: 900, lost };
        let before = counts(u64::MAX);
        let lost = counts(u64::MAX.wrapping_add(2 * table::ONE_LOST + 120)).since(before);
        assert_eq!((lost.packets, lost.lost_packets(), lost.lost_bytes()), (0, 2, 120));
    }
}
