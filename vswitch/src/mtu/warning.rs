//! What to tell of MTUs that do not fit, with the commands that mend it, each on a line of its own to be copied. Pure.
//!
//! A veth drops at its own end what is larger than the far end's MTU, before any switch sees it; so what is told names
//! both ends.

use super::limits::Limit;
use crate::config::mtu_policy::MtuPolicy;
use crate::netlink::far_end::Spaces;
use crate::netlink::link::FarEnd;
use std::cmp::Ordering;

/// What becomes of packets that are larger than a tunnel carries.
#[must_use]
pub fn happens(dont_fragment: bool, policy: MtuPolicy) -> &'static str {
    match policy {
        _ if !dont_fragment => "what is larger is fragmented on its way",
        MtuPolicy::Fit | MtuPolicy::Strict => "TCP is cut to fit, other senders are told",
        MtuPolicy::Icmp => "senders are told",
        MtuPolicy::Drop => "what is larger is dropped",
    }
}

/// A port with a device, and the other end of that if it is a veth.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    /// The port.
    pub port: &'a str,
    /// Its MTU.
    pub mtu: u32,
    /// Whether that is what `mtu_request` says.
    pub requested: bool,
    /// Whether it is the host's own port, and not a cable to something else.
    pub internal: bool,
    /// The other end.
    pub far: Option<&'a FarEnd>,
    /// The names of namespaces.
    pub spaces: &'a Spaces,
}

