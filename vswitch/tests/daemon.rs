//! Bridges and ports come, change and go, whatever happens to their devices. Needs root.

mod common;

use common::{Host, NONE, add_br, add_port, del_br, interface, key, log};
use serde_json::{Value, json};
use vswitch::Args;

#[test]
fn a_bridge_and_a_port_come_in_one_commit_with_cur_cfg() {
    let Some(host) = Host::new("a_bridge_and_a_port_come_in_one_commit_with_cur_cfg") else { return };
    host.veth("p1");
    host.serve(async |db| {
        let update = db.apply(add_br("br0")).await;
        assert_eq!(interface(&update, "br0")["ofport"], 65534);
        assert!(host.has_device("br0"), "a bridge's own port is a device of the host");

        // Done before the command, so it is in the answer.
        host.ip("addr add 192.0.2.1/24 dev p1");
        let update = db.apply(add_port("br0", json!({"name": "p1"}))).await;
        let p1 = interface(&update, "p1");
        assert_eq!((&p1["ofport"], &p1["error"], &p1["link_state"]), (&json!(1), &NONE(), &json!("up")));
        assert_eq!(key(&p1["status"], "io"), Some("packet"));
        let warning = key(&p1["status"], "address_warning").expect("told with cur_cfg");
        assert!(warning.contains("ip addr add 192.0.2.1/24 dev br0"), "{warning}");

        let row = db.interface("p1").await;
        assert_eq!((&row["mtu"], &row["admin_state"]), (&json!(1500), &json!("up")));
        assert!(row["ifindex"].as_i64() > Some(0) && row["mac_in_use"].is_string(), "{row}");
        let statistics = row["statistics"][1].as_array().unwrap();
        assert!(statistics.iter().any(|pair| pair[0] == "rx_packets"), "{row}");
        let bridge = db.row("Bridge", "br0", |_| true).await;
        let mac = db.interface("br0").await["mac_in_use"].as_str().unwrap().replace(':', "");
        assert_eq!(bridge["datapath_id"], format!("0000{mac}"));

        host.ip("addr del 192.0.2.1/24 dev p1");
        db.row("Interface", "p1", |r| key(&r["status"], "address_warning").is_none()).await;

        db.apply(vec![del_br()]).await;
        assert!(host.lacks_device("br0"), "the bridge's device stays");
        assert!(host.has_device("p1"), "a device that was only attached is gone");
    });
}

#[test]
fn what_cannot_be_attached_is_told_and_cur_cfg_follows() {
    let Some(host) = Host::new("what_cannot_be_attached_is_told_and_cur_cfg_follows") else { return };
    host.veth("p1");
    host.veth("foreign");
    host.serve(async |db| {
        db.apply(add_br("br0")).await;
        for (row, text) in [
            (json!({"name": "eth9"}), "could not open network device eth9 (No such device)"),
            (json!({"name": "g0", "type": "stt"}), "type=stt"),
            (json!({"name": "vx0", "type": "vxlan"}), "remote_ip is missing"),
            (json!({"name": "foreign", "type": "internal"}), "could not add foreign"),
            (json!({"name": "lo"}), "lo carries no Ethernet frames"),
        ] {
            let name = row["name"].as_str().unwrap().to_owned();
            let update = db.apply(add_port("br0", row)).await;
            let told = interface(&update, &name);
            assert_eq!(told["ofport"], -1, "{told}");
            assert!(told["error"].as_str().is_some_and(|e| e.contains(text)), "{told}");
        }
        // The rest works, with the first free number.
        let update = db.apply(add_port("br0", json!({"name": "p1"}))).await;
        assert_eq!(interface(&update, "p1")["ofport"], 1);
        assert!(host.has_device("foreign"), "another's device was removed");
    });
}

#[test]
fn a_commit_without_next_cfg_is_carried_out_too() {
    let Some(host) = Host::new("a_commit_without_next_cfg_is_carried_out_too") else { return };
    host.veth("p1");
    host.serve(async |db| {
        db.transact(add_br("br0")).await;
        db.transact(add_port("br0", json!({"name": "p1", "ofport_request": 77}))).await;
        db.row("Interface", "p1", |r| r["ofport"] == 77).await;
    });
}

#[test]
fn a_device_that_vanishes_is_told_and_taken_back() {
    let Some(host) = Host::new("a_device_that_vanishes_is_told_and_taken_back") else { return };
    host.veth("p1");
    host.veth("p2");
    host.serve(async |db| {
        db.apply(add_br("br0")).await;
        db.apply(add_port("br0", json!({"name": "p1"}))).await;
        let update = db.apply(add_port("br0", json!({"name": "p2"}))).await;
        assert_eq!(interface(&update, "p2")["ofport"], 2);
        let before = db.interface("p2").await;

        host.ip("link del p2");
        let gone = db.row("Interface", "p2", |r| r["ofport"] == -1).await;
        assert!(
            gone["error"].as_str().unwrap().contains("could not open network device p2 (No such device)"),
            "{gone}"
        );
        assert_eq!((&gone["ifindex"], &gone["mac_in_use"]), (&NONE(), &NONE()));

        // A new port does not get the number that the other waits for.
        host.veth("p3");
        let update = db.apply(add_port("br0", json!({"name": "p3"}))).await;
        assert_eq!(interface(&update, "p3")["ofport"], 3);

        host.veth("p2");
        let back = db.row("Interface", "p2", |r| r["error"] == NONE()).await;
        assert_eq!(back["ofport"], 2);
        assert_ne!(back["ifindex"], before["ifindex"], "a new device");

        host.ip("link set p2-far down");
        db.row("Interface", "p2", |r| r["link_state"] == "down").await;
        host.ip("link set p2-far up");
        db.row("Interface", "p2", |r| r["link_state"] == "up").await;
        // Renamed, it is another device; renamed back, it is ours again.
        host.ip("link set p2 down");
        host.ip("link set p2 name other");
        db.row("Interface", "p2", |r| r["ofport"] == -1).await;
        host.ip("link set other name p2");
        db.row("Interface", "p2", |r| r["ofport"] == 2).await;
    });
}

