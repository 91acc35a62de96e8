//! Addresses that a bridge knows: `fdb show`, `fdb flush`, `fdb moves`, `fdb add`, `fdb del`.
//!
//! Static ones are rows of the database like everything that is configured; what was learned is asked of the running
//! switch at its control socket.

use std::net::IpAddr;

use ovsdb::schema::DatabaseSchema;
use ovsdb::value::{Atom, AtomType, Datum, Real};
use serde_json::Value;

use super::{Command, Context, Family, needs_topology, number, table_of, text};
use crate::error::{Result, fail};
use crate::grammar::Parsed;
use crate::model::Needs;
use crate::topology::{Bridge, Topology};

pub(super) static FAMILY: Family = Family { title: "Addresses", commands: &COMMANDS };

static COMMANDS: [Command; 5] = [
    Command {
        name: "fdb show",
        args: "BRIDGE",
        count: (1, 1),
        options: &[],
        summary: "print the addresses that a bridge knows",
        help: "\
Each with the port that it is behind, at a tunnel with several remote ends also which of them, and
how many seconds ago it was heard last; without an age it is static.

'vsctl fdb show br0 -f json' prints it for programs.",
        examples: &["vsctl fdb show br0", "vsctl fdb show br0 -f json"],
        related: &["fdb add", "fdb flush", "fdb moves"],
        needs: needs_topology,
        run: show,
    },
    Command {
        name: "fdb flush",
        args: "BRIDGE",
        count: (1, 1),
        options: &[],
        summary: "forget the addresses that a bridge has learned",
        help: "Static addresses stay. It is done at once, whatever else is on the line.",
        examples: &["vsctl fdb flush br0"],
        related: &["fdb show"],
        needs: needs_topology,
        run: |cx, args| {
            let bridge = Topology::of(cx.model).bridge(args.arg(0))?;
            if !cx.control.dry_run {
                cx.control.ask("fdb/flush", &[bridge.real_name()])?;
            }
            Ok(())
        },
    },
    Command {
        name: "fdb moves",
        args: "BRIDGE",
        count: (1, 1),
        options: &[],
        summary: "print addresses that turned up at another port lately",
        help: "\
The last one first: where each was before its last move and where it was then, how often it has
moved and how often in a second. One move is a station that was plugged in elsewhere. Many are two
stations with the same address, or a loop; then the switch's log says so, too.",
        examples: &["vsctl fdb moves br0"],
        related: &["fdb show"],
        needs: needs_topology,
        run: moves,
    },
    Command {
        name: "fdb add",
        args: "BRIDGE PORT VLAN MAC",
        count: (4, 4),
        options: &[],
        summary: "say for good which port an address is behind",
        help: "\
The address is not learned any more: it never ages and does not move, wherever it turns up. VLAN is
0 for untagged frames. If the port is not there yet, it holds as soon as it is.

At a tunnel with several remote ends (remote_ips), PORT@REMOTE also says which of them.

It is kept in other_config of the bridge, as fdb-VLAN-MAC=PORT.",
        examples: &[
            "vsctl fdb add br0 veth0 0 02:00:00:00:00:01",
            "vsctl fdb add br0 vx0@192.0.2.2 10 02:00:00:00:00:02",
        ],
        related: &["fdb del", "fdb show"],
        needs: other_config_needs,
        run: add,
    },
    Command {
        name: "fdb del",
        args: "BRIDGE VLAN MAC",
        count: (3, 3),
        options: &[],
        summary: "take back what 'fdb add' said",
        help: "From then on the address is learned again.",
        examples: &["vsctl fdb del br0 0 02:00:00:00:00:01"],
        related: &["fdb add"],
        needs: other_config_needs,
        run: |cx, args| {
            let bridge = Topology::of(cx.model).bridge(args.arg(0))?;
            let (vlan, mac) = (args.arg(1), args.arg(2));
            let key = key(vlan, mac)?;
            match entry(cx, &bridge, &key)? {
                Some((there, _)) => cx.model.take_from("Bridge", &bridge.row, "other_config", Datum::string(there)),
                None => fail!("{mac} is not static in VLAN {vlan} of {}; 'vsctl fdb show' tells", bridge.real_name()),
            }
        },
    },
];

fn other_config_needs(args: &Parsed, schema: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    needs.column("Bridge", "other_config");
    needs_topology(args, schema, needs)
}

