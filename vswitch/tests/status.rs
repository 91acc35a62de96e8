//! What the daemon says about what it was asked for: effective values, counters, and what has no effect. Needs root.

mod common;

use common::{Host, NONE, PATIENCE, add_br, add_port, interface, key, rows};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::UdpSocket;

/// A broadcast out of the device with the address 192.0.2.1: an ARP request.
fn knock() {
    UdpSocket::bind("192.0.2.1:0").unwrap().send_to(b"anybody there?", "192.0.2.2:9").unwrap();
}

fn set(table: &str, row: Value) -> Value {
    json!({"op": "update", "table": table, "where": [], "row": row})
}

fn stats_interval(milliseconds: &str) -> Value {
    set("Open_vSwitch", json!({"other_config": ["map", [["stats-update-interval", milliseconds]]]}))
}

/// A counter of `Interface:statistics`.
fn counter(row: &Value, name: &str) -> Option<i64> {
    row["statistics"][1].as_array()?.iter().find(|pair| pair[0] == name)?[1].as_i64()
}

#[test]
fn what_others_write_over_it_is_said_again() {
    let Some(host) = Host::new("what_others_write_over_it_is_said_again") else { return };
    host.veth("p1");
    host.serve(async |db| {
        db.apply([add_br("br0"), vec![stats_interval("100")]].concat()).await;
        db.apply(add_port("br0", json!({"name": "p1"}))).await;
        let before = db.interface("p1").await;
        for _ in 0..3 {
            db.apply(vec![set("Interface", json!({"status": ["map", []], "mtu": 9, "link_state": ["set", []]}))]).await;
            let right =
                |row: &Value| ["status", "mtu", "link_state"].iter().all(|column| row[column] == before[column]);
            db.row("Interface", "p1", right).await;
        }
    });
}

#[test]
fn columns_without_effect_say_so_until_they_are_cleared() {
    let Some(host) = Host::new("columns_without_effect_say_so_until_they_are_cleared") else { return };
    host.veth("p1");
    host.serve(async |db| {
        db.apply(add_br("br0")).await;
        db.apply(add_port("br0", json!({"name": "p1", "bfd": ["map", [["enable", "true"]]]}))).await;
        db.apply(vec![
            set("Bridge", json!({"stp_enable": true, "protocols": "OpenFlow13", "sflow": ["named-uuid", "s"]})),
            json!({"op": "insert", "table": "sFlow", "uuid-name": "s", "row": {"targets": "192.0.2.9:6343"}}),
            set("Port", json!({"lacp": "active", "bond_mode": "balance-slb", "qos": ["named-uuid", "q"]})),
            json!({"op": "insert", "table": "QoS", "uuid-name": "q", "row": {"type": "linux-hfsc"}}),
        ])
        .await;
        for (table, name, columns) in [
            ("Bridge", "br0", &["protocols", "sflow", "stp_enable"][..]),
            ("Port", "p1", &["bond_mode", "lacp", "qos"]),
            ("Interface", "p1", &["bfd"]),
        ] {
            let row = db.row(table, name, |_| true).await;
            for column in columns {
                let told = key(&row["status"], &format!("unsupported_{column}")).unwrap_or_default();
                assert!(told.starts_with(column) && told.contains(" has no effect: "), "{table} {column}: {row}");
            }
        }
        let p1 = db.interface("p1").await;
        assert_eq!((&p1["error"], key(&p1["status"], "io")), (&NONE(), Some("packet")), "it works all the same");
        for column in ["bfd_status", "cfm_fault", "lacp_current"] {
            assert!(p1[column] == NONE() || p1[column] == json!(["map", []]), "{column}: {p1}");
        }

        db.apply(vec![
            set("Bridge", json!({"stp_enable": false, "protocols": NONE(), "sflow": NONE()})),
            set("Port", json!({"lacp": NONE(), "bond_mode": NONE(), "qos": NONE()})),
            set("Interface", json!({"bfd": ["map", []]})),
        ])
        .await;
        for (table, name) in [("Bridge", "br0"), ("Port", "p1"), ("Interface", "p1")] {
            let row = db.row(table, name, |_| true).await;
            assert!(!row["status"].to_string().contains("unsupported"), "{table}: {row}");
        }
    });
}

