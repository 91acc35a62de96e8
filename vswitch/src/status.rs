//! What the switch has to say, as columns: port numbers, errors, effective values, counters.
//!
//! Pure but for [`write`], which makes the transaction: only what differs from the database is written, all of it in
//! one commit, so that a client that waits for `cur_cfg` finds everything else there, too.

use crate::config::interface::{Interface, Kind, TYPES};
use crate::config::mirror::Mirror;
use crate::config::{Bridge, Config, Notes, bridge, fdb};
use crate::netlink::link::LinkTable;
use crate::reconcile::apply::Applier;
use crate::reconcile::desired::Desired;
use crate::told::Basis;
use datapath::control::{AddressFlaps, MirrorStats, PortStats, PortWorkers, Totals};
use datapath::switch::verdict::DropReason;
use datapath::types::MacAddr;
use ovsdb::db::{Database, Prepared};
use ovsdb::error::OpError;
use ovsdb::value::{Atom, Datum};
use std::borrow::Cow;
use std::collections::BTreeMap;
use uuid::Uuid;

/// The version of the switch, as in `ovs_version`.
pub const VERSION: &str = concat!("vswitch ", env!("CARGO_PKG_VERSION"));

/// Columns to be written, by table and row.
pub type Rows = BTreeMap<(&'static str, Uuid), BTreeMap<&'static str, Datum>>;

/// What is known at the end of a reconciliation.
pub struct Outcome<'a> {
    /// What was asked for.
    pub config: &'a Config,
    /// What was tried.
    pub desired: &'a Desired,
    /// What came of it.
    pub applier: &'a Applier,
    /// The devices of the host.
    pub links: &'a LinkTable,
    /// Port numbers by interface row.
    pub ofports: &'a BTreeMap<Uuid, u16>,
    /// The workers that have to do with a port, by its name.
    pub workers: &'a dyn Fn(&str) -> PortWorkers,
    /// Why workers are not as asked for.
    pub workers_error: Option<&'a str>,
}

