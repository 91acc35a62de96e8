//! Random lines, run by ovs-vsctl on ovsdb-server and by vsctl on our own: they must end and print the same and leave
//! the same rows behind. The lines are the same in every run; `VSWITCH_RANDOM_LINES` runs as many others.

mod harness;

use harness::Server;
use vswitch_tests::ovs;
use vswitch_tests::text::{sorted_records, without_uuids};

/// As many lines as a run of all tests has time for.
const LINES: u64 = 150;

/// A small generator of numbers (Knuth's MMIX), so that a seed means the same lines everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % n
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

const BRIDGES: [&str; 3] = ["br0", "br1", "br2"];
const PORTS: [&str; 5] = ["p1", "p2", "p3", "e1", "br0"];
const RECORDS: [&str; 9] = [
    "bridge br0",
    "bridge br1",
    "bridge br2",
    "port p1",
    "port p2",
    "interface p1",
    "interface br0",
    "open .",
    "port nosuch",
];
const COLUMNS: [&str; 20] = [
    "tag",
    "trunks",
    "external_ids",
    "other-config",
    "vlan_mode",
    "stp_enable",
    "fail_mode",
    "FLOOD_VLANS",
    "qos",
    "bond_mode",
    "options",
    "type",
    "mtu_req",
    "name",
    "ports",
    "interfaces",
    "nosuch",
    "t",
    "protocols",
    "lacp",
];
/// What both accept behind `add-port BRIDGE PORT`; vsctl takes columns of Interface there, too.
const PORT_COLUMNS: [&str; 6] = ["tag", "trunks", "vlan_mode", "external_ids", "lacp", "nosuch"];
/// Columns of any number of elements: what `add` does to others depends on how ovs-vsctl sends it.
const SETS: [&str; 8] =
    ["trunks", "external_ids", "other-config", "flood_vlans", "protocols", "options", "cfm_remote_mpids", "nosuch"];
const VALUES: [&str; 22] = [
    "1", "5", "1,2", "[]", "{}", "a=b", "a=b,c=d", "x", "true", "off", "[3]", "4096", "b", "{k=v}", "\"q\"", "1-3",
    "@q", "nope", "[1", "secure", "trunk", "-1",
];

/// One command with its options, as words.
fn command(random: &mut Random) -> Vec<String> {
    let option = |random: &mut Random, name: &'static str| if random.percent(30) { name } else { "" };
    let (may, if_exists) = (option(random, "--may-exist"), option(random, "--if-exists"));
    let (bridge, port) = (random.of(&BRIDGES), random.of(&PORTS));
    let (record, column, value) = (random.of(&RECORDS), random.of(&COLUMNS), random.of(&VALUES));
    let key = if random.percent(30) { ":a" } else { "" };
    let line = match random.below(22) {
        0 | 1 => format!("{may} add-br {bridge}"),
        2 => format!("{if_exists} del-br {bridge}"),
        3 | 4 => format!("{may} add-port {bridge} {port}"),
        5 => format!("add-port {bridge} {port} {}{key}={value}", random.of(&PORT_COLUMNS)),
        6 => format!("{if_exists} del-port {port}"),
        7 => format!("{if_exists} del-port {bridge} {port}"),
        8..=10 => format!("{if_exists} set {record} {column}{key}={value}"),
        11 => format!("{if_exists} add {record} {} {value}", random.of(&SETS)),
        12 => format!("{if_exists} remove {record} {} {value}", random.of(&SETS)),
        13 => format!("{if_exists} clear {record} {column}"),
        14 => format!("{if_exists} get {record} {column}{key}"),
        15 => format!("{} {bridge} k {}", "br-set-external-id", random.of(&["", "v", "w"])),
        16 => format!("{} {bridge}", random.of(&["list-ports", "list-ifaces", "br-exists", "br-get-external-id"])),
        17 => {
            random.of(&["list-br", "get-manager", "del-manager", "set-manager ptcp:1", "emer-reset", "get-ssl"]).into()
        }
        18 => format!("{may} add-bond {bridge} {port} e1 e2"),
        19 => random.of(&["add-bond-iface p1 e3", "del-bond-iface e1", "del-bond-iface p1 e2", "port-to-br p1"]).into(),
        20 => format!("set-controller {bridge} tcp:{value}"),
        _ => format!("set-fail-mode {bridge} {value}"),
    };
    line.split_whitespace().map(str::to_owned).collect()
}

/// One to four commands; those that change the interfaces of a port stand alone, because ovs-vsctl loses its way when
/// the same line then deletes the port.
fn line(random: &mut Random) -> Vec<String> {
    let mut words = vec!["--no-wait".to_owned()];
    loop {
        let command = command(random);
        let alone = command.iter().any(|word| word.ends_with("-bond-iface"));
        if alone && words.len() > 1 {
            continue;
        }
        words.push("--".to_owned());
        words.extend(command);
        if alone || random.percent(65) || words.iter().filter(|word| *word == "--").count() == 4 {
            return words;
        }
    }
}

/// All rows that the lines can change, without their UUIDs.
fn rows(server: &Server) -> Vec<String> {
    let tables = ["bridge", "port", "interface", "open", "controller", "manager"];
    let words: Vec<&str> = tables.iter().flat_map(|table| ["--", "list", table]).collect();
    let ran = server.vsctl(&[&["--no-wait"], &words[..]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    sorted_records(&without_uuids(&ran.out))
}

#[test]
fn random_lines_do_the_same() {
    let (Some(ovs_vsctl), Some(theirs)) = (ovs::program("ovs-vsctl"), Server::theirs()) else { return };
    let ours = Server::ours();
    let lines = std::env::var("VSWITCH_RANDOM_LINES").ok().and_then(|n| n.parse().ok());
    let seed = lines.map_or(1, |_| std::process::id().into());
    let mut random = Random(seed);
    for _ in 0..lines.unwrap_or(LINES) {
        let words = line(&mut random);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (their, our) = (theirs.ovs_vsctl(&ovs_vsctl, &words), ours.vsctl(&words));
        let comparable = |ran: &harness::Ran| (ran.code, without_uuids(&ran.out));
        assert_eq!(comparable(&our), comparable(&their), "seed {seed}: {words:?}\n{}\n{}", our.err, their.err);
        assert_eq!(rows(&ours), rows(&theirs), "seed {seed}: {words:?} leaves different rows behind");
    }
}
