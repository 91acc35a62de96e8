//! Rows → checked configuration.
//!
//! Everything that a client wrote becomes another type here before anything acts on it. What cannot be done is refused
//! with a text for `Interface:error`; what is left out is told in a note for a `status` column under a key that ends
//! in `_warning` or begins with `unsupported_`, which clients print. Nothing is ignored in silence, and nothing here fails as a whole: one bad row
//! never keeps another from working.

pub mod bridge;
mod cpu_mask;
pub mod fdb;
pub mod interface;
pub mod io;
pub mod limits;
mod memo;
pub mod mirror;
pub mod mtu_policy;
pub mod port;
pub mod routes;
pub mod tunnel;
pub mod unsupported;

use bridge::BridgeSettings;
use datapath::switch::state::{BridgeVlans, PortRules, VlanMode};
use datapath::time::Duration;
use datapath::types::VlanId;
use interface::{Interface, Place};
use memo::{Memo, Source};
use mirror::Mirror;
use ovsdb::db::{Database, Row};
use ovsdb::value::Datum;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

/// Why something cannot be done as asked: the value, and a way out.
pub type Refusal = String;
/// A column that maps words to words.
pub type Options<'a> = BTreeMap<&'a str, &'a str>;
/// What to tell in a `status` column.
pub type Notes = BTreeMap<String, String>;

/// The bounds of `other_config:stats-update-interval`, in milliseconds, and its default.
const STATS_INTERVAL: (u64, u64, u64) = (100, 5_000, 86_400_000);

/// What the database asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The row of the table Open_vSwitch.
    pub root: Option<Uuid>,
    /// Its `next_cfg`.
    pub next_cfg: i64,
    /// How often statistics are written.
    pub stats_interval: Duration,
    /// The CPUs that workers run on, one each; none: one worker on any. Or why they stay as they are.
    pub cpus: Result<Vec<usize>, Refusal>,
    /// The bridges, by name.
    pub bridges: Vec<Bridge>,
    /// Whether two VLAN tags of a frame are looked at instead of one.
    pub two_tags: bool,
    /// Whether the kernel forwards frames of known flows by itself.
    pub assist: bool,
    /// Settings of the whole switch that are not done as asked; there is no column for them.
    pub notes: Notes,
}

/// A bridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bridge {
    /// Its row.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// From its `other_config`.
    pub settings: BridgeSettings,
    /// `fail_mode=secure`.
    pub secure: bool,
    /// From its `flood_vlans` and the switch's `vlan-limit`.
    pub vlans: BridgeVlans,
    /// Why it cannot be made; its interfaces have the same reason.
    pub refused: Option<Refusal>,
    /// For its `status`.
    pub notes: Notes,
    /// Its ports, by name.
    pub ports: Vec<Arc<Port>>,
    /// The interfaces of its ports, by name.
    pub interfaces: Vec<Arc<Interface>>,
    /// Its mirrors, by name.
    pub mirrors: Vec<Mirror>,
}

/// A port of a bridge; what it does with VLANs is its interface's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// Its row.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// For its `status`.
    pub notes: Notes,
    /// Whether its `status` says so already.
    pub told: bool,
}

/// Reads configurations, one after the other.
#[derive(Default)]
pub struct Reader {
    /// What it has made of the ports of each bridge, in view of what else decides that.
    ports: BTreeMap<Uuid, (Home, Memo<Option<Reading>>)>,
}

/// What a bridge's ports are read in view of, besides the rows of their own.
#[derive(PartialEq, Eq)]
struct Home {
    row: Uuid,
    name: String,
    settings: BridgeSettings,
    refused: Option<Refusal>,
    two_tags: bool,
}

/// What a port's row and those that it refers to are read as.
struct Reading {
    port: Arc<Port>,
    interfaces: Vec<Arc<Interface>>,
}