#[test]
fn controllers_are_stored_and_told_to_have_no_effect() {
    let Some(host) = Host::new("controllers_are_stored_and_told_to_have_no_effect") else { return };
    host.serve(async |db| {
        db.apply(add_br("br0")).await;
        db.apply(vec![
            json!({"op": "insert", "table": "Controller", "uuid-name": "c", "row": {"target": "tcp:192.0.2.9:6653"}}),
            set("Bridge", json!({"controller": ["named-uuid", "c"]})),
        ])
        .await;
        let select = json!({"op": "select", "table": "Controller", "where": []});
        let controller = db.transact(vec![select]).await[0]["rows"][0].take();
        assert_eq!((&controller["is_connected"], &controller["role"]), (&json!(false), &json!("other")));
        let status = |name| key(&controller["status"], name);
        assert_eq!((status("state"), status("last_error")), (Some("VOID"), Some("OpenFlow is not supported")));
    });
}

#[test]
fn a_secure_bridge_forwards_nothing_and_says_so() {
    let Some(host) = Host::new("a_secure_bridge_forwards_nothing_and_says_so") else { return };
    host.veth("p1");
    host.veth("p2");
    host.ip("addr add 192.0.2.1/24 dev p1-far");
    host.serve(async |db| {
        let mut bridge = add_br("br0");
        bridge[2]["row"]["fail_mode"] = json!("secure");
        bridge.push(stats_interval("100"));
        db.apply(bridge).await;
        db.apply(add_port("br0", json!({"name": "p1"}))).await;
        db.apply(add_port("br0", json!({"name": "p2"}))).await;
        let status = db.row("Bridge", "br0", |_| true).await["status"].take();
        assert!(key(&status, "fail_mode_warning").unwrap().contains("forwards nothing"), "{status}");
        knock();
        db.row("Interface", "p1", |r| counter(r, "drop_bridge_secure") > Some(0)).await;
        for name in ["p2", "br0"] {
            assert_eq!(counter(&db.interface(name).await, "tx_packets"), Some(0), "{name}");
        }

        db.apply(vec![set("Bridge", json!({"fail_mode": NONE()}))]).await;
        let status = db.row("Bridge", "br0", |_| true).await["status"].take();
        assert_eq!(key(&status, "fail_mode_warning"), None);
        knock();
        db.row("Interface", "p2", |r| counter(r, "tx_packets") > Some(0)).await;
    });
}

#[test]
fn an_unknown_datapath_type_is_an_error_until_it_is_changed() {
    let Some(host) = Host::new("an_unknown_datapath_type_is_an_error_until_it_is_changed") else { return };
    host.serve(async |db| {
        let mut bridge = add_br("br0");
        bridge[2]["row"]["datapath_type"] = json!("dpdk");
        let update = db.apply(bridge).await;
        let told = interface(&update, "br0");
        assert_eq!(told["ofport"], -1);
        assert!(told["error"].as_str().unwrap().starts_with("datapath_type=dpdk is unknown"), "{told}");
        assert!(!host.has_device("br0"));
        for known in ["netdev", "system", ""] {
            db.apply(vec![set("Bridge", json!({"datapath_type": known}))]).await;
            let row = db.interface("br0").await;
            assert_eq!((&row["ofport"], &row["error"]), (&json!(65534), &NONE()), "{known}");
            assert_eq!(db.row("Bridge", "br0", |_| true).await["status"], json!(["map", []]), "{known}");
        }
        assert!(host.has_device("br0"));
    });
}

