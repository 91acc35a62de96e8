//! `fdb/…`: the addresses of a bridge, learned and static.
//!
//! The words are Open vSwitch's. `fdb/list` and `fdb/moves` are our own and answer in JSON, for `vsctl fdb`. What
//! `fdb/add` and `fdb/del` change is in the database, as `vsctl fdb add` would have it: a restart does not lose it.

use super::edit::Edit;
use super::{Context, View, bridge, bridges};
use crate::config::{Bridge, fdb};
use crate::reconcile::ofport;
use datapath::control::StaticSpec;
use datapath::switch::mac_table::FdbEntry;
use datapath::types::{MacAddr, Place, PortId, VlanId};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use tracing::info;

/// The datapath has no such bridge (its log says why), or does not answer.
fn silence(bridge: &Bridge) -> String {
    format!("the datapath tells nothing about {}; see the daemon's log", bridge.name)
}

/// All addresses: first the static ones, then the longest silent, as they will be forgotten.
fn entries(view: &View<'_>, bridge: &Bridge) -> Result<Vec<FdbEntry>, String> {
    let mut entries = view.datapath.fdb(&bridge.name).ok_or_else(|| silence(bridge))?;
    entries.sort_by_key(|e| (e.age.is_some(), std::cmp::Reverse(e.age), e.vlan, e.mac));
    Ok(entries)
}

pub(super) fn show(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    let bridge = bridge(&cx.view, args)?;
    let mut ports: BTreeMap<PortId, String> = BTreeMap::new();
    let mut text = " port  VLAN  MAC                Age\n".to_owned();
    for entry in entries(&cx.view, bridge)? {
        let id = entry.place.port;
        let port = ports.entry(id).or_insert_with(|| number(&cx.view, bridge, cx.view.datapath.port_name(id)));
        let age = entry.age.map_or_else(|| "static".to_owned(), |age| age.as_secs().to_string());
        let _ = writeln!(text, "{port:>5}  {:>4}  {}  {age:>3}", entry.vlan.get(), entry.mac);
    }
    Ok(text)
}

/// A port's OpenFlow number; `LOCAL` for the bridge's own.
fn number(view: &View<'_>, bridge: &Bridge, port: Option<&str>) -> String {
    let interface = bridge.interfaces.iter().find(|i| Some(i.name.as_str()) == port);
    match interface.and_then(|i| view.ofports.get(&i.uuid)) {
        Some(&ofport::OWN) => "LOCAL".to_owned(),
        Some(number) => number.to_string(),
        None => "?".to_owned(),
    }
}

pub(super) fn flush(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    for bridge in bridges(&cx.view, args)? {
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
         \x20 Current static MAC entries in the table : {}\n\
         \x20 Total number of learned MAC entries     : {}\n\
         \x20 Total number of expired MAC entries     : {}\n\
         \x20 Total number of evicted MAC entries     : {}\n\
         \x20 Total number of port moved MAC entries  : {}\n",
        bridge.name, stats.entries, stats.statics, stats.learned, stats.expired, stats.evicted, stats.moves
    ))
}

pub(super) fn stats_clear(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    for bridge in bridges(&cx.view, args)? {
        if !cx.view.datapath.clear_table_stats(&bridge.name) && !args.is_empty() {
            return Err(silence(bridge));
        }
    }
    Ok("statistics successfully cleared".to_owned())
}

/// `VLAN` and `MAC` as arguments.
fn address(vlan: &str, mac: &str) -> Result<(VlanId, MacAddr), String> {
    let number = vlan.parse().ok().and_then(VlanId::new);
    let vlan = number.ok_or_else(|| format!("bad VLAN '{vlan}': a number from 0 to 4095"))?;
    let mac: MacAddr = mac.parse().map_err(|_| "bad MAC address".to_owned())?;
    if mac.is_group() || mac == MacAddr::ZERO {
        return Err(format!("bad MAC address: {mac} is no station's"));
    }
    Ok((vlan, mac))
}

fn known(bridge: &Bridge, vlan: VlanId, mac: MacAddr) -> Option<&StaticSpec> {
    bridge.settings.statics.iter().find(|s| (s.vlan, s.mac) == (vlan, mac))
}

pub(super) fn add(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    let bridge = bridge(&cx.view, args)?;
    let &[_, at, vlan, mac] = args else { return Err("bridge port vlan mac".to_owned()) };
    let (port, _) = fdb::place(at);
    let interfaces = || bridge.interfaces.iter();
    if !interfaces().any(|i| i.name == port) {
        let there: Vec<_> = interfaces().map(|i| i.name.as_str()).collect();
        return Err(format!("no port '{port}' on bridge {}; it has {}", bridge.name, there.join(", ")));
    }
    let (vlan, mac) = address(vlan, mac)?;
    let elsewhere = known(bridge, vlan, mac).filter(|old| (old.port.as_str(), old.remote) != fdb::place(at));
    let says = elsewhere.map(|old| {
        format!("Overriding already existing static entry on {}", number(&cx.view, bridge, Some(&old.port)))
    });
    cx.edit = Some(Edit { bridge: bridge.uuid, vlan, mac, place: Some(at.to_owned()) });
    Ok(says.unwrap_or_default())
}

pub(super) fn del(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    let bridge = bridge(&cx.view, args)?;
    let &[_, vlan, mac] = args else { return Err("bridge vlan mac".to_owned()) };
    let (vlan, mac) = address(vlan, mac)?;
    known(bridge, vlan, mac).ok_or("could not find static mac entry")?;
    cx.edit = Some(Edit { bridge: bridge.uuid, vlan, mac, place: None });
    Ok(String::new())
}

/// A port's name, and the remote end of a tunnel that has several.
fn names(view: &View<'_>, place: Place) -> (String, Option<String>) {
    let remote = view.datapath.remote_of(place).map(|ip| ip.to_string());
    (view.datapath.port_name(place.port).unwrap_or("?").to_owned(), remote)
}

pub(super) fn list(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    let entries = entries(&cx.view, bridge(&cx.view, args)?)?;
    let rows = entries.iter().map(|e| {
        let (port, remote) = names(&cx.view, e.place);
        let age = e.age.map(|age| age.as_secs());
        json!({"port": port, "remote": remote, "vlan": e.vlan.get(), "mac": e.mac.to_string(), "age": age})
    });
    Ok(Value::from_iter(rows).to_string())
}

pub(super) fn moves(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    let bridge = bridge(&cx.view, args)?;
    let moves = cx.view.datapath.recent_moves(&bridge.name).ok_or_else(|| silence(bridge))?;
    let rows = moves.iter().map(|m| {
        let name = |place| match names(&cx.view, place) {
            (port, Some(remote)) => format!("{port}@{remote}"),
            (port, None) => port,
        };
        json!({
            "vlan": m.vlan.get(), "mac": m.mac.to_string(), "from": name(m.from), "to": name(m.to),
            "moves": m.moves, "over": m.over.as_secs_f64(), "age": m.age.as_secs(),
        })
    });
    Ok(Value::from_iter(rows).to_string())
}
