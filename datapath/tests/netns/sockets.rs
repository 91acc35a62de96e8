//! The sockets below tunnels without a switch: what leaves in one run arrives as the datagrams that it was made of, and what
//! the kernel refuses is told of.

use crate::lab::{Space, eventually, root};
use datapath::packet::{Batch, Frame, Outer, Pool};
use datapath::port::Device;
use datapath::port::udp::UdpEndpoint;
use datapath::switch::verdict::DropReason;

const PORT: u16 = 4789;

/// Two hosts with a cable between them, 192.0.2.1 and 192.0.2.2, and each one's sockets.
fn pair() -> ([Space; 2], [UdpEndpoint; 2]) {
    let spaces = [Space::new("a"), Space::new("b")];
    spaces[0].cable("eth0", &spaces[1], "eth0");
    for (space, address) in spaces.iter().zip(["192.0.2.1/24", "192.0.2.2/24"]) {
        space.ip(&format!("addr add {address} dev eth0"));
    }
    let endpoints = [0, 1].map(|n| spaces[n].inside(|| UdpEndpoint::open(PORT, false)).expect("sockets").0);
    (spaces, endpoints)
}

/// A datagram for 192.0.2.2 that says which one it is.
fn datagram(number: u8, len: usize) -> Frame {
    let mut frame = Frame::from_bytes(&vec![number; len]);
    frame.meta.outer = Some(Outer::to(([192, 0, 2, 2], PORT).into()));
    frame
}

/// Sends frames; those that are refused.
fn send(from: &mut UdpEndpoint, mut frames: Vec<Frame>) -> Vec<(u8, DropReason)> {
    let (count, mut unsent) = (frames.len(), Vec::new());
    let sent = from.send(&mut Pool::new(0), &mut frames, &mut unsent);
    assert_eq!(sent as usize + unsent.len(), count);
    unsent.iter().map(|(frame, reason)| (frame.bytes()[0], *reason)).collect()
}

/// The next `count` datagrams, and how many runs they came in.
fn receive(at: &mut UdpEndpoint, count: usize) -> (Vec<Vec<u8>>, usize) {
    let (mut pool, mut batch, mut lost) = (Pool::new(8), Batch::new(), Vec::new());
    let (mut datagrams, mut runs) = (Vec::new(), 0);
    let all = eventually(|| {
        at.receive(&mut pool, &mut batch, &mut lost);
        for run in batch.drain() {
            let size = run.meta.outer.expect("a sender").segment.map_or(run.len(), usize::from);
            datagrams.extend(run.bytes().chunks(size).map(<[u8]>::to_vec));
            runs += 1;
        }
        datagrams.len() >= count
    });
    assert!(all && lost.is_empty(), "{} of {count}, {lost:?}", datagrams.len());
    (datagrams, runs)
}

#[test]
fn datagrams_of_equal_size_leave_in_runs_and_arrive_as_they_were() {
    if !root("datagrams_of_equal_size_leave_in_runs_and_arrive_as_they_were") {
        return;
    }
    let (_spaces, [mut a, mut b]) = pair();
    let lens: Vec<usize> = [vec![100; 100], vec![101; 3], vec![99], vec![1400; 50]].concat();
    let sent: Vec<Frame> = (0..).zip(&lens).map(|(number, &len)| datagram(number, len)).collect();
    let expected: Vec<_> = sent.iter().map(|frame| frame.bytes().to_vec()).collect();
    assert_eq!(send(&mut a, sent), []);
    let (received, runs) = receive(&mut b, expected.len());
    assert!(received == expected, "other datagrams, or in another order");
    // 64 and 36; 3; 1; 46 (what one send takes) and 4.
    assert_eq!(runs, 6);
}

#[test]
fn a_run_of_too_large_datagrams_is_refused_and_the_others_go() {
    if !root("a_run_of_too_large_datagrams_is_refused_and_the_others_go") {
        return;
    }
    let (_spaces, [mut a, mut b]) = pair();
    let frames = [1500, 1500, 1500, 100, 100].into_iter().zip(1..).map(|(len, number)| datagram(number, len)).collect();
    assert_eq!(send(&mut a, frames), [1, 2, 3].map(|number| (number, DropReason::TxTooBig)));
    let (received, _) = receive(&mut b, 2);
    assert_eq!(received, [vec![4; 100], vec![5; 100]]);
    // Those that the underlay may fragment leave one by one.
    let mut frames: Vec<_> = (1..4).map(|number| datagram(number, 2000)).collect();
    frames.iter_mut().flat_map(|frame| &mut frame.meta.outer).for_each(|outer| outer.dont_fragment = false);
    assert_eq!(send(&mut a, frames), []);
    let (received, runs) = receive(&mut b, 3);
    assert_eq!((received, runs), ([1, 2, 3].map(|number| vec![number; 2000]).to_vec(), 3));
}
