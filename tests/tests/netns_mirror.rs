//! Mirrors in network namespaces: `ovs-vsctl`, `vsctl` and tcpdump with a real daemon.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};
use vswitch_tests::netns::{Host, Lab, Running, Space};
use vswitch_tests::ovs::Ovs;
use vswitch_tests::process::eventually;

/// A host with br0, pods one (10.0.0.1) and two (10.0.0.2) on its ports p1 and p2, and its internal port mon, up.
fn host_with_mon(lab: &Lab) -> (Host, Space, Space) {
    let host = lab.host("host");
    let one = lab.pod("one", &host, "p1", "10.0.0.1/24");
    let two = lab.pod("two", &host, "p2", "10.0.0.2/24");
    host.vsctl("add-br br0 -- add-port br0 p1 -- add-port br0 p2 -- add-port br0 mon type=internal");
    host.run("ip link set mon up");
    one.reaches("10.0.0.2");
    (host, one, two)
}

/// The line that mirrors p1 to mon, as the tour has it.
const MIRROR_P1: &str = "-- --id=@p1 get port p1 -- --id=@mon get port mon -- --id=@m create mirror name=m0 \
     select-dst-port=@p1 select-src-port=@p1 output-port=@mon -- set bridge br0 mirrors=@m";

/// A tcpdump that listens.
fn capture(lab: &Lab, space: &Space, name: &str, args: &str) -> Running {
    let capture = space.spawn(&format!("tcpdump -nn -l {args}"), &lab.dir().join(format!("capture-{name}")));
    eventually("tcpdump listens", || capture.log().contains("listening on").then_some(()).ok_or_else(|| capture.log()));
    capture
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

/// The echo requests in a capture with `-tt`: when, and their sequence number.
fn requests(log: &str) -> Vec<(f64, u32)> {
    let parse = |line: &str| {
        let sequence = line.split("seq ").nth(1).filter(|_| line.contains("echo request"))?.split(',').next()?;
        Some((line.split(' ').next()?.parse().ok()?, sequence.parse().ok()?))
    };
    log.lines().filter_map(parse).collect()
}

fn sequences(requests: &[(f64, u32)], sent: impl Fn(f64) -> bool) -> BTreeSet<u32> {
    requests.iter().filter(|(at, _)| sent(*at)).map(|(_, sequence)| *sequence).collect()
}

#[test]
fn the_tour_s_mirror_shows_six_packets_of_three_pings() {
    let (Some(ovs), Some(lab)) = (Ovs::find(), Lab::open()) else { return };
    let (host, one, _two) = host_with_mon(&lab);
    for ours in [false, true] {
        if ours {
            host.vsctl(MIRROR_P1);
        } else {
            let _ = ovs.vsctl(&host.socket(), MIRROR_P1).output();
        }
        let seen = capture(&lab, &host, &format!("tour-{ours}"), "-c 6 -i mon icmp");
        one.run("ping -c 3 -i 0.2 10.0.0.2");
        eventually("six packets on the mirror port", || {
            let log = seen.log();
            let lines = |what: &str| log.lines().filter(|l| l.contains(what)).count();
            let (asked, answered) = (lines("ICMP echo request"), lines("ICMP echo reply"));
            if (asked, answered) == (3, 3) { Ok(()) } else { Err(log.clone()) }
        });
        eventually("statistics of the mirror", || {
            let counters = host.vsctl("get mirror m0 statistics");
            let some = counters.contains("tx_bytes=")
                && !counters.contains("tx_packets=0,")
                && counters.contains("tx_dropped=0");
            if some { Ok(()) } else { Err(counters) }
        });
        // What else happens to the bridge leaves the mirror and its counters alone.
        host.vsctl("set bridge br0 other_config:mac-aging-time=200 -- add-port br0 more type=internal");
        host.vsctl("del-port more");
        assert!(!host.vsctl("get mirror m0 statistics").contains("tx_packets=0,"), "counters begin anew");
        if ours {
            host.vsctl("clear bridge br0 mirrors");
        } else {
            let _ = ovs.vsctl(&host.socket(), "clear bridge br0 mirrors").output();
        }
        assert_eq!(host.vsctl("list mirror"), "");
    }
}

/// On a flow that runs all the time: from the moment when the command has returned every packet is copied, and none
/// after the command that takes the mirror away.
#[test]
fn a_mirror_is_in_force_when_the_command_returns_and_so_is_its_end() {
    let Some(lab) = Lab::open() else { return };
    let (host, one, _two) = host_with_mon(&lab);
    let sent = capture(&lab, &one, "sent", "-tt -i eth0 -Q out icmp");
    let copied = capture(&lab, &host, "copied", "-tt -i mon icmp");
    let flow = one.spawn("ping -q -i 0.01 10.0.0.2", &lab.dir().join("ping"));
    let enough = |from: f64| {
        eventually("twenty more packets of the flow", || {
            let sent = requests(&sent.log());
            if sequences(&sent, |at| at > from).len() > 20 { Ok(()) } else { Err(format!("{sent:?}")) }
        });
    };
    enough(now());
    assert!(requests(&copied.log()).is_empty(), "copies without a mirror");
    let from = {
        host.vsctl(MIRROR_P1);
        now()
    };
    enough(from);
    let to = now();
    host.vsctl("clear bridge br0 mirrors");
    let gone = now();
    enough(gone);
    drop(flow);
    let sent = requests(&sent.log());
    let wanted = sequences(&sent, |at| at > from && at < to);
    eventually("a copy of everything", || {
        let missing: Vec<_> = wanted.difference(&sequences(&requests(&copied.log()), |_| true)).copied().collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("missing: {missing:?}")) }
    });
    let copies = requests(&copied.log());
    let late = sequences(&sent, |at| at > gone);
    assert!(!late.is_empty() && sequences(&copies, |_| true).is_disjoint(&late), "copies after the end: {copies:?}");
    eprintln!("the first copy {:+.1} ms after the command's return", (copies[0].0 - from) * 1e3);
    let mut once: Vec<_> = copies.iter().map(|(_, sequence)| sequence).collect();
    once.dedup();
    assert_eq!(once.len(), copies.len(), "each once");
}

