//! The connection that rtnetlink events arrive on.
//!
//! The kernel queues an event before the system call that caused it returns. So whoever empties the queue right before
//! a decision decides with everything that was done before it, even by the process that asked for the decision; that
//! is why the socket is read here directly and not by a task of its own. Events are lost only when the queue
//! overflows; that is told as [`Event::Lost`], and everything must be asked for anew.

use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_XFRM};
use rtnetlink::sys::{AsyncSocket, Socket, SocketAddr, TokioSocket};
use rustix::io::Errno;
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use tracing::warn;

/// Bytes of events that the kernel keeps for us, as far as `net.core.rmem_max` allows.
const QUEUE: i32 = 4 << 20;
/// Larger than any datagram of events: the kernel makes them of 32 KiB at most.
const DATAGRAM: usize = 64 << 10;

const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// Protocols and groups that tell of IPsec policies (`XFRMNLGRP_POLICY`) and of nftables (`NFNLGRP_NFTABLES`).
const RULES: [(isize, u32); 2] = [(NETLINK_XFRM, 4), (NETLINK_NETFILTER, 7)];

/// Something that happened to the host's network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A link, an address or a route has come, changed or gone.
    Message(RouteNetlinkMessage),
    /// The queue overflowed: some events will never be told.
    Lost,
    /// IPsec policies or rules of the firewall have changed ([`super::host_rules`]).
    HostRules,
}

/// The events' queue, of the network namespace that it was made in.
pub struct Watch {
    socket: TokioSocket,
    /// What tells that the host's rules have changed, as far as the kernel has such rules.
    rules: Vec<TokioSocket>,
    buffer: Vec<u8>,
}

impl Watch {
    /// Subscribes to links, addresses and routes.
    pub fn open() -> io::Result<Watch> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        if let Err(e) = socket.socket_ref().set_rx_buf_sz(QUEUE) {
            warn!("the queue for network events stays at its default size: {e}");
        }
        let groups = GROUPS.iter().fold(0u32, |mask, &g| mask | 1 << (g as u32 - 1));
        socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
        let rules = RULES.iter().filter_map(|&(protocol, group)| {
            let late = |e: &io::Error| {
                if Errno::from_io_error(e) != Some(Errno::PROTONOSUPPORT) {
                    warn!("changes of IPsec policies or firewall rules are noticed late: {e}");
                }
            };
            follow(protocol, group).inspect_err(late).ok()
        });
        Ok(Watch { socket, rules: rules.collect(), buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Waits for events and returns them. Dropping the future loses none.
    pub async fn next(&mut self) -> io::Result<Vec<Event>> {
        let Watch { socket, rules, buffer } = self;
        let mut events = Vec::new();
        buffer.clear();
        let first = poll_fn(|cx| {
            let told = rules.iter_mut().filter(|socket| socket.poll_recv(cx, buffer).is_ready()).count();
            if told > 0 { Poll::Ready(None) } else { socket.poll_recv(cx, buffer).map(Some) }
        });
        match first.await {
            Some(first) => take(first, buffer, &mut events)?,
            None => {
                events.push(Event::HostRules);
                // Many may have changed; what they are now is asked for once.
                rules.iter().for_each(|socket| empty(socket.socket_ref(), buffer));
            }
        }
        drain(socket.socket_ref(), buffer, &mut events)?;
        Ok(events)
    }

    /// What is in the queue, without waiting.
    pub fn drain(&mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        drain(self.socket.socket_ref(), &mut self.buffer, &mut events)?;
        Ok(events)
    }
}

/// Subscribes to a group of another protocol.
fn follow(protocol: isize, group: u32) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 1 << (group - 1)))?;
    Ok(socket)
}

fn drain(socket: &Socket, buffer: &mut Vec<u8>, events: &mut Vec<Event>) -> io::Result<()> {
    loop {
        buffer.clear();
        match socket.recv(buffer, 0) {
            Ok(0) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            received => take(received.map(drop), buffer, events)?,
        }
    }
}

/// Reads what is in a queue, whatever it says.
fn empty(socket: &Socket, buffer: &mut Vec<u8>) {
    let full = |e: &io::Error| Errno::from_io_error(e) == Some(Errno::NOBUFS);
    loop {
        buffer.clear();
        match socket.recv(buffer, 0) {
            Ok(len) if len > 0 => {}
            Err(e) if full(&e) => {}
            _ => return,
        }
    }
}

/// Appends what one receive call brought.
fn take(received: io::Result<()>, datagram: &[u8], events: &mut Vec<Event>) -> io::Result<()> {
    const ENOBUFS: i32 = 105;
    match received {
        Ok(()) => parse(datagram, events),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
        Err(e) if e.raw_os_error() == Some(ENOBUFS) => events.push(Event::Lost),
        Err(e) => return Err(e),
    }
    Ok(())
}

/// Appends the messages of one datagram.
fn parse(mut datagram: &[u8], events: &mut Vec<Event>) {
    while !datagram.is_empty() {
        let length = match NetlinkBuffer::new_checked(datagram) {
            Ok(b) => b.length() as usize,
            Err(e) => {
                warn!("a datagram of network events cannot be read: {e}");
                events.push(Event::Lost);
                return;
            }
        };
        let (message, rest) = datagram.split_at(length.min(datagram.len()));
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message) {
            Ok(m) => match m.payload {
                NetlinkPayload::InnerMessage(m) => events.push(Event::Message(m)),
                NetlinkPayload::Overrun(_) => events.push(Event::Lost),
                _ => {}
            },
            Err(e) => {
                warn!("a network event cannot be read: {e}");
                events.push(Event::Lost);
            }
        }
        // Messages are aligned to four bytes (linux/netlink.h, NLMSG_ALIGN).
        datagram = rest.get(length.next_multiple_of(4) - length..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::link::tests::veth;
    use super::*;

    fn bytes(m: RouteNetlinkMessage) -> Vec<u8> {
        let mut m = NetlinkMessage::from(m);
        m.finalize();
        let mut bytes = vec![0; m.buffer_len().next_multiple_of(4)];
        m.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn a_datagram_holds_several_messages() {
        let (a, b) = (RouteNetlinkMessage::NewLink(veth(3, "p1")), RouteNetlinkMessage::DelLink(veth(4, "p22")));
        let datagram = [bytes(a.clone()), bytes(b.clone())].concat();
        let mut events = Vec::new();
        parse(&datagram, &mut events);
        assert_eq!(events, [Event::Message(a), Event::Message(b)]);
    }

    #[test]
    fn what_cannot_be_read_is_told_as_lost() {
        let good = bytes(RouteNetlinkMessage::NewLink(veth(3, "p1")));
        for cut in 1..good.len() {
            let mut events = Vec::new();
            parse(&good[..cut], &mut events);
            assert_eq!(events, [Event::Lost], "{cut} of {} bytes", good.len());
        }
    }
}
