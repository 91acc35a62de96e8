//! Runs of vsctl from end to end, on our database server; where a switch is needed the test plays it, by writing what
//! a switch would write.

mod harness;

use harness::{Ran, Server, eventually, run, vsctl};
use vswitch_tests::text::{sorted_lines, without_uuids};

/// Words separated by blanks.
fn split(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Runs without waiting for a switch; must succeed and say nothing on standard error.
fn quietly(server: &Server, line: &str) -> String {
    let ran = server.vsctl(&[vec!["--no-wait", "--timeout=60"], split(line)].concat());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
    ran.out
}

/// Runs without waiting; must fail with this code and this message.
fn refused(server: &Server, line: &str, code: i32, message: &str) {
    let ran = server.vsctl(&[vec!["--no-wait", "--timeout=60"], split(line)].concat());
    let message = if message.is_empty() { String::new() } else { format!("vsctl: {message}\n") };
    assert_eq!(ran, Ran { code, out: String::new(), err: message }, "{line}");
}

#[test]
fn without_a_switch() {
    let ran = run(vsctl().args(["--socket", "/nonexistent/db.sock", "show"]));
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert_eq!(
        ran.err,
        "vsctl: cannot reach the switch: /nonexistent/db.sock does not exist\n\
         vsctl: Start the daemon ('vswitch', as root), or name its socket with --socket PATH or VSWITCH_SOCKET.\n"
    );
    let ran = run(vsctl().env("VSWITCH_SOCKET", "/nonexistent/from-env").arg("show"));
    assert!(ran.err.contains("/nonexistent/from-env does not exist"), "{}", ran.err);
    let ran = run(vsctl().args(["--retry", "--timeout=1", "--db=unix:/nonexistent/x", "show"]));
    assert_eq!(ran.code, 142);
    assert_eq!(ran.err, "vsctl: timed out after 1 s: no connection to /nonexistent/x; is vswitch running?\n");
}

#[test]
fn a_switch_elsewhere() {
    let ran = run(vsctl().args(["--db=tcp:127.0.0.1:1", "show"]));
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert_eq!(
        ran.err,
        "vsctl: cannot reach the switch: nobody listens on tcp:127.0.0.1:1\n\
         vsctl: On its host, 'vsctl set-manager ptcp:1' has it listen there.\n"
    );
    let server = Server::ours();
    let listener = std::net::TcpListener::bind("[::1]:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let socket = server.socket();
    std::thread::spawn(move || {
        // A tunnel, as ssh makes one.
        while let Ok((caller, _)) = listener.accept() {
            let callee = std::os::unix::net::UnixStream::connect(&socket).expect("the server");
            let (mut from, mut to) = (caller.try_clone().expect("a copy"), callee.try_clone().expect("a copy"));
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let (mut from, mut to) = (callee, caller);
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    });
    let db = format!("--db=unix:/nonexistent,tcp:[::1]:{port}");
    let ran = run(vsctl().args([&db, "--no-wait", "add-br", "br0", "--", "list-br"]));
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "br0\n", ""));
}

#[test]
fn what_is_logged() {
    let server = Server::ours();
    let log = server.socket().with_file_name("vsctl.log");
    let file = format!("--log-file={}", log.display());
    server.vsctl(&["--no-wait", &file, "add-br", "br0"]);
    server.vsctl(&["--no-wait", &file, "-vconsole:off", "set-manager", "odd"]);
    let ran = server.vsctl(&["--no-wait", &file, "-vfile:err", "-vjsonrpc:console:dbg", "list-ports", "br1"]);
    assert!(ran.err.starts_with("vsctl: > get_schema [\"Open_vSwitch\"]\nvsctl: < (the schema)\n"), "{}", ran.err);
    let text = std::fs::read_to_string(log).expect("a log");
    let told: Vec<&str> = text.lines().filter_map(|line| line.split_once('|').map(|(_, told)| told)).collect();
    assert_eq!(told.len(), 4, "{text}");
    assert!(told[0].starts_with("00001|vsctl|INFO|called as vsctl --socket "), "{text}");
    assert!(told[2].starts_with("00002|vsctl|WARN|odd is stored, but hardly a target"), "{text}");
    assert!(told[3].starts_with("00001|vsctl|ERR|no bridge named br1"), "{text}");
    let ran = server.vsctl(&["--no-wait", "--log-file=/nonexistent/log", "list-br"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "br0\n"));
    assert!(ran.err.starts_with("vsctl: no log: /nonexistent/log: "), "{}", ran.err);
}

#[test]
fn a_socket_that_nobody_serves() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("db.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let ran = run(vsctl().arg("--socket").arg(&path).args(["--timeout=1", "show"]));
    assert_eq!(ran.code, 142);
    assert!(ran.err.ends_with("does not answer; nothing was changed\n"), "{}", ran.err);
    drop(listener);
    let ran = run(vsctl().arg("--socket").arg(&path).arg("show"));
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains(": nobody listens on "), "{}", ran.err);
}