impl Reader {
    /// Reads all of it.
    pub fn read(&mut self, database: &Database) -> Config {
        let mut config = Config {
            root: None,
            next_cfg: 0,
            stats_interval: Duration::from_millis(STATS_INTERVAL.1),
            cpus: Ok(Vec::new()),
            two_tags: false,
            assist: false,
            bridges: Vec::new(),
            notes: Notes::new(),
        };
        let Some((root, row)) = database.rows("Open_vSwitch").next() else { return config };
        let row = Columns(row);
        config.root = Some(*root);
        config.next_cfg = row.integer("next_cfg").unwrap_or_default();
        config.switch_wide(&row);
        let mut taken = BTreeSet::new();
        let source = Source::new(database);
        let mut rows: Vec<_> = row.references(&source, "bridges", "Bridge").collect();
        rows.sort_by_key(|(_, row)| row.text("name").unwrap_or_default().to_owned());
        self.ports.retain(|bridge, _| rows.iter().any(|(uuid, _)| uuid == bridge));
        let bridge = |(uuid, row): &(_, _)| self.bridge(database, *uuid, row, config.two_tags, &mut taken);
        config.bridges = rows.iter().map(bridge).collect();
        config
    }

    /// `taken`: the interfaces that an earlier bridge or port has.
    fn bridge(
        &mut self,
        database: &Database,
        uuid: Uuid,
        row: &Columns<'_>,
        two_tags: bool,
        taken: &mut BTreeSet<Uuid>,
    ) -> Bridge {
        let mut notes = Notes::new();
        let home = home(uuid, row, two_tags, &mut notes);
        let Home { name, settings, refused, .. } = &home;
        let secure = row.text("fail_mode") == Some("secure");
        if secure {
            let text = format!(
                "fail_mode=secure and no OpenFlow: the bridge forwards nothing; to forward, \
                 'vsctl set bridge {name} fail_mode=standalone'"
            );
            notes.insert("fail_mode_warning".to_owned(), text);
        }
        let source = Source::new(database);
        let mut mirrors: Vec<_> =
            row.references(&source, "mirrors", "Mirror").map(|(uuid, row)| mirror::read(uuid, &row)).collect();
        mirrors.sort_by(|a, b| (&a.name, a.uuid).cmp(&(&b.name, b.uuid)));
        unsupported::note(row, unsupported::BRIDGE, &mut notes);
        let mut bridge = Bridge {
            uuid,
            name: name.clone(),
            settings: settings.clone(),
            secure,
            vlans: BridgeVlans { flood: row.vlans("flood_vlans").collect(), two_tags },
            refused: refused.clone(),
            notes,
            ports: Vec::new(),
            interfaces: Vec::new(),
            mirrors,
        };
        self.ports(database, row, home, taken, &mut bridge);
        bridge
    }

    /// Puts the ports on the bridge.
    fn ports(
        &mut self,
        database: &Database,
        row: &Columns<'_>,
        home: Home,
        taken: &mut BTreeSet<Uuid>,
        bridge: &mut Bridge,
    ) {
        let mut memo = match self.ports.remove(&bridge.uuid) {
            Some((before, memo)) if before == home => memo,
            _ => Memo::default(),
        };
        let mut shared = Vec::new();
        for port in row.uuids("ports") {
            let reading = memo.get(database, port, |source| read_port(source, port, &home));
            let Some(Reading { port, interfaces }) = reading else { continue };
            bridge.ports.push(Arc::clone(port));
            let (new, others): (Vec<_>, Vec<_>) = interfaces.iter().partition(|i| taken.insert(i.uuid));
            bridge.interfaces.extend(new.into_iter().cloned());
            shared.extend(others.into_iter().map(|i| i.name.clone()));
        }
        if !shared.is_empty() {
            let text = format!("{}: belongs to another port or bridge already, left out here", shared.join(", "));
            bridge.notes.insert("ports_warning".to_owned(), text);
        }
        bridge.ports.sort_by(|a, b| a.name.cmp(&b.name));
        bridge.interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        memo.tidy();
        self.ports.insert(bridge.uuid, (home, memo));
    }
}

impl Config {
    /// Reads all of it.
    #[must_use]
    pub fn read(database: &Database) -> Config {
        Reader::default().read(database)
    }