#[test]
fn speed_and_duplex_are_what_the_device_says() {
    let Some(host) = Host::new("speed_and_duplex_are_what_the_device_says") else { return };
    host.veth("p1");
    host.serve(async |db| {
        db.apply(add_br("br0")).await;
        db.apply(add_port("br0", json!({"name": "p1"}))).await;
        let options = json!(["map", [["remote_ip", "192.0.2.2"]]]);
        db.apply(add_port("br0", json!({"name": "vx0", "type": "vxlan", "options": options}))).await;
        let p1 = db.interface("p1").await;
        assert_eq!((&p1["link_speed"], &p1["duplex"]), (&json!(10_000_000_000_u64), &json!("full")));
        let own = db.interface("br0").await;
        assert!(own["link_speed"].as_i64() > Some(0) && own["duplex"] == "full", "{own}");
        let vx0 = db.interface("vx0").await;
        assert_eq!((&vx0["link_speed"], &vx0["duplex"]), (&NONE(), &NONE()), "a tunnel has neither");

        assert_eq!(p1["link_resets"], 0);
        host.ip("link set p1-far down");
        db.row("Interface", "p1", |r| r["link_state"] == "down" && r["link_resets"] == 1).await;
        host.ip("link set p1-far up");
        db.row("Interface", "p1", |r| r["link_state"] == "up" && r["link_resets"] == 2).await;
        host.ip("link del p1");
        let gone = db.row("Interface", "p1", |r| r["ofport"] == -1).await;
        assert_eq!((&gone["link_speed"], &gone["duplex"], &gone["link_resets"]), (&NONE(), &NONE(), &NONE()));
    });
}

#[test]
fn statistics_come_as_often_as_asked_for() {
    let Some(host) = Host::new("statistics_come_as_often_as_asked_for") else { return };
    host.veth("p1");
    host.ip("addr add 192.0.2.1/24 dev p1-far");
    host.serve(async |db| {
        let mut operations = add_br("br0");
        // Then the next time would be tomorrow.
        operations.push(stats_interval("86400000"));
        db.apply(operations).await;
        db.apply(add_port("br0", json!({"name": "p1"}))).await;
        db.apply(vec![stats_interval("100")]).await;
        let changes = async {
            let mut seen = BTreeSet::new();
            while seen.len() < 10 {
                knock();
                let last = seen.last().copied();
                let row = db.row("Interface", "p1", |r| counter(r, "rx_packets") > last).await;
                seen.insert(counter(&row, "rx_packets").unwrap());
                // The next one asks again.
                host.ip("neigh flush dev p1-far");
            }
        };
        // At the default of one in 5 s, this takes longer.
        tokio::time::timeout(PATIENCE, changes).await.expect("ten changes of a counter");
    });
}

#[test]
fn a_requested_number_is_the_first_that_anybody_sees() {
    let Some(host) = Host::new("a_requested_number_is_the_first_that_anybody_sees") else { return };
    host.veth("p1");
    host.veth("p2");
    host.serve(async |db| {
        db.apply(add_br("br0")).await;
        for (name, operations, numbers) in [
            ("p1", add_port("br0", json!({"name": "p1", "ofport_request": 77})), &[77][..]),
            ("p2", add_port("br0", json!({"name": "p2", "ofport_request": 78})), &[78]),
            // From the old number straight to the new one.
            ("p1", vec![set_request("p1", 100)], &[100]),
            // Taken: the holder keeps it.
            ("p2", vec![set_request("p2", 100)], &[78]),
        ] {
            let seen = RefCell::new(BTreeSet::new());
            let mut operations = operations;
            let next = json!([["next_cfg", "+=", 1]]);
            operations.push(json!({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": next}));
            operations.push(json!({"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]}));
            let goal = db.transact(operations).await.last().unwrap()["rows"][0]["next_cfg"].as_i64();
            db.update(|update| {
                let mine = rows(update, "Interface").filter(|r| r["name"] == name);
                seen.borrow_mut().extend(mine.filter_map(|r| r["ofport"].as_i64()));
                rows(update, "Open_vSwitch").any(|r| r["cur_cfg"].as_i64() >= goal)
            })
            .await;
            let last = db.interface(name).await["ofport"].as_i64().unwrap();
            seen.borrow_mut().insert(last);
            assert_eq!(seen.into_inner(), numbers.iter().copied().collect(), "{name}");
            assert_eq!(Some(&last), numbers.last(), "{name}");
        }
    });
    host.serve(async |db| {
        for (name, number) in [("p1", 100), ("p2", 78)] {
            assert_eq!(db.interface(name).await["ofport"], number, "{name}, after a restart");
        }
    });
}

fn set_request(name: &str, number: i64) -> Value {
    json!({"op": "update", "table": "Interface", "where": [["name", "==", name]], "row": {"ofport_request": number}})
}
