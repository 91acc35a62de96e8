//! Open vSwitch's helpers around its database: `ovs-appctl`, `ovs-tcpdump` and `ovs-docker`, unmodified.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use vswitch_tests::netns::{Host, Lab};
use vswitch_tests::ovs::Ovs;
use vswitch_tests::process::{Done, eventually};
use vswitch_tests::python::Python;
use vswitch_tests::text::sorted_lines;

/// The daemon's control socket and that of ovs-vswitchd answer the same where both have a command.
#[test]
fn ovs_appctl_is_answered_as_by_ovs_vswitchd() {
    let (Some(ovs), Some(lab)) = (Ovs::find(), Lab::open()) else { return };
    let host = lab.host("host");
    let beside = lab.space("theirs");
    let theirs = ovs.server(lab.dir());
    let _switch = ovs.vswitchd(&beside, &theirs);
    let add = "add-br br0 -- set bridge br0 datapath_type=netdev other_config:mac-table-size=512";
    host.vsctl(add);
    let _ = ovs.vsctl(&theirs.socket, add).output();
    let sockets =
        [host.socket().with_extension("ctl"), lab.dir().join("vswitchd.ctl")].map(|s| s.display().to_string());
    let ask = |line: &str| -> [Done; 2] {
        sockets.clone().map(|socket| {
            let mut done = ovs.run("ovs-appctl", &format!("-T 10 -t {socket} {line}"));
            done.stderr = done.stderr.replace(&socket, "CTL");
            done
        })
    };

    let [ours, theirs] = ask("list-commands").map(|done| sorted_lines(&done.output()));
    // vlog/set takes our log's filters beside Open vSwitch's specifications, and no patterns; the others are for 'vsctl'.
    let own = ["vlog/set ", "fdb/list ", "fdb/moves ", "drops/list ", "doctor/", "assist/", "umem/", "workers/"];
    for line in ours.iter().filter(|line| !own.iter().any(|own| line.contains(own))) {
        assert!(theirs.contains(line), "ovs-vswitchd has no command {line:?}");
    }
    assert!(ours.len() > 8, "{ours:?}");
    for line in [
        "fdb/flush",
        "fdb/flush br0",
        "fdb/flush nope",
        "fdb/flush br0 br0",
        "fdb/show",
        "fdb/show br0",
        "fdb/show nope",
        "fdb/add br0 br0 0 50:54:00:00:00:05",
        "fdb/add br0 br0 0 50:54:00:00:00:05",
        "fdb/add br0 br0 10 50:54:00:00:00:06",
        "fdb/add br0 br0 0 50:54",
        "fdb/add br0 br0",
        "fdb/add nope br0 0 50:54:00:00:00:05",
        "fdb/show br0",
        "fdb/stats-show br0",
        "fdb/del br0 10 50:54:00:00:00:06",
        "fdb/del br0 10 50:54:00:00:00:06",
        "fdb/del br0 0 zz",
        "fdb/del nope 0 50:54:00:00:00:05",
        "fdb/del br0 0 50:54:00:00:00:05 more",
        "fdb/flush br0",
        "fdb/show br0",
        "fdb/stats-clear br0",
        "fdb/stats-clear",
        "fdb/stats-clear nope",
        "fdb/stats-show",
        "fdb/stats-show br0",
        "fdb/stats-show nope",
        "coverage/show now",
        "version now",
        "list-commands now",
        "vlog/list now",
        "vlog/set any:console:warn",
        "vlog/set console:nolevel",
        "nope",
        "nope with arguments",
    ] {
        let [ours, theirs] = ask(line);
        assert_eq!(ours.stdout, theirs.stdout, "{line}: standard output");
        assert_eq!(ours.stderr, theirs.stderr, "{line}: standard error");
        assert_eq!(ours.code, theirs.code, "{line}: exit code");
    }
    // The same heads of tables that differ between any two switches.
    for (line, columns) in [("vlog/list", 2), ("coverage/show", 1)] {
        let heads = ask(line).map(|done| done.output().lines().take(columns).map(str::to_owned).collect::<Vec<_>>());
        let [ours, theirs] = heads.map(|head| head.join("\n").split(" hash=").next().unwrap_or_default().to_owned());
        assert_eq!(ours, theirs, "{line}");
    }
    let ended = ask("exit");
    assert!(ended.iter().all(|done| done.ok() && done.stdout.is_empty()), "{ended:?}");
    // Gone when it has answered; the other's answer may come before its end.
    let [ours, _] = ask("version");
    assert!(ours.code == 1 && ours.stderr.contains("cannot connect to \"CTL\""), "{ours}");
}

