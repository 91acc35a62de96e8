//! A private database server with our schema, our own or ovsdb-server, and the two command lines to talk to it.

#![allow(dead_code, clippy::print_stdout)]

pub mod switch;

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use vswitch_tests::ovs;

/// What a run printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    Ran {
        code: code(output.status),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The exit code as a shell has it: 128 more than the signal that ended the program, if one did.
fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// Our command line.
pub fn vsctl() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vsctl"));
    command.env_remove("VSWITCH_SOCKET");
    command
}

/// A running server on an empty database; ends with this value. No switch is behind it.
pub struct Server {
    dir: tempfile::TempDir,
    running: Running,
}

enum Running {
    /// Ours, in a thread that ends when the sender does.
    Ours(Option<(oneshot::Sender<()>, JoinHandle<()>)>),
    /// ovsdb-server.
    Theirs(Child),
}

impl Server {
    /// Starts ours.
    pub fn ours() -> Server {
        let dir = tempfile::tempdir().expect("a directory for the database");
        let (db, socket) = (dir.path().join("conf.db"), dir.path().join("db.sock"));
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(&db, &socket, ready, stopped));
        });
        started.recv().expect("the server starts");
        Server { dir, running: Running::Ours(Some((stop, thread))) }
    }

    /// Starts ovsdb-server; `None` if it is not installed.
    pub fn theirs() -> Option<Server> {
        let (server, tool) = (ovs::program("ovsdb-server")?, ovs::program("ovsdb-tool")?);
        let dir = tempfile::tempdir().expect("a directory for the database");
        let at = |name: &str| dir.path().join(name);
        let schema = ovsdb::vswitch_schema::vswitch_schema().to_json();
        std::fs::write(at("schema"), schema.to_string()).expect("the schema is written");
        let made = run(Command::new(tool).arg("create").args([at("conf.db"), at("schema")]));
        assert_eq!(made.code, 0, "ovsdb-tool create: {}", made.err);
        let child = Command::new(server)
            .arg(at("conf.db"))
            .arg(format!("--remote=punix:{}", at("db.sock").display()))
            .arg(format!("--unixctl={}", at("ctl").display()))
            .arg("--no-chdir")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ovsdb-server starts");
        let server = Server { dir, running: Running::Theirs(child) };
        eventually("ovsdb-server listens", || server.socket().exists());
        Some(server)
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("db.sock")
    }

    /// `vsctl --socket … WORDS`, not started yet.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = vsctl();
        command.arg("--socket").arg(self.socket()).args(words);
        command
    }

    /// `vsctl --socket … WORDS`.
    pub fn vsctl(&self, words: &[&str]) -> Ran {
        run(&mut self.command(words))
    }

    /// `ovs-vsctl --db=… WORDS`.
    pub fn ovs_vsctl(&self, program: &Path, words: &[&str]) -> Ran {
        run(Command::new(program).arg(format!("--db=unix:{}", self.socket().display())).args(words))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match &mut self.running {
            Running::Theirs(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Running::Ours(thread) => {
                if let Some((stop, thread)) = thread.take() {
                    drop(stop);
                    let ended = thread.join();
                    assert!(ended.is_ok() || std::thread::panicking(), "our server panicked");
                }
            }
        }
    }
}

async fn serve(db: &Path, socket: &Path, ready: std::sync::mpsc::Sender<()>, mut stopped: oneshot::Receiver<()>) {
    use ovsdb::server::Now;
    let schema = ovsdb::vswitch_schema::vswitch_schema();
    let mut server = ovsdb::server::Server::open(db, schema, 0).expect("a new database");
    let (events, mut inbox) = mpsc::channel(64);
    let listener = ovsdb::server::Listener::bind(socket).expect("a free socket");
    tokio::spawn(listener.run(events));
    ready.send(()).expect("the test waits");
    loop {
        tokio::select! {
            event = inbox.recv() => drop(server.handle(event.expect("the listener runs"), Now::read())),
            _ = &mut stopped => return,
        }
    }
}

/// Waits for what will be so soon.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}
