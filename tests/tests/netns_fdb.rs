//! Addresses over real devices: static ones, links that go down, stations that flap, and a flood of senders.

use serde_json::Value;
use vswitch_tests::netns::{Host, Lab, Space};
use vswitch_tests::process::eventually;

const FRAMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/frames.py");

/// A host with bridge br0 and three pods on it, 10.0.0.1 to 10.0.0.3, on the ports p1 to p3.
fn three_pods(lab: &Lab) -> (Host, [Space; 3]) {
    let host = lab.host("host");
    host.vsctl("add-br br0");
    let pods = [1, 2, 3].map(|n| {
        let pod = lab.pod(&format!("pod{n}"), &host, &format!("p{n}"), &format!("10.0.0.{n}/24"));
        host.vsctl(&format!("add-port br0 p{n}"));
        pod
    });
    (host, pods)
}

fn mac(pod: &Space) -> String {
    pod.run("cat /sys/class/net/eth0/address").trim().to_owned()
}

/// What `vsctl fdb show` says of an address: its port, kind and age.
fn entry(host: &Host, mac: &str) -> Option<(String, String, Option<i64>)> {
    let shown: Value = serde_json::from_str(&host.vsctl("fdb show br0 -f json")).expect("JSON");
    assert_eq!(shown["headings"], serde_json::json!(["port", "remote", "vlan", "mac", "type", "age"]));
    let rows = shown["data"].as_array().expect("rows");
    let row = rows.iter().find(|row| row[3] == mac)?;
    let text = |i: usize| row[i].as_str().unwrap_or_default().to_owned();
    Some((text(0), text(4), row[5].as_i64()))
}

/// Experimental frames that a pod receives, in a file that tcpdump would have.
fn listen(lab: &Lab, pod: &Space, name: &str) -> vswitch_tests::netns::Running {
    let running = pod.spawn(&format!("python3 {FRAMES} listen eth0"), &lab.dir().join(name));
    eventually("the listener is ready", || {
        let log = running.log();
        if log.starts_with("ready") { Ok(()) } else { Err(log) }
    });
    running
}

/// An experimental frame with one byte of payload to tell it by.
fn frame(to: &str, from: &str, tell: u8) -> String {
    format!("{}{}88b5{}", to.replace(':', ""), from.replace(':', ""), format!("{tell:02x}").repeat(46))
}

fn hears(listener: &vswitch_tests::netns::Running, frame: &str) {
    eventually("the frame arrives", || if listener.log().contains(frame) { Ok(()) } else { Err(listener.log()) });
}

#[test]
fn static_addresses_are_set_shown_kept_and_taken_back() {
    let Some(lab) = Lab::open() else { return };
    let (mut host, [one, two, three]) = three_pods(&lab);
    one.reaches("10.0.0.2");
    let (mac1, mac2) = (mac(&one), mac(&two));
    let (port, kind, age) = entry(&host, &mac2).expect("learned");
    assert!((port.as_str(), kind.as_str()) == ("p2", "learned") && age.is_some(), "{port} {kind} {age:?}");
    let text = host.vsctl("fdb show br0");
    assert!(text.starts_with("port remote vlan mac "), "{text}");

    // Sent to p3 by configuration, wherever it is heard.
    host.vsctl(&format!("fdb add br0 p3 0 {mac2}"));
    let at_p3 = Some(("p3".to_owned(), "static".to_owned(), None));
    assert_eq!(entry(&host, &mac2), at_p3);
    let (at_two, at_three) = (listen(&lab, &two, "two"), listen(&lab, &three, "three"));
    two.run(&format!("python3 {FRAMES} send eth0 {}", frame("ff:ff:ff:ff:ff:ff", &mac2, 1)));
    hears(&at_three, &frame("ff:ff:ff:ff:ff:ff", &mac2, 1));
    one.run(&format!("python3 {FRAMES} send eth0 {}", frame(&mac2, &mac1, 2)));
    hears(&at_three, &frame(&mac2, &mac1, 2));
    assert!(!at_two.log().contains(&frame(&mac2, &mac1, 2)), "{}", at_two.log());
    host.vsctl("fdb flush br0");
    assert_eq!(entry(&host, &mac2), at_p3, "a flush is for what was learned");

    host.kill();
    host.start();
    assert_eq!(entry(&host, &mac2), at_p3, "kept in the database");
    let told = host.try_vsctl(&format!("fdb add br0 p2 0 {mac2}"));
    assert!(told.ok() && told.stderr.contains(&format!("{mac2} was at p3 in VLAN 0 until now")), "{told}");
    host.vsctl(&format!("fdb del br0 0 {}", mac2.to_uppercase()));
    assert_ne!(entry(&host, &mac2).map(|(_, kind, _)| kind).as_deref(), Some("static"));
    let told = host.try_vsctl(&format!("fdb del br0 0 {mac2}"));
    assert!(!told.ok() && told.stderr.contains(&format!("{mac2} is not static in VLAN 0 of br0")), "{told}");
    one.reaches("10.0.0.2");
}

