//! A classifier on a device's ingress hook by rtnetlink, as `tc filter add dev … ingress bpf direct-action` does: for
//! kernels that have no tcx links, and until there is one.
//!
//! Unlike a link, such a filter outlives the process. It is taken off when the device is closed; a killed process leaves
//! it, the host stays kept out (nothing is forwarded twice), and the next start on the device replaces it, because its
//! priority and handle are always the same. The clsact qdisc that it hangs on stays: others may use it too.
//!
//! Messages and constants: linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h.

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const REQUEST_ACK: u16 = 0x1 | 0x4;
const REPLACE: u16 = 0x100;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
/// Type of the answer; the error number is the first thing in it.
const NLMSG_ERROR: u16 = 2;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const CLSACT_PARENT: u32 = 0xffff_fff1;
const INGRESS: u32 = 0xffff_fff2;
/// Before other people's filters, for all protocols (`ETH_P_ALL` in network byte order).
const FIRST_FOR_ALL: u32 = 1 << 16 | 0x0003_u16.to_be() as u32;
/// What tells our filter from others of the same priority.
const HANDLE: u32 = 0x5653;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
/// The program's result is what happens to the frame.
const DIRECT_ACTION: u32 = 1;

/// A filter, on until it is dropped.
#[derive(Debug)]
pub struct Filter {
    /// Bound to the namespace that the device was in.
    netlink: OwnedFd,
    ifindex: u32,
}

impl Filter {
    /// Attaches `program` to the device with this index in the caller's network namespace.
    pub fn attach(program: BorrowedFd<'_>, ifindex: u32, name: &str) -> io::Result<Self> {
        let filter = Self::on(ifindex)?;
        let flags = REQUEST_ACK | CREATE | EXCLUSIVE;
        let mut qdisc = Message::new(RTM_NEWQDISC, flags, ifindex, [CLSACT_HANDLE, CLSACT_PARENT, 0]);
        qdisc.attribute(TCA_KIND, b"clsact\0");
        match filter.ask(qdisc) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
            result => result?,
        }
        let flags = REQUEST_ACK | CREATE | REPLACE;
        let mut add = Message::new(RTM_NEWTFILTER, flags, ifindex, [HANDLE, INGRESS, FIRST_FOR_ALL]);
        add.attribute(TCA_KIND, b"bpf\0");
        let mut options = Message::default();
        options.attribute(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes());
        options.attribute(TCA_BPF_NAME, format!("{name}\0").as_bytes());
        options.attribute(TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
        add.attribute(TCA_OPTIONS, &options.0);
        filter.ask(add).map(|()| filter)
    }

    /// Removes the filter that a killed process may have left on the device.
    pub fn remove(ifindex: u32) -> io::Result<()> {
        Self::on(ifindex).map(drop)
    }

    fn on(ifindex: u32) -> io::Result<Self> {
        let netlink = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { netlink, ifindex })
    }

    /// Sends a request and waits for the kernel's verdict, which it gives at once.
    fn ask(&self, message: Message) -> io::Result<()> {
        send(&self.netlink, &message.finish(), SendFlags::empty())?;
        let mut answer = [0; 4096];
        let (_, len) = recv(&self.netlink, &mut answer, RecvFlags::empty())?;
        match verdict(&answer[..len.min(answer.len())]) {
            Some(0) => Ok(()),
            Some(negative) => Err(io::Error::from_raw_os_error(negative.wrapping_neg())),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        let mut del = Message::new(RTM_DELTFILTER, REQUEST_ACK, self.ifindex, [HANDLE, INGRESS, FIRST_FOR_ALL]);
        del.attribute(TCA_KIND, b"bpf\0");
        match self.ask(del) {
            Err(e) if !matches!(e.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::EINVAL)) => {
                tracing::warn!(
                    "interface {}: the ingress filter stays: {e}; remove it with 'tc filter del'",
                    self.ifindex
                );
            }
            // Gone, or gone with its device.
            _ => {}
        }
    }
}

/// The error number in an answer: 0 or negative.
fn verdict(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(*answer.get(4..)?.first_chunk()?);
    let error = i32::from_ne_bytes(*answer.get(16..)?.first_chunk()?);
    (kind == NLMSG_ERROR).then_some(error)
}

/// A netlink message under construction, or the attributes of one.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// `struct nlmsghdr` and `struct tcmsg`, the latter with `[handle, parent, info]`.
    fn new(kind: u16, flags: u16, ifindex: u32, tc: [u32; 3]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
        bytes.extend([0; 8 + 4]); // sequence and port; family and padding
        bytes.extend(ifindex.to_ne_bytes());
        bytes.extend(tc.iter().flat_map(|n| n.to_ne_bytes()));
        Self(bytes)
    }

    /// Appends a `struct rtattr` with its data, padded to four bytes.
    fn attribute(&mut self, kind: u16, data: &[u8]) {
        let len = u16::try_from(4 + data.len()).unwrap_or(u16::MAX);
        self.0.extend([len.to_ne_bytes(), kind.to_ne_bytes()].concat());
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// The bytes, with their length in front.
    fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_request_has_these_bytes() {
        let mut m = Message::new(RTM_DELTFILTER, REQUEST_ACK, 7, [HANDLE, INGRESS, FIRST_FOR_ALL]);
        m.attribute(TCA_KIND, b"bpf\0");
        let golden = [
            44, 0, 0, 0, 45, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, // nlmsghdr
            0, 0, 0, 0, 7, 0, 0, 0, 0x53, 0x56, 0, 0, 0xf2, 0xff, 0xff, 0xff, 0, 3, 1, 0, // tcmsg
            8, 0, 1, 0, b'b', b'p', b'f', 0,
        ];
        assert_eq!(m.finish(), golden);
    }

    #[test]
    fn answers_are_read_or_refused() {
        let mut answer = [0; 36];
        answer[4] = 2;
        assert_eq!(verdict(&answer), Some(0));
        answer[16..20].copy_from_slice(&(-17_i32).to_ne_bytes());
        assert_eq!(verdict(&answer), Some(-17));
        assert_eq!(verdict(&answer[..19]), None);
        answer[4] = 3;
        assert_eq!(verdict(&answer), None);
    }
}
