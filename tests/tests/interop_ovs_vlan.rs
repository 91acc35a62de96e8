//! VLANs beside a running Open vSwitch: two switches with the same ports, the same frames into both, and what comes out
//! of each port compared byte by byte. Whatever differs must be one of the [`Difference`]s.
//!
//! ```text
//!  ovs-vswitchd ── o-a10, o-t, … ┐
//!                                stations: frames.py sends by each and listens on all
//!  vswitch ─────── v-a10, v-t, … ┘
//! ```
//!
//! Every frame has a sender of its own: Open vSwitch's flow cache doesn't look at the second tag where it decides by it,
//! so that a frame would be treated as the one before it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use vswitch_tests::lab::tags;
use vswitch_tests::netns::{Host, Lab, Running, Space};
use vswitch_tests::ovs::{Ovs, OvsdbServer};

const FRAMES_PY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/frames.py");

/// The ports, each with its settings.
const PORTS: [(&str, &str); 31] = [
    ("a10", "tag=10"),
    ("a20", "tag=20"),
    ("a0", "vlan_mode=access"),
    ("a10x", "tag=10 trunks=20"),
    ("t", ""),
    ("t12", "trunks=10,20"),
    ("t01", "trunks=0,10"),
    ("tx", "vlan_mode=trunk tag=10"),
    ("nt", "vlan_mode=native-tagged tag=10 trunks=20"),
    ("ntall", "vlan_mode=native-tagged tag=10"),
    ("nu", "vlan_mode=native-untagged tag=10 trunks=20"),
    ("nuall", "vlan_mode=native-untagged tag=10"),
    ("nu0", "vlan_mode=native-untagged trunks=20"),
    ("q", "vlan_mode=dot1q-tunnel tag=10"),
    ("qc", "vlan_mode=dot1q-tunnel tag=10 cvlans=20,30"),
    ("qc0", "vlan_mode=dot1q-tunnel tag=10 cvlans=0,20"),
    ("q1q", "vlan_mode=dot1q-tunnel tag=20 other_config:qinq-ethtype=802.1q"),
    ("a10i", "tag=10 other_config:priority-tags=if-nonzero"),
    ("a10w", "tag=10 other_config:priority-tags=always"),
    ("ti", "other_config:priority-tags=true"),
    ("tw", "other_config:priority-tags=always"),
    ("ntw", "vlan_mode=native-tagged tag=10 other_config:priority-tags=always"),
    ("nui", "vlan_mode=native-untagged tag=10 other_config:priority-tags=if-nonzero"),
    ("nuw", "vlan_mode=native-untagged tag=10 other_config:priority-tags=always"),
    ("qi", "vlan_mode=dot1q-tunnel tag=10 other_config:priority-tags=if-nonzero"),
    ("qw", "vlan_mode=dot1q-tunnel tag=10 other_config:priority-tags=always"),
    ("p1", "tag=10 protected=true"),
    ("p2", "tag=10 protected=true"),
    ("p3", "protected=true"),
    // Markers come by these: every other port has one by the trunk, or by the tunnel if it takes only VLAN 20 of a customer.
    ("mt", ""),
    ("mq", "vlan_mode=dot1q-tunnel tag=10"),
];

/// What is sent by every port, besides VLANs 0 and 10 at each priority.
const FRAMES: [&str; 23] = [
    "-",
    "20",
    "40p2",
    "20p3",
    "30p5",
    "10p2d",
    "0p2d",
    "S10p3",
    "S0p3",
    "S20",
    "10+20p3",
    "S10p2+20p5",
    "S10+30",
    "S10+40",
    "S10+0",
    "S10p1+0p5",
    "0p4+20",
    "S20p1+10p7",
    "0+0p5",
    "S10p3+S20p1",
    "S10p1d+20p3d",
    "S10+20p3+30p1",
    "10+20+30",
];

/// What is sent by every port to the station at every other.
const UNICAST: [&str; 9] = ["-", "0p5", "10p3", "20", "40p2", "10+20p3", "S10p2+20p5", "S10p1+0p5", "S20p1+10p7"];

/// Ports that behave as others do towards a known address, and are left out there.
const ALIKE: [&str; 8] = ["a10x", "a10i", "tx", "t01", "ti", "nuall", "nui", "qi"];

/// The VLAN in which both switches flood.
const FLOODED: &str = "40";

