//! Every command whose run by ovs-vsctl 3.1 on Open vSwitch 3.1 was recorded (`vswitch_tests::capture`), run in the same
//! order by vsctl and by the real ovs-vsctl on our server, with a switch that is played: exit code and output must be as
//! recorded. With the daemon as the switch they are run in the workspace's `tests/tests/interop_capture.rs`.
//!
//! What is not compared: UUIDs; the order of ports in `show`, which is that of their UUIDs, and of a table's rows, which
//! is that of a hash in ovs-vsctl; and messages on standard error, which here name the value and a way out.

mod harness;

use harness::switch::Switch;
use harness::{Ran, Server};
use vswitch_tests::capture::{Recorded, comparable, recorded};
use vswitch_tests::ovs;

/// A command that vsctl does not do as recorded.
struct Exception {
    line: &'static str,
    code: i32,
    /// A line that does what the recorded one did, for the commands that follow.
    instead: &'static str,
    why: &'static str,
}

const EXCEPTIONS: [Exception; 2] = [
    Exception {
        line: "add-port br0 doesnotexist0 -- set interface doesnotexist0 type=bogus",
        code: 65,
        instead: "",
        why: "a port that could not be set up is no success; ovs-vsctl says so only from 3.6 on, with this code",
    },
    Exception {
        line: "add-br br0.10 br0 10",
        code: 1,
        instead: "add-port br0 br0.10 tag=10 -- set port br0.10 fake_bridge=true -- set interface br0.10 type=internal",
        why: "VLAN bridges are not made, since a port with a tag does what they are for; those that are stored are read",
    },
];

/// Runs all lines; gives what was not as recorded.
fn differences(exceptions: &[Exception], run: impl Fn(&[&str]) -> Ran) -> Vec<String> {
    let words = |line: &'static str| line.split(' ').collect::<Vec<_>>();
    let mut differences = Vec::new();
    for Recorded { line, mut code, mut out } in recorded() {
        let ran = run(&words(line));
        let exception = exceptions.iter().find(|exception| exception.line == line);
        if let Some(exception) = exception {
            (code, out) = (exception.code, String::new());
        }
        let silent_failure = ran.code != 0 && ran.err.is_empty() && !line.starts_with("br-exists");
        if ran.code != code || comparable(line, &ran.out) != comparable(line, &out) || silent_failure {
            let why = exception.map_or("", |exception| exception.why);
            differences.push(format!("{line}\n  expected: {code} {out:?} {why}\n  ran:      {ran:?}"));
        }
        if let Some(exception) = exception.filter(|exception| !exception.instead.is_empty()) {
            assert_eq!(run(&words(exception.instead)).code, 0, "{}", exception.instead);
        }
    }
    differences
}

#[test]
fn all_commands_are_there() {
    let runs = recorded();
    assert_eq!(runs.len(), 64);
    for exception in &EXCEPTIONS {
        assert!(runs.iter().any(|run| run.line == exception.line), "{}", exception.line);
    }
}

#[test]
fn vsctl_does_as_recorded() {
    let server = Server::ours();
    let _switch = Switch::play(server.socket());
    let differences = differences(&EXCEPTIONS, |words| server.vsctl(words));
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn ovs_vsctl_does_as_recorded_on_our_server() {
    let Some(ovs_vsctl) = ovs::program("ovs-vsctl") else { return };
    let server = Server::ours();
    let _switch = Switch::play(server.socket());
    let differences = differences(&[], |words| server.ovs_vsctl(&ovs_vsctl, words));
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}
