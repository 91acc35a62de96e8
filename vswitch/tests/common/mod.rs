//! The daemon in this process, in a network namespace of its own, driven over its socket as any client would.

#![allow(dead_code)]

use ovsdb::client::Client;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use vswitch::Args;
use vswitch::log::Log;

/// Bounds a failure; measures nothing.
pub const PATIENCE: Duration = Duration::from_secs(15);

pub fn ip(line: &str) -> bool {
    let done = Command::new("ip").args(line.split_whitespace()).output().expect("iproute2 is installed");
    if !done.status.success() {
        eprintln!("ip {line}: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    done.status.success()
}

/// No subscriber: nothing is logged.
pub fn log() -> Log {
    Log::new("off").unwrap().0
}

/// A network namespace and a directory for the daemon's files; both go with it.
pub struct Host {
    space: String,
    /// Its files.
    pub dir: tempfile::TempDir,
}

impl Host {
    /// `None`, said by name, where there is no root.
    pub fn new(test: &str) -> Option<Host> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var("VSWITCH_REQUIRE_ALL").as_deref() != Ok("1"), "{test}: needs root");
            eprintln!("skipped: {test}: needs root");
            return None;
        }
        let space = format!("vswd-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        assert!(ip(&format!("netns add {space}")));
        Some(Host { space, dir: tempfile::tempdir().unwrap() })
    }

    /// `ip` in the namespace; it must succeed.
    pub fn ip(&self, line: &str) {
        assert!(ip(&format!("-n {} {line}", self.space)), "ip {line}");
    }

    pub fn has_device(&self, name: &str) -> bool {
        ip(&format!("-n {} link show dev {name}", self.space))
    }

    /// Whether the device is gone, within a second: a program that another test of this process starts holds the
    /// descriptors of our TAPs, too, between its fork and its exec.
    pub fn lacks_device(&self, name: &str) -> bool {
        (0..100).any(|n| {
            std::thread::sleep(std::time::Duration::from_millis(if n == 0 { 0 } else { 10 }));
            !self.has_device(name)
        })
    }

    pub fn veth(&self, name: &str) {
        self.ip(&format!("link add {name} type veth peer name {name}-far"));
        self.ip(&format!("link set {name} up"));
        self.ip(&format!("link set {name}-far up"));
    }

    pub fn args(&self) -> Args {
        let path = |name: &str| self.dir.path().join(name);
        Args { socket: path("db.sock"), db: path("conf.db"), log: String::new() }
    }

    /// Runs `f` on a thread of its own inside the namespace.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let run = || {
            let file = File::open(format!("/run/netns/{}", self.space)).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            f()
        };
        std::thread::scope(|s| s.spawn(run).join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
    }

    /// Runs a daemon, and `test` with a client of it; then ends the daemon.
    pub fn serve(&self, test: impl AsyncFnOnce(&mut Db) + Send) {
        self.inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let args = self.args();
                let (stop, stopped) = oneshot::channel();
                let daemon = vswitch::serve(&args, log(), async {
                    stopped.await.expect("the test ends the daemon");
                    "the test is over"
                });
                let client = async {
                    let mut db = Db::connect(&args.socket).await;
                    test(&mut db).await;
                    stop.send(()).expect("the daemon runs");
                };
                let (ended, ()) = tokio::join!(daemon, client);
                ended.unwrap();
            });
            assert!(!self.args().socket.exists(), "the socket is left behind");
        });
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.space));
    }
}

/// A client that sees every change of what the daemon reports.
pub struct Db {
    client: Client,
}

