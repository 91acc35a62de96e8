//! What the rows of interfaces have been told, so that what has not changed is not said again: with a thousand ports,
//! making and comparing columns would be most of a report. Pure.
//!
//! An interface's columns follow from its [`Basis`] alone; a row is left as it is while the basis is what it was and
//! nobody else has written to the row, which its version tells.

use crate::config::Notes;
use crate::netlink::ethtool::LinkMode;
use crate::netlink::link::Link;
use crate::status::detached;
use datapath::control::{Applied, PortSpec, PortWorkers};
use ovsdb::db::Database;
use ovsdb::value::Datum;
use std::borrow::Cow;
use std::collections::BTreeMap;
use uuid::Uuid;

/// What the columns of an interface follow from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Basis<'a> {
    /// Why it does not work.
    pub error: Option<Cow<'a, str>>,
    /// Why it carries nothing yet, though it is attached.
    pub incomplete: Option<Cow<'a, str>>,
    /// For its `status`.
    pub notes: Option<Cow<'a, Notes>>,
    /// Whether it has no device and is always up.
    pub bare: bool,
    /// Its device.
    pub link: Option<Cow<'a, Link>>,
    /// What that says of its link.
    pub mode: LinkMode,
    /// What the datapath was asked for.
    pub spec: Option<Cow<'a, PortSpec>>,
    /// What the datapath said about it.
    pub facts: Option<Cow<'a, Applied>>,
    /// The workers that have to do with it.
    pub workers: PortWorkers,
    /// Its OpenFlow port number.
    pub ofport: u16,
}

impl Basis<'_> {
    /// The columns, but for statistics.
    #[must_use]
    pub fn columns(&self) -> BTreeMap<&'static str, Datum> {
        let notes = self.notes.as_deref().cloned().unwrap_or_default();
        if let Some(why) = &self.error {
            let mut columns = detached();
            columns.insert("ofport", Datum::integer(-1));
            columns.insert("error", Datum::string(&**why));
            columns.insert("status", Datum::map_of_strings(notes));
            return columns;
        }
        let (link, bare) = (self.link.as_deref(), self.bare);
        let spec = self.spec.as_deref();
        let mtu = if bare { spec.and_then(|s| s.mtu).map(|m| m.0) } else { link.map(|l| l.mtu) };
        let bits = self.mode.speed.and_then(|s| i64::try_from(s).ok());
        let duplex = self.mode.full_duplex.map(|full| if full { "full" } else { "half" });
        // An internal port that was moved to another namespace has no link here, and works.
        let elsewhere = link.is_none() && spec.is_some_and(|s| s.up);
        let state = |up: bool| Datum::string(if up { "up" } else { "down" });
        let mut status = notes;
        if let Some(kind) = link.and_then(|l| l.kind.clone()) {
            status.insert("driver_name".to_owned(), kind);
        }
        status.extend(self.facts.iter().flat_map(|f| f.status.clone()));
        status.extend(about_workers(&self.workers));
        BTreeMap::from([
            ("ofport", Datum::integer(i64::from(self.ofport))),
            ("error", self.incomplete.as_deref().map_or(Datum::empty_set(), Datum::string)),
            ("ifindex", Datum::integer(link.map_or(0, |l| i64::from(l.ifindex)))),
            ("mac_in_use", link.and_then(|l| l.mac).map_or(Datum::empty_set(), |m| Datum::string(m.to_string()))),
            ("mtu", mtu.filter(|&m| m > 0).map_or(Datum::empty_set(), |m| Datum::integer(i64::from(m)))),
            ("admin_state", state(bare || elsewhere || link.is_some_and(|l| l.admin_up))),
            ("link_state", state(bare || elsewhere || link.is_some_and(|l| l.carrier))),
            ("link_resets", Datum::integer(link.map_or(0, |l| i64::from(l.link_resets)))),
            ("link_speed", bits.map_or(Datum::empty_set(), Datum::integer)),
            ("duplex", duplex.map_or(Datum::empty_set(), Datum::string)),
            ("status", Datum::map_of_strings(status)),
        ])
    }

    /// The same, to keep.
    #[must_use]
    pub fn into_owned(self) -> Basis<'static> {
        fn own<T: ToOwned + ?Sized>(value: Option<Cow<'_, T>>) -> Option<Cow<'static, T>> {
            value.map(|v| Cow::Owned(v.into_owned()))
        }
        Basis {
            error: own(self.error),
            incomplete: own(self.incomplete),
            notes: own(self.notes),
            bare: self.bare,
            link: own(self.link),
            mode: self.mode,
            spec: own(self.spec),
            facts: own(self.facts),
            workers: self.workers,
            ofport: self.ofport,
        }
    }
}