impl Outcome<'_> {
    /// Why an interface does not work; `None` if it does.
    #[must_use]
    pub fn error(&self, interface: &Interface) -> Option<&str> {
        if let Some(why) = self.desired.refused.get(&interface.uuid) {
            return Some(why);
        }
        if let Some(why) = self.applier.failure(&interface.name) {
            return Some(why);
        }
        if !self.ofports.contains_key(&interface.uuid) {
            return Some("no OpenFlow port number is left on the bridge; remove some ports");
        }
        (!self.applier.has(&interface.name)).then_some("its bridge could not be made; see the daemon's log")
    }

    /// All rows but for statistics, and of interfaces only these.
    #[must_use]
    pub fn rows(&self, interfaces: &[(&Interface, Basis<'_>)]) -> Rows {
        let mut rows = Rows::new();
        for bridge in &self.config.bridges {
            rows.insert(("Bridge", bridge.uuid), self.bridge_columns(bridge));
            for mirror in bridge.mirrors.iter().filter(|m| self.mirror_error(bridge, m).is_some()) {
                let statistics = BTreeMap::from([("statistics", Datum::empty_map())]);
                rows.insert(("Mirror", mirror.uuid), statistics);
            }
            for port in bridge.ports.iter().filter(|port| !port.told) {
                let status = Datum::map_of_strings(port.notes.clone());
                rows.insert(("Port", port.uuid), BTreeMap::from([("status", status)]));
            }
        }
        rows.extend(interfaces.iter().map(|(interface, basis)| (("Interface", interface.uuid), basis.columns())));
        if let Some(root) = self.config.root {
            let cur_cfg = BTreeMap::from([("cur_cfg", Datum::integer(self.config.next_cfg))]);
            rows.insert(("Open_vSwitch", root), cur_cfg);
        }
        rows
    }

    /// Everything that is wrong, by the row of the interface or mirror: what it is, and why.
    #[must_use]
    pub fn errors(&self, interfaces: &[(&Interface, Basis<'_>)]) -> BTreeMap<Uuid, (String, String)> {
        let interfaces = interfaces.iter().filter_map(|(i, basis)| {
            let why = basis.error.as_deref().or(basis.incomplete.as_deref())?;
            Some((i.uuid, (format!("port {}", i.name), why.to_owned())))
        });
        let mirrors = self.config.mirrors().filter_map(|(b, m)| {
            Some((m.uuid, (format!("mirror {} of bridge {}", m.name, b.name), self.mirror_error(b, m)?)))
        });
        interfaces.chain(mirrors).collect()
    }

    /// Why a mirror copies nothing; `None` if it does.
    #[must_use]
    pub fn mirror_error(&self, bridge: &Bridge, mirror: &Mirror) -> Option<String> {
        let mirrors = &self.desired.mirrors;
        let failed = |row| {
            self.error(bridge.interfaces.iter().find(|i| i.uuid == row)?).map(|why| format!("output_port: {why}"))
        };
        let output = || mirrors.outputs.get(&mirror.uuid).copied().and_then(failed);
        mirrors.refused.get(&mirror.uuid).cloned().or_else(output)
    }

    fn bridge_columns(&self, bridge: &Bridge) -> BTreeMap<&'static str, Datum> {
        let mut notes = bridge.notes.clone();
        notes.extend(self.workers_error.map(|why| ("pmd-cpu-mask_error".to_owned(), why.to_owned())));
        for mirror in &bridge.mirrors {
            let key = format!("mirror_{}", mirror.name);
            match (self.mirror_error(bridge, mirror), &mirror.told) {
                (Some(why), _) => drop(notes.insert(key, why)),
                (None, Some(told)) => drop(notes.insert(key + "_warning", told.clone())),
                (None, None) => {}
            }
        }
        let attached = |port: &str| self.desired.specs.ports.get(port).filter(|_| self.applier.has(port));
        let statics = fdb::without_effect(bridge, attached);
        if !statics.is_empty() {
            let wrong = notes.remove("other_config_error");
            let all: Vec<_> = wrong.into_iter().chain(statics).collect();
            notes.insert("other_config_error".to_owned(), all.join("; "));
        }
        bridge_columns(bridge, notes)
    }

    /// All interfaces, each with what its columns follow from.
    #[must_use]
    pub fn interfaces(&self) -> Vec<(&Interface, Basis<'_>)> {
        self.config.interfaces().map(|(_, interface)| (interface, self.basis(interface))).collect()
    }

    fn basis<'a>(&'a self, interface: &'a Interface) -> Basis<'a> {
        // A tunnel or a patch has no device, and is up.
        let bare = matches!(&interface.wanted, Ok(w) if matches!(w.kind, Kind::Tunnel(_) | Kind::Patch { .. }));
        let link = self.links.by_name(&interface.name).filter(|_| !bare);
        Basis {
            error: self.error(interface).map(Cow::Borrowed),
            incomplete: self.desired.incomplete.get(&interface.uuid).map(|why| Cow::Borrowed(why.as_str())),
            notes: self.desired.notes.get(&interface.uuid).map(Cow::Borrowed),
            bare,
            link: link.map(Cow::Borrowed),
            mode: link.and_then(|l| self.links.mode(l.ifindex)).unwrap_or_default(),
            spec: self.desired.specs.ports.get(&interface.name).map(Cow::Borrowed),
            facts: self.applier.facts(&interface.name).map(Cow::Borrowed),
            workers: (self.workers)(&interface.name),
            ofport: self.ofports.get(&interface.uuid).copied().unwrap_or_default(),
        }
    }
}

/// What an interface without a device shows.
pub fn detached() -> BTreeMap<&'static str, Datum> {
    let unset = ["ifindex", "mac_in_use", "mtu", "admin_state", "link_state", "link_resets", "link_speed", "duplex"];
    let mut columns: BTreeMap<_, _> = unset.into_iter().map(|c| (c, Datum::empty_set())).collect();
    columns.insert("statistics", Datum::empty_map());
    columns
}

fn bridge_columns(b: &Bridge, notes: Notes) -> BTreeMap<&'static str, Datum> {
    let MacAddr([a0, a1, a2, a3, a4, a5]) = b.settings.hwaddr.unwrap_or_else(|| bridge::mac_of(b.uuid));
    let id = b.settings.datapath_id.unwrap_or(u64::from_be_bytes([0, 0, a0, a1, a2, a3, a4, a5]));
    BTreeMap::from([
        ("datapath_id", Datum::string(format!("{id:016x}"))),
        ("datapath_version", Datum::string(VERSION)),
        ("status", Datum::map_of_strings(notes)),
    ])
}

