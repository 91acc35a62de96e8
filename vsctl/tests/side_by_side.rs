//! vsctl and the real ovs-vsctl side by side: the same lines on databases of their own must print the same and leave
//! the same rows behind, and must read the same from one database; ovs-vsctl on ovsdb-server, vsctl on that and on our
//! own server.

mod harness;

use harness::{Ran, Server, ovs_program, sorted_lines, sorted_records, without_uuids};

/// Lines as a person types them; blanks separate words, `'` keeps them together. A line that begins with `#` is one
/// whose exit code must be the same but whose output may not, because it is a message.
const LINES: &str = r#"
list-br
show
add-br br0
--may-exist add-br br0
# add-br br0
br-exists br0
br-exists nope
list-br
add-port br0 p1
add-port br0 p2 tag=10
add-port br0 p3 trunks=10,20 vlan_mode=native-untagged tag=5
add-port br0 p4 tr=1-4 external-ids:a=b
--may-exist add-port br0 p1
--may-exist add-port br0 p1 tag=9
# add-port br0 p1
# add-port br0 br0
# add-port nope p9
# add-port br0 p9 tag=5000
# add-port br0 p9 vlan_mode=odd
# add-port br0 p9 tag
# add-port br0
# --may-exist add-br p1
# --may-exist add-port nope p1
add-port br0 vx0 -- set interface vx0 type=vxlan options:remote_ip=10.0.0.2 options:key=5000
add-port br0 pa -- set interface pa type=patch options:peer=pb
list-ports br0
list-ifaces br0
# list-ports nope
iface-to-br vx0
port-to-br p1
# port-to-br nope
# port-to-br br0
# iface-to-br nope
get interface vx0 options:key
get interface vx0 options
get interface vx0 options:key type name
--if-exists get interface vx0 options:nokey
--if-exists get interface nope options
# get interface vx0 options:nokey
# get interface nope options
# get interface vx0 nosuch
# get port p1 bond
get port p3 trunks tag vlan_mode
get port p1 trunks tag
get port p1 _uuid
--oneline get port p3 trunks tag -- get port p1 tag
get interface p1 error ofport type
find interface type=vxlan
--bare --columns=name find port tag=10
--columns=name find port tag!=10
--columns=name find port tag<10
--columns=name find port tag>=5
--columns=name find port trunks{>=}10
--columns=name find port trunks{in}10,20,30
--columns=name find port trunks{not-in}10
--columns=name find port trunks{<}10,20,30
--columns=name find port external_ids:a=b
--columns=name find port external_ids:a!=b
--columns=name find port external_ids:a{!=}b
--columns=name find port tag=[]
--columns=name find port external_ids{>=}a=b
--columns=name find port external_ids={}
--columns=name find port external_ids{!=}{}
# find port tag
# find port nosuch=1
set port p1 tag=20
set port p1 trunks=1,2,3
get port p1 trunks
set port p1 trunks=[4,5]
set port p1 'trunks= 6 7 , 8 '
get port p1 trunks
# set port p1 trunks=1,,2
# set port p1 trunks=[1
# set port p1 trunks=1,1
# set port p1 trunks=4-1
# set port p1 tag=5,6
# set port p1 tag=x
# set port p1 name=x
# set port p1 tag:a=1
# set port p1 external_ids=a
# set port p1 qos=br0
# set port p1 qos=@nobody
# set port nope tag=1
# set nope p1 tag=1
# set port p1
--if-exists set port nope tag=1
set port p1 tag=[]
get port p1 tag
set port p1 fake_bridge=off
remove port p1 trunks 7
remove port p1 trunks 7 8 9
get port p1 trunks
clear port p1 trunks
# clear port p1 interfaces
add port p1 trunks 7
add port p1 trunks 7 8,9
# add port p1 name x
get port p1 trunks
set interface p1 mtu_request=9000
set bridge br0 other_config:mac-aging-time=60
set bridge br0 other_config:mac-aging-time=61 other_config:"a:b"=c
set bridge br0 'external_ids="a"="b c", d=e f=g'
get bridge br0 external_ids other_config
set bridge br0 'external_ids:nl="a\nb\\c\"d"' external_ids:1=2 external_ids:true=false external_ids:_=-
get bridge br0 external_ids
get bridge br0 external_ids:nl external_ids:"1"
--oneline get bridge br0 external_ids:nl
--data=bare --columns=external_ids list bridge br0
add bridge br0 external_ids d=other h=i
get bridge br0 external_ids:d external_ids:h
remove bridge br0 external_ids d=no h
remove bridge br0 external_ids 1=2 true
get bridge br0 external_ids
set bridge br0 external_ids={}
get bridge br0 external_ids
get-controller br0
set-controller br0 tcp:192.0.2.1:6653 ssl:192.0.2.2
get-controller br0
--oneline get-controller br0 -- get-fail-mode br0
set-controller br0 tcp:a tcp:a
get-controller br0
-- --inactivity-probe=3000 set-controller br0 tcp:b
--columns=target,inactivity_probe,is_connected list controller
--columns=target list controller br0
# --inactivity-probe=3000 get-controller br0
# get-controller nope
# set-controller nope tcp:a
set-controller br0 tcp:a -- set-controller br0 tcp:b -- get-controller br0 -- --columns=target list controller
get-fail-mode br0
# set-fail-mode br0 odd
# set-fail-mode br0
set-fail-mode br0 secure
get-fail-mode br0
del-fail-mode br0
del-fail-mode br0
get-fail-mode br0
# set-fail-mode nope secure
set-controller br0
get-controller br0
del-controller br0
list controller
get-manager
set-manager ptcp:6640:127.0.0.1 punix:/tmp/m
get-manager
set-manager ptcp:6640:127.0.0.1
--inactivity-probe=7 set-manager ptcp:6641
--columns=target,inactivity_probe list manager
get-manager -- del-manager -- get-manager
del-manager
get-manager
# set-manager
# set-manager ptcp:1 ptcp:1
get-ssl
set-ssl a 'b c' d
get-ssl
list ssl
-- --bootstrap set-ssl x y z
get-ssl
--columns=ca_cert list ssl .
# set-ssl a b
# set-ssl a b c d
set-ssl a b c -- get-ssl -- del-ssl -- get-ssl
del-ssl
get-ssl
set bridge br0 protocols=OpenFlow13,OpenFlow10
get bridge br0 protocols
# set bridge br0 protocols=OpenFlow99
set bridge br0 fail_mode=standalone
clear bridge br0 fail_mode protocols
set bridge br0 datapath_type=netdev
br-get-external-id br0
br-set-external-id br0 foo bar
br-set-external-id br0 'a b' 'c d'
br-set-external-id br0 foo baz -- br-set-external-id br0 zoo x -- br-get-external-id br0
br-get-external-id br0
br-get-external-id br0 foo
br-get-external-id br0 nokey
br-set-external-id br0 foo
br-set-external-id br0 foo
br-get-external-id br0
# br-set-external-id br0
# br-set-external-id br0 a b c
# br-get-external-id nope
-- --id=11111111-2222-3333-4444-555555555555 create qos type=x
--id=11111111-2222-3333-4444-555555555556 create qos type=y queues:1=11111111-2222-3333-4444-555555555557 -- --id=11111111-2222-3333-4444-555555555557 create queue external_ids:a=b
list qos
# -- --id=11111111-2222-3333-4444-555555555555 create qos type=x
# -- --id=1111 create qos type=x
--all destroy qos -- --all destroy queue
# set bridge br0 datapath_type=[]
set open . external_ids:system-id=x other-config:y=z
--columns=external_ids,other_config list open_vswitch .
list port p2
list interface vx0
--columns=name,tag list port p1 p2
--columns=name,tag list port p2 p1 p2
# --columns= list port
# list port nope
--if-exists list port nope p1
--columns=name list port
--columns=name,ofport list Interface
--format=table --columns=name,external_ids,trunks list port p1
--format=csv --columns=name,external_ids,trunks list port p1 p3
--format=json --columns=name,external_ids,trunks list port p1
--format=json list port p2
--format=json --pretty list port p2
--format=table --data=json --columns=name,trunks,tag list port p3
--format=csv --no-headings --columns=name,trunks list port p3
--no-headings --columns=name,tag list port p3
--format=table --columns=name,tag find port tag=77
--format=csv --columns=name,tag find port tag=77
--format=json --columns=name,tag find port tag=77
--columns=name,tag find port tag=77
--bare --format=csv --columns=name,trunks list port p3
--format=csv --bare --columns=name,trunks list port p3
--columns=name list port p1 -- list-br -- --columns=name list port p2
--format=json --columns=name list port p1 -- --columns=name list port p2
list-br -- list-ports br0
-- --id=@p get port p1 -- --id=@o get port p2 -- --id=@m create mirror name=m0 select-dst-port=@p select-src-port=@p output-port=@o -- set bridge br0 mirrors=@m
-- --id=@m create mirror name=m1 select_all=true output_vlan=99 -- add bridge br0 mirrors @m
list mirror m0
-- --id=@m get mirror m1 -- remove bridge br0 mirrors @m
# list mirror m1
# -- --id=@m create mirror name=m2 -- --id=@m create mirror name=m3
# -- --id=m create mirror name=m2
# -- set bridge br0 mirrors=@m -- --id=@m get mirror m0
clear bridge br0 mirrors
create qos type=linux-htb other-config:max-rate=1
-- --id=@q create qos type=linux-htb queues:1=@e -- --id=@e create queue other-config:min-rate=5 -- set port p1 qos=@q
--columns=type,other_config list qos
get qos p1 type
# destroy qos nope
--if-exists destroy qos nope
clear port p1 qos
--all destroy qos
--all destroy queue
list qos
--if-exists del-port br0 nope
# del-port br0 nope
# del-port nope p1
--if-exists del-port nope nope
# del-port br0 br0
del-port p2
del-port br0 p3
--with-iface del-port br0 p1
add-port br0 p1 -- del-port p1 -- add-port br0 p1 tag=4
get port p1 tag
list-ports br0
add-port br0 br0.10 tag=10 -- set interface br0.10 type=internal -- set port br0.10 fake_bridge=true
--may-exist add-br br0.10 br0 10
# --may-exist add-br br0.10
# --may-exist add-br br0.10 br0 11
# --may-exist add-br br0 br0.10 10
# add-br br0.11 br0.10 11
# add-br other br0 10
# add-br other br0 5000
# add-br other nope 5
# add-br other br0
br-set-external-id br0.10 a b
br-get-external-id br0.10
br-get-external-id br0.10 a
get port br0.10 external_ids
br-set-external-id br0.10 a
set-controller br0 tcp:a -- set-fail-mode br0 standalone
get-controller br0.10
get-fail-mode br0.10
# set-controller br0.10 tcp:b
# del-controller br0.10
# set-fail-mode br0.10 secure
# del-fail-mode br0.10
del-controller br0 -- del-fail-mode br0
list-br
--real list-br
--fake list-br
--real --fake list-br
br-exists br0.10
br-to-vlan br0.10
br-to-vlan br0
br-to-parent br0.10
br-to-parent br0
add-port br0.10 t1 -- add-port br0 t2 tag=10 -- add-port br0 t3 tag=11
get port t1 tag
list-ports br0
list-ports br0.10
list-ifaces br0.10
port-to-br t2
# port-to-br br0.10
# del-port br0 t1
del-port br0.10 t1
del-br br0.10
list-ports br0
--if-exists del-br nope
# del-br nope
--if-exists del-br br0 -- add-br br0 -- set bridge br0 external_ids:new=yes -- add-port br0 p7
list-ports br0
get bridge br0 external_ids
add-br 'a b' -- add-port 'a b' 'c:d'
list-br
list-ports 'a b'
--columns=name list port 'c:d'
# add-br ''
# add-port br0 ''
del-br 'a b'
init
# nosuch
# list-br extra
# br-exists
# --nosuch list-br
# --if-exists list-br
# -- --columns list port
# -- --may-exist=1 add-br br0
# -- --if-exists --if-exists del-br nope
# --format=odd list-br
# --data=odd list-br
# --timeout=x list-br
# --timeout=-1 list-br
--if-exists -- del-br nope
--if-e del-br nope
--timeout 5 list-br
-t5 list-br
-t 5 list-br
--timeout=5 --no-headings list-br
-- -- list-br
del-br br0
list-br
"#;

/// Splits a line as a shell would, knowing only blanks and `'`.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

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
    let (Some(ovs_vsctl), Some(theirs)) = (ovs_program("ovs-vsctl"), Server::theirs()) else { return };
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
    let Some(ovs_vsctl) = ovs_program("ovs-vsctl") else { return };
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