/// Where we differ from Open vSwitch on purpose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Difference {
    /// Its flows have no room for a tag's drop-eligible bit: it is lost wherever the tag is put on anew. We keep it.
    DropEligible,
    /// With two tags looked at, an access or dot1q-tunnel port forgets one of the two that a frame comes with, and the
    /// frame leaves without it, in another VLAN for whoever gets it. We keep all tags.
    TagLost,
    /// With priority-tags=always it gives frames from an access port of VLAN 0, which came without a tag, an empty one;
    /// those from other ports not. We only let tags stay.
    EmptyTag,
    /// "Always trunks its native VLAN, regardless of whether trunks includes that VLAN", says its manual; with native
    /// VLAN 0 it takes frames in but sends none out. We do as the manual says.
    NativeZero,
    /// A known address gets frames that its port doesn't carry: an access port a customer's with the tag taken off, a
    /// dot1q-tunnel port those of customers that it excludes. "A packet will only egress through bridge ports that carry
    /// the VLAN of the packet", says its manual, and when it floods it keeps to that. We always do.
    NotCarried,
}

/// One frame: the port it was sent by, its tags, and the port whose station it was sent to, if to one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Sent {
    port: &'static str,
    tags: String,
    to: Option<&'static str>,
}

/// The frames, in hexadecimal, that came of one, by port: Open vSwitch's and ours.
type Came = BTreeMap<&'static str, [Vec<String>; 2]>;

/// The two switches and their stations.
struct Both {
    _daemon: Running,
    ovs: Ovs,
    server: OvsdbServer,
    host: Host,
    stations: Space,
    script: std::path::PathBuf,
    /// How many frames have been sent, which is the number that each is known by.
    sent: u32,
    /// Last, so that it is dropped last.
    _lab: Lab,
}

impl Both {
    fn open() -> Option<Self> {
        let ovs = Ovs::find()?;
        let lab = Lab::open()?;
        let (theirs, host, stations) = (lab.space("ovs"), lab.host("ours"), lab.space("stations"));
        for space in [&theirs, &host, &stations] {
            space.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
        }
        for (space, side) in [(&theirs, "o"), (&*host, "v")] {
            cables(&lab, space, side, &stations);
        }
        let server = ovs.server(lab.dir());
        let daemon = ovs.vswitchd(&theirs, &server);
        let ports = PORTS.map(|(name, settings)| format!("-- add-port br0 {name} {settings}")).join(" ");
        let bridge = |more: &str| format!("add-br br0 -- set bridge br0 flood_vlans={FLOODED} {more} {ports}");
        let _ = ovs.vsctl(&server.socket, &bridge("datapath_type=netdev")).output();
        host.vsctl(&bridge(""));
        let script = lab.dir().join("script");
        Some(Self { _daemon: daemon, ovs, server, host, stations, script, sent: 0, _lab: lab })
    }

    /// Both look at so many tags.
    fn vlan_limit(&self, limit: u8) {
        let set = format!("set Open_vSwitch . other_config:vlan-limit={limit}");
        let _ = self.ovs.vsctl(&self.server.socket, &set).output();
        self.host.vsctl(&set);
    }

    /// Sends each frame into both switches, after everything that the stations `say`, and tells what came of it.
    fn exchange(&mut self, say: &[&str], frames: Vec<Sent>) -> Vec<(Sent, Came)> {
        let mut script = String::new();
        for side in ["o", "v"] {
            let _ = writeln!(script, "listen {}", PORTS.map(|(port, _)| format!("{side}-{port}")).join(" "));
            let marker = |tags| frame("ffffffffffff", "020000ee0000", tags, u32::MAX);
            let _ = writeln!(script, "marker {side}-mt {} {} {}", marker("-"), marker("10"), marker("20"));
            let _ = writeln!(script, "marker {side}-mq {}", marker("20"));
        }
        for ports in PORTS.chunks(5).filter(|_| !say.is_empty()) {
            for (port, _) in ports {
                let said: Vec<_> = say.iter().map(|tags| frame("ffffffffffff", &station(port), tags, 0)).collect();
                send(&mut script, port, &said, 0);
            }
            script.push_str("settle 3\n");
        }
        let first = self.sent + 1;
        for of_port in frames.chunk_by(|a, b| a.port == b.port) {
            for some in of_port.chunks(100) {
                let bytes: Vec<_> = some.iter().map(|sent| self.frame(sent)).collect();
                send(&mut script, some[0].port, &bytes, 3 + some.len() / 32);
            }
        }
        fs::write(&self.script, script).expect("a file in the lab's directory");
        let heard = self.stations.run(&format!("python3 {FRAMES_PY} exchange {}", self.script.display()));
        let mut all: Vec<_> = frames.into_iter().map(|sent| (sent, Came::new())).collect();
        for line in heard.lines() {
            let (device, frame) = line.split_once(' ').expect("a device and a frame");
            let (side, port) = device.split_once('-').expect("a side and a port");
            let port = PORTS.iter().find(|(name, _)| *name == port).expect("a port").0;
            if let Some(index) = number(frame).checked_sub(first) {
                let came = &mut all[index as usize].1;
                came.entry(port).or_default()[usize::from(side == "v")].push(frame.to_owned());
            }
        }
        all
    }

