//! The command lines that libvirt, os-vif, kube-ovn, LXD and Mininet send, replayed with the real `ovs-vsctl`.
//!
//! Each goes to the daemon as the program sends it and, with `--no-wait`, to an `ovsdb-server`: exit code, output and the
//! rows that it leaves must be the same. The lines stand in `interop_clients.txt`; the script `ovs-docker` itself is run in
//! `interop_ovs_tools.rs`.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use vswitch_tests::netns::{Host, Lab};
use vswitch_tests::ovs::Ovs;
use vswitch_tests::process::{Done, eventually, run};
use vswitch_tests::text::{quoted_words, sorted_lines, without_uuids};

const LINES: &str = include_str!("interop_clients.txt");

/// What a person or a program configures; the other columns are the switch's answers.
const CONFIGURATION: [(&str, &[&str]); 10] = [
    ("Open_vSwitch", &["bridges", "manager_options", "external_ids", "other_config"]),
    (
        "Bridge",
        &[
            "name",
            "ports",
            "controller",
            "mirrors",
            "netflow",
            "sflow",
            "fail_mode",
            "datapath_type",
            "protocols",
            "stp_enable",
            "flood_vlans",
            "other_config",
            "external_ids",
        ],
    ),
    ("Port", &["name", "interfaces", "tag", "trunks", "vlan_mode", "qos", "other_config", "external_ids"]),
    (
        "Interface",
        &[
            "name",
            "type",
            "options",
            "mtu_request",
            "ofport_request",
            "ingress_policing_rate",
            "ingress_policing_burst",
            "other_config",
            "external_ids",
        ],
    ),
    ("Controller", &["target", "max_backoff", "external_ids"]),
    ("Manager", &["target", "external_ids"]),
    ("QoS", &["type", "queues", "other_config", "external_ids"]),
    ("Queue", &["other_config", "external_ids"]),
    ("NetFlow", &["targets", "active_timeout"]),
    ("sFlow", &["targets", "header", "sampling", "polling"]),
];

/// One of the two databases, and what lines have printed there.
struct Side<'a> {
    ovs: &'a Ovs,
    socket: &'a Path,
    no_wait: bool,
    remembered: BTreeMap<String, String>,
}

impl Side<'_> {
    /// Runs a line, `X = LINE` or `LINE`.
    fn run(&mut self, line: &str) -> Done {
        let (name, line) = match line.split_once(" = ") {
            Some((name, line)) if name.chars().all(|c| c.is_ascii_uppercase()) => (Some(name), line),
            _ => (None, line),
        };
        let mut command = vec![self.ovs.path("ovs-vsctl"), format!("--db=unix:{}", self.socket.display())];
        command.extend(self.no_wait.then(|| "--no-wait".to_owned()));
        for word in quoted_words(line) {
            let mut word = word;
            for (name, value) in &self.remembered {
                word = word.replace(&format!("${name}"), value);
            }
            command.push(word);
        }
        let done = run(&command);
        if let Some(name) = name {
            self.remembered.insert(name.to_owned(), done.stdout.trim().to_owned());
        }
        done
    }

    /// The rows that were configured, without what differs between any two databases.
    fn configuration(&self) -> Vec<String> {
        let mut query = vec![json!("Open_vSwitch")];
        let select = |(table, columns): &(&str, &[&str])| json!({"op": "select", "table": table, "where": [], "columns": columns});
        query.extend(CONFIGURATION.iter().map(select));
        let query = Value::Array(query).to_string();
        let command = ["query".to_owned(), format!("unix:{}", self.socket.display()), query];
        let reply = run(&[&[self.ovs.path("ovsdb-client")], &command[..]].concat()).output();
        let reply: Value = serde_json::from_str(&reply).expect("JSON");
        let mut rows = Vec::new();
        for ((table, _), result) in CONFIGURATION.iter().zip(reply.as_array().expect("results")) {
            let found = result["rows"].as_array().unwrap_or_else(|| panic!("{table}: {result}"));
            rows.extend(found.iter().map(|row| format!("{table} {}", without_uuids(&row.to_string()))));
        }
        rows.sort();
        rows
    }
}

/// What must be equal of a line's run. Rows of a table come in the order of a hash.
fn comparable(done: &Done, socket: &Path) -> (i32, Vec<String>, String) {
    let stderr = done.stderr.replace(&socket.display().to_string(), "SOCKET");
    (done.code, sorted_lines(&without_uuids(&done.stdout)), without_uuids(&stderr))
}