#[test]
fn the_short_form() {
    let server = Server::ours();
    quietly(&server, "add-br br0");
    quietly(&server, "add-port br0 vx0 type=vxlan key=5000 remote_ip=192.0.2.2 tag=7 mtu_request=1400");
    assert_eq!(
        quietly(&server, "get interface vx0 type options mtu_request"),
        "vxlan\n{key=\"5000\", remote_ip=\"192.0.2.2\"}\n1400\n"
    );
    assert_eq!(quietly(&server, "get port vx0 tag"), "7\n");
    refused(
        &server,
        "add-port br0 p1 remoteip=1",
        1,
        "remoteip=1: there is no setting 'remoteip'; did you mean remote_ip?",
    );
    refused(&server, "add-port br0 p1 tag=5000", 1, "tag=5000: 5000 is not in the valid range 0 to 4095 (inclusive)");
    refused(&server, "add-port br0 p1 key=5", 1, "key=5: only a tunnel has this; say what kind, as in type=vxlan");
    assert_eq!(quietly(&server, "list-ports br0"), "vx0\n");
    assert_eq!(quietly(&server, "--may-exist add-port br0 vx0 type=vxlan key=5000 tag=7"), "");
    let ran = server.vsctl(&split("--no-wait --may-exist add-port br0 vx0 type=vxlan key=5001 tag=7"));
    assert_eq!(ran.code, 0);
    assert_eq!(
        ran.err,
        "vsctl: port vx0 exists already and is not changed: key=5001 does not hold; 'vsctl set' changes it\n"
    );
}

#[test]
fn errors_name_the_value_and_a_way_out() {
    let server = Server::ours();
    refused(&server, "list-ports br9", 1, "no bridge named br9; there are none (add it: vsctl add-br br9)");
    quietly(&server, "add-br br0 -- add-br tenantA -- add-port br0 p1");
    refused(&server, "br-exists br9", 2, "");
    refused(&server, "list-ports br9", 1, "no bridge named br9; there are: br0, tenantA (see 'vsctl list-br')");
    refused(&server, "del-port p9", 1, "no port named p9; there are: p1");
    refused(&server, "del-port br0", 1, "br0 is its bridge's own port; 'vsctl del-br br0' deletes the bridge");
    refused(&server, "del-port tenantA p1", 1, "port p1 is on bridge br0, not on tenantA");
    refused(&server, "add-br br0", 1, "cannot add bridge br0: a bridge of that name exists (del-br br0 deletes it)");
    refused(&server, "add-port tenantA p1", 1, "cannot add port p1: a port of that name exists on bridge br0");
    refused(&server, "set port p9 tag=1", 1, "no row 'p9' in Port; there are: br0, p1, tenantA");
    refused(&server, "set port p1 tga=1", 1, "tga=1: Port has no column 'tga'; did you mean 'tag'?");
    refused(&server, "get interface p1 options:key", 1, "Interface p1 has no key key in options, which is {}");
    refused(&server, "list mirror m0", 1, "no row 'm0' in Mirror, which is empty");
    refused(&server, "set port p1 qos=@q", 1, "@q is not defined; define it by '-- --id=@q create …' or 'get …'");
    quietly(&server, "set port p1 tag=5");
    refused(
        &server,
        "add port p1 tag 6",
        1,
        "column tag of Port p1 would be [5, 6], but can hold only 1; use 'set' to replace it",
    );
    let refusal = server.vsctl(&split("--no-wait set port p1 qos=550e8400-e29b-41d4-a716-446655440000"));
    assert_eq!(refusal.code, 1);
    assert!(
        refusal.err.starts_with("vsctl: the switch refuses this: referential integrity violation: "),
        "{}",
        refusal.err
    );
    assert_eq!(quietly(&server, "get port p1 tag qos"), "5\n[]\n");
}