    /// The next frame.
    fn frame(&mut self, sent: &Sent) -> String {
        self.sent += 1;
        let dst = sent.to.map_or_else(|| "ffffffffffff".to_owned(), station);
        frame(&dst, &format!("0200{:08x}", self.sent), &sent.tags, self.sent)
    }
}

/// A cable from each port of a switch to the stations.
fn cables(lab: &Lab, switch: &Space, side: &str, stations: &Space) {
    let (mut here, mut there) = (String::new(), String::new());
    for (port, _) in PORTS {
        let peer = &stations.name;
        let _ = writeln!(here, "link add dev {port} type veth peer name {side}-{port} netns {peer}");
        let _ = writeln!(here, "link set dev {port} up");
        let _ = writeln!(there, "link set dev {side}-{port} up");
    }
    for (space, commands) in [(switch, here), (stations, there)] {
        let file = lab.dir().join("ip-batch");
        fs::write(&file, commands).expect("a file in the lab's directory");
        space.run(&format!("ip -batch {}", file.display()));
    }
}

/// Lines that send the frames into both switches by a port, and wait for their way through in so many rounds.
fn send(script: &mut String, port: &str, frames: &[String], rounds: usize) {
    let frames = frames.join(" ");
    let _ = writeln!(script, "send o-{port} {frames}\nsend v-{port} {frames}\nsettle {rounds}");
}

/// The address of the station at a port.
fn station(port: &str) -> String {
    let index = PORTS.iter().position(|(name, _)| *name == port).expect("a port");
    format!("0400000000{index:02x}")
}

/// A frame of the experimental Ethernet type that carries its number.
fn frame(dst: &str, src: &str, text: &str, number: u32) -> String {
    let tags: String = tags(text).iter().map(|(tpid, tci)| format!("{tpid:04x}{tci:04x}")).collect();
    format!("{dst}{src}{tags}88b5{number:08x}{}", "00".repeat(50))
}

/// Where the tags of a frame in hexadecimal end: its own Ethernet type.
fn tags_end(frame: &str) -> usize {
    let mut at = 24;
    while ["8100", "88a8"].contains(&&frame[at..at + 4]) {
        at += 8;
    }
    at
}

fn number(frame: &str) -> u32 {
    let at = tags_end(frame) + 4;
    u32::from_str_radix(&frame[at..at + 8], 16).expect("hexadecimal")
}

/// The tags of a frame without their drop-eligible bits, the outermost first.
fn tags_of(frame: &str) -> Vec<u32> {
    let tags = frame.as_bytes()[24..tags_end(frame)].chunks(8);
    let tag = |tag| u32::from_str_radix(std::str::from_utf8(tag).expect("text"), 16).expect("hexadecimal");
    tags.map(|text| tag(text) & !0x1000).collect()
}

/// Frames but for their tags.
fn rest(frames: &[String]) -> Vec<[&str; 2]> {
    frames.iter().map(|f| [&f[..24], &f[tags_end(f)..]]).collect()
}

/// Whether `less` is `more` without one of them.
fn lacks_one(less: &[u32], more: &[u32]) -> bool {
    (0..more.len()).any(|i| [&more[..i], &more[i + 1..]].concat() == less)
}