/// Runs the lines of one program; returns what differs.
fn replay(client: &str) -> Vec<String> {
    let (Some(ovs), Some(lab)) = (Ovs::find(), Lab::open()) else { return Vec::new() };
    let host = lab.host("host");
    let theirs = ovs.server(lab.dir());
    let socket = host.socket();
    let side = |socket, no_wait| Side { ovs: &ovs, socket, no_wait, remembered: BTreeMap::new() };
    let (mut ours, mut theirs) = (side(&socket, false), side(&theirs.socket, true));
    let lines = LINES.split("\n## ").find_map(|part| part.strip_prefix(&format!("{client}\n")));
    let lines = lines.unwrap_or_else(|| panic!("no lines of {client}"));
    let version = ours.run("get open_vswitch . ovs_version").output();
    let _ = theirs.run(&format!("set open_vswitch . ovs_version='{}'", version.trim())).output();
    let mut differences = Vec::new();
    for line in lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(devices) = line.strip_prefix("devices ") {
            devices.split(' ').for_each(|name| device(&host, name));
            continue;
        }
        let (our, their) = (ours.run(line), theirs.run(line));
        if comparable(&our, ours.socket) != comparable(&their, theirs.socket) {
            differences.push(format!("{line}\n  ours:   {our}\n  theirs: {their}"));
        }
        let (our, their) = (ours.configuration(), theirs.configuration());
        if our != their {
            differences.push(format!("{line}\n  leaves other rows:\n  ours:   {our:#?}\n  theirs: {their:#?}"));
            break;
        }
    }
    differences
}

fn device(host: &Host, name: &str) {
    host.run(&format!("ip link add {name} type veth peer name x{name}"));
    host.run(&format!("ip link set {name} up"));
}

fn the_same(client: &str) {
    let differences = replay(client);
    assert!(differences.is_empty(), "{client}: {} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn libvirt_s_lines_do_the_same() {
    the_same("libvirt");
}

#[test]
fn os_vif_s_lines_do_the_same() {
    the_same("os-vif");
}

#[test]
fn kube_ovn_s_lines_do_the_same() {
    the_same("kube-ovn");
}

#[test]
fn lxd_s_lines_do_the_same() {
    the_same("LXD");
}

#[test]
fn mininet_s_lines_do_the_same() {
    the_same("Mininet");
}

#[test]
fn every_program_in_the_file_is_replayed() {
    let programs: Vec<&str> = LINES.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(programs, ["libvirt", "os-vif", "kube-ovn", "LXD", "Mininet"]);
}

/// libvirt's virNetDevOpenvswitchInterfaceStats reads the daemon's own counters, today as JSON, once each by `get`.
#[test]
fn libvirt_reads_statistics() {
    let (Some(ovs), Some(lab)) = (Ovs::find(), Lab::open()) else { return };
    let host = lab.host("host");
    let pod = lab.pod("pod", &host, "vnet0", "10.0.0.1/24");
    host.vsctl("add-br br0 -- add-port br0 vnet0");
    let _ = pod.pings("10.0.0.9");
    let list =
        "--timeout=5 --if-exists --format=list --data=json --no-headings --columns=statistics list Interface vnet0";
    let counter = |name: &str| -> i64 {
        let text = ovs.vsctl(&host.socket(), &format!("get Interface vnet0 statistics:{name}")).output();
        text.trim().parse().unwrap_or_else(|e| panic!("{name}: {e}: {text}"))
    };
    eventually("counters of what the pod sent", || {
        let printed = ovs.vsctl(&host.socket(), list).output();
        let json: Value = serde_json::from_str(&printed).map_err(|e| format!("{e}: {printed}"))?;
        let counters = json[1].as_array().ok_or(format!("no map: {printed}"))?;
        let of = |name: &str| counters.iter().find(|pair| pair[0] == name).and_then(|pair| pair[1].as_i64());
        for name in ["rx_errors", "rx_dropped", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped"] {
            of(name).ok_or(format!("no {name} in {printed}"))?;
        }
        let told = of("rx_packets") > Some(0) && of("rx_bytes") > Some(0);
        told.then_some(()).ok_or(printed)
    });
    assert!(counter("rx_packets") > 0 && counter("rx_bytes") > 0);
    for name in ["tx_bytes", "tx_packets", "rx_errors", "rx_dropped", "tx_errors", "tx_dropped"] {
        assert!(counter(name) >= 0);
    }
    let missing = ovs.vsctl(&host.socket(), &list.replace("vnet0", "vnet9"));
    assert_eq!((missing.code, missing.stdout.as_str()), (0, ""), "{missing}");
}

/// What Mininet asks for is done, not only stored.
#[test]
fn mininet_s_datapath_id_and_ports_are_taken() {
    let Some(lab) = Lab::open() else { return };
    let host = lab.host("host");
    device(&host, "s1-eth1");
    host.vsctl(
        "add-br s1 -- set bridge s1 other_config:datapath-id=0000000000000abc fail_mode=standalone \
         -- add-port s1 s1-eth1 -- set Interface s1-eth1 ofport_request=7",
    );
    assert_eq!(host.vsctl("get bridge s1 datapath_id"), "\"0000000000000abc\"\n");
    assert_eq!(host.vsctl("get interface s1-eth1 ofport"), "7\n");
}