#[test]
fn a_mirror_that_would_harm_is_refused_and_traffic_goes_on() {
    let Some(lab) = Lab::open() else { return };
    let (host, one, _two) = host_with_mon(&lab);
    host.vsctl("add-br br1 -- add-port br0 pa type=patch peer=pb -- add-port br1 pb type=patch peer=pa");
    host.vsctl("add-port br0 pc type=patch peer=pd");
    let id = "--id=@p1 get port p1 -- --id=@p2 get port p2 -- --id=@mon get port mon -- --id=@pc get port pc";
    for (columns, why) in [
        ("select_src_port=@p1 output_port=@p1", "output_port p1 is also selected"),
        ("select_src_port=@p1,@p2 output_port=@p2", "output_port p2 is also selected"),
        ("select_all=true", "no output"),
        ("output_port=@mon", "no port is selected"),
        ("select_src_port=@p1 output_port=@pc", "output_port: No usable peer 'pd' exists in 'netdev' datapath."),
    ] {
        let done =
            host.try_vsctl(&format!("-- {id} -- --id=@m create mirror name=m0 {columns} -- set bridge br0 mirrors=@m"));
        assert!(done.code == 65 && done.stderr.contains(&format!("mirror 'm0': {why}")), "{columns}: {done}");
        let status = host.vsctl("get bridge br0 status:mirror_m0");
        assert!(status.trim().trim_matches('"').starts_with(why), "{status}");
        assert!(one.pings("10.0.0.2"), "{columns}: harms traffic");
    }
    // A second way back to br0.
    host.vsctl("add-port br1 pd type=patch peer=pc -- set port pd tag=7 -- set port pc tag=7");
    let looped = host.try_vsctl(&format!("-- {id} -- set mirror m0 select_src_port=@p2 output_port=@pc"));
    assert!(looped.code == 65 && looped.stderr.contains("mirror 'm0': a loop: "), "{looped}");
    // Repaired, it is in force, until its output goes.
    let fixed = host.try_vsctl(&format!("-- {id} -- set mirror m0 select_src_port=@p1 output_port=@mon"));
    assert!(fixed.ok() && fixed.stderr.is_empty(), "{fixed}");
    assert_eq!(host.vsctl("get bridge br0 status").trim(), "{}");
    host.vsctl("del-port mon");
    let status = host.vsctl("get bridge br0 status:mirror_m0");
    assert!(status.contains("no output: it has none, or the port is gone"), "{status}");
    assert!(one.pings("10.0.0.2"));
}

