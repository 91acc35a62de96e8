//! Ports by AF_XDP: frames both ways with the offloads that a veth has when nobody touches it, beside other kinds of
//! ports, and what is left when they go.

use crate::lab::{Host, Space, eventually, root, transfer};
use datapath::control::{PortKind, XdpBackend, XdpMode, XdpSpec};
use datapath::switch::verdict::DropReason;
use datapath::types::L3Mtu;

fn spec(ifindex: u32, mode: XdpMode, backend: XdpBackend) -> PortKind {
    let mtu = Some(L3Mtu(1500));
    PortKind::Xdp(XdpSpec { ifindex, mode, backend, queues: None, busy_poll: 0, host: vec![], mtu })
}

/// A new pod behind an AF_XDP port of `br0`, and what was said about it.
fn pod(
    host: &mut Host,
    name: &str,
    address: &str,
    mode: XdpMode,
    backend: XdpBackend,
) -> (Space, Vec<(String, String)>) {
    let pod = Space::new(name);
    let ifindex = host.space.cable(name, &pod, "eth0");
    pod.ip(&format!("addr add {address} dev eth0 nodad"));
    let applied = host.add(name, spec(ifindex, mode, backend));
    (pod, applied.status)
}

fn told<'a>(status: &'a [(String, String)], key: &str) -> &'a str {
    status.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v)
}

#[test]
fn two_pods_ping_and_transfer_with_default_offloads_in_every_mode() {
    if !root("two_pods_ping_and_transfer_with_default_offloads_in_every_mode") {
        return;
    }
    let modes = [
        (XdpMode::BestEffort, "af_xdp (native, copied by the kernel, 1 queue)"),
        (XdpMode::Native, "af_xdp (native, copied by the kernel, 1 queue)"),
        (XdpMode::Generic, "af_xdp (generic, copied by the kernel, 1 queue)"),
    ];
    for (&backend, (mode, io)) in XdpBackend::ALL.iter().flat_map(|backend| modes.map(|mode| (backend, mode))) {
        // The generic hook is given super-frames, which the crate has no room for.
        if backend != XdpBackend::Own && mode == XdpMode::Generic {
            continue;
        }
        let mut host = Host::new("host");
        let ((a, status), (b, _)) =
            (pod(&mut host, "p1", "10.1.0.1/24", mode, backend), pod(&mut host, "p2", "10.1.0.2/24", mode, backend));
        assert_eq!(told(&status, "io"), io, "{status:?}");
        let refused = told(&status, "xdp_refused");
        assert_eq!(told(&status, "xdp-backend"), backend.name());
        assert_eq!(refused.contains("native-with-zerocopy: "), mode == XdpMode::BestEffort, "{status:?}");
        a.ip("addr add fd00::1/64 dev eth0 nodad");
        b.ip("addr add fd00::2/64 dev eth0 nodad");
        assert!(a.pings("10.1.0.2") && b.pings("10.1.0.1") && a.pings("fd00::2"), "{backend:?}, {mode:?}");
        transfer(&a, &b, "10.1.0.2:5000", 20);
        transfer(&b, &a, "[fd00::1]:5000", 20);
        let harmless = |r| matches!(r, DropReason::NoOutput | DropReason::Hairpin);
        for port in ["p1", "p2"] {
            let drops = host.stats(port).drops;
            assert!(drops.iter().all(|&(r, _)| harmless(r)), "{backend:?}, {mode:?}, {port}: {drops:?}");
        }
        assert!(eventually(|| host.adds_up(&["p1", "p2"])), "{backend:?}, {mode:?} {:?}", host.datapath.totals());
    }
}
