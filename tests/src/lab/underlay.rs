//! The network between two labs: what leaves one by a tunnel arrives at the other as the kernel would hand it over.
//!
//! The VXLAN header is read and written here byte by byte (RFC 7348 §5), not by the code under test.

use super::{Lab, Packet};
use datapath::packet::{Frame, Outer};
use std::net::{IpAddr, SocketAddr};

const HEADER: usize = 8;

/// A VXLAN datagram's payload.
#[must_use]
pub fn datagram(vni: u32, packet: &Packet) -> Vec<u8> {
    let mut bytes = vec![0x08, 0, 0, 0];
    bytes.extend((vni << 8).to_be_bytes());
    bytes.extend(packet.frame().bytes());
    bytes
}

/// The datagrams in a run.
fn datagrams(run: &Frame) -> std::slice::Chunks<'_, u8> {
    let segment = run.meta.outer.and_then(|o| o.segment).map_or(run.len(), usize::from);
    run.bytes().chunks(segment.max(1))
}

/// The VNI of a datagram that is VXLAN around a frame.
fn vni(datagram: &[u8]) -> Option<u32> {
    let [flags, _, _, _, a, b, c, _] = *datagram.first_chunk()?;
    (flags & 0x08 != 0 && datagram.len() >= HEADER + 14).then(|| u32::from_be_bytes([0, a, b, c]))
}

impl Lab {
    /// Hands the datagrams that were expected here to the lab that they are addressed to.
    ///
    /// # Panics
    /// If there are none, or one is addressed to somebody else.
    #[track_caller]
    pub fn carry_to(&mut self, other: &mut Self) {
        let runs = std::mem::take(&mut self.underlay);
        assert!(!runs.is_empty(), "no datagrams on their way");
        for run in runs {
            let outer = run.meta.outer.expect("set by the tunnel");
            assert_eq!(outer.remote.ip(), other.address, "addressed to somebody else");
            other.arrive(self.address, outer.segment, run.bytes());
        }
        other.run();
    }

    /// Takes the datagrams that were expected here off the wire.
    #[must_use]
    pub fn intercept(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.underlay)
    }

    /// A run of datagrams arrives from `remote`; [`Lab::run`] switches it.
    pub fn arrive(&mut self, remote: IpAddr, segment: Option<u16>, bytes: &[u8]) {
        let mut run = Frame::from_bytes(bytes);
        let remote_port = SocketAddr::new(remote, 50_000);
        run.meta.outer = Some(Outer { remote: remote_port, local: Some(self.address), segment, entropy: 0 });
        self.put_in += datagrams(&run).count().max(1) as u64;
        for datagram in datagrams(&run) {
            if let Some(port) = vni(datagram).and_then(|vni| self.tunnel_from(remote, vni)) {
                self.count_received(port, 1, datagram.len() - HEADER);
            }
        }
        self.tunnels.inject(run);
    }

    /// The port that takes packets of a VNI from a sender.
    fn tunnel_from(&self, remote: IpAddr, vni: u32) -> Option<&'static str> {
        let takes = |spec: &super::PortSpec| {
            let tunnel = spec.tunnel.as_ref()?;
            let here = tunnel.local.is_none_or(|local| local == self.address);
            (tunnel.in_vni.get() == vni && tunnel.remote.ip() == remote && here).then_some(spec.name)
        };
        self.members.iter().filter(|m| m.present).find_map(|m| takes(&m.spec))
    }

    /// The frames in a run of datagrams that has left, with the port that sent it.
    pub(super) fn open_datagrams(&self, run: &Frame) -> Vec<(&'static str, Frame)> {
        let member = &self.members[run.meta.egress.0 as usize];
        let tunnel = member.spec.tunnel.as_ref().expect("sent by a tunnel");
        let outer = run.meta.outer.expect("set by the tunnel");
        assert_eq!((outer.remote, outer.local), (tunnel.remote, tunnel.local), "{}", member.spec.name);
        let frame = |datagram: &[u8]| {
            let expected = [[0x08, 0, 0, 0], (tunnel.out_vni.get() << 8).to_be_bytes()].concat();
            assert_eq!(datagram[..HEADER], expected, "VXLAN header of {}", member.spec.name);
            (member.spec.name, Frame::from_bytes(&datagram[HEADER..]))
        };
        datagrams(run).map(frame).collect()
    }
}
