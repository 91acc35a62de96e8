//! Command lines carried out in process, on ovsdb's own transactions: no socket, no other program. The expected texts
//! are what ovs-vsctl 3.1 prints.

use std::collections::BTreeMap;

use ovsdb::db::Database;
use ovsdb::vswitch_schema::vswitch_schema;

use crate::control::Control;
use crate::error::{Result, fail, failed};
use crate::grammar::{Request, parse};
use crate::model::Model;
use crate::run::{carry_out, needs};

/// A database with an empty switch.
struct Lab(Database);

impl Lab {
    fn new(lines: &[&str]) -> Lab {
        let mut lab = Lab(Database::new(vswitch_schema()));
        lines.iter().for_each(|line| assert_eq!(lab.run(line).as_deref(), Ok(""), "{line}"));
        lab
    }

    /// Carries out a line, with `'` to keep blanks; gives what it prints.
    fn run(&mut self, line: &str) -> Result<String> {
        let keep = |(at, part): (usize, &str)| if at % 2 == 1 { part.replace(' ', "\0") } else { part.to_owned() };
        let line: String = line.split('\'').enumerate().map(keep).collect();
        let words = line.split(' ').map(|word| word.replace('\0', " ").into());
        let Request::Run(globals, commands) = parse(words)? else { fail!("{line}: prints help") };
        let schema = self.0.schema().clone();
        let needs = needs(&commands, &schema)?;
        let mut tables = BTreeMap::new();
        for (table, columns, _) in needs.tables() {
            let mut rows = BTreeMap::new();
            for (uuid, row) in self.0.rows(table) {
                let value = |c: &String| Some((c.clone(), row.get(c)?.clone()));
                rows.insert(*uuid, columns.iter().filter_map(value).collect());
            }
            tables.insert(table.clone(), rows);
        }
        let mut model = Model::new(&schema, tables);
        let printed = carry_out(&commands, &mut model, &Control::of(&globals))?;
        if let Some(ops) = model.operations() {
            let done = self.0.execute(&ops.list);
            let prepared = done.prepared.ok_or_else(|| failed!("{}", done.reply))?;
            self.0.apply(prepared);
        }
        Ok(printed.text(&globals))
    }