#[test]
fn a_static_address_waits_for_its_port() {
    let Some(lab) = Lab::open() else { return };
    let (host, _pods) = three_pods(&lab);
    let told = host.try_vsctl("fdb add br0 p9 0 02:00:00:00:00:99");
    let why = "fdb-0-02:00:00:00:00:99=p9 has no effect yet: bridge br0 has no port p9";
    assert!(told.ok() && told.stderr.contains(why), "{told}");
    assert!(host.vsctl("get bridge br0 status").contains(why), "{}", host.vsctl("get bridge br0 status"));
    assert_eq!(entry(&host, "02:00:00:00:00:99"), None);
    let _pod = lab.pod("nine", &host, "p9", "10.0.0.9/24");
    host.vsctl("add-port br0 p9");
    let there = Some(("p9".to_owned(), "static".to_owned(), None));
    assert_eq!(entry(&host, "02:00:00:00:00:99"), there);
    assert!(!host.vsctl("get bridge br0 status").contains("p9"));
    host.vsctl("del-port br0 p9");
    assert!(host.vsctl("get bridge br0 status").contains(why));
    let told = host.try_vsctl("set bridge br0 other_config:fdb-x=p1");
    assert!(told.ok() && told.stderr.contains("fdb-x is no address"), "{told}");
}

/// At whichever end the link goes down: what was behind it may be elsewhere, so it is looked for everywhere.
#[test]
fn a_link_that_goes_down_takes_its_addresses_along() {
    let Some(lab) = Lab::open() else { return };
    let (host, [one, two, three]) = three_pods(&lab);
    let (mac1, mac2) = (mac(&one), mac(&two));
    let at_three = listen(&lab, &three, "three");
    let ends: [(&Space, &str); 2] = [(&host, "p2"), (&two, "eth0")];
    for (tell, (space, device)) in (1..).zip(ends) {
        one.reaches("10.0.0.2");
        assert_eq!(entry(&host, &mac2).map(|(port, ..)| port).as_deref(), Some("p2"));
        host.vsctl(&format!("fdb add br0 p2 7 02:00:00:00:00:0{tell}"));
        space.run(&format!("ip link set {device} down"));
        eventually("the address is forgotten", || match entry(&host, &mac2) {
            None => Ok(()),
            Some(there) => Err(format!("{there:?}")),
        });
        assert!(entry(&host, &format!("02:00:00:00:00:0{tell}")).is_some(), "a static one stays");
        one.run(&format!("python3 {FRAMES} send eth0 {}", frame(&mac2, &mac1, tell)));
        hears(&at_three, &frame(&mac2, &mac1, tell));
        space.run(&format!("ip link set {device} up"));
    }
    one.reaches("10.0.0.2");
}

#[test]
fn two_stations_with_one_address_are_told_in_a_sentence() {
    let Some(lab) = Lab::open() else { return };
    let (host, [one, two, _three]) = three_pods(&lab);
    let shared = "02:00:00:00:00:77";
    let call = frame("ff:ff:ff:ff:ff:ff", shared, 3);
    eventually("the log tells of it", || {
        for pod in [&one, &two] {
            pod.run(&format!("python3 {FRAMES} send eth0 {call}"));
        }
        let log = host.log();
        if log.contains(shared) { Ok(()) } else { Err(log) }
    });
    let log = host.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(shared)).collect();
    let [line] = lines[..] else { panic!("{log}") };
    let told = format!("bridge br0: address {shared} in VLAN 0 keeps moving between p");
    assert!(line.contains(&told) && line.contains(" moves in ") && line.contains(" a second; "), "{line}");
    let moves: Value = serde_json::from_str(&host.vsctl("fdb moves br0 -f json")).expect("JSON");
    let headings = serde_json::json!(["vlan", "mac", "from", "to", "moves", "per_second", "age"]);
    assert_eq!(moves["headings"], headings);
    let row =
        moves["data"].as_array().and_then(|rows| rows.iter().find(|r| r[1] == shared)).expect("remembered").clone();
    assert!(row[4].as_i64() > Some(5) && row[5].as_f64() > Some(0.0), "{row}");
    let text = host.vsctl("fdb moves br0");
    assert!(text.starts_with("vlan mac ") && text.contains(shared), "{text}");
}

/// A million random senders at one port; a hundred stations at another go on being known, and nobody else hears what is
/// meant for them.
#[test]
fn a_flood_of_senders_takes_nothing_from_others() {
    let Some(lab) = Lab::open() else { return };
    let (host, [one, two, three]) = three_pods(&lab);
    let (mac1, mac3) = (mac(&one), mac(&three));
    let station = |n: u8| format!("02:bb:00:00:00:{n:02x}");
    let talk = || {
        let frames: Vec<_> = (0..100).map(|n| frame(&mac1, &station(n), 1)).collect();
        two.run(&format!("python3 {FRAMES} send eth0 {}", frames.join(" ")));
    };
    one.reaches("10.0.0.2");
    one.reaches("10.0.0.3");
    talk();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    talk();
    let at_three = listen(&lab, &three, "three");
    three.run(&format!("python3 {FRAMES} flood eth0 {mac1} 1000000"));
    let shown: Value = serde_json::from_str(&host.vsctl("fdb show br0 -f json")).expect("JSON");
    let rows = shown["data"].as_array().expect("rows");
    let known = |prefix: &str| rows.iter().filter(|r| r[3].as_str().is_some_and(|m| m.starts_with(prefix))).count();
    assert_eq!(rows.len(), 8192, "the table is full");
    assert_eq!(known("02:bb:"), 100);
    assert_eq!((known(&mac1), known(&mac(&two))), (1, 1));
    for n in [0, 50, 99] {
        one.run(&format!("python3 {FRAMES} send eth0 {}", frame(&station(n), &mac1, 9)));
    }
    one.run(&format!("python3 {FRAMES} send eth0 {}", frame(&mac3, &mac1, 9)));
    hears(&at_three, &frame(&mac3, &mac1, 9));
    assert!(!at_three.log().contains("02bb0000"), "{}", at_three.log());
    let counters = host.vsctl("get interface p3 statistics");
    eprintln!("p3 after the flood: {counters}");
}
