//! Open vSwitch's own, unmodified programs: `ovs-vsctl`, `ovsdb-client`, `ovsdb-tool` and, to compare with, `ovsdb-server`.
//!
//! They are looked for under `OVS_PREFIX` (`tests/setup.sh test` unpacks the Debian packages there; default
//! `target/peers`), then where an installed one would be. A private `ovsdb-server` gets its own directory and socket;
//! no running Open vSwitch is touched.

use crate::netns::{Running, Space};
use crate::process::{Done, eventually, run, skip, words};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where `tests/setup.sh test` unpacks the packages, unless `OVS_PREFIX` says otherwise.
#[must_use]
pub fn prefix() -> PathBuf {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers");
    std::env::var_os("OVS_PREFIX").map_or(peers, PathBuf::from)
}

/// A program of Open vSwitch. `None` (said on standard error, or a panic if nothing may be skipped) where it is missing.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let prefix = prefix();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let unpacked = ["usr/bin", "usr/sbin", "usr/lib/openvswitch-switch"].map(|dir| prefix.join(dir));
    let installed = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = unpacked.into_iter().chain(installed).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        skip(&format!("no {name} under {} or on the path; fetch it with: tests/setup.sh test", prefix.display()));
    }
    found
}

/// Proof that the programs are there, and what can be done with them.
pub struct Ovs {
    vsctl: PathBuf,
}

impl Ovs {
    /// Finds them; `None` as for [`program`].
    #[must_use]
    pub fn find() -> Option<Self> {
        program("ovs-vsctl").map(|vsctl| Self { vsctl })
    }

    /// The schema file of Debian's package.
    #[must_use]
    pub fn schema(&self) -> PathBuf {
        // …/usr/bin/ovs-vsctl beside …/usr/share/openvswitch.
        let usr = self.vsctl.ancestors().nth(2).unwrap_or(Path::new("/usr"));
        usr.join("share/openvswitch/vswitch.ovsschema")
    }

    /// The path of a program.
    ///
    /// # Panics
    /// If it is missing though `ovs-vsctl` is there.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        program(name).unwrap_or_else(|| panic!("ovs-vsctl is here, but no {name}")).display().to_string()
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

    /// Starts a private `ovsdb-server` with an Open_vSwitch database that holds nothing but its root row, in `dir`.
    #[must_use]
    pub fn server(&self, dir: &Path) -> OvsdbServer {
        let create = format!("create {} {}", dir.join("ovs.db").display(), self.schema().display());
        let _ = self.run("ovsdb-tool", &create).output();
        let server = self.serve(dir);
        let _ = self.vsctl(&server.socket, "--no-wait init").output();
        server
    }

    /// Starts a private `ovsdb-server` on a copy of a database, in `dir`.
    ///
    /// # Panics
    /// If it can't be copied.
    #[must_use]
    pub fn server_on_copy(&self, dir: &Path, database: &Path) -> OvsdbServer {
        fs::copy(database, dir.join("ovs.db")).expect("a copy of the database");
        self.serve(dir)
    }

    fn serve(&self, dir: &Path) -> OvsdbServer {
        let (db, socket) = (dir.join("ovs.db"), dir.join("ovs.sock"));
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

impl OvsdbServer {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for OvsdbServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
