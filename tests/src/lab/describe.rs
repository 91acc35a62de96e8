//! Frames in words, for the messages of failing tests.

use datapath::packet::{ChecksumState, Frame};
use datapath::types::MacAddr;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use std::fmt::Write;

/// One line that says what the frame is.
#[must_use]
pub fn describe(frame: &Frame) -> String {
    let bytes = frame.bytes();
    let mut line = match SlicedPacket::from_ethernet(bytes) {
        Ok(packet) => headers(bytes, &packet),
        Err(e) => format!("unreadable ({e})"),
    };
    let _ = write!(line, ", {} bytes", bytes.len());
    if let ChecksumState::Partial { start, offset } = frame.meta.csum {
        let _ = write!(line, ", checksum unfinished from {start} at +{offset}");
    }
    if let Some(gso) = frame.meta.gso {
        let _ = write!(line, ", {:?} of {} after {}", gso.kind, gso.size, gso.header_len);
    }
    line
}

fn headers(bytes: &[u8], packet: &SlicedPacket<'_>) -> String {
    let mut line = String::new();
    if let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, ..] = *bytes {
        let (src, dst) = (MacAddr([s0, s1, s2, s3, s4, s5]), MacAddr([d0, d1, d2, d3, d4, d5]));
        line = format!("{}→{}", station(src), station(dst));
    }
    for tag in packet.vlan_ids() {
        let _ = write!(line, " vlan {}", tag.value());
    }
    match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let _ = write!(line, " IPv4 id {}", ip.header().identification());
        }
        Some(NetSlice::Ipv6(_)) => line.push_str(" IPv6"),
        _ => {}
    }
    match &packet.transport {
        Some(TransportSlice::Udp(udp)) => {
            let _ = write!(line, " UDP {}→{} sum {:04x}", udp.source_port(), udp.destination_port(), udp.checksum());
        }
        Some(TransportSlice::Tcp(tcp)) => {
            let (from, to, seq) = (tcp.source_port(), tcp.destination_port(), tcp.sequence_number());
            let push = if tcp.psh() { " PSH" } else { "" };
            let _ = write!(line, " TCP {from}→{to} seq {seq}{push} sum {:04x}", tcp.checksum());
        }
        _ => {}
    }
    line
}

/// An address as [`super::eth`] takes it.
#[must_use]
pub fn station(mac: MacAddr) -> String {
    match mac.0 {
        [2, 0, 0, 0, 0, last] => format!("{last:02x}"),
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => "ff".to_owned(),
        _ => mac.to_string(),
    }
}

/// The first place where two frames' bytes differ, for frames that look the same in words.
#[must_use]
pub fn first_difference(expected: &[u8], got: &[u8]) -> Option<String> {
    let at = expected
        .iter()
        .zip(got)
        .position(|(a, b)| a != b)
        .or_else(|| (expected.len() != got.len()).then_some(expected.len().min(got.len())))?;
    let show = |bytes: &[u8]| -> String {
        let around = &bytes[at.saturating_sub(4).min(bytes.len())..(at + 8).min(bytes.len())];
        around.iter().map(|b| format!("{b:02x} ")).collect()
    };
    Some(format!("differ from byte {at}: expected …{}…, got …{}…", show(expected), show(got)))
}