#[test]
fn an_internal_device_that_is_deleted_is_made_again() {
    let Some(host) = Host::new("an_internal_device_that_is_deleted_is_made_again") else { return };
    host.serve(async |db| {
        db.apply(add_br("br0")).await;
        let before = db.interface("br0").await;
        host.ip("link del br0");
        let back = db.row("Interface", "br0", |r| r["ifindex"] != before["ifindex"] && r["error"] == NONE()).await;
        assert_eq!((&back["ofport"], &back["mac_in_use"]), (&json!(65534), &before["mac_in_use"]));
        assert!(host.has_device("br0"));
    });
}

#[test]
fn a_restart_brings_all_back_with_the_same_numbers() {
    let Some(host) = Host::new("a_restart_brings_all_back_with_the_same_numbers") else { return };
    host.veth("p1");
    host.veth("p2");
    let mut before = Value::Null;
    host.serve(async |db| {
        db.apply(add_br("br0")).await;
        db.apply(add_port("br0", json!({"name": "p2"}))).await;
        db.apply(add_port("br0", json!({"name": "p1"}))).await;
        before = db.interface("br0").await;
    });
    assert!(host.has_device("br0"), "a bridge's own device stays when the daemon ends");
    host.ip("addr add 10.0.0.1/24 dev br0");
    host.serve(async |db| {
        for (name, ofport) in [("br0", 65534), ("p2", 1), ("p1", 2)] {
            // Not at once: another test's child may hold our old descriptors between its fork and its exec.
            let row = db.row("Interface", name, |r| r["error"] == NONE()).await;
            assert_eq!(row["ofport"], ofport, "{name}");
        }
        let after = db.interface("br0").await;
        assert_eq!((&after["ifindex"], &after["mac_in_use"]), (&before["ifindex"], &before["mac_in_use"]));
    });
}

#[test]
fn a_tunnel_shows_the_mtu_that_its_route_leaves() {
    let Some(host) = Host::new("a_tunnel_shows_the_mtu_that_its_route_leaves") else { return };
    host.veth("u1");
    host.serve(async |db| {
        db.apply(add_br("br0")).await;
        let options = json!(["map", [["remote_ip", "192.0.2.2"], ["key", "5000"]]]);
        let update = db.apply(add_port("br0", json!({"name": "vx0", "type": "vxlan", "options": options}))).await;
        let told = interface(&update, "vx0");
        assert_eq!(told["error"], NONE());
        assert!(key(&told["status"], "underlay_warning").is_some(), "{told}");

        host.ip("addr add 192.0.2.1/24 dev u1");
        let row = db.row("Interface", "vx0", |r| r["mtu"] == 1450).await;
        assert_eq!(key(&row["status"], "tunnel_egress_iface"), Some("u1"));
        host.ip("link set u1 mtu 1400");
        db.row("Interface", "vx0", |r| r["mtu"] == 1350).await;
        host.ip("route add 192.0.2.2/32 dev u1 mtu 1300");
        db.row("Interface", "vx0", |r| r["mtu"] == 1250).await;
        // Packets to oneself would never leave.
        host.ip("addr add 192.0.2.2/32 dev u1");
        let row = db.row("Interface", "vx0", |r| r["ofport"] == -1).await;
        assert!(row["error"].as_str().unwrap().contains("remote_ip=192.0.2.2 is an address of this host"), "{row}");
    });
}

#[test]
fn a_udp_port_that_is_taken_is_told_and_taken_when_it_is_free() {
    let Some(host) = Host::new("a_udp_port_that_is_taken_is_told_and_taken_when_it_is_free") else { return };
    host.serve(async |db| {
        db.apply(add_br("br0")).await;
        let other = std::net::UdpSocket::bind("0.0.0.0:4789").unwrap();
        let options = json!(["map", [["remote_ip", "192.0.2.2"], ["key", "5000"]]]);
        let update = db.apply(add_port("br0", json!({"name": "vx0", "type": "vxlan", "options": options}))).await;
        let told = interface(&update, "vx0");
        assert!(told["error"].as_str().is_some_and(|e| e.contains("4789")), "{told}");
        drop(other);
        // Nobody tells when a port becomes free: it is tried.
        db.row("Interface", "vx0", |r| r["error"] == NONE() && r["ofport"] == 1).await;
    });
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let Some(host) = Host::new("a_second_daemon_is_refused_and_the_first_goes_on") else { return };
    host.serve(async |db| {
        db.apply(add_br("br0")).await;
        let second = vswitch::serve(&host.args(), log(), std::future::pending()).await.unwrap_err();
        let text = format!("{second:#}");
        assert!(text.contains("conf.db") && text.contains(&std::process::id().to_string()), "{text}");
        let elsewhere = Args { db: host.dir.path().join("other.db"), ..host.args() };
        let second = vswitch::serve(&elsewhere, log(), std::future::pending()).await.unwrap_err();
        assert!(format!("{second:#}").contains("db.sock"), "{second:#}");
        db.apply(vec![del_br()]).await;
    });
}