/// A sentence about an address that keeps moving.
#[must_use]
pub fn flapping(flaps: &AddressFlaps) -> String {
    let AddressFlaps { bridge, between: [a, b], flap } = flaps;
    let secs = flap.over.as_secs_f64().max(0.001);
    let others = match flap.others {
        0 => String::new(),
        1 => ", and so does 1 other address".to_owned(),
        n => format!(", and so do {n} other addresses"),
    };
    format!(
        "bridge {bridge}: address {} in VLAN {} keeps moving between {a} and {b}: {} moves in {secs:.1} s, {:.1} a \
         second{others}; either two stations have the same address or the network has a loop ('vsctl fdb moves \
         {bridge}' tells more)",
        flap.mac,
        flap.vlan,
        flap.moves,
        f64::from(flap.moves) / secs
    )
}

/// What never changes while the daemon runs. `system`: the host's type and version.
#[must_use]
pub fn fixed_columns(database: &Database, system: (String, String)) -> BTreeMap<&'static str, Datum> {
    let words = |list: &[&str]| Datum::set_of(list.iter().map(|s| Atom::String((*s).to_owned())));
    BTreeMap::from([
        ("ovs_version", Datum::string(VERSION)),
        ("db_version", Datum::string(database.schema().version.to_string())),
        ("datapath_types", words(&["netdev", "system"])),
        ("iface_types", words(&TYPES)),
        ("system_type", Datum::string(system.0)),
        ("system_version", Datum::string(system.1)),
    ])
}

/// The rows of controllers: stored, and told to be without effect.
#[must_use]
pub fn controllers(database: &Database) -> Rows {
    let status = Datum::map_of_strings([("state", "VOID"), ("last_error", "OpenFlow is not supported")]);
    let columns =
        BTreeMap::from([("is_connected", Datum::boolean(false)), ("role", Datum::string("other")), ("status", status)]);
    database.rows("Controller").map(|(uuid, _)| (("Controller", *uuid), columns.clone())).collect()
}

/// `Interface:statistics`.
#[must_use]
pub fn port_statistics(stats: &PortStats) -> Datum {
    use DropReason as R;
    let sum = |reasons: &[DropReason]| -> u64 {
        stats.drops.iter().filter(|(r, _)| reasons.contains(r)).map(|(_, n)| n).sum()
    };
    let rx_errors = sum(&[R::Malformed, R::TunnelMalformed, R::RxUnsupported]);
    let tx_errors = sum(&[R::TxError, R::TxNoRoute]);
    // A port that is down is mostly sent to: nothing comes from it.
    let too_large = sum(&[R::MtuExceeded, R::MtuTold, R::MtuUntold, R::TxTooBig]);
    let tx_dropped = too_large + sum(&[R::PortDown, R::Unsegmentable, R::EgressRate, R::TxQueueFull]);
    let all: u64 = stats.drops.iter().map(|(_, n)| n).sum();
    let rx_dropped = all - rx_errors - tx_errors - tx_dropped;
    let mut counters = vec![
        ("rx_packets".to_owned(), stats.rx_packets),
        ("rx_bytes".to_owned(), stats.rx_bytes),
        ("rx_dropped".to_owned(), rx_dropped),
        ("rx_errors".to_owned(), rx_errors),
        ("tx_packets".to_owned(), stats.tx_packets),
        ("tx_bytes".to_owned(), stats.tx_bytes),
        ("tx_dropped".to_owned(), tx_dropped),
        ("tx_errors".to_owned(), tx_errors),
    ];
    counters.extend(stats.drops.iter().map(|(reason, n)| (format!("drop_{}", reason.name()), *n)));
    counted(counters)
}

