//! Open vSwitch's own, unmodified tools: `ovs-vsctl`, `ovsdb-client`, `ovsdb-tool` and, to compare with, `ovsdb-server`.
//!
//! They are looked for under `OVS_PREFIX` (`tests/setup.sh test` unpacks the Debian packages there; default
//! `target/peers`). A private `ovsdb-server` gets its own directory and socket; nothing of an installed Open vSwitch is used.

use crate::netns::{Running, Space};
use crate::process::{Done, eventually, run, skip, words};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where the tools are.
pub struct Ovs {
    prefix: PathBuf,
}

impl Ovs {
    /// Finds them; `None` (said on standard error, or a panic if nothing may be skipped) where they are missing.
    #[must_use]
    pub fn find() -> Option<Self> {
        let prefix = std::env::var_os("OVS_PREFIX")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers"), PathBuf::from);
        if prefix.join("usr/bin/ovs-vsctl").exists() {
            return Some(Self { prefix });
        }
        skip(&format!("no ovs-vsctl under {}; fetch it with: tests/setup.sh test", prefix.display()));
        None
    }

    /// The schema file of Debian's package.
    #[must_use]
    pub fn schema(&self) -> PathBuf {
        self.prefix.join("usr/share/openvswitch/vswitch.ovsschema")
    }

    /// The path of a tool.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        let dir = match name {
            "ovsdb-server" => "usr/sbin",
            "ovs-vswitchd" => "usr/lib/openvswitch-switch",
            _ => "usr/bin",
        };
        self.prefix.join(dir).join(name).display().to_string()
    }

    /// Runs a tool with arguments as in [`words`].
    #[must_use]
    pub fn run(&self, tool: &str, args: &str) -> Done {
        let mut command = vec![self.path(tool)];
        command.extend(words(args));
        run(&command)
    }

    /// Runs `ovs-vsctl` on the database server at `socket`.
    #[must_use]
    pub fn vsctl(&self, socket: &Path, args: &str) -> Done {
        self.run("ovs-vsctl", &format!("--timeout=10 --db=unix:{} {args}", socket.display()))
    }

    /// Starts a private `ovsdb-server` with an empty Open_vSwitch database in `dir`.
    #[must_use]
    pub fn server(&self, dir: &Path) -> OvsdbServer {
        let (db, socket) = (dir.join("ovs.db"), dir.join("ovs.sock"));
        let _ = self.run("ovsdb-tool", &format!("create {} {}", db.display(), self.schema().display())).output();
        let child = Command::new(self.path("ovsdb-server"))
            .arg(&db)
            .arg(format!("--remote=punix:{}", socket.display()))
            .env("OVS_RUNDIR", dir)
            .env("OVS_LOGDIR", dir)
            .env("OVS_DBDIR", dir)
            .env("OVS_SYSCONFDIR", dir)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ovsdb-server starts");
        let server = OvsdbServer { child, socket };
        eventually("ovsdb-server's socket", || {
            server.socket.exists().then_some(()).ok_or_else(|| "no socket".to_owned())
        });
        let _ = self.vsctl(&server.socket, "--no-wait init").output();
        server
    }

    /// Starts a private `ovs-vswitchd` in `space`, without the kernel's datapath, on the database of `server`.
    #[must_use]
    pub fn vswitchd(&self, space: &Space, server: &OvsdbServer) -> Running {
        let dir = server.socket.parent().unwrap_or(Path::new("/"));
        let dir = dir.display();
        let environment = format!("OVS_RUNDIR={dir} OVS_LOGDIR={dir} OVS_DBDIR={dir} OVS_SYSCONFDIR={dir}");
        let daemon = format!("{} unix:{}", self.path("ovs-vswitchd"), server.socket.display());
        let options = format!("--disable-system --pidfile={dir}/vswitchd.pid --unixctl={dir}/vswitchd.ctl");
        space.spawn(&format!("env {environment} {daemon} {options}"), &server.socket.with_file_name("vswitchd.out"))
    }
}

/// A private `ovsdb-server`, ended when dropped.
pub struct OvsdbServer {
    child: Child,
    /// Where it listens.
    pub socket: PathBuf,
}

impl Drop for OvsdbServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
