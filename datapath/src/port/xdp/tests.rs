//! Against the kernel, in network namespaces; needs root. What a daemon's tests see from outside is not repeated here.

use super::socket::RING;
use super::*;
use crate::offload::{checksum, gso};
use crate::packet::{Batch, ChecksumState, Frame, Pool};
use crate::port::Rx;
use crate::port::bpf::sys::{Kind, load};
use crate::port::bpf::{Helper, Program as Assembler, R0, R2, R3};
use crate::switch::verdict::DropReason;
use crate::wire::fixtures::Packet;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::process::Command;
use std::time::Instant;

/// What `line` prints.
fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A network namespace with the veth pair `v0`, `v1`, up and silent; removed when it is dropped.
struct Space(String);

impl Space {
    fn new(name: &str) -> Option<Self> {
        Self::with_queues(name, 1, 1)
    }

    /// Where `v0` has so many queues to send by and to receive by, and `v1` as many as both need.
    fn with_queues(name: &str, tx: u32, rx: u32) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var("VSWITCH_REQUIRE_ALL").as_deref() != Ok("1"), "{name}: needs root");
            eprintln!("skipped: {name}: needs root");
            return None;
        }
        let space = Self(format!("dpio-{}-xdp-{name}", std::process::id()));
        assert_eq!(run(&format!("ip netns add {}", space.0)), "");
        let ip = |line: &str| assert_eq!(run(&format!("ip -n {} {line}", space.0)), "", "{line}");
        run(&format!("ip netns exec {} sysctl -qw net.ipv6.conf.default.disable_ipv6=1", space.0));
        let v1 = format!("v1 numtxqueues {rx} numrxqueues {tx}");
        ip(&format!("link add v0 numtxqueues {tx} numrxqueues {rx} type veth peer name {v1}"));
        ip("link set v0 up");
        ip("link set v1 up");
        Some(space)
    }

    /// What `job` returns in it.
    fn inside<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        let there = || {
            let file = File::open(format!("/run/netns/{}", self.0)).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            job()
        };
        std::thread::scope(|s| s.spawn(there).join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
    }

    fn index(&self, name: &str) -> u32 {
        run(&format!("ip -n {} -o link show {name}", self.0)).split(':').next().unwrap().parse().unwrap()
    }

    /// An AF_XDP port on one end, in the best mode.
    fn open(&self, name: &str, umem: &mut Umem, host: &[MacAddr]) -> (Port, Status) {
        self.open_by(Backend::Own, name, umem, host)
    }

    fn open_by(&self, backend: Backend, name: &str, umem: &mut Umem, host: &[MacAddr]) -> (Port, Status) {
        let (ifindex, mode) = (self.index(name), Mode::BestEffort);
        let spec = XdpSpec { ifindex, mode, backend, queues: None, busy_poll: 0, host: host.to_vec(), mtu: None };
        let (queues, handle, status) = self.inside(|| open(name, &spec, umem)).unwrap();
        (Port { _handle: handle, queues }, status)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        run(&format!("ip netns del {}", self.0));
    }
}

/// An open port; where one queue is all it has, it is that.
struct Port {
    _handle: XdpHandle,
    queues: Vec<Box<dyn Device>>,
}

impl Deref for Port {
    type Target = dyn Device;

    fn deref(&self) -> &Self::Target {
        &*self.queues[0]
    }
}

impl DerefMut for Port {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut *self.queues[0]
    }
}

/// Receives so many frames.
fn receive(device: &mut dyn Device, pool: &mut Pool, count: usize) -> Vec<Frame> {
    let (mut batch, mut lost, mut got) = (Batch::new(), vec![], vec![]);
    let patience = Instant::now();
    while got.len() < count {
        assert!(patience.elapsed() < Duration::from_secs(10), "{} of {count} frames; lost: {lost:?}", got.len());
        device.receive(pool, &mut batch, &mut lost);
        got.extend(batch.drain());
    }
    assert_eq!((got.len(), lost), (count, vec![]));
    got
}

fn send(device: &mut dyn Device, pool: &mut Pool, mut frames: Vec<Frame>) -> (u64, Vec<DropReason>) {
    let mut unsent = vec![];
    let sent = device.send(pool, &mut frames, &mut unsent);
    let reasons = unsent.iter().map(|(_, reason)| *reason).collect();
    unsent.into_iter().for_each(|(frame, _)| pool.recycle(frame));
    (sent, reasons)
}

