//! What Go programs send through libovsdb, with its ways of writing JSON, answered as by an `ovsdb-server`.
//!
//! From the public sources: `list_dbs` has the parameters `[null]`, a set of one element is written as that element, the
//! cookie of a monitor is an object, a table's request is an object where others send a list (ovn-org/libovsdb
//! `client/client.go`, `ovsdb/set.go`, `ovsdb/rpc.go`); transactions as in k8snetworkplumbingwg/ovs-cni `pkg/ovsdb/ovsdb.go`
//! and antrea-io/antrea `pkg/ovs/ovsconfig/ovs_client.go`.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use vswitch_tests::netns::{Host, Lab};
use vswitch_tests::ovs::{Ovs, OvsdbServer};
use vswitch_tests::rpc::Rpc;
use vswitch_tests::text::without_uuids;

/// A session, and the UUIDs that it was told.
struct Session {
    rpc: Rpc,
    uuids: BTreeMap<&'static str, String>,
    last: Value,
}

impl Session {
    /// Sends a request in which `$NAME` stands for a UUID.
    fn ask(&mut self, method: &str, params: &Value) {
        let mut text = params.to_string();
        for (name, uuid) in &self.uuids {
            text = text.replace(&format!("${name}"), uuid);
        }
        self.last = self.rpc.call(method, &serde_json::from_str(&text).expect("JSON"));
    }

    /// Remembers the UUID at a place of the last reply.
    fn keep(&mut self, name: &'static str, pointer: &str) {
        let uuid = self.last.pointer(pointer).and_then(Value::as_str);
        self.uuids.insert(name, uuid.unwrap_or_else(|| panic!("no {pointer} in {}", self.last)).to_owned());
    }
}

/// The same session with the daemon and with an `ovsdb-server`.
struct Both {
    sessions: [Session; 2],
    host: Host,
    _theirs: OvsdbServer,
    /// Last, so that it is dropped last.
    _lab: Lab,
}

impl Both {
    fn connect() -> Option<Both> {
        let (ovs, lab) = (Ovs::find()?, Lab::open()?);
        let host = lab.host("host");
        let theirs = ovs.server(lab.dir());
        for device in ["veth1", "veth2"] {
            host.run(&format!("ip link add {device} type veth peer name x{device}"));
            host.run(&format!("ip link set {device} up"));
            host.run(&format!("ip link set x{device} up"));
        }
        let session = |socket| Session { rpc: Rpc::connect(socket), uuids: BTreeMap::new(), last: Value::Null };
        let sessions = [session(&host.socket()), session(&theirs.socket)];
        let mut both = Both { sessions, host, _theirs: theirs, _lab: lab };
        // libovsdb connects like this, then checks its model against the schema.
        both.ask("list_dbs", json!([null]));
        both.ask("get_schema", json!(["Open_vSwitch"]));
        Some(both)
    }

    /// Asks both; the replies must be the same but for their UUIDs.
    fn ask(&mut self, method: &str, params: Value) {
        for session in &mut self.sessions {
            session.ask(method, &params);
        }
        let [ours, theirs] = [&self.sessions[0], &self.sessions[1]].map(|session| comparable(&session.last));
        assert_eq!(ours, theirs, "{method} {params}");
    }

    /// A transaction, in which no operation may fail.
    fn transact(&mut self, operations: Value) {
        let mut params = vec![json!("Open_vSwitch")];
        params.extend(operations.as_array().cloned().expect("operations"));
        self.ask("transact", Value::Array(params));
        let reply = &self.sessions[0].last;
        let failed = reply["result"].as_array().is_none_or(|all| all.iter().any(|one| !one["error"].is_null()));
        assert!(!failed, "{operations}: {reply}");
    }

    /// A selection; returns the rows that we have.
    fn select(&mut self, table: &str, condition: Value, columns: Value) -> Value {
        self.transact(json!([{"op": "select", "table": table, "where": condition, "columns": columns}]));
        self.sessions[0].last["result"][0]["rows"].clone()
    }

    fn keep(&mut self, name: &'static str, pointer: &str) {
        self.sessions.iter_mut().for_each(|session| session.keep(name, pointer));
    }
}

/// The reply as text, without UUIDs, rows in the order of their text.
fn comparable(reply: &Value) -> String {
    let mut reply: Value = serde_json::from_str(&without_uuids(&reply.to_string())).expect("JSON");
    for result in reply["result"].as_array_mut().into_iter().flatten() {
        if let Some(rows) = result.get_mut("rows").and_then(Value::as_array_mut) {
            rows.sort_by_key(Value::to_string);
        }
    }
    reply.to_string()
}

