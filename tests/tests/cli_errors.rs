//! What goes wrong is said clearly, and the daemon goes on.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use vswitch_tests::netns::{Host, Lab};

fn lab() -> Option<(Lab, Host)> {
    let lab = Lab::open()?;
    let host = lab.host("host");
    host.vsctl("add-br br0");
    Some((lab, host))
}

/// The command fails with `code` and says all of `words` on standard error.
fn refused(host: &Host, command: &str, code: i32, words: &[&str]) {
    let done = host.try_vsctl(command);
    assert_eq!(done.code, code, "{done}");
    for word in words {
        assert!(done.stderr.contains(word), "'{word}' isn't said: {done}");
    }
}

/// Sends raw bytes to the daemon and returns what it answers until it closes or is silent for a second.
fn raw(host: &Host, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(host.socket()).expect("the socket is open");
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a time limit");
    // The daemon may close while we still send.
    let _ = stream.write_all(bytes);
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(n) = stream.read(&mut buffer) {
        if n == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn garbage_on_the_socket_ends_that_connection_only() {
    let Some((_lab, mut host)) = lab() else { return };
    let mut watcher = UnixStream::connect(host.socket()).expect("the socket is open");
    let deep = "[".repeat(100_000);
    let unknown = r#"{"id":7,"method":"nonsense","params":[]}"#;
    for garbage in
        ["GET / HTTP/1.1\r\n\r\n", "\0\u{1}\u{2}\u{3}", "{]", &deep, "[1,2,3]", r#"{"id":1}"#, "{\"id\":\"\u{1}"]
    {
        let _ = raw(&host, garbage.as_bytes());
    }
    let _ = raw(&host, &[0xff; 4096]);
    let answer = raw(&host, unknown.as_bytes());
    assert!(answer.contains("unknown method"), "{answer}");
    assert!(answer.contains("\"id\":7"), "{answer}");

    // The connection that was open all along still works, and so does the daemon.
    watcher.set_read_timeout(Some(Duration::from_secs(5))).expect("a time limit");
    watcher.write_all(br#"{"id":1,"method":"echo","params":["still","here"]}"#).expect("written");
    let mut reply = [0; 4096];
    let n = watcher.read(&mut reply).expect("a reply");
    let reply = String::from_utf8_lossy(&reply[..n]);
    assert!(reply.contains(r#"["still","here"]"#), "{reply}");
    assert_eq!(host.vsctl("list-br").trim(), "br0");
    assert!(host.daemon().alive());
}

#[test]
fn a_bad_transaction_is_answered_with_the_column_and_changes_nothing() {
    let Some((_lab, host)) = lab() else { return };
    let transact = |operation: &str| {
        raw(&host, format!(r#"{{"id":1,"method":"transact","params":["Open_vSwitch",{operation}]}}"#).as_bytes())
    };
    let update = |row: &str| transact(&format!(r#"{{"op":"update","table":"Bridge","where":[],"row":{row}}}"#));
    let answer = update(r#"{"nonsense":1}"#);
    assert!(answer.contains("unknown column") && answer.contains("nonsense"), "{answer}");
    let answer = update(r#"{"stp_enable":"yes"}"#);
    assert!(answer.contains("syntax error") || answer.contains("constraint violation"), "{answer}");
    let answer = update(r#"{"fail_mode":"sometimes"}"#);
    assert!(answer.contains("constraint violation") && answer.contains("sometimes"), "{answer}");
    let answer = transact(r#"{"op":"select","table":"Nonsense","where":[]}"#);
    assert!(answer.contains("Nonsense"), "{answer}");
    let answer = raw(&host, br#"{"id":1,"method":"transact","params":["Nonsense"]}"#);
    assert!(answer.contains("unknown database"), "{answer}");
    assert_eq!(host.vsctl("get bridge br0 stp_enable fail_mode"), "false\n[]\n");
}

#[test]
fn vsctl_names_the_value_and_a_way_out() {
    let Some((_lab, host)) = lab() else { return };
    refused(&host, "set bridge br0 nonsense=1", 1, &["nonsense", "Bridge"]);
    refused(&host, "set bridge br0 stp_enable=perhaps", 1, &["perhaps", "stp_enable"]);
    refused(&host, "set port br0 tag=5000", 1, &["5000", "4095"]);
    refused(&host, "get bridge nope name", 1, &["nope"]);
    refused(&host, "add-port nope p1", 1, &["nope"]);
    refused(&host, "add-br br0", 1, &["br0", "exists"]);
    refused(&host, "add-port br0 vx0 type=vxlan kez=5000 remote_ip=10.0.0.1", 1, &["kez", "key"]);
    refused(&host, "ad-br br1", 1, &["ad-br", "add-br"]);
    refused(&host, "add-br", 1, &["add-br"]);
    refused(&host, "br-exists nope", 2, &[]);
    assert_eq!(host.vsctl("list-br").trim(), "br0", "a refused command changed something");
}

#[test]
fn a_missing_device_is_an_error_on_its_port_and_of_the_command() {
    let Some((_lab, host)) = lab() else { return };
    refused(&host, "add-port br0 nope", 65, &["nope"]);
    assert_eq!(host.vsctl("get interface nope ofport").trim(), "-1");
    assert!(host.vsctl("get interface nope error").contains("nope"));
    // The tunnel's mistakes are errors of the same kind, and the bridge goes on.
    refused(&host, "add-port br0 vx0 type=vxlan key=5000", 65, &["vx0", "remote_ip"]);
    refused(&host, "add-port br0 vx1 type=vxlan key=99999999 remote_ip=10.0.0.1", 65, &["vx1", "99999999"]);
    refused(&host, "add-port br0 odd type=nonsense", 65, &["odd", "nonsense"]);
    host.vsctl("add-port br0 inner type=internal");
    assert_eq!(host.vsctl("get interface inner error").trim(), "[]");
}

#[test]
fn a_second_daemon_is_refused_by_name_and_pid() {
    let Some((_lab, mut host)) = lab() else { return };
    let done = host.try_run(&host.vswitch_command());
    assert!(!done.ok(), "{done}");
    let pid = host.daemon().pid().to_string();
    assert!(done.stderr.contains(&pid) && done.stderr.contains("conf.db"), "{done}");
    assert!(host.daemon().alive());
    assert_eq!(host.vsctl("list-br").trim(), "br0", "the first daemon's socket is gone");
}

#[test]
fn without_a_daemon_vsctl_says_where_it_looked() {
    let Some((_lab, mut host)) = lab() else { return };
    assert_eq!(host.stop(), 0);
    refused(&host, "--timeout 1 show", 1, &["db.sock", "vswitch"]);
}

#[test]
fn a_database_that_cannot_be_read_is_refused_with_its_name() {
    let Some((_lab, mut host)) = lab() else { return };
    assert_eq!(host.stop(), 0);
    std::fs::write(host.db(), "this is no database\n").expect("written");
    let done = host.try_run(&host.vswitch_command());
    assert!(!done.ok() && done.stderr.contains("conf.db"), "{done}");
}

#[test]
fn the_two_programs_explain_themselves() {
    let Some((_lab, host)) = lab() else { return };
    let help = host.vsctl("--help");
    for command in ["add-br", "add-port", "show", "list", "--timeout", "--may-exist"] {
        assert!(help.contains(command), "vsctl --help doesn't tell of {command}");
    }
    assert!(host.vsctl("help add-port").contains("remote_ip"), "vsctl help add-port doesn't tell of tunnels");
    let vswitch = vswitch_tests::process::program("vswitch");
    let help = host.run(&format!("{} --help", vswitch.display()));
    for flag in ["--socket", "--db", "--log"] {
        assert!(help.contains(flag), "vswitch --help doesn't tell of {flag}");
    }
}