/// An experimental frame of this length for this station, with a number in it.
fn frame(to: [u8; 6], number: u8, len: usize) -> Frame {
    let mut bytes = [&to[..], &[2, 0, 0, 0, 0, 1, 0x88, 0xb5, number]].concat();
    bytes.resize(len, number);
    Frame::from_bytes(&bytes)
}

const STATION: [u8; 6] = [2, 0, 0, 0, 0, 9];

#[test]
fn frames_of_any_size_pass_in_order_and_every_chunk_comes_back() {
    let Some(space) = Space::new("pass") else { return };
    for end in ["v0", "v1"] {
        assert_eq!(run(&format!("ip -n {} link set {end} mtu 9000", space.0)), "");
    }
    let (mut umem, mut pool) = (Umem::default(), Pool::new(64));
    let (mut a, mut b) = (space.open("v0", &mut umem, &[]).0, space.open("v1", &mut umem, &[]).0);
    let region = Arc::clone(&umem.regions()[0]);
    assert_eq!(umem.regions().len(), 1, "both use the same memory");
    let lengths = [60, 61, 1514, 3840, 3841, 9014, 60];
    for round in 0..200 {
        let frames: Vec<_> = lengths.iter().map(|&len| frame(STATION, round, len)).collect();
        let expected: Vec<_> = frames.iter().map(|f| f.bytes().to_vec()).collect();
        assert_eq!(send(&mut *a, &mut pool, frames), (7, vec![]));
        let there = receive(&mut *b, &mut pool, 7);
        assert!(there.iter().zip(&expected).all(|(got, sent)| got.bytes() == sent), "round {round}");
        assert!(there[0].chunk_in(&region).is_some() && there[0].headroom() == crate::packet::frame::HEADROOM);
        // Back where they lie.
        assert_eq!(send(&mut *b, &mut pool, there), (7, vec![]));
        let back = receive(&mut *a, &mut pool, 7);
        assert!(back.iter().zip(&expected).all(|(got, sent)| got.bytes() == sent), "round {round}");
        back.into_iter().for_each(|f| pool.recycle(f));
    }
    drop((a, b));
    assert_eq!(region.free() + pool.spare_chunks(&region), region.chunks() as usize);
}

/// A tag that the sender's kernel keeps beside the frame is in it when it reaches us.
#[test]
fn a_tag_beside_the_frame_is_put_back() {
    Backend::ALL.iter().for_each(|&backend| a_tag_beside_the_frame_is_put_back_by(backend));
}

fn a_tag_beside_the_frame_is_put_back_by(backend: Backend) {
    let Some(space) = Space::new(&format!("tag-{}", backend.name())) else { return };
    // bpf_skb_vlan_push(skb, htons(0x8100), 0x600a); return TC_ACT_OK
    let mut pusher = Assembler::new();
    pusher.set(R2, 0x8100_u16.to_be().into()).set(R3, 0x600a).call(Helper::VlanPush).set(R0, 0).exit();
    let program = load(Kind::Classifier, &pusher.finish(), "push").unwrap();
    let index = space.index("v1");
    let _link = space.inside(|| sys::link_tcx_egress(program.as_fd(), index)).unwrap();
    let (mut umem, mut pool) = (Umem::default(), Pool::new(64));
    let (mut a, status) = space.open_by(backend, "v0", &mut umem, &[]);
    assert!(!status.iter().any(|(key, _)| key == "xdp_vlan_warning"), "{status:?}");
    // A packet socket's frames pass by egress programs, ours by AF_XDP do not.
    let sender = space.inside(|| packet::socket(index as libc::c_int).unwrap());
    super::super::sys::bind_packet(sender.as_fd(), index as libc::c_int, 0).unwrap();
    let untagged = frame(STATION, 7, 100);
    let header = [0_u8; super::super::vnet::LEN];
    rustix::net::send(&sender, &[&header, untagged.bytes()].concat(), rustix::net::SendFlags::empty()).unwrap();
    let got = receive(&mut *a, &mut pool, 1);
    let mut tagged = frame(STATION, 7, 100);
    assert!(tagged.push_vlan(0x8100, 0x600a));
    assert_eq!(got[0].bytes(), tagged.bytes());
}

/// The host goes on hearing what is for it and for groups; the switch gets groups' frames, too, and the rest.
#[test]
fn a_shared_device_is_divided_by_address() {
    Backend::ALL.iter().for_each(|&backend| a_shared_device_is_divided_by_address_by(backend));
}