/// Which workers receive from a port, and which of them had better have a queue of it, too.
fn about_workers(PortWorkers { receiving, by_packet }: &PortWorkers) -> impl Iterator<Item = (String, String)> + use<> {
    let list = |workers: &[usize]| workers.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let receive = (!receiving.is_empty()).then(|| ("worker".to_owned(), list(receiving)));
    let warning = (!by_packet.is_empty()).then(|| {
        let (which, all) = (list(by_packet), receiving.len() + by_packet.len());
        let text = format!(
            "worker {which} has no queue of the device and sends to it by a packet socket, slower; 'ethtool -L DEVICE \
             combined {all}' (of a veth: rx {all} tx {all}), then 'vsctl set interface DEVICE options:n_rxq={all}' gives \
             each one"
        );
        ("worker_warning".to_owned(), text)
    });
    receive.into_iter().chain(warning)
}

/// The basis of each interface's row as it was last written, and the row's version since.
#[derive(Default)]
pub struct Told(BTreeMap<Uuid, (Basis<'static>, Uuid)>);

impl Told {
    /// Whether the row says already what follows from `basis`.
    #[must_use]
    pub fn knows(&self, database: &Database, interface: &Uuid, basis: &Basis<'_>) -> bool {
        self.0
            .get(interface)
            .is_some_and(|(was, version)| was == basis && version_of(database, interface) == Some(*version))
    }

    /// The interfaces whose rows nobody else has written to since.
    #[must_use]
    pub fn current(&self, database: &Database) -> Vec<Uuid> {
        let current = self.0.iter().filter(|(uuid, (_, version))| version_of(database, uuid) == Some(*version));
        current.map(|(uuid, _)| *uuid).collect()
    }

    /// The rows of these interfaces have been written to by us, other columns of them.
    pub fn follow(&mut self, database: &Database, interfaces: &[Uuid]) {
        for uuid in interfaces {
            if let (Some((_, version)), Some(now)) = (self.0.get_mut(uuid), version_of(database, uuid)) {
                *version = now;
            }
        }
    }

    /// These have been written now; of rows that are gone nothing is kept.
    pub fn remember(&mut self, database: &Database, written: Vec<(Uuid, Basis<'static>)>) {
        for (uuid, basis) in written {
            if let Some(version) = version_of(database, &uuid) {
                self.0.insert(uuid, (basis, version));
            }
        }
        self.0.retain(|uuid, _| database.row("Interface", uuid).is_some());
    }
}

fn version_of(database: &Database, interface: &Uuid) -> Option<Uuid> {
    Some(database.row("Interface", interface)?.version())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_without_a_queue_are_named() {
        let told = |receiving: &[usize], by_packet: &[usize]| -> BTreeMap<String, String> {
            about_workers(&PortWorkers { receiving: receiving.into(), by_packet: by_packet.into() }).collect()
        };
        assert_eq!(told(&[], &[]), BTreeMap::new());
        assert_eq!(told(&[0, 2], &[]), BTreeMap::from([("worker".to_owned(), "0,2".to_owned())]));
        let fewer = told(&[1], &[0, 2]);
        assert_eq!(fewer["worker"], "1");
        let warning = &fewer["worker_warning"];
        assert!(warning.starts_with("worker 0,2 has no queue") && warning.contains("combined 3'"), "{warning}");
    }
}
