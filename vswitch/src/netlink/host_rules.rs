//! Who else has a say in what this host sends: IPsec policies (linux/xfrm.h), and rules of a firewall on the way out
//! (linux/netfilter/nf_tables.h, and the older iptables).
//!
//! What is sent past the host's own way out ([`datapath::tunnel::WayOut`]) would pass them by, so it is asked for them
//! before. Chains without rules that let everything pass do not count.
//!
//! The kernel answers before the system call that asks returns, so nothing here ever waits. [`super::watch`] hears of
//! changes; of those of the older iptables nobody tells, so it is asked from time to time.

use rtnetlink::packet_core::NlasIterator;
use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_XFRM};
use rtnetlink::sys::{Socket, SocketAddr};
use rustix::io::Errno;
use std::io;

// linux/netlink.h
const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_HEADER: usize = 16;
// linux/xfrm.h
const XFRM_MSG_NEWSPDINFO: u16 = 0x24;
const XFRM_MSG_GETSPDINFO: u16 = 0x25;
const XFRMA_SPD_INFO: u16 = 1;
// linux/netfilter/nfnetlink.h and nf_tables.h
const NFT_MSG_NEWCHAIN: u16 = 10 << 8 | 3;
const NFT_MSG_GETCHAIN: u16 = 10 << 8 | 4;
/// `struct nfgenmsg`.
const NF_HEADER: usize = 4;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_USE: u16 = 6;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NF_INET_LOCAL_OUT: u32 = 3;
const NF_INET_POST_ROUTING: u32 = 4;
const NF_ACCEPT: u32 = 1;

/// The tables of the older iptables that exist in this namespace, one a line; each of them has a chain on the way out.
const LEGACY: &str = "/proc/thread-self/net/ip_tables_names";