/// `ovs-tcpdump` sets up a port and a mirror to it, shows every frame of the port that it was asked about once, and takes
/// both away again.
#[test]
fn ovs_tcpdump_shows_a_port_s_frames_and_leaves_nothing_behind() {
    let (Some(python), Some(ovs), Some(lab)) = (Python::find("ovs-3.1"), Ovs::find(), Lab::open()) else { return };
    let host = lab.host("host");
    let a = lab.pod("a", &host, "p-a", "10.0.0.1/24");
    let b = lab.pod("b", &host, "p-b", "10.0.0.2/24");
    host.vsctl("add-br br0 -- add-port br0 p-a -- add-port br0 p-b");
    a.reaches("10.0.0.2");
    let before = host.vsctl("show");

    let arguments = format!("--db-sock unix:{} -i p-a -nn icmp", host.socket().display());
    let mut capture = host.spawn(&python.command(&ovs.path("ovs-tcpdump"), &arguments), &lab.dir().join("tcpdump"));
    eventually("ovs-tcpdump listens", || {
        let log = capture.log();
        if log.contains("listening on mip-a") { Ok(()) } else { Err(log) }
    });
    assert_eq!(
        host.vsctl("--columns=name,select_all find mirror name=m_p-a"),
        "name                : m_p-a\nselect_all          : false\n"
    );
    let [port, mirrored] =
        ["output_port", "select_src_port"].map(|column| host.vsctl(&format!("get mirror m_p-a {column}")));
    assert_eq!(port, host.vsctl("get port mip-a _uuid"));
    assert_eq!(mirrored, format!("[{}]\n", host.vsctl("get port p-a _uuid").trim()));
    eventually("its port is attached", || {
        let ofport = host.vsctl("get interface mip-a ofport");
        if ofport.trim().parse::<u16>().is_ok() { Ok(()) } else { Err(ofport) }
    });
    let no_complaint = |when: &str| {
        eventually(&format!("the bridge has nothing to complain of {when}"), || {
            let status = host.vsctl("get bridge br0 status");
            if status == "{}\n" { Ok(()) } else { Err(status) }
        });
    };
    no_complaint("with the mirror");
    // Both addresses are known by now, so nothing of this is flooded: it is the mirror that copies.
    assert!(b.pings("10.0.0.1"));
    eventually("three replies are shown", || {
        let log = capture.log();
        if shown(&log, "echo reply") >= 3 { Ok(()) } else { Err(log) }
    });

    host.run(&format!("kill -INT {}", capture.pid()));
    eventually("ovs-tcpdump ends", || if capture.alive() { Err(capture.log()) } else { Ok(()) });
    let log = capture.log();
    assert_eq!((shown(&log, "echo request"), shown(&log, "echo reply")), (3, 3), "{log}");
    assert!(!log.contains("Unable to tear down"), "{log}");
    assert_eq!(host.vsctl("show"), before);
    assert_eq!(host.vsctl("list mirror"), "");
    no_complaint("at the end");
    assert!(!host.try_run("ip link show dev mip-a").ok(), "its device is left behind");
}

/// How many frames with this text tcpdump has shown.
fn shown(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.contains("ICMP") && line.contains(text)).count()
}

/// Runs the script `ovs-docker`, with a `docker` that knows one container, `pid` being its process.
fn ovs_docker(ovs: &Ovs, lab: &Lab, host: &Host, pid: u32, arguments: &str) -> Done {
    let bin = lab.dir().join("bin");
    fs::create_dir_all(&bin).expect("room");
    for (name, script) in [
        ("docker", format!("test \"$1 $2 $4\" = 'inspect -f c1' && echo {pid}")),
        ("uuidgen", "cat /proc/sys/kernel/random/uuid".to_owned()),
    ] {
        fs::write(bin.join(name), format!("#!/bin/sh\n{script}\n")).expect("room");
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).expect("ours");
    }
    let tools = ovs.path("ovs-vsctl").trim_end_matches("/ovs-vsctl").to_owned();
    let path = format!("{}:{tools}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let run_dir = host.socket().with_file_name("");
    host.try_run(&format!("env PATH={path} OVS_RUNDIR={} {} {arguments}", run_dir.display(), ovs.path("ovs-docker")))
}

#[test]
fn ovs_docker_plugs_a_container() {
    let (Some(ovs), Some(lab)) = (Ovs::find(), Lab::open()) else { return };
    let host = lab.host("host");
    let peer = lab.pod("peer", &host, "peer", "192.168.1.1/24");
    let container = lab.space("container");
    let process = container.spawn("sleep 1000", &lab.dir().join("container"));
    let docker = |arguments: &str| ovs_docker(&ovs, &lab, &host, process.pid(), arguments);
    eventually("the container's process is in its namespace", || {
        let here = fs::read_link("/proc/self/ns/net").ok();
        let there = fs::read_link(format!("/proc/{}/ns/net", process.pid())).ok();
        if there.is_some() && there != here { Ok(()) } else { Err("not yet".to_owned()) }
    });

    let done =
        docker("add-port br-docker eth1 c1 --ipaddress=192.168.1.2/24 --mtu=1450 --macaddress=a2:c3:0d:49:7f:f8");
    assert!(done.ok() && done.stderr.is_empty(), "{done}");
    host.vsctl("add-port br-docker peer");
    let find = "--bare --columns=name find interface external_ids:container_id=c1 external_ids:container_iface=eth1";
    let port = host.vsctl(find).trim().to_owned();
    assert!(port.ends_with("_l"), "{port}");
    assert_eq!(host.vsctl(&format!("port-to-br {port}")), "br-docker\n");
    peer.reaches("192.168.1.2");
    let again = docker("add-port br-docker eth1 c1");
    assert!(again.code == 1 && again.stderr.contains("Port already attached"), "{again}");

    let _ = docker("set-vlan br-docker eth1 c1 5").output();
    assert_eq!(host.vsctl(&format!("get port {port} tag")), "5\n");
    host.vsctl("set port peer tag=5");
    peer.reaches("192.168.1.2");

    let _ = docker("del-port br-docker eth1 c1").output();
    assert_eq!(host.vsctl("list-ports br-docker"), "peer\n");
    let again = docker("del-port br-docker eth1 c1");
    assert!(again.code == 1 && again.stderr.contains("Failed to find any attached port"), "{again}");
    let _ = docker("add-port br-docker eth2 c1").output();
    let _ = docker("add-port br-docker eth3 c1").output();
    let _ = docker("del-ports br-docker c1").output();
    assert_eq!(host.vsctl("list-ports br-docker"), "peer\n");
}