/// `add-port` and `del-port` read few rows at first; what stands in the way may be in others.
#[test]
fn what_takes_a_name_is_found_wherever_it_is() {
    let server = Server::ours();
    quietly(&server, "add-br br0 -- add-bond br0 bond0 e1 e2 -- add-port br0 p1");
    // A VLAN bridge, as ovs-vsctl makes one.
    let port = "--id=@p create port name=vlan9 fake_bridge=true tag=9 interfaces=@i";
    quietly(&server, &format!("--id=@i create interface name=vlan9 -- {port} -- add bridge br0 ports @p"));
    let bond = "cannot add port e1: port bond0 on bridge br0 has an interface of that name";
    refused(&server, "add-port br0 e1", 1, bond);
    refused(&server, "--may-exist add-port br0 e1", 1, bond);
    refused(&server, "add-port br0 new -- add-port br0 e1", 1, bond);
    refused(&server, "--may-exist add-port br0 bond0", 1, "port bond0 exists on bridge br0, but is a bond");
    refused(&server, "add-port nope p2", 1, "no bridge named nope; there are: br0, vlan9 (see 'vsctl list-br')");
    quietly(&server, "add-port vlan9 p9 -- --may-exist add-port br0 p1");
    assert_eq!(quietly(&server, "get port p9 tag"), "9\n");
    assert_eq!(quietly(&server, "list-ports br0"), "bond0\np1\n");
    refused(&server, "del-port br0 p9", 1, "port p9 is on bridge vlan9, not on br0");
    refused(&server, "del-port e1", 1, "no port named e1; there are: bond0, p1, p9");
    quietly(&server, "--if-exists del-port e1 -- del-port bond0 -- add-port br0 e1 -- add-bond br0 bond1 e2 e3");
    quietly(&server, "--if-exists --with-iface del-port e3 -- del-port vlan9 p9");
    assert_eq!(quietly(&server, "list-ports br0 -- list-ports vlan9"), "e1\np1\n");
}

#[test]
fn all_commands_of_a_line_or_none() {
    let server = Server::ours();
    refused(&server, "add-br br0 -- add-port br0 p1 -- del-port p2", 1, "no port named p2; there are: p1");
    assert_eq!(quietly(&server, "list-br"), "");
    quietly(&server, "--dry-run add-br br0");
    assert_eq!(quietly(&server, "list-br"), "");
}

#[test]
fn a_line_of_very_many_commands() {
    let server = Server::ours();
    let mut line = "add-br br0".to_owned();
    for n in 0..2000 {
        line += &format!(" -- add-port br0 p{n} tag={} -- set interface p{n} type=internal", n % 4000);
        line += &format!(" -- set bridge br0 external_ids:key{n}={n}");
    }
    quietly(&server, &line);
    assert_eq!(quietly(&server, "list-ports br0").lines().count(), 2000);
    assert_eq!(quietly(&server, "br-get-external-id br0").lines().count(), 2000);
    let line: Vec<String> = (0..2000).map(|n| format!("del-port p{n}")).collect();
    quietly(&server, &line.join(" -- "));
    assert_eq!(quietly(&server, "list-ports br0 -- --columns=name find interface type=internal name!=br0"), "");
}

#[test]
fn new_records_are_printed_with_the_uuids_they_got() {
    let server = Server::ours();
    let line = "--bare -- --id=@q create qos queues:1=@e -- --id=@e create queue -- --columns=_uuid,queues list qos";
    let printed = quietly(&server, line);
    let lines: Vec<&str> = printed.lines().collect();
    let stored = quietly(&server, "--bare --columns=_uuid,queues list qos");
    assert_eq!(stored, format!("{}\n{}\n", lines[2], lines[3]));
    assert_eq!((lines[0], &format!("1={}", lines[1])), (lines[2], &lines[3].to_owned()));

    let ran = server.vsctl(&split("--no-wait -- --id=@m create mirror name=m"));
    assert_eq!((ran.code, without_uuids(&ran.out).as_str()), (0, "UUID\n"));
    assert_eq!(ran.err, "vsctl: the record @m is gone at once, because nothing refers to it\n");
}