/// `Mirror:statistics`.
#[must_use]
pub fn mirror_statistics(stats: &MirrorStats) -> Datum {
    let dropped = stats.drops.iter().map(|(_, n)| n).sum();
    let counters = [("tx_packets", stats.tx_packets), ("tx_bytes", stats.tx_bytes), ("tx_dropped", dropped)]
        .map(|(k, n)| (k.to_owned(), n));
    let reasons = stats.drops.iter().map(|(reason, n)| (format!("drop_{}", reason.name()), *n));
    counted(counters.into_iter().chain(reasons))
}

fn counted(counters: impl IntoIterator<Item = (String, u64)>) -> Datum {
    let pair = |(k, n)| (Atom::String(k), Atom::Integer(i64::try_from(n).unwrap_or(i64::MAX)));
    Datum::Map(counters.into_iter().map(pair).collect())
}

/// `Open_vSwitch:statistics`: what belongs to no single port.
#[must_use]
pub fn switch_statistics(totals: &Totals, cpus: &[Option<usize>]) -> Datum {
    let place = |cpu: &Option<usize>| cpu.map_or_else(|| "any CPU".to_owned(), |cpu| format!("CPU {cpu}"));
    let mut counters = vec![
        ("copied".to_owned(), totals.copied.to_string()),
        ("generated".to_owned(), totals.generated.to_string()),
        ("split".to_owned(), totals.split.to_string()),
        ("merged".to_owned(), totals.merged.to_string()),
        ("headroom_copied".to_owned(), totals.headroom_copied.to_string()),
        ("workers".to_owned(), cpus.iter().map(place).collect::<Vec<_>>().join(", ")),
    ];
    counters.extend(totals.portless.iter().map(|(reason, n)| (format!("drop_{}", reason.name()), n.to_string())));
    Datum::map_of_strings(counters)
}