/// The reason for what differs at a port; `flooded`: whether Open vSwitch sends such a frame there when it floods.
fn reason(sent: &Sent, limit: u8, port: &str, [theirs, ours]: &[Vec<String>; 2], flooded: bool) -> Option<Difference> {
    let settings = |port: &str| PORTS.iter().find(|(name, _)| *name == port).expect("a port").1;
    if ours.is_empty() {
        return (sent.to.is_some() && !flooded).then_some(Difference::NotCarried);
    }
    if theirs.is_empty() {
        return (port == "nu0" && !sent.tags.starts_with("20")).then_some(Difference::NativeZero);
    }
    if rest(theirs) != rest(ours) {
        return None;
    }
    let [their_tags, our_tags] = [theirs, ours].map(|frames| frames.iter().map(|f| tags_of(f)).collect::<Vec<_>>());
    let all = |differs: &dyn Fn(&[u32], &[u32]) -> bool| their_tags.iter().zip(&our_tags).all(|(t, o)| differs(t, o));
    let from = settings(sent.port);
    let one_tag = from.starts_with("tag=") || from.contains("access") || from.contains("dot1q-tunnel");
    let forgetful = one_tag && limit == 2 && sent.tags.contains('+');
    if their_tags == our_tags {
        Some(Difference::DropEligible)
    } else if forgetful && all(&lacks_one) {
        Some(Difference::TagLost)
    } else if sent.tags == "-" && settings(port).ends_with("always") && all(&|t, o| t == [0x8100_0000] && o.is_empty())
    {
        Some(Difference::EmptyTag)
    } else {
        None
    }
}

/// What is to be sent by every port under test.
fn by_every_port<'a>(frames: impl Fn(&'static str) -> Vec<(String, Option<&'static str>)> + 'a) -> Vec<Sent> {
    let of_port = |port| frames(port).into_iter().map(move |(tags, to)| Sent { port, tags, to });
    PORTS.iter().filter(|(port, _)| !port.starts_with('m')).flat_map(|(port, _)| of_port(*port)).collect()
}

fn broadcasts() -> Vec<Sent> {
    by_every_port(|_| {
        let each_priority = (0..8).flat_map(|p| [format!("0p{p}"), format!("10p{p}")]);
        FRAMES.iter().map(|&tags| tags.to_owned()).chain(each_priority).map(|tags| (tags, None)).collect()
    })
}

fn unicasts() -> Vec<Sent> {
    let tested = |port: &&str| !port.starts_with('m') && !ALIKE.contains(port);
    by_every_port(|from| {
        let others = PORTS.iter().map(|(port, _)| *port).filter(|to| tested(&from) && tested(to) && *to != from);
        others.flat_map(|to| UNICAST.iter().map(move |&tags| (tags.to_owned(), Some(to)))).collect()
    })
}

#[test]
fn frames_leave_as_they_leave_open_vswitch() {
    let Some(mut both) = Both::open() else { return };
    // What comes of a broadcast in Open vSwitch, by the port it comes by and its tags.
    let mut floods: BTreeSet<(&str, String, &str)> = BTreeSet::new();
    let mut differences: BTreeMap<Difference, u32> = BTreeMap::new();
    let mut unexplained = vec![];
    for (limit, unicast) in [(1, false), (2, false), (2, true)] {
        both.vlan_limit(limit);
        let said: &[&str] = if unicast { &["-", "10", "20", FLOODED] } else { &[] };
        let sent = if unicast { unicasts() } else { broadcasts() };
        let mut delivered = 0;
        for (sent, came) in both.exchange(said, sent) {
            for (port, pair) in came {
                let known = (sent.port, sent.tags.clone(), port);
                delivered += pair[0].len();
                if sent.to.is_none() && limit == 2 && !pair[0].is_empty() {
                    floods.insert(known.clone());
                }
                if pair[0] == pair[1] {
                    continue;
                }
                match reason(&sent, limit, port, &pair, floods.contains(&known)) {
                    Some(difference) => *differences.entry(difference).or_default() += 1,
                    None => unexplained.push(format!(
                        "vlan-limit {limit}: {sent:?} leaves by {port}\n  there {:?}\n  here  {:?}",
                        pair[0], pair[1]
                    )),
                }
            }
        }
        assert!(delivered > 5_000, "Open vSwitch has forwarded only {delivered} frames");
    }
    eprintln!("{differences:?}");
    assert!(
        unexplained.is_empty(),
        "{} differences:\n{}",
        unexplained.len(),
        unexplained[..unexplained.len().min(20)].join("\n")
    );
    let all = [
        Difference::DropEligible,
        Difference::TagLost,
        Difference::EmptyTag,
        Difference::NativeZero,
        Difference::NotCarried,
    ];
    assert_eq!(differences.into_keys().collect::<Vec<_>>(), all, "each difference on purpose has been seen");
}