fn named(name: &str, value: &str) -> Value {
    json!([[name, "==", value]])
}

/// ovs-cni's CreatePort: an interface, a port with who it is for, and the bridge that gets it.
fn create_port(bridge: &str, device: &str, vlan: Value) -> Value {
    let (interface, port) = (format!("Intf{device}"), format!("Port{device}"));
    let mut row = json!({"name": device, "interfaces": ["named-uuid", interface],
        "external_ids": ["map", [["contPodUid", "u1"], ["contNetns", "/run/netns/c1"], ["contIface", "net1"],
            ["owner", "ovs-cni.network.kubevirt.io"]]]});
    row.as_object_mut().expect("an object").extend(vlan.as_object().cloned().expect("columns"));
    json!([
        {"op": "insert", "table": "Interface", "uuid-name": interface,
            "row": {"name": device, "external_ids": ["map", [["iface-id", "lsp1"]]], "ofport_request": 7}},
        {"op": "insert", "table": "Port", "uuid-name": port, "row": row},
        {"op": "mutate", "table": "Bridge", "mutations": [["ports", "insert", ["named-uuid", port]]],
            "where": named("name", bridge)},
    ])
}

#[test]
fn ovs_cni_plugs_mirrors_and_unplugs() {
    let Some(mut both) = Both::connect() else { return };
    // IsBridgePresent, CreateBridge; the condition "not this one" is how it names the only row.
    assert_eq!(both.select("Bridge", named("name", "br1"), json!(["name"])), json!([]));
    both.transact(json!([
        {"op": "insert", "table": "Bridge", "uuid-name": "Brbr1",
            "row": {"name": "br1", "datapath_type": "system", "rstp_enable": false, "stp_enable": false}},
        {"op": "mutate", "table": "Open_vSwitch", "mutations": [["bridges", "insert", ["named-uuid", "Brbr1"]]],
            "where": [["_uuid", "!=", ["named-uuid", "Brbr1"]]]},
    ]));
    both.keep("bridge", "/result/0/uuid/1");
    assert_eq!(both.select("Bridge", json!([]), json!(["name"])), json!([{"name": "br1"}]));

    // CreatePort; GetOFPortVlanState, FindBridgeByInterface, GetOvsPortForContIface, GetPortUUID
    both.transact(create_port("br1", "veth1", json!({"vlan_mode": "access", "tag": 100})));
    both.keep("interface", "/result/0/uuid/1");
    both.keep("port", "/result/1/uuid/1");
    let vlan = json!(["vlan_mode", "tag", "trunks"]);
    let state = both.select("Port", named("name", "veth1"), vlan.clone());
    assert_eq!(state, json!([{"vlan_mode": "access", "tag": 100, "trunks": ["set", []]}]));
    both.transact(create_port("br1", "veth2", json!({"vlan_mode": "trunk", "trunks": ["set", [10, 20]]})));
    let state = both.select("Port", named("name", "veth2"), vlan);
    assert_eq!(state, json!([{"vlan_mode": "trunk", "tag": ["set", []], "trunks": ["set", [10, 20]]}]));
    let of = |column: &str, uuid: &str| json!([[column, "includes", ["uuid", uuid]]]);
    assert_eq!(both.select("Port", of("interfaces", "$interface"), json!(["name"])), json!([{"name": "veth1"}]));
    assert_eq!(both.select("Bridge", of("ports", "$port"), json!(["name"])), json!([{"name": "br1"}]));
    let ids = json!([[
        "external_ids",
        "includes",
        ["map", [["contNetns", "/run/netns/c1"], ["contIface", "net1"], ["owner", "ovs-cni.network.kubevirt.io"]]]
    ]]);
    assert_eq!(both.select("Port", ids, json!(["name", "external_ids"])).as_array().map(Vec::len), Some(2));
    both.select("Interface", json!([]), json!(["name", "error"]));
    // Nobody has moved next_cfg: the switch carries it out all the same.
    assert_eq!(both.host.vsctl("--timeout=10 wait-until interface veth1 ofport=7 link_state=up"), "");

    // CreateMirror, AttachPortToMirrorProducer, AttachPortToMirrorConsumer, Check…, Detach…, DeleteMirror
    let on = |mutations: Value| json!([{"op": "mutate", "table": "Mirror", "mutations": mutations, "where": named("name", "m1")}]);
    let port = json!(["uuid", "$port"]);
    both.transact(json!([
        {"op": "insert", "table": "Mirror", "uuid-name": "newMirror",
            "row": {"name": "m1", "external_ids": ["map", [["owner", "ovs-cni.network.kubevirt.io"]]]}},
        {"op": "mutate", "table": "Bridge", "mutations": [["mirrors", "insert", ["named-uuid", "newMirror"]]],
            "where": named("name", "br1")},
    ]));
    both.keep("mirror", "/result/0/uuid/1");
    both.transact(on(json!([["select_src_port", "insert", port], ["select_dst_port", "insert", port]])));
    both.transact(on(json!([["output_port", "insert", port]])));
    let attached =
        json!([["name", "==", "m1"], ["select_src_port", "includes", port], ["select_dst_port", "includes", port]]);
    assert_eq!(both.select("Mirror", attached.clone(), json!(["name"])), json!([{"name": "m1"}]));
    let consumer = json!([["name", "==", "m1"], ["output_port", "==", port]]);
    assert_eq!(both.select("Mirror", consumer, json!(["name"])), json!([{"name": "m1"}]));
    both.transact(on(json!([["select_src_port", "delete", port], ["select_dst_port", "delete", port]])));
    both.transact(on(json!([["output_port", "delete", port]])));
    assert_eq!(both.select("Mirror", attached, json!(["name"])), json!([]));
    both.transact(json!([
        {"op": "delete", "table": "Mirror", "where": named("name", "m1")},
        {"op": "mutate", "table": "Bridge", "mutations": [["mirrors", "delete", ["uuid", "$mirror"]]],
            "where": named("name", "br1")},
    ]));

    // DeletePort deletes the rows that are referred to, and the reference, in one transaction; DeleteBridge
    both.transact(json!([
        {"op": "delete", "table": "Interface", "where": named("name", "veth1")},
        {"op": "delete", "table": "Port", "where": named("name", "veth1")},
        {"op": "mutate", "table": "Bridge", "mutations": [["ports", "delete", port]], "where": named("name", "br1")},
    ]));
    assert_eq!(both.select("Port", json!([]), json!(["name"])), json!([{"name": "veth2"}]));
    both.transact(json!([
        {"op": "delete", "table": "Bridge", "where": named("name", "br1")},
        {"op": "mutate", "table": "Open_vSwitch", "mutations": [["bridges", "delete", ["uuid", "$bridge"]]],
            "where": [["_uuid", "!=", ["uuid", "$bridge"]]]},
    ]));
    for table in ["Bridge", "Port", "Interface", "Mirror"] {
        assert_eq!(both.select(table, json!([]), json!(["_uuid"])), json!([]), "{table}");
    }
}