/// What there is in the caller's network namespace that has a say in IPv4 packets that the host sends, for people.
#[must_use]
pub fn on_the_way_out() -> Option<String> {
    let unknown = |what: &str, e: io::Error| Some(format!("{what} cannot be asked for ({e})"));
    let ipsec = ipsec_policies().map(|n| (n > 0).then(|| format!("{n} IPsec policies")));
    let found = ipsec.unwrap_or_else(|e| unknown("IPsec policies", e));
    let found = found.or_else(|| nft_chain().unwrap_or_else(|e| unknown("nftables", e)));
    found.or_else(|| match std::fs::read_to_string(LEGACY) {
        Ok(tables) => tables.lines().next().map(|table| format!("the iptables table '{table}'")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => unknown("iptables", e),
    })
}

/// How many IPsec policies there are for what goes out.
fn ipsec_policies() -> io::Result<u32> {
    let mut out = 0;
    // The flags of the request, of which there are none.
    ask(NETLINK_XFRM, XFRM_MSG_GETSPDINFO, 0, &[0; 4], |kind, body| {
        if kind == XFRM_MSG_NEWSPDINFO
            && let Some(info) = attribute(body.get(4..).unwrap_or_default(), XFRMA_SPD_INFO)
        {
            // `struct xfrmu_spdinfo`: policies for what comes in, for what goes out, …
            out = word(&info, 4).map_or(0, u32::from_ne_bytes);
        }
    })?;
    Ok(out)
}

/// A chain of nftables that IPv4 packets of the host pass and that does more than let them.
fn nft_chain() -> io::Result<Option<String>> {
    let mut found = None;
    ask(NETLINK_NETFILTER, NFT_MSG_GETCHAIN, NLM_F_DUMP, &[0; NF_HEADER], |kind, body| {
        if kind == NFT_MSG_NEWCHAIN && found.is_none() {
            found = chain_on_the_way_out(body);
        }
    })?;
    Ok(found)
}

/// The chain in a message, if it is one that has a say.
fn chain_on_the_way_out(body: &[u8]) -> Option<String> {
    let (family, attributes) = (*body.first()?, body.get(NF_HEADER..)?);
    let number = |of: &[u8], kind| Some(u32::from_be_bytes(word(&attribute(of, kind)?, 0)?));
    let hook = number(&attribute(attributes, NFTA_CHAIN_HOOK)?, NFTA_HOOK_HOOKNUM)?;
    let rules = number(attributes, NFTA_CHAIN_USE).unwrap_or(1);
    let accepts = number(attributes, NFTA_CHAIN_POLICY).unwrap_or(NF_ACCEPT) == NF_ACCEPT;
    let passed =
        [NFPROTO_INET, NFPROTO_IPV4].contains(&family) && [NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING].contains(&hook);
    let text = |kind| {
        let name = attribute(attributes, kind).unwrap_or_default();
        String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned()
    };
    (passed && !(rules == 0 && accepts))
        .then(|| format!("the firewall's chain '{}' of table '{}'", text(NFTA_CHAIN_NAME), text(NFTA_CHAIN_TABLE)))
}

/// Sends a request and hands each message of the answer to `take`: its type, and what follows its header. A kernel without
/// the subsystem answers nothing.
fn ask(protocol: isize, kind: u16, flags: u16, body: &[u8], mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
    let socket = match Socket::new(protocol) {
        Err(e) if Errno::from_io_error(&e) == Some(Errno::PROTONOSUPPORT) => return Ok(()),
        socket => socket?,
    };
    socket.set_non_blocking(true)?;
    let mut request = u32::try_from(NLMSG_HEADER + body.len()).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
    request.extend([kind.to_ne_bytes(), (NLM_F_REQUEST | flags).to_ne_bytes()].concat());
    request.extend([0; 8]);
    request.extend(body);
    socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = &answer[..];
        while let Some(len) = word(rest, 0).map(u32::from_ne_bytes).map(|len| len as usize) {
            let Some(message) = rest.get(..len).filter(|_| len >= NLMSG_HEADER) else { break };
            let body = &message[NLMSG_HEADER..];
            match u16::from_ne_bytes([message[4], message[5]]) {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return verdict(body),
                kind => take(kind, body),
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        // One answer to one question, unless it was for a list.
        if flags & NLM_F_DUMP == 0 {
            return Ok(());
        }
    }
}

/// What an error says; that the kernel does not know what it was asked for means that there is none of it.
fn verdict(body: &[u8]) -> io::Result<()> {
    let unknown = [Errno::INVAL, Errno::OPNOTSUPP, Errno::NOENT].map(Errno::raw_os_error);
    match word(body, 0).map_or(0, i32::from_ne_bytes).wrapping_neg() {
        0 => Ok(()),
        errno if unknown.contains(&errno) => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// The value of an attribute.
fn attribute(attributes: &[u8], kind: u16) -> Option<Vec<u8>> {
    let mut all = NlasIterator::new(attributes).filter_map(Result::ok);
    all.find(|nla| nla.kind() == kind).map(|nla| nla.value().to_vec())
}

fn word(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nla(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut nla = [(4 + value.len() as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
        nla.extend(value);
        nla.resize(nla.len().next_multiple_of(4), 0);
        nla
    }

    #[test]
    fn only_chains_that_do_something_to_what_the_host_sends_count() {
        let chain = |family: u8, hook: Option<u32>, rules: u32, policy: u32| {
            let mut body = vec![family, 0, 0, 0];
            body.extend(nla(NFTA_CHAIN_TABLE, b"filter\0"));
            body.extend(nla(NFTA_CHAIN_NAME, b"OUTPUT\0"));
            // The kernel says of a nested attribute that it is one.
            let nested = |hook: u32| nla(NFTA_CHAIN_HOOK | 0x8000, &nla(NFTA_HOOK_HOOKNUM, &hook.to_be_bytes()));
            body.extend(hook.map(nested).unwrap_or_default());
            body.extend(nla(NFTA_CHAIN_POLICY, &policy.to_be_bytes()));
            body.extend(nla(NFTA_CHAIN_USE, &rules.to_be_bytes()));
            chain_on_the_way_out(&body)
        };
        let found = Some("the firewall's chain 'OUTPUT' of table 'filter'".to_owned());
        assert_eq!(chain(NFPROTO_IPV4, Some(NF_INET_LOCAL_OUT), 1, NF_ACCEPT), found);
        assert_eq!(chain(NFPROTO_INET, Some(NF_INET_POST_ROUTING), 1, NF_ACCEPT), found);
        assert_eq!(chain(NFPROTO_IPV4, Some(NF_INET_LOCAL_OUT), 0, 0), found, "it drops all");
        assert_eq!(chain(NFPROTO_IPV4, Some(NF_INET_LOCAL_OUT), 0, NF_ACCEPT), None, "it lets all pass");
        assert_eq!(chain(NFPROTO_IPV4, Some(1), 1, NF_ACCEPT), None, "for what comes in");
        assert_eq!(chain(NFPROTO_IPV4, None, 1, NF_ACCEPT), None, "only called by others");
        assert_eq!(chain(10, Some(NF_INET_LOCAL_OUT), 1, 0), None, "for IPv6");
        assert_eq!(chain_on_the_way_out(&[2, 0]), None);
    }

    #[test]
    fn the_kernel_s_errors() {
        assert!(verdict(&(-Errno::OPNOTSUPP.raw_os_error()).to_ne_bytes()).is_ok(), "it has no such thing");
        assert!(verdict(&(-Errno::PERM.raw_os_error()).to_ne_bytes()).is_err());
    }
}
