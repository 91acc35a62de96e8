//! Patch ports between the bridges of a real daemon, configured with `ovs-vsctl` and with `vsctl`.

use vswitch_tests::netns::{Host, Lab, Space};
use vswitch_tests::ovs::Ovs;
use vswitch_tests::process::eventually;

/// A host with br0 and pod one, br1 and pod two.
fn two_bridges(lab: &Lab) -> (Host, Space, Space) {
    let host = lab.host("host");
    let one = lab.pod("one", &host, "p1", "10.0.0.1/24");
    let two = lab.pod("two", &host, "p2", "10.0.0.2/24");
    host.vsctl("add-br br0 -- add-port br0 p1 -- add-br br1 -- add-port br1 p2");
    (host, one, two)
}

#[test]
fn ovs_vsctl_joins_two_bridges_as_the_tour_has_it() {
    let (Some(ovs), Some(lab)) = (Ovs::find(), Lab::open()) else { return };
    let (host, one, two) = two_bridges(&lab);
    assert!(!one.pings("10.0.0.2"), "nothing joins the bridges yet");
    let set =
        "set interface patchC type=patch options:peer=patchA -- set interface patchA type=patch options:peer=patchC";
    let done = ovs.vsctl(&host.socket(), &format!("add-port br1 patchC -- add-port br0 patchA -- {set}"));
    assert!(done.ok() && done.stderr.is_empty(), "{done}");
    one.reaches("10.0.0.2");
    let rate = one.tcp(&two, "10.0.0.2", 1);
    assert!(rate > 1e6, "{:.1} Mbit/s", rate / 1e6);
    eventually("the counters of both ends agree", || {
        let get =
            |port: &str, key: &str| host.vsctl(&format!("get interface {port} statistics:{key}")).trim().to_owned();
        let (sent, received) = (get("patchA", "tx_packets"), get("patchC", "rx_packets"));
        if sent == received && sent.parse::<u64>().is_ok_and(|n| n > 10) {
            Ok(())
        } else {
            Err(format!("{sent}, {received}"))
        }
    });
    let _ = ovs.vsctl(&host.socket(), "del-port patchC").output();
    assert!(!one.pings("10.0.0.2"), "the patch is still there");
}

#[test]
fn one_end_alone_is_a_warning_and_a_bad_one_an_error() {
    let Some(lab) = Lab::open() else { return };
    let (host, one, _two) = two_bridges(&lab);
    let alone = host.try_vsctl("add-port br0 pa type=patch peer=pb");
    let expected = "warning: pa: No usable peer 'pb' exists in 'netdev' datapath. There is no interface pb; \
                    'vsctl add-port BRIDGE pb type=patch peer=pa' adds it to a bridge";
    assert!(alone.ok() && alone.stderr.contains(expected), "{alone}");
    assert_eq!(host.vsctl("get interface pa link_state admin_state").trim(), "up\nup");
    let bad = host.try_vsctl("add-port br0 px type=patch");
    assert!(bad.code == 65 && bad.stderr.contains("px: patch type requires valid 'peer' argument"), "{bad}");
    // What the text says, done.
    host.vsctl("del-port px -- add-port br1 pb type=patch peer=pa");
    assert_eq!(host.vsctl("get interface pa error").trim(), "[]");
    one.reaches("10.0.0.2");
    let elsewhere = host.try_vsctl("set interface pb options:peer=p1");
    assert!(elsewhere.stderr.contains("p1 is no patch port"), "{elsewhere}");
    assert!(!one.pings("10.0.0.2"), "a patch with one side still carries");
}