fn a_shared_device_is_divided_by_address_by(backend: Backend) {
    let Some(space) = Space::new(&format!("share-{}", backend.name())) else { return };
    let (mut umem, mut pool) = (Umem::default(), Pool::new(64));
    let own = MacAddr([2, 0, 0, 0, 0, 0x77]);
    let (mut a, status) = space.open_by(backend, "v0", &mut umem, &[own]);
    assert!(status.iter().any(|(key, _)| key == "host"), "{status:?}");
    let (mut far, _) = space.open_by(backend, "v1", &mut umem, &[]);
    let host = space.inside(|| packet::socket(space.index("v0") as libc::c_int).unwrap());
    super::super::sys::bind_packet(host.as_fd(), space.index("v0") as libc::c_int, 3).unwrap();
    let group = [1, 0, 0x5e, 0, 0, 1];
    let to = [STATION, own.0, group, [0xff; 6], [2, 0, 0, 0, 0, 0x78]];
    let frames = to.iter().enumerate().map(|(i, to)| frame(*to, i as u8, 60)).collect();
    assert_eq!(send(&mut *far, &mut pool, frames), (5, vec![]));
    let mut switch: Vec<u8> = receive(&mut *a, &mut pool, 4).iter().map(|f| f.bytes()[14]).collect();
    switch.sort_unstable();
    assert_eq!(switch, [0, 2, 3, 4]);
    let mut heard = vec![];
    let mut buffer = [0; 200];
    while let Ok((_, len)) = rustix::net::recv(&host, &mut buffer, rustix::net::RecvFlags::DONTWAIT) {
        heard.push(buffer[len - 1]);
    }
    assert_eq!(heard, [1, 2, 3]);
}

#[test]
fn a_checksum_is_finished_by_the_kernel_or_refused_if_it_cannot_be() {
    let Some(space) = Space::new("csum") else { return };
    let (mut umem, mut pool) = (Umem::default(), Pool::new(64));
    let (mut a, mut b) = (space.open("v0", &mut umem, &[]).0, space.open("v1", &mut umem, &[]).0);
    if !a.caps().partial_csum {
        return eprintln!("skipped: this kernel takes no transmit metadata");
    }
    run(&format!("ip netns exec {} ethtool -K v0 tx off", space.0));
    let packet = Packet::tcp4(700);
    assert_eq!(send(&mut *a, &mut pool, vec![packet.partial()]), (1, vec![]));
    let got = receive(&mut *b, &mut pool, 1);
    assert_eq!((got[0].bytes(), got[0].meta.csum), (&packet.bytes()[..], ChecksumState::None));
    let mut broken = packet.partial();
    broken.meta.csum = ChecksumState::Partial { start: 700, offset: 1000 };
    assert_eq!(send(&mut *a, &mut pool, vec![broken]), (0, vec![DropReason::Malformed]));
}

/// Cut where they are sent from, with the checksums that their sender would have given them; also into segments that take
/// several chunks, and more of them than the ring has room for.
#[test]
fn super_frames_are_cut_into_chunks_and_none_of_them_is_lost() {
    let Some(space) = Space::new("cut") else { return };
    for end in ["v0", "v1"] {
        assert_eq!(run(&format!("ip -n {} link set {end} mtu 9000", space.0)), "");
    }
    let (mut umem, mut pool) = (Umem::default(), Pool::new(64));
    let (mut a, mut b) = (space.open("v0", &mut umem, &[]).0, space.open("v1", &mut umem, &[]).0);
    assert!(a.caps().cuts);
    for (whole, size) in [
        (Packet::tcp4(64_000), 1448),
        (Packet::tcp6(30_001).tagged(7), 1428),
        (Packet::tcp4(60_000).udp(), 1200),
        (Packet::tcp4(64_000), 8900),
    ] {
        let (mut expected, whole) = (vec![], whole.super_frame(size));
        let copy = pool.copy(&whole);
        gso::segment(copy, None, &mut pool, &mut expected).unwrap();
        for _ in 0..20 {
            let sent = vec![pool.copy(&whole)];
            assert_eq!(send(&mut *a, &mut pool, sent), (1, vec![]));
            for (mut got, expected) in receive(&mut *b, &mut pool, expected.len()).into_iter().zip(&expected) {
                checksum::finish(&mut got).unwrap();
                assert_eq!(got.bytes(), expected.bytes());
                pool.recycle(got);
            }
        }
    }
    drop(b);
    let whole = Packet::tcp4(64_000).super_frame(1448);
    let counted = || run(&format!("ip netns exec {} cat /sys/class/net/v0/statistics/tx_packets", space.0));
    let before: u64 = counted().trim().parse().unwrap();
    let many = (0..100).map(|_| pool.copy(&whole)).collect();
    assert_eq!(send(&mut *a, &mut pool, many), (100, vec![]));
    assert_eq!(counted().trim().parse::<u64>().unwrap() - before, 100 * 45);
    assert_eq!(run(&format!("ip -n {} link set v1 down", space.0)), "");
    let one = vec![pool.copy(&whole)];
    assert_eq!(send(&mut *a, &mut pool, one), (0, vec![DropReason::TxQueueFull; 45]));
    drop(a);
    for region in umem.regions() {
        assert_eq!(region.free() + pool.spare_chunks(region), region.chunks() as usize);
    }
}