/// The key of an address in `other_config`.
fn key(vlan: &str, mac: &str) -> Result<String> {
    let Some(number) = vlan.parse::<u16>().ok().filter(|vlan| *vlan < 4096) else {
        fail!("VLAN {vlan}: expected a number from 0 to 4095");
    };
    let octet = |text: &str| u8::from_str_radix(text, 16).ok().filter(|_| text.len() == 2 && !text.starts_with('+'));
    let octets: Option<Vec<u8>> = mac.split(':').map(octet).collect();
    let Some(octets) = octets.filter(|octets| octets.len() == 6) else {
        fail!("{mac} is no Ethernet address; write it as 02:00:00:00:00:01");
    };
    if octets[0] & 1 != 0 || octets.iter().all(|octet| *octet == 0) {
        fail!("{mac} is a group address or all zeros, which no station has");
    }
    Ok(format!("fdb-{number}-{}", mac.to_ascii_lowercase()))
}

/// The pair in `other_config` that is of this address, in whatever way it was written.
fn entry(cx: &Context<'_, '_>, bridge: &Bridge, wanted: &str) -> Result<Option<(String, String)>> {
    let pairs = cx.model.get("Bridge", &bridge.row, "other_config")?;
    let same = |written: &str| {
        let (vlan, mac) = written.strip_prefix("fdb-").and_then(|rest| rest.split_once('-'))?;
        key(vlan, mac).ok().filter(|key| key == wanted)
    };
    let found = pairs.string_pairs().find(|(written, _)| same(written).is_some());
    Ok(found.map(|(key, place)| (key.to_owned(), place.to_owned())))
}

fn add(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let (bridge, place) = (Topology::of(cx.model).bridge(args.arg(0))?, args.arg(1));
    let key = key(args.arg(2), args.arg(3))?;
    if place.is_empty() || place.starts_with('@') {
        fail!("the name of the port is missing; expected PORT or PORT@REMOTE");
    }
    if let Some((port, remote)) = place.rsplit_once('@')
        && remote.parse::<IpAddr>().is_err()
        && Topology::of(cx.model).port_if_any(place)?.is_none()
    {
        fail!("{place}: '{remote}' is no IP address; expected {port}@REMOTE, such as {port}@192.0.2.2");
    }
    if let Some((there, was)) = entry(cx, &bridge, &key)? {
        if was == place {
            return Ok(());
        }
        cx.notes.push(format!("{} was at {was} in VLAN {} until now", args.arg(3), args.arg(2)));
        cx.model.take_from("Bridge", &bridge.row, "other_config", Datum::string(there))?;
    }
    let pair = Datum::map_of_strings([(key.as_str(), place)]);
    cx.model.add_to("Bridge", &bridge.row, "other_config", pair)
}

/// What the switch tells in JSON: a list of objects.
fn rows(cx: &Context<'_, '_>, question: &str, bridge: &str) -> Result<Vec<Value>> {
    let bridge = Topology::of(cx.model).bridge(bridge)?;
    cx.control.rows(question, &[bridge.real_name()])
}

fn show(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    use AtomType::{Integer, String};
    let row = |e: &Value| {
        let age = number(&e["age"]);
        let kind = if age.is_empty() { "static" } else { "learned" };
        vec![text(&e["port"]), text(&e["remote"]), number(&e["vlan"]), text(&e["mac"]), Datum::string(kind), age]
    };
    let mut rows: Vec<_> = rows(cx, "fdb/list", args.arg(0))?.iter().map(row).collect();
    rows.sort();
    let columns =
        [("port", String), ("remote", String), ("vlan", Integer), ("mac", String), ("type", String), ("age", Integer)];
    cx.table = Some(table_of(columns, rows));
    Ok(())
}

fn moves(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    use AtomType::{Integer, Real as Decimal, String};
    let row = |e: &Value| {
        let (moves, over) = (e["moves"].as_f64().unwrap_or_default(), e["over"].as_f64().unwrap_or_default());
        // To the tenth; of a single move there is no rate.
        let rate = if over > 0.0 { (moves / over * 10.0).round() / 10.0 } else { 0.0 };
        let rate = Datum::set_of([Atom::Real(Real::new(rate))]);
        let (from, to) = (text(&e["from"]), text(&e["to"]));
        vec![number(&e["vlan"]), text(&e["mac"]), from, to, number(&e["moves"]), rate, number(&e["age"])]
    };
    let rows = rows(cx, "fdb/moves", args.arg(0))?.iter().map(row).collect();
    let columns = [
        ("vlan", Integer),
        ("mac", String),
        ("from", String),
        ("to", String),
        ("moves", Integer),
        ("per_second", Decimal),
        ("age", Integer),
    ];
    cx.table = Some(table_of(columns, rows));
    Ok(())
}