impl Ends<'_> {
    /// It is larger than what a tunnel carries.
    #[must_use]
    pub fn too_large(&self, limit: &Limit<'_>) -> String {
        let tag = if limit.tagged { " with the VLAN tag" } else { "" };
        let target = self.far.map_or(limit.mtu, |far| limit.mtu.min(far.mtu));
        format!(
            "MTU {} is more than {} carries ({}{tag}): {}. Lower it{}:{}",
            self.mtu,
            limit.tunnel,
            limit.mtu,
            limit.happens,
            self.place(),
            self.commands(target)
        )
    }

    /// The two ends of the veth differ; `None` if they do not.
    #[must_use]
    pub fn unequal(&self) -> Option<String> {
        let far = self.far?;
        let target = match self.mtu.cmp(&far.mtu) {
            Ordering::Equal => return None,
            // Somebody wants this one.
            _ if self.requested => self.mtu,
            Ordering::Less => self.mtu,
            Ordering::Greater => far.mtu,
        };
        let space = self.space(far).map(|name| format!(" in {name}")).unwrap_or_default();
        Some(format!(
            "the ends of the veth differ, {} here and {} at {}{space}: the larger end's packets are lost before any switch \
             sees them. Make them equal:{}",
            self.mtu,
            far.mtu,
            far.name,
            self.commands(target)
        ))
    }

    /// It fits a tunnel that bounds the bridge no longer; now `target` fits.
    #[must_use]
    pub fn left_over(&self, tunnel: &str, target: u32) -> String {
        format!(
            "MTU {} fitted {tunnel}, which bounds the bridge no longer; the switch did not set it and leaves it. Raise it{}:{}",
            self.mtu,
            self.place(),
            self.commands(target)
        )
    }

    fn place(&self) -> &'static str {
        match self.far {
            Some(_) => " at both ends of the veth",
            None if self.internal => "",
            None => " here and at what is connected to it",
        }
    }

    /// What gives both ends the MTU, a line each.
    fn commands(&self, target: u32) -> String {
        let own = (self.mtu != target).then(|| format!("\nvsctl set interface {} mtu_request={target}", self.port));
        let far = self.far.filter(|far| far.mtu != target).map(|far| {
            let set = format!("ip link set dev {} mtu {target}", far.name);
            match (far.space, self.space(far)) {
                (None, _) => format!("\n{set}"),
                (Some(_), Some(name)) => format!("\nip netns exec {name} {set}"),
                (Some(_), None) => format!("\n{set}  # in the far end's network namespace"),
            }
        });
        [own, far].into_iter().flatten().collect()
    }

    fn space(&self, far: &FarEnd) -> Option<&str> {
        self.spaces.name(far.space?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(mtu: u32, requested: bool, far: Option<&FarEnd>, tell: impl Fn(&Ends<'_>) -> String) -> String {
        let spaces = Spaces::of([(7, "pod1")]);
        tell(&Ends { port: "p1", mtu, requested, internal: false, far, spaces: &spaces })
    }

    fn eth0(mtu: u32, space: Option<i32>) -> FarEnd {
        FarEnd { name: "eth0".to_owned(), mtu, space }
    }

    #[test]
    fn more_than_a_tunnel_carries() {
        let limit =
            Limit { mtu: 1450, tunnel: "vx0", bridge: "br0", tagged: false, happens: happens(true, MtuPolicy::Fit) };
        let tell = |ends: &Ends<'_>| ends.too_large(&limit);
        assert_eq!(
            told(1500, false, Some(&eth0(1500, Some(7))), tell),
            "MTU 1500 is more than vx0 carries (1450): TCP is cut to fit, other senders are told. Lower it at both ends of \
             the veth:\nvsctl set interface p1 mtu_request=1450\nip netns exec pod1 ip link set dev eth0 mtu 1450"
        );
        for (far, commands) in [
            (
                Some(eth0(1500, Some(8))),
                "vsctl set interface p1 mtu_request=1450\nip link set dev eth0 mtu 1450  # in the far end's network namespace",
            ),
            (Some(eth0(9000, None)), "vsctl set interface p1 mtu_request=1450\nip link set dev eth0 mtu 1450"),
            (Some(eth0(1400, Some(7))), "vsctl set interface p1 mtu_request=1400"),
            (None, "vsctl set interface p1 mtu_request=1450"),
        ] {
            let text = told(1500, false, far.as_ref(), tell);
            assert_eq!(text.split_once('\n').unwrap().1, commands);
            assert_eq!(text.contains("both ends of the veth"), far.is_some(), "{text}");
        }
        for (dont_fragment, policy, expected) in [
            (true, MtuPolicy::Strict, "TCP is cut to fit, other senders are told"),
            (true, MtuPolicy::Icmp, "senders are told"),
            (true, MtuPolicy::Drop, "what is larger is dropped"),
            (false, MtuPolicy::Drop, "what is larger is fragmented on its way"),
        ] {
            let limit = Limit { tagged: true, happens: happens(dont_fragment, policy), ..limit };
            let text = told(1500, false, None, |ends| ends.too_large(&limit));
            let start =
                format!("MTU 1500 is more than vx0 carries (1450 with the VLAN tag): {expected}. Lower it here");
            assert!(text.starts_with(&start), "{text}");
        }
    }

    #[test]
    fn ends_that_differ() {
        let differ = |mtu, requested, far| {
            told(mtu, requested, Some(&eth0(far, Some(7))), |ends| ends.unequal().unwrap_or_default())
        };
        assert_eq!(differ(1500, false, 1500), "");
        assert_eq!(
            differ(1450, false, 1500),
            "the ends of the veth differ, 1450 here and 1500 at eth0 in pod1: the larger end's packets are lost before any \
             switch sees them. Make them equal:\nip netns exec pod1 ip link set dev eth0 mtu 1450"
        );
        assert!(differ(9000, false, 1500).ends_with("equal:\nvsctl set interface p1 mtu_request=1500"));
        assert!(differ(9000, true, 1500).ends_with("equal:\nip netns exec pod1 ip link set dev eth0 mtu 9000"));
    }

    #[test]
    fn what_a_tunnel_that_is_gone_has_left() {
        let text = told(1450, false, Some(&eth0(1450, Some(7))), |ends| ends.left_over("vx0", 1500));
        assert_eq!(
            text,
            "MTU 1450 fitted vx0, which bounds the bridge no longer; the switch did not set it and leaves it. Raise it at \
             both ends of the veth:\nvsctl set interface p1 mtu_request=1500\n\
             ip netns exec pod1 ip link set dev eth0 mtu 1500"
        );
    }
}