#[test]
fn what_the_device_drops_is_told_and_a_device_that_goes_is_dead() {
    Backend::ALL.iter().for_each(|&backend| what_the_device_drops_is_told_and_a_device_that_goes_is_dead_by(backend));
}

fn what_the_device_drops_is_told_and_a_device_that_goes_is_dead_by(backend: Backend) {
    let Some(space) = Space::new(&format!("down-{}", backend.name())) else { return };
    let (mut umem, mut pool) = (Umem::default(), Pool::new(64));
    let (mut a, _) = space.open_by(backend, "v0", &mut umem, &[]);
    let frames = |n: u8| (0..n).map(|i| frame(STATION, i, 60)).collect::<Vec<_>>();
    assert_eq!(run(&format!("ip -n {} link set v1 down", space.0)), "");
    // No carrier: the kernel takes each and drops it, one a call.
    assert_eq!(send(&mut *a, &mut pool, frames(5)), (0, vec![DropReason::TxQueueFull; 5]));
    assert_eq!(run(&format!("ip -n {} link set v1 up", space.0)), "");
    assert_eq!(send(&mut *a, &mut pool, frames(3)), (3, vec![]));
    assert_eq!(run(&format!("ip -n {} link del v0", space.0)), "");
    let patience = Instant::now();
    loop {
        match a.receive(&mut pool, &mut Batch::new(), &mut vec![]) {
            Rx::Dead(errno) => break assert_eq!(errno, libc::ENODEV),
            _ => assert!(patience.elapsed() < Duration::from_secs(10), "it lives"),
        }
    }
    assert_eq!(send(&mut *a, &mut pool, frames(1)).0, 0);
    drop(a);
    for region in umem.regions() {
        assert_eq!(region.free() + pool.spare_chunks(region), region.chunks() as usize);
    }
    assert_eq!(umem.regions().len(), usize::from(backend.is_own()));
}

/// More frames than there are buffers, so that all of them come back and are used again.
#[test]
fn frames_pass_in_order_by_any_backend() {
    for &backend in Backend::ALL {
        let Some(space) = Space::new(&format!("order-{}", backend.name())) else { return };
        let (mut umem, mut pool) = (Umem::default(), Pool::new(64));
        let (mut a, status) = space.open_by(backend, "v0", &mut umem, &[]);
        let (mut b, _) = space.open_by(Backend::Own, "v1", &mut umem, &[]);
        assert!(status.contains(&("xdp-backend".to_owned(), backend.name().to_owned())), "{status:?}");
        let lengths: Vec<usize> = (0..40).map(|n| 60 + n * 37).collect();
        for round in 0..200 {
            let frames: Vec<_> = lengths.iter().map(|&len| frame(STATION, round, len)).collect();
            let expected: Vec<_> = frames.iter().map(|f| f.bytes().to_vec()).collect();
            assert_eq!(send(&mut *a, &mut pool, frames), (40, vec![]));
            let there = receive(&mut *b, &mut pool, 40);
            assert!(there.iter().zip(&expected).all(|(got, sent)| got.bytes() == sent), "round {round}");
            assert_eq!(send(&mut *b, &mut pool, there), (40, vec![]));
            let back = receive(&mut *a, &mut pool, 40);
            assert!(back.iter().zip(&expected).all(|(got, sent)| got.bytes() == sent), "round {round}");
            back.into_iter().for_each(|f| pool.recycle(f));
        }
        if backend.is_own() {
            continue;
        }
        let too_long = vec![frame(STATION, 0, 60), frame(STATION, 0, 4000), frame(STATION, 0, 60)];
        assert_eq!(send(&mut *a, &mut pool, too_long), (2, vec![DropReason::TxTooBig]));
        receive(&mut *b, &mut pool, 2);
    }
}