/// A monitor's request as libovsdb writes it.
fn watch(columns: &[&str]) -> Value {
    json!({"columns": columns, "select": {"initial": true, "insert": true, "delete": true, "modify": true}})
}

#[test]
fn antrea_creates_its_bridge_and_ports() {
    let Some(mut both) = Both::connect() else { return };
    let cookie = json!({"databaseName": "Open_vSwitch", "id": "7f0d4f8a-3f1e-4a53-9f0c-2b1c9a3e5d10"});
    let tables = json!({"Open_vSwitch": watch(&["bridges"]), "Bridge": watch(&["name", "ports", "protocols"]),
        "Port": watch(&["name", "tag", "interfaces"]), "Interface": watch(&["name", "type"])});
    both.ask("monitor_cond_since", json!(["Open_vSwitch", cookie, tables, "00000000-0000-0000-0000-000000000000"]));
    both.ask("echo", json!(["libovsdb echo"]));

    // OVSBridge.Create
    both.select("Open_vSwitch", json!([]), json!(["_uuid"]));
    both.keep("root", "/result/0/rows/0/_uuid/1");
    both.transact(json!([
        {"op": "insert", "table": "Bridge", "uuid-name": "bridgeToInsert",
            "row": {"name": "br-int", "protocols": ["set", ["OpenFlow10", "OpenFlow15"]], "datapath_type": "system"}},
        {"op": "mutate", "table": "Open_vSwitch", "mutations": [["bridges", "insert", ["named-uuid", "bridgeToInsert"]]],
            "where": [["_uuid", "==", ["uuid", "$root"]]]},
    ]));
    for session in &mut both.sessions {
        let update = session.rpc.notifications.iter().find(|n| n.to_string().contains("br-int"));
        let update = update.unwrap_or_else(|| panic!("no update before the reply: {:?}", session.rpc.notifications));
        assert_eq!((update["method"].as_str(), &update["params"][0]), (Some("update3"), &cookie));
    }

    // OVSBridge.CreateInternalPort, CreateAccessPort, CreateTunnelPort; the last is flow based.
    for (device, kind, columns) in [
        ("antrea-gw0", "internal", json!({"ofport_request": 2, "mac": "0a:00:00:00:00:01"})),
        ("veth1", "", json!({})),
        (
            "antrea-tun0",
            "vxlan",
            json!({"ofport_request": 1, "options": ["map", [["key", "flow"], ["remote_ip", "flow"]]]}),
        ),
    ] {
        let mut row = columns;
        row["name"] = json!(device);
        if !kind.is_empty() {
            row["type"] = json!(kind);
        }
        both.transact(json!([
            {"op": "insert", "table": "Interface", "uuid-name": "interfaceToInsert", "row": row},
            {"op": "insert", "table": "Port", "uuid-name": "portToInsert", "row": {"name": device,
                "interfaces": ["named-uuid", "interfaceToInsert"], "external_ids": ["map", [["antrea-type", "gateway"]]]}},
            {"op": "mutate", "table": "Bridge", "mutations": [["ports", "insert", ["named-uuid", "portToInsert"]]],
                "where": named("name", "br-int")},
        ]));
    }
    both.keep("tunnel", "/result/1/uuid/1");

    // OVSBridge.GetOFPort waits for the switch, up to five seconds; an ovsdb-server alone has none, so only we are asked.
    for (device, rows) in [("antrea-gw0", json!([{"ofport": ["set", []]}])), ("veth1", json!([{"ofport": -1}]))] {
        let ours = &mut both.sessions[0];
        ours.ask(
            "transact",
            &json!(["Open_vSwitch",
            {"op": "wait", "table": "Interface", "timeout": 5000, "columns": ["ofport"], "until": "!=", "rows": rows,
                "where": named("name", device)},
            {"op": "select", "table": "Interface", "columns": ["ofport"], "where": named("name", device)}]),
        );
        let number = ours.last["result"][1]["rows"][0]["ofport"].as_i64();
        assert!(number > Some(0), "{device}: {}", ours.last);
    }
    assert_eq!(both.host.vsctl("get interface antrea-gw0 ofport mac_in_use"), "2\n\"0a:00:00:00:00:01\"\n");
    // Without columns a wait compares whole rows.
    for until in ["==", "!="] {
        both.ask(
            "transact",
            json!(["Open_vSwitch", {"op": "wait", "table": "Interface", "timeout": 0, "until": until,
            "rows": [{}], "where": named("name", "veth1")}]),
        );
    }

    // UpdateOVSOtherConfig, AddBridgeOtherConfig, SetExternalIDs, SetInterfaceOptions, SetInterfaceMTU, DeletePort
    both.transact(json!([{"op": "mutate", "table": "Open_vSwitch", "where": [["_uuid", "==", ["uuid", "$root"]]],
        "mutations": [["other_config", "delete", ["set", ["flow-restore-wait", "hw-offload"]]],
            ["other_config", "insert", ["map", [["flow-restore-wait", "true"]]]]]}]));
    both.transact(json!([{"op": "mutate", "table": "Open_vSwitch", "where": [["_uuid", "==", ["uuid", "$root"]]],
        "mutations": [["other_config", "delete", ["map", [["flow-restore-wait", "true"], ["no", "key"]]]]]}]));
    assert_eq!(both.select("Open_vSwitch", json!([]), json!(["other_config"])), json!([{"other_config": ["map", []]}]));
    both.transact(json!([{"op": "mutate", "table": "Bridge", "where": named("name", "br-int"),
        "mutations": [["other_config", "insert", ["map", [["disable-in-band", "true"]]]]]}]));
    both.transact(json!([{"op": "update", "table": "Bridge", "where": named("name", "br-int"),
        "row": {"external_ids": ["map", [["roundNum", "7"]]]}}]));
    both.transact(json!([{"op": "update", "table": "Interface", "where": named("name", "antrea-tun0"),
        "row": {"options": ["map", [["remote_ip", "10.0.0.9"], ["csum", "true"], ["key", "5"]]]}}]));
    both.transact(
        json!([{"op": "update", "table": "Interface", "where": named("name", "veth1"), "row": {"mtu_request": 1450}}]),
    );
    both.transact(json!([{"op": "mutate", "table": "Bridge", "where": named("name", "br-int"),
        "mutations": [["ports", "delete", ["uuid", "$tunnel"]]]}]));
    let ports = both.select("Port", json!([]), json!(["name"]));
    assert_eq!(ports.as_array().map(Vec::len), Some(2), "{ports}");
    both.sessions[0].rpc.notification(|n| n["params"][2]["Port"].to_string().contains("\"delete\":null"));

    both.ask("monitor_cancel", json!([cookie]));
    both.ask("monitor_cancel", json!([cookie]));
}