#[test]
fn nothing_to_do_waits_for_nobody() {
    let server = Server::ours();
    quietly(&server, "add-br br0 -- add-port br0 p1 tag=5 trunks=7");
    for line in ["--may-exist add-br br0", "set port p1 tag=5", "show", "--if-exists del-br no", "add port p1 trunks 7"]
    {
        let ran = server.vsctl(&split(line));
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
    }
    assert_eq!(quietly(&server, "get open . next_cfg"), "0\n");
}

#[test]
fn many_at_a_time() {
    let server = Server::ours();
    quietly(&server, "add-br br0");
    let names: Vec<String> = (0..24).map(|n| format!("p{n}")).collect();
    let start = |name: &String| {
        let key = format!("external_ids:{name}=1");
        let words = ["--no-wait", "add-port", "br0", name, "--", "set", "bridge", "br0", &key];
        server.command(&words).spawn().expect("vsctl starts")
    };
    let runs: Vec<_> = names.iter().map(start).collect();
    for mut child in runs {
        assert!(child.wait().expect("vsctl ends").success());
    }
    let mut expected = names.clone();
    expected.sort();
    assert_eq!(sorted_lines(&quietly(&server, "list-ports br0")), expected);
    let ids = quietly(&server, "--bare get bridge br0 external_ids");
    assert_eq!(ids.matches("=\"1\"").count(), names.len());
}

#[test]
fn whoever_comes_second_is_told_what_the_first_did() {
    let server = Server::ours();
    let runs = (0..8).map(|_| {
        let mut command = server.command(&["--no-wait", "add-br", "br0"]);
        command.stderr(std::process::Stdio::piped()).spawn().expect("vsctl starts")
    });
    let runs: Vec<_> = runs.collect();
    let ended: Vec<_> = runs.into_iter().map(|child| child.wait_with_output().expect("vsctl ends")).collect();
    let failed: Vec<_> = ended.iter().filter(|run| !run.status.success()).collect();
    assert_eq!(failed.len(), 7);
    for run in failed {
        let text = String::from_utf8_lossy(&run.stderr);
        assert_eq!(text, "vsctl: cannot add bridge br0: a bridge of that name exists (del-br br0 deletes it)\n");
    }
}

/// Runs a line that waits; once it has raised `next_cfg` to `cfg`, writes what a switch would.
fn with_a_switch(server: &Server, line: &str, cfg: u32, writes: &str) -> Ran {
    let mut command = server.command(&[vec!["--timeout=60"], split(line)].concat());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().expect("vsctl starts");
    eventually("next_cfg is raised", || quietly(server, "get open . next_cfg") == format!("{cfg}\n"));
    quietly(server, &format!("{writes} set open . cur_cfg={cfg}"));
    let output = child.wait_with_output().expect("vsctl ends");
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn it_waits_until_the_switch_has_acted() {
    let server = Server::ours();
    quietly(&server, "init");
    let ran = with_a_switch(&server, "add-br br0", 1, "set interface br0 ofport=65534 --");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
    let ran = with_a_switch(&server, "set bridge br0 stp_enable=true -- list-br", 2, "");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "br0\n", ""));
}

