//! Columns that are stored and have no effect. Each that asks for something says so in its row's `status`, under
//! `unsupported_COLUMN`: nothing is ignored in silence. Pure.
//!
//! A test holds these tables against the schema: a column is acted on, reported, for clients only, or listed here.

use super::{Columns, Notes, listed};

/// A column without effect: its name, the values besides "unset" that ask for nothing, and why it has none.
type Row = (&'static str, &'static [&'static str], &'static str);

const NO_OPENFLOW: &str = "OpenFlow is not supported";
const NO_TREE: &str = "there is no spanning tree, so loops are not broken; wire the network without any";
const NO_BONDS: &str = "bonds are not supported by this version; a port has one interface";

/// Of the table Open_vSwitch.
pub const SWITCH: &[Row] = &[
    ("datapaths", &[], "connection tracking is not supported"),
    ("ssl", &[], "SSL/TLS connections are not supported by this version"),
];

/// Of the table Bridge.
pub const BRIDGE: &[Row] = &[
    ("auto_attach", &[], "Auto-Attach is not supported"),
    ("flow_tables", &[], NO_OPENFLOW),
    ("ipfix", &[], "IPFIX is not supported by this version; nothing is exported"),
    ("mcast_snooping_enable", &[], "multicast snooping is not supported by this version; multicast goes to all ports"),
    ("netflow", &[], "NetFlow is not supported by this version; nothing is exported"),
    ("protocols", &[], NO_OPENFLOW),
    ("rstp_enable", &[], NO_TREE),
    ("sflow", &[], "sFlow is not supported by this version; nothing is exported"),
    ("stp_enable", &[], NO_TREE),
];

/// Of the table Port.
pub const PORT: &[Row] = &[
    ("bond_active_slave", &[], NO_BONDS),
    ("bond_downdelay", &[], NO_BONDS),
    ("bond_fake_iface", &[], NO_BONDS),
    ("bond_mode", &[], NO_BONDS),
    ("bond_updelay", &[], NO_BONDS),
    ("lacp", &["off"], NO_BONDS),
    ("mac", &[], "set it for the interface"),
];

/// Of the table Interface.
pub const INTERFACE: &[Row] = &[
    ("bfd", &[], "BFD is not supported by this version; no session is run"),
    ("cfm_mpid", &[], "connectivity fault management is not supported"),
    ("lldp", &[], "LLDP is not supported by this version; none is sent"),
];

/// Adds a note for every column of `table` that asks for something.
pub(super) fn note(row: &Columns<'_>, table: &[Row], notes: &mut Notes) {
    for (column, harmless, why) in table {
        if let Some(asked) = asked(row, column).filter(|(value, _)| !harmless.contains(&value.as_str())) {
            notes.insert(key(column), format!("{} has no effect: {why}", asked.1));
        }
    }
}

/// The same for the keys of `other_config`, `known` aside.
pub(super) fn note_other_config(row: &Columns<'_>, known: &[&str], notes: &mut Notes) {
    let options = row.options("other_config");
    if let Some(rest) = listed(options.iter().filter(|(k, _)| !known.contains(k))) {
        notes.insert(key("other_config"), format!("{rest} has no effect: not supported by this version"));
    }
}

/// Under which the note stands in `status`.
pub(super) fn key(column: &str) -> String {
    format!("unsupported_{column}")
}

/// The column's value where it has one word for it, and what to call the setting; `None` if it asks for nothing: empty,
/// false, 0.
fn asked(row: &Columns<'_>, column: &str) -> Option<(String, String)> {
    let datum = row.get(column).filter(|d| !d.is_empty())?;
    if datum.as_bool() == Some(false) || datum.as_i64() == Some(0) || datum.as_str() == Some("") {
        return None;
    }
    let text = datum.as_str().map(str::to_owned);
    let number = || datum.as_i64().map(|n| n.to_string());
    let value = text.or_else(number).or_else(|| datum.as_bool().map(|b| b.to_string()));
    Some(match value {
        Some(value) => (value.clone(), format!("{column}={value}")),
        None => (String::new(), column.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::tests::{br0_p1, database};
    use super::*;
    use serde_json::{Value, json};
    use std::collections::BTreeSet;

    /// For clients to keep things in; nothing to act on.
    const CLIENTS: [&str; 2] = ["external_ids", "fake_bridge"];

    /// Columns that are acted on, and columns that the switch writes or leaves empty.
    fn others(table: &str) -> (&'static str, &'static str) {
        match table {
            "Open_vSwitch" => (
                "bridges manager_options next_cfg other_config",
                "cur_cfg datapath_types db_version dpdk_initialized dpdk_version iface_types ovs_version statistics \
                 system_type system_version",
            ),
            "Bridge" => (
                "controller datapath_type fail_mode flood_vlans mirrors name other_config ports",
                "datapath_id datapath_version rstp_status status",
            ),
            "Mirror" => (
                "name output_port output_vlan select_all select_dst_port select_src_port select_vlan snaplen",
                "statistics",
            ),
            "Port" => (
                "cvlans interfaces name other_config protected qos tag trunks vlan_mode",
                "rstp_statistics rstp_status statistics status",
            ),
            "Interface" => (
                "ingress_policing_burst ingress_policing_kpkts_burst ingress_policing_kpkts_rate ingress_policing_rate mac \
                 mtu_request name ofport_request options other_config type",
                "admin_state bfd_status cfm_fault cfm_fault_status cfm_flap_count cfm_health cfm_remote_mpids \
                 cfm_remote_opstate duplex error ifindex lacp_current link_resets link_speed link_state mac_in_use mtu \
                 ofport statistics status",
            ),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn every_column_is_acted_on_reported_or_listed() {
        let schema = ovsdb::vswitch_schema::vswitch_schema();
        let tables =
            [("Open_vSwitch", SWITCH), ("Bridge", BRIDGE), ("Port", PORT), ("Interface", INTERFACE), ("Mirror", &[])];
        for (table, listed) in tables {
            let columns: BTreeSet<&str> = schema.tables[table].columns.keys().map(String::as_str).collect();
            let (acted_on, reported) = others(table);
            let unsupported = listed.iter().map(|(column, _, _)| *column);
            let known: Vec<_> = acted_on
                .split_whitespace()
                .chain(reported.split_whitespace())
                .chain(CLIENTS.into_iter().filter(|c| columns.contains(c)))
                .chain(unsupported)
                .collect();
            assert_eq!(known.iter().copied().collect::<BTreeSet<_>>(), columns, "{table}");
            assert_eq!(known.len(), columns.len(), "{table}: one is named twice");
        }
    }

    /// The notes of br0 and of the port and the interface p1, of a database with these columns.
    fn notes(bridge: Value, port: Value, interface: Value) -> [Notes; 3] {
        let b = Config::read(&database(&br0_p1(json!({}), bridge, port, interface))).bridges.remove(0);
        [b.notes, b.ports[1].notes.clone(), b.interfaces[1].notes.clone()]
    }

    #[test]
    fn what_asks_for_nothing_says_nothing() {
        assert_eq!(notes(json!({}), json!({}), json!({})), [const { Notes::new() }; 3]);
        let bridge = json!({"stp_enable": false, "fail_mode": "standalone", "protocols": ["set", []]});
        let port = json!({"lacp": "off", "bond_updelay": 0, "fake_bridge": true});
        let interface = json!({"ingress_policing_rate": 0, "external_ids": ["map", [["a", "b"]]]});
        assert_eq!(notes(bridge, port, interface), [const { Notes::new() }; 3]);
    }

    #[test]
    fn each_says_what_has_no_effect_and_why() {
        let [bridge, port, interface] = notes(
            json!({"stp_enable": true, "protocols": ["set", ["OpenFlow10", "OpenFlow13"]]}),
            json!({"lacp": "active", "bond_mode": "balance-slb", "other_config": ["map", [["transient", "true"]]]}),
            json!({"bfd": ["map", [["enable", "true"]]], "mac": "02:00:00:00:00:01"}),
        );
        let told = |notes: Notes| notes.into_iter().map(|(k, v)| format!("{k}: {v}")).collect::<Vec<_>>();
        assert_eq!(
            told(bridge),
            [
                "unsupported_protocols: protocols has no effect: OpenFlow is not supported",
                "unsupported_stp_enable: stp_enable=true has no effect: there is no spanning tree, so loops are not \
                 broken; wire the network without any",
            ]
        );
        assert_eq!(
            told(port),
            [
                "unsupported_bond_mode: bond_mode=balance-slb has no effect: bonds are not supported by this version; \
                 a port has one interface",
                "unsupported_lacp: lacp=active has no effect: bonds are not supported by this version; a port has one \
                 interface",
                "unsupported_other_config: transient=true has no effect: not supported by this version",
            ]
        );
        assert_eq!(
            told(interface),
            [
                "unsupported_bfd: bfd has no effect: BFD is not supported by this version; no session is run",
                "unsupported_mac: mac=02:00:00:00:00:01 has no effect: the device keeps its own; 'ip link set dev p1 \
                 address 02:00:00:00:00:01' sets it",
            ]
        );
    }

    /// Every row of the tables, one by one, with a value that asks for something.
    #[test]
    fn every_listed_column_is_told() {
        let schema = ovsdb::vswitch_schema::vswitch_schema();
        let tables = [("Bridge", BRIDGE), ("Port", PORT), ("Interface", INTERFACE), ("Open_vSwitch", SWITCH)];
        for (at, (table, listed)) in tables.into_iter().enumerate() {
            for (column, _, _) in listed {
                let ty = schema.tables[table].columns[*column].ty.to_json();
                let mut rows = [const { Value::Null }; 4].map(|_| json!({}));
                rows[at][*column] = value(&ty);
                let [bridge, port, interface, root] = rows;
                let mut ops = br0_p1(root, bridge, port, interface);
                if let Some(other) = ty["value"]["refTable"].as_str().or(ty["key"]["refTable"].as_str()) {
                    ops.push(json!({"op": "insert", "table": other, "uuid-name": "other", "row": {}}));
                }
                let config = Config::read(&database(&ops));
                let b = &config.bridges[0];
                let all = [&b.notes, &b.ports[1].notes, &b.interfaces[1].notes, &config.notes];
                for (i, notes) in all.into_iter().enumerate() {
                    let told: Vec<_> = notes.keys().cloned().collect();
                    let expected = if i == at { vec![key(column)] } else { vec![] };
                    assert_eq!(told, expected, "{table} {column}");
                }
            }
        }
    }

    /// A value of a type that is not its default; a reference is to the row "other".
    fn value(ty: &Value) -> Value {
        let atom = |base: &Value| {
            let name = base.as_str().or(base["type"].as_str()).unwrap();
            match name {
                _ if base["enum"].is_array() => base["enum"][1][0].clone(),
                "boolean" => json!(true),
                "integer" => json!(100),
                "string" => json!("x"),
                _ => json!(["named-uuid", "other"]),
            }
        };
        let key = atom(if ty["key"].is_null() { ty } else { &ty["key"] });
        if ty["value"].is_null() { key } else { json!(["map", [[key, atom(&ty["value"])]]]) }
    }
}