    fn switch_wide(&mut self, row: &Columns<'_>) {
        unsupported::note(row, unsupported::SWITCH, &mut self.notes);
        let known = ["assist", "pmd-cpu-mask", "stats-update-interval", "vlan-limit"];
        unsupported::note_other_config(row, &known, &mut self.notes);
        let other_config = row.options("other_config");
        if let Some(value) = other_config.get("stats-update-interval") {
            let (low, default, high) = STATS_INTERVAL;
            let used = value.parse().map_or(default, |ms: u64| ms.clamp(low, high));
            self.stats_interval = Duration::from_millis(used);
            if used.to_string() != *value {
                let text = format!("stats-update-interval={value} is not from {low} to {high} ms; using {used}");
                self.notes.insert("other_config".to_owned(), text);
            }
        }
        if let Some(value) = other_config.get("vlan-limit") {
            self.vlan_limit(value);
        }
        match other_config.get("assist").copied() {
            None | Some("false") => {}
            Some("true") => self.assist = true,
            Some(other) => {
                let text = format!("assist={other} is neither true nor false; using false");
                self.notes.insert("assist".to_owned(), text);
            }
        }
        if let Some(mask) = other_config.get("pmd-cpu-mask") {
            self.cpus = cpu_mask::read(mask);
        }
    }

    /// How many VLAN tags of a frame are looked at; 0 means as many as the switch can, and that is two.
    fn vlan_limit(&mut self, value: &str) {
        let asked = value.parse::<u64>();
        self.two_tags = asked.as_ref().is_ok_and(|&n| n != 1);
        let told = match asked {
            Ok(0..=2) => return,
            Ok(_) => format!("vlan-limit={value} is more than the two tags that are looked at; using 2"),
            Err(_) => format!("vlan-limit={value} is not a number from 0 (no limit) to 2; using 1"),
        };
        self.notes.insert("vlan-limit".to_owned(), told);
    }

    /// The mirrors of all bridges.
    pub fn mirrors(&self) -> impl Iterator<Item = (&Bridge, &Mirror)> {
        self.bridges.iter().flat_map(|bridge| bridge.mirrors.iter().map(move |m| (bridge, m)))
    }

    /// The interfaces of all bridges.
    pub fn interfaces(&self) -> impl Iterator<Item = (&Bridge, &Interface)> {
        self.bridges.iter().flat_map(|bridge| bridge.interfaces.iter().map(move |i| (bridge, &**i)))
    }
}

/// What a bridge's ports are read in view of.
fn home(uuid: Uuid, row: &Columns<'_>, two_tags: bool, notes: &mut Notes) -> Home {
    let name = row.text("name").unwrap_or_default().to_owned();
    let settings = bridge::settings(&row.options("other_config"), notes);
    let unknown = row.text("datapath_type").filter(|t| !["", "netdev", "system"].contains(t));
    let refused = unknown.map(|other| {
        format!(
            "datapath_type={other} is unknown, so bridge {name} is not made; use netdev or system, which are the same \
             here: 'vsctl set bridge {name} datapath_type=netdev'"
        )
    });
    if let Some(why) = &refused {
        notes.insert("datapath_type_error".to_owned(), why.clone());
    }
    Home { row: uuid, name, settings, refused, two_tags }
}

/// What a port's VLAN settings mean.
type VlanSettings = Result<(VlanMode, PortRules), Refusal>;

/// Reads a port and its interfaces.
fn read_port(source: &Source<'_>, uuid: Uuid, home: &Home) -> Option<Reading> {
    let row = &source.row("Port", uuid)?;
    let mut notes = Notes::new();
    let vlans = port::read(row, home.two_tags, &mut notes);
    let egress = limits::egress(source, row, &mut notes);
    unsupported::note(row, unsupported::PORT, &mut notes);
    unsupported::note_other_config(row, &["priority-tags", "qinq-ethtype"], &mut notes);
    let members: Vec<_> = row.references(source, "interfaces", "Interface").collect();
    let place = Place {
        port_row: uuid,
        port: row,
        vlans,
        members: members.len(),
        bridge: &home.name,
        bridge_row: home.row,
        settings: &home.settings,
        refused: home.refused.as_deref(),
        egress,
    };
    let interface = |(uuid, row): &(_, _)| Arc::new(interface::read(*uuid, row, &place));
    let interfaces = members.iter().map(interface).collect();
    let told = row.options("status").into_iter().eq(notes.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let name = row.text("name").unwrap_or_default().to_owned();
    Some(Reading { port: Arc::new(Port { uuid, name, notes, told }), interfaces })
}

/// `k=v, k=v`; `None` if there are none.
fn listed<'a>(pairs: impl Iterator<Item = (&'a &'a str, &'a &'a str)>) -> Option<String> {
    let text = pairs.map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", ");
    (!text.is_empty()).then_some(text)
}

/// A row by column name. A column that is absent or of another type reads as unset: the schema has been checked when
/// the row was written.
pub struct Columns<'a>(&'a Row);