/// What is sent by a queue of a veth comes by the one of that number at its far end.
#[test]
fn each_queue_receives_and_sends_by_itself() {
    let Some(space) = Space::with_queues("queues", 3, 3) else { return };
    let (mut umem, mut pool) = (Umem::default(), Pool::new(64));
    let ((mut a, status), (mut b, _)) = (space.open("v0", &mut umem, &[]), space.open("v1", &mut umem, &[]));
    assert_eq!((a.queues.len(), b.queues.len()), (3, 3));
    assert!(status.contains(&("n_rxq".to_owned(), "3".to_owned())), "{status:?}");
    for round in 0..200 {
        for (number, (one, other)) in (0..).zip(a.queues.iter_mut().zip(&mut b.queues)) {
            let frames = |from: u8| (from..from + 8).map(|n| frame(STATION, n, 60)).collect::<Vec<_>>();
            assert_eq!(send(&mut **one, &mut pool, frames(8 * number)), (8, vec![]), "round {round}");
            let there = receive(&mut **other, &mut pool, 8);
            let numbers: Vec<u8> = there.iter().map(|f| f.bytes()[14]).collect();
            assert_eq!(numbers, (8 * number..8 * number + 8).collect::<Vec<_>>(), "round {round}");
            assert_eq!(send(&mut **other, &mut pool, there), (8, vec![]));
            receive(&mut **one, &mut pool, 8).into_iter().for_each(|f| pool.recycle(f));
        }
    }
    let region = Arc::clone(&umem.regions()[0]);
    assert_eq!((umem.regions().len(), region.lent()), (1, 6 * RING));
    // One after the other goes, and each gives its chunks back.
    let queues: Vec<_> = a.queues.drain(..).chain(b.queues.drain(..)).collect();
    for (gone, queue) in (1..).zip(queues) {
        drop(queue);
        assert_eq!(region.lent(), (6 - gone) * RING);
    }
    assert_eq!(region.free() + pool.spare_chunks(&region), region.chunks() as usize);
}

/// The kernel would neither send by a queue that is not there nor refuse to.
#[test]
fn a_queue_that_cannot_be_sent_by_has_a_packet_socket() {
    let Some(space) = Space::with_queues("tx", 1, 2) else { return };
    let (mut umem, mut pool) = (Umem::default(), Pool::new(64));
    let ((mut a, status), (mut b, _)) = (space.open("v0", &mut umem, &[]), space.open("v1", &mut umem, &[]));
    let warning = status.iter().find(|(key, _)| key == "xdp_tx_warning").map(|(_, text)| text.as_str());
    assert!(warning.is_some_and(|text| text.contains("by 1 of its 2 queues only")), "{status:?}");
    for (number, queue) in (0..).zip(&mut a.queues) {
        assert_eq!(send(&mut **queue, &mut pool, vec![frame(STATION, number, 60)]), (1, vec![]));
        assert_eq!(receive(&mut *b.queues[0], &mut pool, 1)[0].bytes()[14], number);
    }
}

/// What the kernel dropped and what it sent add up for each frame, also where frames wait for room at the far end, which
/// nobody empties.
#[test]
fn frames_that_are_dropped_on_the_way_are_told_by_any_backend() {
    for &backend in Backend::ALL {
        let Some(space) = Space::new(&format!("full-{}", backend.name())) else { return };
        let (mut umem, mut pool) = (Umem::default(), Pool::new(64));
        let (mut a, _) = space.open_by(backend, "v0", &mut umem, &[]);
        let (mut sent, mut dropped) = (0, vec![]);
        for carrier in ["up", "down", "up", "down", "up"] {
            assert_eq!(run(&format!("ip -n {} link set v1 {carrier}", space.0)), "");
            for round in 0..10 {
                let (n, reasons) = send(&mut *a, &mut pool, (0..64).map(|_| frame(STATION, round, 60)).collect());
                assert_eq!((n > 0, reasons.len()), (carrier == "up", 64 - n as usize), "{backend:?}, {carrier}");
                sent += n;
                dropped.extend(reasons);
            }
        }
        assert_eq!((sent, dropped), (30 * 64, vec![DropReason::TxQueueFull; 20 * 64]), "{backend:?}");
        let counters = run(&format!("ip -n {} -s link show v0", space.0));
        assert!(counters.contains(" 1920 "), "the device has sent as many: {counters}");
    }
}
