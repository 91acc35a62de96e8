//! `fdb/show`, `fdb/flush`, `fdb/stats-show`: the learned addresses of a bridge.

use super::{Context, View};
use crate::config::Bridge;
use crate::reconcile::ofport;
use datapath::types::PortId;
use std::collections::BTreeMap;
use std::fmt::Write;
use tracing::info;

fn bridge<'a>(view: &View<'a>, args: &[&str]) -> Result<&'a Bridge, String> {
    let named = view.config.bridges.iter().find(|b| args.first() == Some(&b.name.as_str()));
    named.ok_or_else(|| "no such bridge".to_owned())
}

/// The datapath has no such bridge (its log says why), or does not answer.
fn silence(bridge: &Bridge) -> String {
    format!("the datapath tells nothing about {}; see the daemon's log", bridge.name)
}

pub(super) fn show(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    let bridge = bridge(&cx.view, args)?;
    let mut entries = cx.view.datapath.fdb(&bridge.name).ok_or_else(|| silence(bridge))?;
    // The longest silent first, as they will be forgotten.
    entries.sort_by_key(|e| (std::cmp::Reverse(e.age), e.vlan, e.mac));
    let mut ports: BTreeMap<PortId, String> = BTreeMap::new();
    let mut text = " port  VLAN  MAC                Age\n".to_owned();
    for entry in entries {
        let port = ports.entry(entry.port).or_insert_with(|| number(&cx.view, bridge, entry.port));
        let (vlan, age) = (entry.vlan.get(), entry.age.as_secs());
        let _ = writeln!(text, "{port:>5}  {vlan:>4}  {}  {age:>3}", entry.mac);
    }
    Ok(text)
}

/// A port's OpenFlow number; `LOCAL` for the bridge's own.
fn number(view: &View<'_>, bridge: &Bridge, port: PortId) -> String {
    let name = view.datapath.port_name(port);
    let interface = bridge.interfaces.iter().find(|i| Some(i.name.as_str()) == name);
    match interface.and_then(|i| view.ofports.get(&i.uuid)) {
        Some(&ofport::OWN) => "LOCAL".to_owned(),
        Some(number) => number.to_string(),
        None => "?".to_owned(),
    }
}

pub(super) fn flush(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    let bridges = if args.is_empty() { cx.view.config.bridges.iter().collect() } else { vec![bridge(&cx.view, args)?] };
    for bridge in bridges {
        if !cx.view.datapath.flush_fdb(&bridge.name) && !args.is_empty() {
            return Err(silence(bridge));
        }
        info!("bridge {}: learned addresses flushed", bridge.name);
    }
    Ok("table successfully flushed".to_owned())
}

pub(super) fn stats_show(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    let bridge = bridge(&cx.view, args)?;
    let stats = cx.view.datapath.table_stats(&bridge.name).ok_or_else(|| silence(bridge))?;
    let capacity = bridge.settings.mac_table_size;
    Ok(format!(
        "Statistics for bridge \"{}\":\n\
         \x20 Current/maximum MAC entries in the table: {}/{capacity}\n\
         \x20 Current static MAC entries in the table : 0\n\
         \x20 Total number of learned MAC entries     : {}\n\
         \x20 Total number of expired MAC entries     : {}\n\
         \x20 Total number of evicted MAC entries     : {}\n\
         \x20 Total number of port moved MAC entries  : {}\n",
        bridge.name, stats.entries, stats.learned, stats.expired, stats.evicted, stats.moves
    ))
}