/// The transaction that makes the database say `rows`; `None` if it does already. Rows that are gone are left out.
pub fn write(database: &Database, rows: &Rows) -> Result<Option<Prepared>, OpError> {
    let mut txn = database.begin();
    for ((table, uuid), columns) in rows {
        let Some(row) = database.row(table, uuid) else { continue };
        for (column, datum) in columns.iter().filter(|(column, datum)| row.get(column) != Some(datum)) {
            txn.set(table, uuid, column, datum.clone())?;
        }
    }
    let prepared = txn.finish()?;
    Ok((!prepared.changes.is_empty()).then_some(prepared))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{br0_p1, database};
    use serde_json::json;

    #[test]
    fn every_drop_is_in_exactly_one_sum() {
        let drops: Vec<_> = DropReason::ALL.iter().map(|&reason| (reason, 1)).collect();
        let stats = PortStats { rx_packets: 7, rx_bytes: 700, tx_packets: 5, tx_bytes: 500, drops };
        let Datum::Map(map) = port_statistics(&stats) else { panic!("a map") };
        let get = |key: &str| match map.get(&Atom::String(key.to_owned())) {
            Some(Atom::Integer(n)) => *n,
            other => panic!("{key}: {other:?}"),
        };
        let sums: i64 = ["rx_dropped", "rx_errors", "tx_dropped", "tx_errors"].into_iter().map(get).sum();
        assert_eq!(sums, i64::try_from(DropReason::COUNT).unwrap());
        assert_eq!((get("rx_packets"), get("tx_bytes"), get("drop_hairpin")), (7, 500, 1));
    }

    #[test]
    fn a_port_without_traffic_has_the_eight_counters_that_libvirt_reads() {
        let Datum::Map(map) = port_statistics(&PortStats::default()) else { panic!("a map") };
        let keys: Vec<_> = map.keys().map(|k| if let Atom::String(s) = k { s.as_str() } else { "" }).collect();
        let wanted = "rx_bytes rx_dropped rx_errors rx_packets tx_bytes tx_dropped tx_errors tx_packets";
        assert_eq!(keys.join(" "), wanted);
    }

    #[test]
    fn only_what_differs_is_written() {
        let mut database = database(&br0_p1(json!({}), json!({}), json!({}), json!({})));
        let config = Config::read(&database);
        let interface = config.bridges[0].interfaces[1].uuid;
        let columns = BTreeMap::from([("ofport", Datum::integer(3)), ("link_state", Datum::string("up"))]);
        let gone = BTreeMap::from([("ofport", Datum::integer(9))]);
        let rows = Rows::from([(("Interface", interface), columns), (("Interface", Uuid::nil()), gone)]);
        let prepared = write(&database, &rows).unwrap().expect("something to write");
        database.apply(prepared);
        assert_eq!(database.row("Interface", &interface).unwrap().integer("ofport"), Some(3));
        assert!(write(&database, &rows).unwrap().is_none());
    }

    #[test]
    fn a_patch_port_without_its_other_end_is_up_and_in_error() {
        let patch = json!({"type": "patch", "options": ["map", [["peer", "p2"]]]});
        let database = database(&br0_p1(json!({}), json!({}), json!({}), patch));
        let config = Config::read(&database);
        let links = LinkTable::default();
        let desired = crate::reconcile::desired::desired(&config, &links, &BTreeMap::new());
        let mut applier = Applier::default();
        applier.apply(&desired.specs, true, |actions| actions.iter().map(|_| Ok(Default::default())).collect());
        let p1 = &config.bridges[0].interfaces[1];
        let ofports = BTreeMap::from([(p1.uuid, 1)]);
        let outcome = Outcome {
            config: &config,
            desired: &desired,
            applier: &applier,
            links: &links,
            ofports: &ofports,
            workers: &|_| PortWorkers::default(),
            workers_error: None,
        };
        assert_eq!(outcome.error(p1), None);
        let columns = &outcome.rows(&outcome.interfaces())[&("Interface", p1.uuid)];
        // As in Open vSwitch.
        assert!(columns["error"].as_str().unwrap().starts_with("No usable peer 'p2' exists in 'netdev' datapath."));
        assert_eq!((&columns["ofport"], &columns["ifindex"]), (&Datum::integer(1), &Datum::integer(0)));
        assert_eq!((&columns["admin_state"], &columns["link_state"]), (&Datum::string("up"), &Datum::string("up")));
        assert_eq!((&columns["mtu"], &columns["status"]), (&Datum::empty_set(), &Datum::empty_map()));
    }

    #[test]
    fn what_cannot_work_shows_its_error_and_nothing_of_a_device() {
        let database = database(&br0_p1(json!({}), json!({}), json!({}), json!({"type": "stt"})));
        let config = Config::read(&database);
        let desired = crate::reconcile::desired::desired(&config, &LinkTable::default(), &BTreeMap::new());
        let [own, p1] = &config.bridges[0].interfaces[..] else { panic!("{config:?}") };
        let outcome = Outcome {
            config: &config,
            desired: &desired,
            applier: &Applier::default(),
            links: &LinkTable::default(),
            ofports: &BTreeMap::from([(own.uuid, 65_534)]),
            workers: &|_| PortWorkers::default(),
            workers_error: Some("pmd-cpu-mask=0: no"),
        };
        let rows = outcome.rows(&outcome.interfaces());
        let columns = &rows[&("Interface", p1.uuid)];
        assert_eq!(columns["ofport"], Datum::integer(-1));
        assert!(columns["error"].as_str().unwrap().starts_with("type=stt"));
        for column in [
            "ifindex",
            "mac_in_use",
            "mtu",
            "admin_state",
            "link_state",
            "link_resets",
            "link_speed",
            "duplex",
            "statistics",
        ] {
            assert!(columns[column].is_empty(), "{column}");
        }
        assert_eq!(rows[&("Open_vSwitch", config.root.unwrap())]["cur_cfg"], Datum::integer(7));
        let told = &rows[&("Bridge", config.bridges[0].uuid)]["status"];
        assert!(told.string_pairs().any(|pair| pair == ("pmd-cpu-mask_error", "pmd-cpu-mask=0: no")));
        // Wanted, possible, but not made: that is an error as well.
        assert!(outcome.error(own).unwrap().contains("could not be made"));
    }
}