#[test]
fn wait_until_waits() {
    let server = Server::ours();
    quietly(&server, "add-br br0");
    let ran = server.vsctl(&split("--no-wait --timeout=1 wait-until interface br0 ofport!=[] -- add-br br1"));
    assert_eq!((ran.code, ran.out.as_str()), (142, ""));
    assert_eq!(
        ran.err,
        "vsctl: timed out after 1 s: ofport!=[] does not hold for Interface br0; nothing was changed\n"
    );
    assert_eq!(quietly(&server, "list-br"), "br0\n");

    // Rows that come, and columns that change.
    let start = |line: &str| {
        let mut command = server.command(&split(line));
        command.stdout(std::process::Stdio::piped()).spawn().expect("vsctl starts")
    };
    let mut waiting = [
        start("--no-wait wait-until port p1"),
        start("--no-wait wait-until interface br0 ofport=65534 -- get interface br0 ofport"),
        start("--no-wait wait-until bridge br0 external_ids:a{>=}b -- set bridge br0 external_ids:seen=yes"),
    ];
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(waiting.iter_mut().all(|child| child.try_wait().expect("a child").is_none()));
    for line in ["add-port br0 p1", "set interface br0 ofport=65534", "set bridge br0 external_ids:a=b"] {
        quietly(&server, line);
    }
    let printed = waiting.map(|child| {
        let output = child.wait_with_output().expect("vsctl ends");
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    assert_eq!(printed, ["", "65534\n", ""]);
    assert_eq!(quietly(&server, "get bridge br0 external_ids"), "{a=b, seen=yes}\n");
}

#[test]
fn ports_in_error_are_told() {
    let server = Server::ours();
    quietly(&server, "init");
    let writes = "set interface br0 ofport=65534 -- set interface p1 ofport=-1 error=no-such-device -- \
        set interface p2 ofport=2 status:address_warning=192.0.2.1-is-lost status:io=packet --";
    let ran = with_a_switch(&server, "add-br br0 -- add-port br0 p1 -- add-port br0 p2", 1, writes);
    assert_eq!((ran.code, ran.out.as_str()), (65, ""));
    assert_eq!(
        sorted_lines(&ran.err),
        [
            "vsctl: Error detected while setting up 'p1': no-such-device",
            "vsctl: The change is committed all the same. 'vsctl get interface p1 error' tells how it stands; 'vsctl \
             del-port p1' (of a bridge: del-br) takes it back.",
            "vsctl: warning: p2: 192.0.2.1-is-lost",
        ]
    );
    // Only the interfaces of this transaction count; a warning is no error.
    let ran = with_a_switch(&server, "set interface p2 mtu_request=1400", 2, "");
    assert_eq!((ran.code, ran.err.as_str()), (0, "vsctl: warning: p2: 192.0.2.1-is-lost\n"));
    // What this run has set without effect, of bridges and ports too.
    let writes = "set bridge br0 status:unsupported_stp_enable=no-tree status:unsupported_sflow=none -- \
        set port p2 status:unsupported_lacp=no-bonds --";
    let ran = with_a_switch(&server, "set bridge br0 stp_enable=true -- set port p2 lacp=active", 3, writes);
    let told = ["vsctl: warning: br0: no-tree", "vsctl: warning: p2: no-bonds"];
    assert_eq!((ran.code, sorted_lines(&ran.err)), (0, told.map(str::to_owned).to_vec()));
}

#[test]
fn patience_runs_out_but_the_change_stays() {
    let server = Server::ours();
    let ran = server.vsctl(&split("--timeout=1 add-br br0"));
    assert_eq!((ran.code, ran.out.as_str()), (142, ""));
    assert_eq!(
        ran.err,
        "vsctl: timed out after 1 s: the change is committed, but the switch has not acted on it \
         (it is at cur_cfg 0 of 1); is vswitch running? --no-wait does not wait for it, --timeout=SECS waits longer\n"
    );
    assert_eq!(quietly(&server, "list-br"), "br0\n");
}

#[test]
fn a_warning_that_turns_up_elsewhere_is_told() {
    let server = Server::ours();
    let _switch = harness::switch::Switch::play(server.socket());
    assert_eq!(server.vsctl(&split("add-br br0 -- add-port br0 p1")).err, "");
    let told = "vsctl: warning: p1: packets of up to 1500 bytes are too large for vx-small\n";
    let ran = server.vsctl(&split("add-port br0 vx-small type=vxlan key=1 remote_ip=192.0.2.2"));
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", told));
    let ran = server.vsctl(&split("set bridge br0 external_ids:a=b"));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "it has been told");
    let ran = server.vsctl(&split("set interface p1 external_ids:a=b"));
    assert_eq!((ran.code, ran.err.as_str()), (0, told), "told again of what is touched");
}
