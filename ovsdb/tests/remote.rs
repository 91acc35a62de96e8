//! Listeners that come and go while the server runs, as `Manager` rows ask for them, and clients on TCP.

mod common;

use common::TestServer;
use ovsdb::address::Address;
use ovsdb::client::Client;
use ovsdb::server::{Listener, Remote, Room, Target};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

async fn listen(server: &TestServer, target: &str, probe: Option<Duration>, room: usize) -> Remote {
    let target = Target::parse(target).expect("a target");
    let listener = Listener::open(&target, &Room::new(room)).await.expect("free");
    listener.start(server.sessions(), probe)
}

async fn client(remote: &Remote) -> Client {
    let port = remote.port().expect("TCP");
    Client::connect_to(Address::Tcp { host: "127.0.0.1".into(), port }).await.expect("listening")
}

fn raw(remote: &Remote) -> TcpStream {
    TcpStream::connect(("127.0.0.1", remote.port().expect("TCP"))).expect("listening")
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_on_tcp_and_another_socket_share_the_database() {
    let server = TestServer::start();
    let tcp = listen(&server, "ptcp:0:127.0.0.1", None, 5).await;
    let path = server.dir().join("second.sock");
    let unix = listen(&server, &format!("punix:{}", path.display()), None, 5).await;
    assert_eq!((unix.port(), unix.connections(), tcp.connections()), (None, 0, 0));
    let mut clients = [
        client(&tcp).await,
        Client::connect(&path).await.expect("listening"),
        Client::connect(server.socket()).await.expect("listening"),
    ];
    // The same name on three connections: three monitors.
    let request = json!({"Open_vSwitch": {"columns": ["next_cfg"]}});
    for client in &mut clients {
        client
            .call("monitor", vec![json!("Open_vSwitch"), json!("m"), request.clone()])
            .await
            .expect("a name of its own");
    }
    assert_eq!((unix.connections(), tcp.connections()), (1, 1));
    let update = json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"next_cfg": 3}});
    clients[0].transact("Open_vSwitch", vec![update]).await.expect("valid");
    for client in &mut clients {
        assert_eq!(client.notification().await.expect("told").params[0], "m");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_remote_takes_its_connections_along_and_frees_its_address() {
    let server = TestServer::start();
    let path = server.dir().join("second.sock");
    let target = format!("punix:{}", path.display());
    let (tcp, unix) = (listen(&server, "ptcp:0:127.0.0.1", None, 5).await, listen(&server, &target, None, 5).await);
    let mut clients = [client(&tcp).await, Client::connect(&path).await.expect("listening")];
    for client in &mut clients {
        client.call("echo", vec![]).await.expect("connected");
    }
    let port = tcp.port().expect("TCP");
    tcp.close().await;
    unix.close().await;
    for client in &mut clients {
        assert!(client.notification().await.expect_err("closed").to_string().contains("closed the connection"));
    }
    assert!(!path.exists());
    let again = listen(&server, &format!("ptcp:{port}:127.0.0.1"), None, 5).await;
    let mut client = client(&again).await;
    client.call("echo", vec![]).await.expect("connected");
}

/// On TCP a client may be gone without a sign.
#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_are_probed_and_given_up() {
    let server = TestServer::start();
    let remote = listen(&server, "ptcp:0:127.0.0.1", Some(Duration::from_millis(500)), 5).await;
    let mut deaf = raw(&remote);
    let mut answering = client(&remote).await;
    let mut said = String::new();
    // Answers probes for as long as the other does not, and longer.
    let silence = tokio::task::spawn_blocking(move || deaf.read_to_string(&mut said).map(|_| said));
    let said = tokio::select! {
        said = silence => said.expect("no panic").expect("closed in order"),
        event = answering.notification() => panic!("{event:?}"),
    };
    assert_eq!(said, r#"{"id":"echo","method":"echo","params":[]}"#);
    answering.call("echo", vec![]).await.expect("still there");
    remote.set_probe(None);
    let mut patient = raw(&remote);
    patient.set_read_timeout(Some(Duration::from_millis(300))).expect("possible");
    patient.write_all(br#"{"id":"echo","result":[],"error":null}"#).expect("connected");
    patient.read(&mut [0]).expect_err("nothing is asked, and an answer to nothing does no harm");
    remote.set_probe(Some(Duration::from_millis(20)));
    let mut said = String::new();
    patient.set_read_timeout(None).expect("possible");
    patient.read_to_string(&mut said).expect("closed in order");
    assert!(said.contains("echo"), "the new patience holds for old connections: {said}");
}

/// Clients on the host's own socket are never probed.
#[tokio::test(flavor = "multi_thread")]
async fn unix_sockets_are_not_probed() {
    let server = TestServer::start();
    let path = server.dir().join("second.sock");
    let probe = Some(Duration::from_millis(20));
    let _remote = listen(&server, &format!("punix:{}", path.display()), probe, 5).await;
    let mut silent = std::os::unix::net::UnixStream::connect(&path).expect("listening");
    silent.set_read_timeout(Some(Duration::from_millis(200))).expect("possible");
    silent.read(&mut [0]).expect_err("not asked, not dropped");
}

/// Strangers who take all room on TCP do not keep the host's own tools out.
#[tokio::test(flavor = "multi_thread")]
async fn remotes_have_room_of_their_own() {
    let server = TestServer::start();
    let target = Target::parse("ptcp:0:127.0.0.1").expect("a target");
    let room = Room::new(2);
    let [first, second] = [Listener::open(&target, &room).await, Listener::open(&target, &room).await]
        .map(|listener| listener.expect("free").start(server.sessions(), None));
    let mut clients = vec![client(&first).await, client(&second).await];
    for client in &mut clients {
        client.call("echo", vec![]).await.expect("room");
    }
    let error = client(&first).await.call("echo", vec![]).await.expect_err("no room").to_string();
    assert!(error.contains("the server has its maximum of 2 connections here"), "{error}");
    let mut local = Client::connect(server.socket()).await.expect("listening");
    local.call("echo", vec![]).await.expect("room");
}
