//! `drops/list`: every drop that was counted, with the sentence about its reason, in JSON for `vsctl drops`.

use super::{Context, bridges};
use datapath::switch::verdict::DropReason;
use serde_json::{Value, json};

/// The drops of a bridge's ports and mirrors; of all bridges, and those at no port, if none is named.
pub(super) fn list(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    let datapath = cx.view.datapath;
    datapath.count_assisted();
    let mut rows = Vec::new();
    for bridge in bridges(&cx.view, args)? {
        for port in bridge.interfaces.iter().map(|i| i.name.as_str()) {
            let drops = datapath.port_stats(port).unwrap_or_default().drops;
            rows.extend(drops.iter().map(|drop| row(Some(&bridge.name), Some(port), None, drop)));
        }
        for mirror in bridge.mirrors.iter().map(|m| m.name.as_str()) {
            let drops = datapath.mirror_stats(&bridge.name, mirror).unwrap_or_default().drops;
            rows.extend(drops.iter().map(|drop| row(Some(&bridge.name), None, Some(mirror), drop)));
        }
    }
    if args.is_empty() {
        rows.extend(datapath.totals().portless.iter().map(|drop| row(None, None, None, drop)));
    }
    Ok(Value::from(rows).to_string())
}

fn row(bridge: Option<&str>, port: Option<&str>, mirror: Option<&str>, (reason, count): &(DropReason, u64)) -> Value {
    json!({
        "bridge": bridge, "port": port, "mirror": mirror,
        "reason": reason.name(), "count": count, "text": reason.text(),
    })
}
