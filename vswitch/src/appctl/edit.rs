//! A change of the configuration that was asked for on the control socket: made in the database, like any other, and
//! carried out from there.

use crate::config::fdb;
use datapath::types::{MacAddr, VlanId};
use ovsdb::db::{Database, Prepared};
use ovsdb::error::OpError;
use ovsdb::value::Datum;
use std::collections::BTreeMap;
use uuid::Uuid;

/// A static address comes, changes its place or goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edit {
    /// The bridge's row.
    pub bridge: Uuid,
    /// The VLAN it is in.
    pub vlan: VlanId,
    /// The address.
    pub mac: MacAddr,
    /// Where it is to be: a port, or `PORT@REMOTE`; `None`: nowhere.
    pub place: Option<String>,
}

impl Edit {
    /// The transaction that makes it so.
    pub fn prepare(self, database: &Database) -> Result<Prepared, OpError> {
        let now = database.row("Bridge", &self.bridge).and_then(|row| row.get("other_config"));
        let mut pairs: BTreeMap<String, String> =
            now.into_iter().flat_map(Datum::string_pairs).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        // Somebody may have written the address in another way.
        pairs.retain(|key, _| fdb::address(key) != Ok((self.vlan, self.mac)));
        pairs.extend(self.place.map(|place| (fdb::key(self.vlan, self.mac), place)));
        let mut txn = database.begin();
        txn.comment("vswitch: static address, by the control socket");
        txn.set("Bridge", &self.bridge, "other_config", Datum::map_of_strings(pairs))?;
        txn.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{br0_p1, database};
    use serde_json::json;

    #[test]
    fn an_address_comes_changes_its_place_and_goes() {
        let bridge = json!({"other_config": ["map", [["mac-aging-time", "60"], ["fdb-7-02:00:00:00:00:AA", "p1"]]]});
        let mut database = database(&br0_p1(json!({}), bridge, json!({}), json!({})));
        let bridge = *database.rows("Bridge").next().unwrap().0;
        let mut edit = |vlan, last, place: Option<&str>| {
            let (vlan, mac) = (VlanId::new(vlan).unwrap(), MacAddr([2, 0, 0, 0, 0, last]));
            let prepared = Edit { bridge, vlan, mac, place: place.map(str::to_owned) }.prepare(&database).unwrap();
            database.apply(prepared);
            let row = database.row("Bridge", &bridge).unwrap();
            let pairs = row.get("other_config").unwrap().string_pairs();
            pairs.map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(edit(7, 0xaa, Some("p2")), "fdb-7-02:00:00:00:00:aa=p2 mac-aging-time=60");
        assert_eq!(edit(0, 1, Some("p1")), "fdb-0-02:00:00:00:00:01=p1 fdb-7-02:00:00:00:00:aa=p2 mac-aging-time=60");
        assert_eq!(edit(7, 0xaa, None), "fdb-0-02:00:00:00:00:01=p1 mac-aging-time=60");
        assert_eq!(edit(9, 9, None), "fdb-0-02:00:00:00:00:01=p1 mac-aging-time=60");
    }
}
