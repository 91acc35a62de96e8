//! vsctl and the real ovs-vsctl side by side: the same lines on databases of their own must print the same and leave
//! the same rows behind, and must read the same from one database; ovs-vsctl on ovsdb-server, vsctl on that and on our
//! own server.

mod harness;

use harness::{Ran, Server};
use vswitch_tests::ovs;
use vswitch_tests::text::{quoted_words as words, sorted_lines, sorted_records, without_uuids};

/// Lines as a person types them; blanks separate words, `'` keeps them together. A line that begins with `#` is one
/// whose exit code must be the same but whose output may not, because it is a message.
const LINES: &str = include_str!("side_by_side.txt");

/// What must be equal. Rows of a table come in no particular order from ovs-vsctl.
fn comparable(ran: &Ran, line: &str) -> (i32, Vec<String>) {
    let text = without_uuids(&ran.out);
    let tables = line.contains("list ") || line.contains("find ");
    let out = match line {
        line if line.contains(" -- ") || !tables => vec![text],
        line if line.contains("--format") => sorted_lines(&text),
        _ => sorted_records(&text),
    };
    (ran.code, out)
}

#[test]
fn the_same_lines_do_the_same() {
    let Some(ours) = Server::theirs() else { return };
    do_the_same(&ours);
}

#[test]
fn the_same_lines_do_the_same_on_our_server() {
    do_the_same(&Server::ours());
}

fn do_the_same(ours: &Server) {
    let (Some(ovs_vsctl), Some(theirs)) = (ovs::program("ovs-vsctl"), Server::theirs()) else { return };
    let mut differences = Vec::new();
    for line in LINES.lines().filter(|line| !line.is_empty()) {
        let (message_only, plain) = match line.strip_prefix("# ") {
            Some(line) => (true, line),
            None => (false, line),
        };
        let words = words(plain);
        let words: Vec<&str> = ["--no-wait"].into_iter().chain(words.iter().map(String::as_str)).collect();
        let their = theirs.ovs_vsctl(&ovs_vsctl, &words);
        let our = ours.vsctl(&words);
        let equal = match message_only {
            true => their.code == our.code && their.out == our.out && !our.err.is_empty(),
            false => comparable(&their, plain) == comparable(&our, plain),
        };
        if !equal {
            differences.push(format!("{line}\n  theirs: {their:?}\n  ours:   {our:?}"));
        }
        let show = |server: &Server| sorted_lines(&without_uuids(&server.ovs_vsctl(&ovs_vsctl, &["show"]).out));
        if show(&theirs) != show(ours) {
            differences.push(format!("{line}\n  leaves different rows behind"));
            break;
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn one_database_reads_the_same() {
    let Some(server) = Server::theirs() else { return };
    read_the_same(&server);
}

#[test]
fn one_database_reads_the_same_on_our_server() {
    read_the_same(&Server::ours());
}

fn read_the_same(server: &Server) {
    let Some(ovs_vsctl) = ovs::program("ovs-vsctl") else { return };
    let set_up = "--no-wait add-br br0 -- add-port br0 p1 tag=5 trunks=1,2 -- add-br br1 -- \
        add-port br0 vx0 type=vxlan key=5 remote_ip=192.0.2.1 -- set bridge br0 datapath_type=netdev fail_mode=secure \
        external_ids:é=ü external_ids:deadbeef=ed1cf240-72b2-4d0d-80ba-34fe4319805f -- \
        set interface p1 ofport=-1 'error=\"no such device\"' bfd_status:state=up statistics:rx_bytes=12 -- \
        --id=@c create controller target=\"tcp:127.0.0.1:6653\" is_connected=true -- set bridge br1 controller=@c -- \
        --id=@m create manager target=\"ptcp:6640\" -- set open . manager_options=@m ovs_version=0.1.0";
    let words_of = |line: &str| words(&line.replace("\\\"", "\""));
    let own = words_of(set_up);
    let made = server.vsctl(&own.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((made.code, made.err.as_str()), (0, ""));
    for line in [
        "show",
        "list bridge br0 br1",
        "list port p1 br0",
        "list interface p1 vx0",
        "list controller br1",
        "list manager ptcp:6640",
        "list open_vswitch",
        "get bridge br0 ports external_ids _uuid",
        "get open . bridges",
        "--format=table list port p1 br0",
        "--format=table --columns=name,external_ids list bridge br0 br1",
        "--format=html list port p1 br0",
        "--format=html --columns=name,external_ids,interfaces,_uuid list port br0",
        "--format=html --data=json --columns=_uuid,ports,external_ids list bridge br0",
        "--format=table --max-column-width=20 list port p1 br0",
        "--format=csv list interface p1 vx0",
        "--format=json list interface p1 vx0",
        "--format=json --pretty list bridge br0",
        "--format=table --data=bare list bridge br0",
        "--bare list bridge br0",
    ] {
        let own = words(line);
        let own: Vec<&str> = ["--no-wait"].into_iter().chain(own.iter().map(String::as_str)).collect();
        let (their, our) = (server.ovs_vsctl(&ovs_vsctl, &own), server.vsctl(&own));
        assert_eq!(our.out, their.out, "{line}");
        assert_eq!(our.code, their.code, "{line}");
    }
}