impl Db {
    pub async fn connect(socket: &Path) -> Db {
        let connected = async {
            loop {
                match Client::connect(socket).await {
                    Ok(client) => return client,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let mut client = tokio::time::timeout(PATIENCE, connected).await.expect("the daemon opens its socket");
        let monitored = json!({
            "Open_vSwitch": {"columns": ["cur_cfg"]},
            "Interface": {"columns": ["name", "ofport", "error", "status", "link_state"]},
        });
        client.call("monitor", vec![json!("Open_vSwitch"), json!("test"), monitored]).await.unwrap();
        Db { client }
    }

    pub async fn transact(&mut self, operations: Vec<Value>) -> Vec<Value> {
        let results = self.client.transact("Open_vSwitch", operations).await.unwrap();
        assert!(results.iter().all(|r| r.get("error").is_none()), "{results:?}");
        results
    }

    /// As vsctl does it: the operations, and `next_cfg` moved; then waits for `cur_cfg`. Returns the update that
    /// brought it.
    pub async fn apply(&mut self, mut operations: Vec<Value>) -> Value {
        operations.push(json!({"op": "mutate", "table": "Open_vSwitch", "where": [],
            "mutations": [["next_cfg", "+=", 1]]}));
        operations.push(json!({"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]}));
        let results = self.transact(operations).await;
        let goal = results.last().unwrap()["rows"][0]["next_cfg"].as_i64().unwrap();
        self.update(|u| rows(u, "Open_vSwitch").any(|r| r["cur_cfg"].as_i64() >= Some(goal))).await
    }

    /// The first update from now on that `wanted` accepts.
    pub async fn update(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let arrives = async {
            loop {
                let update = self.client.notification().await.unwrap().params.remove(1);
                if wanted(&update) {
                    return update;
                }
            }
        };
        tokio::time::timeout(PATIENCE, arrives).await.expect("the update arrives")
    }

    /// The columns of the row of that name, as soon as `wanted` accepts them.
    pub async fn row(&mut self, table: &str, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let select = || json!({"op": "select", "table": table, "where": [["name", "==", name]]});
        let mut last = Value::Null;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < deadline {
            last = self.transact(vec![select()]).await[0]["rows"][0].take();
            if wanted(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{table} {name} stays {last}");
    }

    pub async fn interface(&mut self, name: &str) -> Value {
        self.row("Interface", name, |_| true).await
    }
}

/// The new values of a table's rows in an update.
pub fn rows<'a>(update: &'a Value, table: &str) -> impl Iterator<Item = &'a Value> {
    update[table].as_object().into_iter().flat_map(|t| t.values().map(|change| &change["new"]))
}

/// The interface's new values in an update.
pub fn interface<'a>(update: &'a Value, name: &str) -> &'a Value {
    rows(update, "Interface").find(|r| r["name"] == name).unwrap_or_else(|| panic!("no {name} in {update}"))
}

/// The value of a key in a map column.
pub fn key<'a>(map: &'a Value, key: &str) -> Option<&'a str> {
    map[1].as_array()?.iter().find(|pair| pair[0] == key)?[1].as_str()
}

pub fn add_br(name: &str) -> Vec<Value> {
    vec![
        json!({"op": "insert", "table": "Interface", "uuid-name": "i", "row": {"name": name, "type": "internal"}}),
        json!({"op": "insert", "table": "Port", "uuid-name": "p",
            "row": {"name": name, "interfaces": ["named-uuid", "i"]}}),
        json!({"op": "insert", "table": "Bridge", "uuid-name": "b", "row": {"name": name, "ports": ["named-uuid", "p"]}}),
        json!({"op": "mutate", "table": "Open_vSwitch", "where": [],
            "mutations": [["bridges", "insert", ["named-uuid", "b"]]]}),
    ]
}

pub fn add_port(bridge: &str, mut row: Value) -> Vec<Value> {
    let name = row["name"].take();
    row["name"] = name.clone();
    vec![
        json!({"op": "insert", "table": "Interface", "uuid-name": "i", "row": row}),
        json!({"op": "insert", "table": "Port", "uuid-name": "p",
            "row": {"name": name, "interfaces": ["named-uuid", "i"]}}),
        json!({"op": "mutate", "table": "Bridge", "where": [["name", "==", bridge]],
            "mutations": [["ports", "insert", ["named-uuid", "p"]]]}),
    ]
}

pub fn del_br() -> Value {
    json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"bridges": ["set", []]}})
}

/// An unset column.
pub const NONE: fn() -> Value = || json!(["set", []]);
