//! Managers in the running daemon: listened on, reported, given up. Needs root.

mod common;

use common::{Db, Host, PATIENCE, add_br, key};
use ovsdb::address::Address;
use ovsdb::client::Client;
use serde_json::{Value, json};

/// Operations that make these all the managers there are.
fn set(targets: &[&str]) -> Vec<Value> {
    let name = |n: usize| format!("m{n}");
    let insert = |(n, target): (usize, &&str)| json!({"op": "insert", "table": "Manager", "uuid-name": name(n), "row": {"target": target}});
    let named: Vec<Value> = (0..targets.len()).map(|n| json!(["named-uuid", name(n)])).collect();
    let root = json!({"manager_options": ["set", named]});
    let mut operations: Vec<Value> = targets.iter().enumerate().map(insert).collect();
    operations.push(json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": root}));
    operations
}

/// The row of this target, once `wanted` accepts it.
async fn manager(db: &mut Db, target: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let select = || json!({"op": "select", "table": "Manager", "where": [["target", "==", target]]});
    let settled = async {
        loop {
            let row = db.transact(vec![select()]).await[0]["rows"][0].take();
            if wanted(&row) {
                return row;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("the row says so")
}

#[test]
fn a_manager_connects_configures_and_is_told_of() {
    let Some(host) = Host::new("a_manager_connects_configures_and_is_told_of") else { return };
    host.ip("link set lo up");
    let path = host.dir.path().join("manager.sock");
    let unix = format!("punix:{}", path.display());
    host.serve(async |db| {
        db.apply(set(&["ptcp:6640:127.0.0.1", &unix, "tcp:192.0.2.1"])).await;
        let refused = manager(db, "tcp:192.0.2.1", |_| true).await;
        assert_eq!(key(&refused["status"], "state"), Some("VOID"), "told with cur_cfg");
        let listening = manager(db, "ptcp:6640:127.0.0.1", |_| true).await;
        assert_eq!(key(&listening["status"], "bound_port"), Some("6640"), "told with cur_cfg");
        assert_eq!(listening["is_connected"], false);

        let at = Address::parse("tcp:127.0.0.1").unwrap();
        let mut remote = Client::connect_to(at).await.expect("listening");
        let done = remote.transact("Open_vSwitch", add_br("br0")).await.expect("valid");
        assert!(done.iter().all(|result| result.get("error").is_none()), "{done:?}");
        db.row("Interface", "br0", |row| row["ofport"] == 65534).await;
        let mut local = Client::connect(&path).await.expect("listening");
        local.call("echo", vec![]).await.expect("connected");
        for target in ["ptcp:6640:127.0.0.1", &unix] {
            manager(db, target, |row| row["is_connected"] == true).await;
        }
        drop(remote);
        manager(db, "ptcp:6640:127.0.0.1", |row| row["is_connected"] == false).await;

        db.apply(set(&[])).await;
        assert!(!path.exists(), "the socket's file stays");
        local.call("echo", vec![]).await.expect_err("its manager is gone");
    });
}

#[test]
fn the_daemon_takes_the_sockets_of_its_managers_along() {
    let Some(host) = Host::new("the_daemon_takes_the_sockets_of_its_managers_along") else { return };
    let path = host.dir.path().join("manager.sock");
    host.serve(async |db| {
        db.apply(set(&[&format!("punix:{}", path.display())])).await;
        assert!(path.exists());
    });
    assert!(!path.exists());
    // And brings them back.
    host.serve(async |_| {
        Client::connect(&path).await.expect("listening");
    });
}