impl<'a> Columns<'a> {
    fn get(&self, column: &str) -> Option<&'a Datum> {
        self.0.get(column)
    }

    fn text(&self, column: &str) -> Option<&'a str> {
        self.get(column)?.as_str()
    }

    fn integer(&self, column: &str) -> Option<i64> {
        self.get(column)?.as_i64()
    }

    /// False where it is unset.
    fn flag(&self, column: &str) -> bool {
        self.get(column).and_then(Datum::as_bool).unwrap_or_default()
    }

    fn uuids(&self, column: &str) -> impl Iterator<Item = Uuid> {
        self.get(column).into_iter().flat_map(Datum::uuids)
    }

    fn options(&self, column: &str) -> Options<'a> {
        self.get(column).map(|d| d.string_pairs().collect()).unwrap_or_default()
    }

    fn integers(&self, column: &str) -> impl Iterator<Item = i64> {
        self.get(column).into_iter().flat_map(Datum::integers)
    }

    fn boolean(&self, column: &str) -> bool {
        self.get(column).and_then(Datum::as_bool).unwrap_or_default()
    }

    fn vlans(&self, column: &str) -> impl Iterator<Item = VlanId> {
        self.integers(column).filter_map(|n| VlanId::new(u16::try_from(n).ok()?))
    }

    fn references<'d>(
        &self,
        source: &Source<'d>,
        column: &str,
        table: &'static str,
    ) -> impl Iterator<Item = (Uuid, Columns<'d>)> {
        self.uuids(column).filter_map(move |uuid| Some((uuid, source.row(table, uuid)?)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::interface::Kind;
    use super::*;
    use serde_json::{Value, json};

    /// A database after `ops`, which must all succeed.
    pub(crate) fn database(ops: &[Value]) -> Database {
        let mut database = Database::new(ovsdb::vswitch_schema::vswitch_schema());
        let done = database.execute(ops);
        let errors: Vec<_> = done.reply.as_array().unwrap().iter().filter(|r| r.get("error").is_some()).collect();
        assert!(errors.is_empty(), "{errors:?}");
        database.apply(done.prepared.unwrap());
        database
    }

    fn insert(table: &str, name: &str, mut row: Value, extra: Value) -> Value {
        for (k, v) in extra.as_object().unwrap() {
            row[k] = v.clone();
        }
        json!({"op": "insert", "table": table, "uuid-name": name, "row": row})
    }

    /// The operations for a bridge br0 with its own port and a port p1, with `extra` columns each.
    pub(crate) fn br0_p1(root: Value, bridge: Value, port: Value, interface: Value) -> Vec<Value> {
        let reference = |name: &str| json!(["named-uuid", name]);
        vec![
            insert("Open_vSwitch", "root", json!({"bridges": reference("b"), "next_cfg": 7}), root),
            insert("Bridge", "b", json!({"name": "br0", "ports": ["set", [reference("own"), reference("p")]]}), bridge),
            insert("Port", "own", json!({"name": "br0", "interfaces": reference("iown")}), json!({})),
            insert("Interface", "iown", json!({"name": "br0", "type": "internal"}), json!({})),
            insert("Port", "p", json!({"name": "p1", "interfaces": reference("i")}), port),
            insert("Interface", "i", json!({"name": "p1"}), interface),
        ]
    }

    #[test]
    fn an_empty_database_is_an_empty_configuration() {
        let config = Config::read(&Database::new(ovsdb::vswitch_schema::vswitch_schema()));
        assert_eq!((config.root, config.next_cfg, config.bridges.len()), (None, 0, 0));
        assert_eq!(config.stats_interval, Duration::from_secs(5));
    }

    #[test]
    fn a_bridge_with_two_ports() {
        let config = Config::read(&database(&br0_p1(json!({}), json!({}), json!({"tag": 5}), json!({}))));
        assert!(config.root.is_some());
        assert_eq!((config.next_cfg, config.notes.len()), (7, 0));
        let [bridge] = &config.bridges[..] else { panic!("{config:?}") };
        assert_eq!((bridge.name.as_str(), bridge.secure, bridge.notes.len()), ("br0", false, 0));
        let [own, p1] = &bridge.interfaces[..] else { panic!("{bridge:?}") };
        let mac = bridge::mac_of(bridge.uuid);
        assert_eq!((own.name.as_str(), own.own), ("br0", true));
        assert_eq!(own.wanted.as_ref().unwrap().kind, Kind::Internal { mac, keep: false });
        assert_eq!((p1.name.as_str(), p1.own, &p1.notes), ("p1", false, &Notes::new()));
        assert_eq!(p1.wanted.as_ref().unwrap().kind, Kind::Netdev(io::Io::Packet));
    }

    #[test]
    fn what_a_bridge_cannot_do_is_told() {
        let bridge = json!({
            "fail_mode": "secure",
            "stp_enable": true,
            "other_config": ["map", [["mac-aging-time", "9"]]],
        });
        let config = Config::read(&database(&br0_p1(json!({}), bridge, json!({}), json!({}))));
        let b = &config.bridges[0];
        assert!(b.secure);
        assert_eq!(
            b.notes.keys().map(String::as_str).collect::<Vec<_>>(),
            ["fail_mode_warning", "other_config_warning", "unsupported_stp_enable"]
        );
        assert!(b.notes["fail_mode_warning"].contains("vsctl set bridge br0 fail_mode=standalone"));
    }

    #[test]
    fn a_datapath_of_an_unknown_type_is_an_error_of_all_its_interfaces() {
        let read = |ty: &str| {
            let ops = br0_p1(json!({}), json!({"datapath_type": ty}), json!({}), json!({}));
            Config::read(&database(&ops)).bridges.remove(0)
        };
        for known in ["", "netdev", "system"] {
            let b = read(known);
            assert_eq!((b.refused, b.notes.len()), (None, 0), "{known}");
            assert!(b.interfaces.iter().all(|i| i.wanted.is_ok()), "{known}");
        }
        let b = read("dpdk");
        let why = b.refused.unwrap();
        assert!(why.starts_with("datapath_type=dpdk is unknown, so bridge br0 is not made; use netdev or system"));
        assert_eq!(b.notes["datapath_type_error"], why);
        assert!(b.interfaces.iter().all(|i| i.wanted.as_ref() == Err(&why)), "{:?}", b.interfaces);
    }

    #[test]
    fn the_switch_wide_settings() {
        for (value, interval, told) in
            [("10000", 10_000, false), ("1", 100, true), ("often", 5_000, true), ("99999999999", 86_400_000, true)]
        {
            let root = json!({"other_config": ["map", [["stats-update-interval", value]]]});
            let config = Config::read(&database(&br0_p1(root, json!({}), json!({}), json!({}))));
            assert_eq!(config.stats_interval, Duration::from_millis(interval));
            assert_eq!(config.notes.contains_key("other_config"), told, "{value}");
        }
        let root = json!({"other_config": ["map", [["hw-offload", "true"]]], "ssl": ["named-uuid", "ssl"]});
        let mut ops = br0_p1(root, json!({}), json!({}), json!({}));
        ops.push(insert("SSL", "ssl", json!({"ca_cert": "a", "certificate": "b", "private_key": "c"}), json!({})));
        let notes = Config::read(&database(&ops)).notes;
        assert_eq!(
            notes.keys().map(String::as_str).collect::<Vec<_>>(),
            ["unsupported_other_config", "unsupported_ssl"]
        );
        assert!(notes["unsupported_other_config"].contains("hw-offload=true"));
    }

    #[test]
    fn the_cpus_of_workers() {
        let read = |options: Value| {
            let root = json!({"other_config": options});
            let config = Config::read(&database(&br0_p1(root, json!({}), json!({}), json!({}))));
            assert!(config.notes.is_empty(), "{:?}", config.notes);
            config.cpus
        };
        assert_eq!(read(json!(["map", []])), Ok(vec![]));
        assert_eq!(read(json!(["map", [["pmd-cpu-mask", "0x5"]]])), Ok(vec![0, 2]));
        assert!(read(json!(["map", [["pmd-cpu-mask", "all"]]])).unwrap_err().contains("pmd-cpu-mask=all"));
    }

    #[test]
    fn the_vlan_limit_is_how_many_tags_are_looked_at() {
        let read = |options: Value| {
            let root = json!({"other_config": options});
            Config::read(&database(&br0_p1(root, json!({"flood_vlans": ["set", [5, 7]]}), json!({}), json!({}))))
        };
        let none = read(json!(["map", []]));
        assert!(!none.two_tags && !none.bridges[0].vlans.two_tags && none.notes.is_empty());
        assert_eq!(none.bridges[0].vlans.flood.to_string(), "5,7");
        for (value, two, told) in
            [("0", true, ""), ("1", false, ""), ("2", true, ""), ("3", true, "using 2"), ("two", false, "using 1")]
        {
            let config = read(json!(["map", [["vlan-limit", value]]]));
            assert_eq!((config.two_tags, config.bridges[0].vlans.two_tags), (two, two), "{value}");
            let said = config.notes.get("vlan-limit").map_or("", String::as_str);
            assert!(said.ends_with(told) && said.is_empty() == told.is_empty(), "{value}: {said}");
        }
    }

    #[test]
    fn assist_is_true_or_false() {
        let read = |value: &str| {
            let root = json!({"other_config": ["map", [["assist", value]]]});
            let config = Config::read(&database(&br0_p1(root, json!({}), json!({}), json!({}))));
            (config.assist, config.notes.get("assist").cloned())
        };
        assert_eq!((read("true"), read("false")), ((true, None), (false, None)));
        let told = "assist=yes is neither true nor false; using false".to_owned();
        assert_eq!(read("yes"), (false, Some(told)));
    }

    /// Whatever changes, what was read before does not show.
    #[test]
    fn a_reader_that_has_read_before_reads_the_same() {
        let map = |key: &str, value: &str| json!(["map", [[key, value]]]);
        let mut ops = br0_p1(json!({}), json!({}), json!({"qos": ["named-uuid", "q"]}), json!({}));
        let queues = json!({"type": "linux-htb", "queues": ["map", [[0, ["named-uuid", "u"]]]]});
        ops.push(insert("QoS", "q", queues, json!({})));
        ops.push(insert("Queue", "u", json!({"other_config": map("max-rate", "1000000")}), json!({})));
        let mut database = database(&ops);
        let (mut reader, mut before) = (Reader::default(), Config::read(&database));
        let vxlan = json!({"type": "vxlan", "options": ["map", [["remote_ips", "192.0.2.2"], ["key", "5"]]]});
        for (table, name, row) in [
            ("Port", Some("p1"), json!({"tag": 5})),
            ("Port", Some("p1"), json!({"status": map("vlan_warning", "old")})),
            ("Interface", Some("p1"), json!({"mac": "02:00:00:00:00:09"})),
            ("Interface", Some("p1"), vxlan),
            ("Bridge", Some("br0"), json!({"other_config": map("fdb-0-02:00:00:00:00:01", "p1@192.0.2.3")})),
            ("Bridge", Some("br0"), json!({"other_config": map("hwaddr", "02:00:00:00:00:08")})),
            ("Open_vSwitch", None, json!({"other_config": map("vlan-limit", "2")})),
            ("Queue", None, json!({"other_config": map("max-rate", "2000000")})),
            ("QoS", None, json!({"type": "egress-policer"})),
            ("Bridge", Some("br0"), json!({"datapath_type": "other"})),
            ("Bridge", Some("br0"), json!({"ports": ["set", []]})),
        ] {
            assert_eq!(reader.read(&database), before);
            let found = name.map_or(json!([]), |name| json!([["name", "==", name]]));
            let done = database.execute(&[json!({"op": "update", "table": table, "where": found, "row": row})]);
            database.apply(done.prepared.unwrap());
            let after = Config::read(&database);
            assert_ne!(after, before, "{table} {row}");
            before = after;
        }
        assert_eq!(reader.read(&database), before);
    }

    #[test]
    fn an_interface_that_two_bridges_claim_belongs_to_the_first() {
        let mut ops = br0_p1(json!({}), json!({}), json!({}), json!({}));
        ops.push(insert("Bridge", "c", json!({"name": "br1", "ports": ["named-uuid", "p"]}), json!({})));
        ops.push(json!({"op": "mutate", "table": "Open_vSwitch", "where": [],
            "mutations": [["bridges", "insert", ["named-uuid", "c"]]]}));
        let config = Config::read(&database(&ops));
        let names = |b: &Bridge| b.interfaces.iter().map(|i| i.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&config.bridges[0]), ["br0", "p1"]);
        assert!(names(&config.bridges[1]).is_empty());
        assert!(config.bridges[1].notes["ports_warning"].starts_with("p1: "));
    }
}