    /// The same, when it must succeed.
    fn prints(&mut self, line: &str) -> String {
        self.run(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// The error of a line that must fail.
    fn refuses(&mut self, line: &str) -> String {
        match self.run(line) {
            Ok(text) => panic!("{line}: succeeds and prints {text}"),
            Err(error) => error.to_string(),
        }
    }
}

#[test]
fn show_prints_a_tree() {
    let mut lab = Lab::new(&["add-br br0 -- add-port br0 vx0 type=vxlan key=5000 remote_ip=10.0.0.2"]);
    // The order is that of the UUIDs, so one port at a time.
    lab.prints("set port br0 tag=[] -- set open . ovs_version=0.1.0");
    let shown = lab.prints("show");
    let (first, rest) = shown.split_once('\n').unwrap();
    assert_eq!(first.len(), 36);
    let own = "        Port br0\n            Interface br0\n                type: internal\n";
    let tunnel = "        Port vx0\n            Interface vx0\n                type: vxlan\n                \
                  options: {key=\"5000\", remote_ip=\"10.0.0.2\"}\n";
    let rest = rest.strip_prefix("    Bridge br0\n").unwrap().strip_suffix("    ovs_version: \"0.1.0\"\n").unwrap();
    assert!(rest == format!("{own}{tunnel}") || rest == format!("{tunnel}{own}"), "{rest}");

    lab.prints("del-port vx0 -- set port br0 tag=5 trunks=10,20");
    lab.prints("set interface br0 'error=\"no such device\"' -- set bridge br0 fail_mode=secure datapath_type=netdev");
    lab.prints("-- --id=@c create controller target=\"tcp:127.0.0.1:6653\" -- set bridge br0 controller=@c");
    assert_eq!(
        lab.prints("show").split_once('\n').unwrap().1,
        "    Bridge br0
        Controller \"tcp:127.0.0.1:6653\"
        fail_mode: secure
        datapath_type: netdev
        Port br0
            tag: 5
            trunks: [10, 20]
            Interface br0
                type: internal
                error: \"no such device\"
    ovs_version: \"0.1.0\"
"
    );
}

#[test]
fn list_prints_every_column() {
    let mut lab = Lab::new(&[
        "add-br br0 -- add-port br0 vx0 type=vxlan key=5000 remote_ip=10.0.0.2",
        "set interface vx0 admin_state=up link_state=up ifindex=0 link_resets=0 mtu=1500 ofport=4 \
         mac_in_use=\"aa:55:aa:55:00:12\" statistics:rx_bytes=0 statistics:tx_bytes=0",
    ]);
    let listed = lab.prints("list interface vx0");
    let (uuid, rest) = listed.split_once('\n').unwrap();
    assert!(uuid.starts_with("_uuid               : "));
    assert_eq!(
        rest,
        r#"admin_state         : up
bfd                 : {}
bfd_status          : {}
cfm_fault           : []
cfm_fault_status    : []
cfm_flap_count      : []
cfm_health          : []
cfm_mpid            : []
cfm_remote_mpids    : []
cfm_remote_opstate  : []
duplex              : []
error               : []
external_ids        : {}
ifindex             : 0
ingress_policing_burst: 0
ingress_policing_kpkts_burst: 0
ingress_policing_kpkts_rate: 0
ingress_policing_rate: 0
lacp_current        : []
link_resets         : 0
link_speed          : []
link_state          : up
lldp                : {}
mac                 : []
mac_in_use          : "aa:55:aa:55:00:12"
mtu                 : 1500
mtu_request         : []
name                : vx0
ofport              : 4
ofport_request      : []
options             : {key="5000", remote_ip="10.0.0.2"}
other_config        : {}
statistics          : {rx_bytes=0, tx_bytes=0}
status              : {}
type                : vxlan
"#
    );
    assert_eq!(lab.prints("get interface vx0 options:key ofport error"), "\"5000\"\n4\n[]\n");
    assert_eq!(
        lab.prints("--format=json --columns=name,ofport,options list interface vx0"),
        "{\"data\":[[\"vx0\",4,[\"map\",[[\"key\",\"5000\"],[\"remote_ip\",\"10.0.0.2\"]]]]],\
         \"headings\":[\"name\",\"ofport\",\"options\"]}\n"
    );
    assert_eq!(
        lab.prints("--columns=name,ofport list Interface"),
        "name                : br0\nofport              : []\n\nname                : vx0\nofport              : 4\n"
    );
}

#[test]
fn bridges_and_ports() {
    let mut lab =
        Lab::new(&["add-br br1 -- add-br br0", "add-port br0 p2 tag=10 -- add-port br0 p1 -- add-port br1 p3"]);
    assert_eq!(lab.prints("list-br"), "br0\nbr1\n");
    assert_eq!(lab.prints("list-ports br0 -- list-ifaces br1"), "p1\np2\np3\n");
    assert_eq!(lab.prints("port-to-br p3 -- iface-to-br p1"), "br1\nbr0\n");
    assert_eq!(lab.prints("--oneline list-ports br0 -- list-br"), "p1\\np2\nbr0\\nbr1\n");
    assert_eq!(lab.refuses("del-port br1 p1"), "port p1 is on bridge br0, not on br1");
    assert_eq!(lab.prints("del-port p1 -- add-port br1 p1 -- list-ports br1"), "p1\np3\n");
    assert_eq!(lab.prints("--if-exists del-br br0 -- add-br br0 -- set bridge br0 external_ids:a=b"), "");
    assert_eq!(lab.prints("list-ports br0 -- get bridge br0 external_ids"), "{a=b}\n");
    assert_eq!(lab.prints("del-br br0 -- del-br br1"), "");
    assert_eq!(lab.0.rows("Interface").count(), 0);
}

#[test]
fn vlan_bridges_are_read_but_not_made() {
    let mut lab = Lab::new(&["add-br br0 -- add-port br0 v10 tag=10 type=internal -- set port v10 fake_bridge=true"]);
    lab.prints("add-port v10 p1 -- add-port br0 p2 tag=10 -- add-port br0 p3");
    assert_eq!(lab.prints("list-br -- --fake list-br -- --real list-br"), "br0\nv10\nv10\nbr0\n");
    assert_eq!(
        lab.prints("get port p1 tag -- br-to-vlan v10 -- br-to-parent v10 -- br-to-vlan br0"),
        "10\n10\nbr0\n0\n"
    );
    assert_eq!(lab.prints("list-ports v10 -- list-ports br0 -- port-to-br p2"), "p1\np2\np3\nv10\n");
    assert_eq!(
        lab.refuses("add-br x br0 11"),
        "no VLAN bridges are made: bridges here know VLANs themselves, and a VLAN needs no bridge of its own\n\
         'vsctl add-port br0 x tag=11 type=internal' gives the host a port of that name in VLAN 11; \
         other ports are put into it by tag=11."
    );
    assert_eq!(lab.refuses("add-br x br0 4096"), "VLAN 4096: expected a number from 0 to 4095");
    assert_eq!(lab.refuses("--may-exist add-br v10"), "v10 exists, but is the VLAN bridge of VLAN 10 of br0");
    assert_eq!(lab.refuses("--may-exist add-br v10 br0 11"), "v10 exists, but is the VLAN bridge of VLAN 10 of br0");
    assert_eq!(lab.prints("--may-exist add-br v10 br0 10"), "");
    assert_eq!(
        lab.prints("br-set-external-id v10 a b -- br-get-external-id v10 -- get port v10 external_ids"),
        "a=b\n{fake-bridge-a=b}\n"
    );
    assert_eq!(lab.prints("del-br v10 -- list-br -- list-ports br0"), "br0\np3\n");
}

#[test]
fn how_large_packets_may_be() {
    let mut lab = Lab::new(&[
        "add-br br1 -- add-br br0 -- add-port br0 p1 -- add-port br0 vx0 type=vxlan key=5 remote_ip=192.0.2.2",
        "set interface br0 mtu=1450 -- set interface p1 mtu=1500 mtu_request=1500 -- set interface vx0 mtu=1450",
        "set interface br0 status:mtu_reason='min of the ports: vx0'",
        "set interface p1 status:mtu_warning='1500 exceeds vx0 (1450):\nvsctl set interface p1 mtu_request=1450'",
        "set interface vx0 status:mtu_reason='1500 (eth0) less 50' status:tunnel_egress_iface=eth0 status:tunnel_egress_iface_mtu=1500",
    ]);
    let shown = "\
bridge port type     mtu  request underlay underlay_mtu fits reason
------ ---- -------- ---- ------- -------- ------------ ---- ---------------------
br0    br0  internal 1450                               yes  min of the ports: vx0
br0    p1   system   1500 1500                          no
br0    vx0  vxlan    1450         eth0     1500         yes  1500 (eth0) less 50
p1: 1500 exceeds vx0 (1450):
vsctl set interface p1 mtu_request=1450
br0: packets of up to 1450 bytes get everywhere, no larger ones by vx0
";
    let trimmed = |text: String| text.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>();
    assert_eq!(trimmed(lab.prints("mtu br0")), shown);
    assert!(lab.prints("mtu").contains("\nbr1    br1  internal"));
    let json = lab.prints("mtu br0 -f json");
    assert!(
        json.contains(
            r#"["br0","p1","system",1500,1500,["set",[]],["set",[]],"no",["set",[]],"1500 exceeds vx0 (1450):\nvsctl"#
        ),
        "{json}"
    );
    assert!(lab.refuses("mtu br9").starts_with("no bridge named br9"));
}

#[test]
fn find_compares() {
    let mut lab = Lab::new(&[
        "add-br br0 -- add-port br0 p1 tag=1 -- add-port br0 p2 tag=2 trunks=1,2 external_ids:a=x",
        "add-port br0 p3 trunks=2,3,4 external_ids:a=y",
    ]);
    let mut find = |conditions: &str| {
        let found = lab.prints(&format!("--bare --columns=name find port {conditions}"));
        found.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (conditions, names) in [
        ("tag=2", "p2"),
        ("tag!=2", "br0 p1 p3"),
        ("tag>=2", "p2"),
        ("tag<1", "br0 p3"),
        ("tag=[] trunks!=[]", "p3"),
        ("trunks{>=}2", "p2 p3"),
        ("trunks{<=}1,2", "br0 p1 p2"),
        ("trunks{<}1,2", "br0 p1"),
        ("trunks{>}1", "p2"),
        ("trunks{not-in}3", "br0 p1 p2"),
        ("external_ids:a=x", "p2"),
        ("external_ids:a!=x", "p3"),
        ("external_ids:a{!=}x", "br0 p1 p3"),
        ("external_ids:a{=}[]", "br0 p1"),
        ("external_ids{>=}a=y", "p3"),
    ] {
        assert_eq!(find(conditions), names, "{conditions}");
    }
    assert_eq!(lab.refuses("find port tag:x=1"), "tag:x=1: column tag of Port is no map and has no keys");
}

#[test]
fn records_by_many_names() {
    let mut lab = Lab::new(&["add-br br0"]);
    lab.prints("-- --id=@n create netflow targets=\"1.2.3.4:5\" -- set bridge br0 netflow=@n");
    let uuid = lab.prints("get bridge br0 _uuid");
    let uuid = uuid.trim_end();
    for record in [uuid, &uuid[..4], &uuid[..13], &uuid.to_uppercase()] {
        assert_eq!(lab.prints(&format!("get bridge {record} name")), "br0\n", "{record}");
    }
    assert_eq!(lab.prints("get netflow br0 targets"), "[\"1.2.3.4:5\"]\n");
    assert_eq!(lab.prints("get o . bridges"), format!("[{uuid}]\n"));
    assert_eq!(lab.refuses("get bridge abc name"), "no row 'abc' in Bridge; there are: br0");
    assert_eq!(lab.prints("-- --id=@b get bridge br0 -- get bridge @b name"), "br0\n");
}

#[test]
fn changes_of_elements() {
    let mut lab = Lab::new(&["add-br br0", "set bridge br0 external_ids=a=1,b=2 flood_vlans=1-3"]);
    lab.prints("add bridge br0 external_ids b=3 c=4 -- remove bridge br0 external_ids a c=5");
    lab.prints("add bridge br0 flood_vlans 7 9-11 -- remove bridge br0 flood_vlans 2 10 99");
    assert_eq!(lab.prints("get bridge br0 external_ids flood_vlans"), "{b=\"3\", c=\"4\"}\n[1, 3, 7, 9, 11]\n");
    lab.prints("set bridge br0 external_ids:c=6 -- clear bridge br0 flood_vlans");
    assert_eq!(lab.prints("get bridge br0 external_ids flood_vlans"), "{b=\"3\", c=\"6\"}\n[]\n");
    assert_eq!(
        lab.refuses("clear bridge br0 datapath_type"),
        "column datapath_type of Bridge cannot be empty; 'set' gives it another value"
    );
    assert_eq!(lab.refuses("remove port br0 interfaces x"), "x: 'x' is neither a UUID nor an @name");
    assert_eq!(
        lab.refuses("set bridge br0 name=x"),
        "name=x: Bridge column name cannot change once the row exists; delete it and add it anew"
    );
    assert_eq!(lab.refuses("destroy bridge nosuch"), "no row 'nosuch' in Bridge; there are: br0");
}
