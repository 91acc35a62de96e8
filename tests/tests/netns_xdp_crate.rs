//! Ports by AF_XDP whose frames the crate `afxdp` moves, with a real daemon that has it, or not: as this test, which has a
//! cargo feature of the same name.

use vswitch_tests::netns::Host;

fn status(host: &Host, port: &str, key: &str) -> String {
    host.vsctl(&format!("get interface {port} status:{key}")).trim().trim_matches('"').to_owned()
}

#[cfg(not(feature = "afxdp"))]
#[test]
fn a_daemon_without_the_feature_names_it() {
    let Some(lab) = vswitch_tests::netns::Lab::open() else { return };
    let host = lab.host("host");
    let _pod = lab.pod("one", &host, "p1", "10.0.0.1/24");
    host.vsctl("add-br br0");
    let done = host.try_vsctl("add-port br0 p1 type=afxdp xdp-backend=afxdp");
    assert_eq!(done.code, 65, "{done}");
    let error = host.vsctl("get interface p1 error");
    for text in ["xdp-backend=afxdp: this vswitch was built without the cargo feature 'afxdp'", "--features afxdp"] {
        assert!(error.contains(text) && done.stderr.contains(text), "{error}\n{done}");
    }
    assert!(!host.run("ip link show p1").contains("xdp"));
    host.vsctl("set interface p1 options:xdp-backend=own");
    assert_eq!(status(&host, "p1", "xdp-backend"), "own");
}

#[cfg(feature = "afxdp")]
mod with_it {
    use super::status;
    use std::thread;
    use std::time::Duration;
    use vswitch_tests::checksums::{self, Watch};
    use vswitch_tests::netns::{Host, Lab, Space};
    use vswitch_tests::process::eventually;

    /// A host with bridge br0 and two pods on it, 10.0.0.1 and 10.0.0.2, on the ports p1 and p2, both by the crate.
    fn two_pods(lab: &Lab) -> (Host, Space, Space) {
        let host = lab.host("host");
        let one = lab.pod("one", &host, "p1", "10.0.0.1/24");
        let two = lab.pod("two", &host, "p2", "10.0.0.2/24");
        host.vsctl("add-br br0");
        for port in ["p1", "p2"] {
            host.vsctl(&format!("add-port br0 {port} type=afxdp xdp-backend=afxdp"));
        }
        (host, one, two)
    }

    #[test]
    fn tcp_flows_with_default_offloads_and_right_checksums() {
        let Some(lab) = Lab::open() else { return };
        let (host, one, two) = two_pods(&lab);
        one.reaches("10.0.0.2");
        for port in ["p1", "p2"] {
            assert_eq!(status(&host, port, "io"), "af_xdp (native, copied by the kernel, 1 queue)");
            assert_eq!(status(&host, port, "xdp-backend"), "afxdp");
            assert!(status(&host, port, "xdp_frags").starts_with("off: xdp-backend=afxdp"));
        }
        checksums::finish(&host, "p2");
        let watch = Watch::start(&two, "eth0", &lab.dir().join("watch"));
        let rate = one.tcp(&two, "10.0.0.2", 1);
        watch.check("by the crate");
        assert!(rate > 1e6, "{:.1} Mbit/s", rate / 1e6);
        // Beside our own, and changed to it under load.
        host.vsctl("set interface p2 options:xdp-backend=own");
        assert_eq!(status(&host, "p2", "xdp-backend"), "own");
        one.reaches("10.0.0.2");
        host.vsctl("set interface p2 options:xdp-backend=afxdp");
        one.reaches("10.0.0.2");
        assert_eq!(host.vsctl("get interface p2 error").trim(), "[]");
    }

    #[test]
    fn what_it_cannot_carry_is_one_error() {
        let Some(lab) = Lab::open() else { return };
        let (host, one, _two) = two_pods(&lab);
        one.reaches("10.0.0.2");
        let jumbo = lab.pod("jumbo", &host, "p3", "10.0.0.3/24");
        for (space, device) in [(&*host, "p3"), (&jumbo, "eth0")] {
            space.run(&format!("ip link set {device} mtu 9000"));
        }
        let done = host.try_vsctl("add-port br0 p3 type=afxdp xdp-backend=afxdp");
        assert_eq!(done.code, 65, "{done}");
        assert!(done.stderr.contains("its MTU is too large for xdp-backend=afxdp, which takes 3818"), "{done}");
        host.vsctl("set interface p3 options:xdp-backend=own");
        jumbo.reaches("10.0.0.1");
    }

    #[test]
    fn killed_it_leaves_no_program_and_the_device_works_for_the_host() {
        let Some(lab) = Lab::open() else { return };
        let (mut host, one, _two) = two_pods(&lab);
        one.reaches("10.0.0.2");
        assert!(host.run("ip link show p1").contains("vswitch_xdp"));
        host.kill();
        eventually("no program is left", || {
            let shown = host.run("ip -d link show");
            if shown.contains("xdp") { Err(shown) } else { Ok(()) }
        });
        host.run("ip addr add 10.0.0.254/24 dev p1");
        one.reaches("10.0.0.254");
        host.run("ip addr del 10.0.0.254/24 dev p1");
        host.start();
        one.reaches("10.0.0.2");
        assert_eq!(host.stop(), 0);
        assert!(!host.run("ip -d link show").contains("xdp"), "a program is left behind");
    }

    /// A device that goes while frames are sent to it is an error of its own port, and comes back.
    #[test]
    fn a_device_that_goes_under_load_takes_nothing_else_down() {
        let Some(lab) = Lab::open() else { return };
        let (mut host, one, _two) = two_pods(&lab);
        let _three = lab.pod("three", &host, "p3", "10.0.0.3/24");
        host.vsctl("add-port br0 p3 type=afxdp xdp-backend=afxdp");
        one.reaches("10.0.0.3");
        thread::scope(|scope| {
            let pings = scope.spawn(|| one.try_run("ping -q -i 0.002 -c 500 -W 0.1 10.0.0.3"));
            thread::sleep(Duration::from_millis(200));
            host.run("ip link del p3");
            let _ = pings.join();
        });
        eventually("the port has an error", || {
            let error = host.vsctl("get interface p3 error");
            if error.contains("No such device") { Ok(()) } else { Err(error) }
        });
        one.reaches("10.0.0.2");
        thread::sleep(Duration::from_secs(1));
        let before = host.cpu_ticks();
        thread::sleep(Duration::from_secs(3));
        let used = host.cpu_ticks() - before;
        // 300 ticks in 3 s: 1 % is 3.
        assert!(used < 3, "idle: {used} ticks of 10 ms in 3 s");
    }
}
