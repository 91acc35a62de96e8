//! A server on a temporary socket, with just enough of a switch behind it for clients that wait for one.

#![allow(dead_code)] // every test file uses a part of it

use ovsdb::db::log::Durability;
use ovsdb::server::{Listener, Now, Server, Sessions};
use ovsdb::vswitch_schema::vswitch_schema;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

/// A running server; stops when dropped.
pub struct TestServer {
    dir: TempDir,
    sessions: Sessions,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    /// Starts a server on a new, empty database with its one `Open_vSwitch` row.
    pub fn start() -> TestServer {
        TestServer::on(tempfile::tempdir().expect("tempdir"))
    }

    /// Starts a server on the `conf.db` in `dir`.
    pub fn on(dir: TempDir) -> TestServer {
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = std::sync::mpsc::channel();
        let (db, socket) = (dir.path().join("conf.db"), dir.path().join("db.sock"));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(run(&db, &socket, ready, stopped));
        });
        let sessions = started.recv().expect("the server starts");
        TestServer { dir, sessions, stop: Some(stop), thread: Some(thread) }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where further listeners take their clients.
    pub fn sessions(&self) -> Sessions {
        self.sessions.clone()
    }

    pub fn socket(&self) -> PathBuf {
        self.dir().join("db.sock")
    }

    pub fn db(&self) -> PathBuf {
        self.dir().join("conf.db")
    }

    /// Stops the server and gives back its directory.
    pub fn stop(mut self) -> TempDir {
        self.join();
        std::mem::replace(&mut self.dir, tempfile::tempdir().expect("tempdir"))
    }

    fn join(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic");
        }
    }
}

/// Serves the `conf.db` in `dir` until the process is killed.
pub fn serve(dir: &Path) {
    let (_stop, stopped) = oneshot::channel();
    let (ready, _started) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(run(&dir.join("conf.db"), &dir.join("db.sock"), ready, stopped));
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.join();
        }
    }
}

async fn run(db: &Path, socket: &Path, ready: std::sync::mpsc::Sender<Sessions>, mut stopped: oneshot::Receiver<()>) {
    let mut server = Server::open(db, vswitch_schema(), 0).expect("opens");
    if server.database().rows("Open_vSwitch").next().is_none() {
        commit(&mut server, &[json!({"op": "insert", "table": "Open_vSwitch", "row": {}})]);
    }
    let (events, mut inbox) = mpsc::channel(64);
    let listener = Listener::bind(socket).expect("free");
    let sessions = Sessions::from(events);
    tokio::spawn(listener.run(sessions.clone()));
    ready.send(sessions).expect("the test waits");
    let far = Duration::from_secs(3600);
    loop {
        let due = server.next_deadline().unwrap_or_else(|| Instant::now() + far);
        let commits = tokio::select! {
            event = inbox.recv() => server.handle(event.expect("the listener runs"), Now::read()),
            () = tokio::time::sleep_until(due.into()) => server.tick(Now::read()),
            _ = &mut stopped => return,
        };
        if !commits.is_empty() {
            let operations = switch(&server);
            commit(&mut server, &operations);
        }
    }
}

fn commit(server: &mut Server, operations: &[Value]) {
    if let Some(prepared) = server.database().execute(operations).prepared {
        server.commit(prepared, Durability::Buffered, 0).expect("room");
    }
}

/// What a switch would answer to the present configuration: port numbers and `cur_cfg`, in one commit.
fn switch(server: &Server) -> Vec<Value> {
    let database = server.database();
    let mut operations = Vec::new();
    for (number, (uuid, row)) in database.rows("Interface").enumerate() {
        if row.get("ofport").expect("a column").is_empty() {
            let is = json!([["_uuid", "==", ["uuid", uuid.to_string()]]]);
            operations.push(json!({"op": "update", "table": "Interface", "where": is, "row": {"ofport": number + 1}}));
        }
    }
    for (_, row) in database.rows("Open_vSwitch") {
        let next = row.get("next_cfg").expect("a column").to_json();
        operations.push(json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"cur_cfg": next}}));
    }
    operations
}

/// Runs a command to its end: its exit code, standard output and standard error.
pub fn run_tool(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// Runs a command that must succeed without a word on standard error; returns its standard output.
pub fn output_of(command: &mut Command) -> String {
    let (code, out, err) = run_tool(command);
    assert!(code == 0 && err.is_empty(), "{command:?}: exit code {code}\n{out}{err}");
    out
}
