//! `assist/list`: the flows that the kernel forwards by itself, and those that it doesn't with the reason, in JSON for
//! `vsctl assist show`.

use super::{Context, bridges};
use crate::config::Bridge;
use datapath::types::PortId;
use datapath::worker::assist::{AssistedFlow, LeftOut, Why};
use serde_json::{Value, json};

/// Those of a bridge, or of all.
pub(super) fn list(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    let (view, bridges) = (&cx.view, bridges(&cx.view, args)?);
    if !view.config.assist {
        let hint = "'vsctl set open_vswitch . other_config:assist=true' turns it on";
        return Err(format!("other_config:assist is not true, so the kernel forwards nothing by itself; {hint}"));
    }
    let none = "the kernel forwards for no port; 'vsctl get interface PORT status:assist_warning' tells why";
    let (flows, left_out) = view.datapath.assisted().ok_or(none)?;
    let name = |id| view.datapath.port_name(id).unwrap_or("?");
    let of = |ingress| {
        let has = |bridge: &&&Bridge| bridge.interfaces.iter().any(|i| i.name == name(ingress));
        bridges.iter().find(has).map(|bridge| bridge.name.as_str())
    };
    let mut rows: Vec<_> = flows.iter().filter_map(|flow| Some(assisted(of(flow.ingress)?, name, flow))).collect();
    rows.extend(left_out.iter().filter_map(|flow| Some(refused(of(flow.ingress)?, name, flow))));
    rows.extend(bridges.iter().filter(|bridge| !bridge.mirrors.is_empty()).map(|bridge| mirrored(bridge)));
    Ok(Value::from(rows).to_string())
}

fn assisted<'n>(bridge: &str, name: impl Fn(PortId) -> &'n str, flow: &AssistedFlow) -> Value {
    json!({
        "bridge": bridge, "in": name(flow.ingress), "out": name(flow.egress), "vlan": flow.vlan.get(),
        "src": flow.src.to_string(), "dst": flow.dst.to_string(), "packets": flow.packets, "bytes": flow.bytes,
        "age": flow.age.as_secs(), "idle": flow.idle.as_secs(), "why": null,
    })
}

fn refused<'n>(bridge: &str, name: impl Fn(PortId) -> &'n str + Copy, flow: &LeftOut) -> Value {
    json!({
        "bridge": bridge, "in": name(flow.ingress), "out": name(flow.egress), "vlan": flow.vlan.get(),
        "src": flow.src.to_string(), "dst": flow.dst.to_string(), "packets": null, "bytes": null,
        "age": flow.age.as_secs(), "idle": null, "why": reason(flow.why, name),
    })
}

fn mirrored(bridge: &Bridge) -> Value {
    json!({
        "bridge": bridge.name, "in": null, "out": null, "vlan": null, "src": null, "dst": null, "packets": null,
        "bytes": null, "age": null, "idle": null, "why": "The bridge has a mirror, which has to see every frame.",
    })
}

/// A sentence.
fn reason<'n>(why: Why, name: impl Fn(PortId) -> &'n str) -> String {
    match why {
        Why::NoDevice(port) => format!("{} is no network device that the kernel forwards for.", name(port)),
        Why::RateLimit(port) => format!("{} has a rate limit.", name(port)),
        Why::UnknownMtu(port) => format!("The MTU of {} is not known.", name(port)),
        Why::Tags => "It has more VLAN tags than one, or priority tags that are kept.".to_owned(),
        Why::NoRoom => "The kernel's table has no room for it now; it is tried again.".to_owned(),
        Why::TooMany => "Too many flows were new at the same time; it is tried again.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datapath::time::Duration;
    use datapath::types::{MacAddr, VlanId};

    #[test]
    fn flows_are_told_with_counters_or_a_reason() {
        let (ingress, egress, vlan) = (PortId(1), PortId(2), VlanId::new(20).unwrap());
        let [src, dst] = [1, 2].map(|last| MacAddr([2, 0, 0, 0, 0, last]));
        let (age, idle) = (Duration::from_millis(9_900), Duration::from_secs(1));
        let name = |id: PortId| if id == PortId(1) { "p1" } else { "p2" };
        let flow = AssistedFlow { ingress, egress, vlan, src, dst, packets: 7, bytes: 700, age, idle };
        let mut expected = json!({
            "bridge": "br0", "in": "p1", "out": "p2", "vlan": 20, "src": "02:00:00:00:00:01",
            "dst": "02:00:00:00:00:02", "packets": 7, "bytes": 700, "age": 9, "idle": 1, "why": null,
        });
        assert_eq!(assisted("br0", name, &flow), expected);
        let told = |why| refused("br0", name, &LeftOut { ingress, egress, vlan, src, dst, why, age });
        for column in ["packets", "bytes", "idle"] {
            expected[column] = Value::Null;
        }
        expected["why"] = json!("p2 has a rate limit.");
        assert_eq!(told(Why::RateLimit(egress)), expected);
        for why in [Why::NoDevice(egress), Why::UnknownMtu(egress), Why::Tags, Why::NoRoom, Why::TooMany] {
            assert!(told(why)["why"].as_str().unwrap().ends_with('.'));
        }
    }
}