#[test]
fn an_output_whose_device_goes_is_told_and_the_mirror_comes_back_with_it() {
    let Some(lab) = Lab::open() else { return };
    let (host, one, _two) = host_with_mon(&lab);
    let probe = lab.space("probe");
    lab.cable(&host, "out", &probe, "eth0");
    host.vsctl("add-port br0 out");
    let create = "--id=@m create mirror name=m0 select_all=true output_port=@out -- set bridge br0 mirrors=@m";
    host.vsctl(&format!("-- --id=@out get port out -- {create}"));
    let seen = capture(&lab, &probe, "probe", "-i eth0 icmp");
    one.run("ping -c 1 10.0.0.2");
    eventually("copies at the far end of a cable", || {
        seen.log().contains("echo reply").then_some(()).ok_or(seen.log())
    });
    host.run("ip link del out");
    eventually("the reason", || {
        let status = host.vsctl("get bridge br0 status");
        if status.contains("output_port: could not open network device out") { Ok(()) } else { Err(status) }
    });
    assert!(one.pings("10.0.0.2"));
    lab.cable(&host, "out", &probe, "eth0");
    eventually("the mirror is back", || {
        let status = host.vsctl("get bridge br0 status");
        if status.trim() == "{}" { Ok(()) } else { Err(status) }
    });
    let seen = capture(&lab, &probe, "probe-again", "-i eth0 icmp");
    one.run("ping -c 1 10.0.0.2");
    eventually("copies again", || seen.log().contains("echo reply").then_some(()).ok_or(seen.log()));
}

/// Pods hand over super-frames with unfinished checksums; who captures the copies sees neither.
#[test]
fn copies_of_tcp_have_right_checksums_and_wire_size() {
    let Some(lab) = Lab::open() else { return };
    let (host, one, two) = host_with_mon(&lab);
    host.vsctl(MIRROR_P1);
    let seen = capture(&lab, &host, "tcp", "-vv -e -s 0 -c 3000 -i mon tcp");
    let rate = one.tcp(&two, "10.0.0.2", 1);
    assert!(rate > 1e6, "the flow itself: {:.1} Mbit/s", rate / 1e6);
    let log = eventually("the copies are read", || {
        let log = seen.log();
        if log.contains("packets captured") { Ok(log) } else { Err(log.lines().count().to_string()) }
    });
    let good = log.matches("(correct)").count();
    let bad: Vec<_> = log.lines().filter(|l| l.contains("incorrect") || l.contains("bad cksum")).collect();
    assert!(good >= 3000 && bad.is_empty(), "{good} good, bad: {bad:#?}");
    let lengths =
        log.lines().filter_map(|l| l.split("ethertype IPv4 (0x0800), length ").nth(1)?.split(':').next()?.parse().ok());
    let longest: u32 = lengths.max().expect("lengths of frames");
    assert_eq!(longest, 1514, "the longest frame");
}

/// What Open vSwitch cannot: the copies of what goes through a patch port.
#[test]
fn a_patch_port_is_mirrored() {
    let Some(lab) = Lab::open() else { return };
    let (host, one, _two) = host_with_mon(&lab);
    let three = lab.pod("three", &host, "p3", "10.0.0.3/24");
    host.vsctl(
        "add-br br1 -- add-port br1 p3 -- add-port br0 pa type=patch peer=pb -- add-port br1 pb type=patch peer=pa",
    );
    let create = "--id=@m create mirror name=m0 select_src_port=@pa select_dst_port=@pa output_port=@mon";
    host.vsctl(&format!("-- --id=@mon get port mon -- --id=@pa get port pa -- {create} -- set bridge br0 mirrors=@m"));
    let seen = capture(&lab, &host, "patch", "-i mon icmp");
    one.reaches("10.0.0.2");
    one.run("ping -c 1 10.0.0.3");
    eventually("both ways of the patch", || {
        let log = seen.log();
        let both = log.contains("10.0.0.1 > 10.0.0.3: ICMP echo request")
            && log.contains("10.0.0.3 > 10.0.0.1: ICMP echo reply");
        if both { Ok(()) } else { Err(log) }
    });
    assert!(!seen.log().contains("10.0.0.2"), "more than the patch: {}", seen.log());
    three.reaches("10.0.0.2");
}
