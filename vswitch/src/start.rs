//! What the daemon takes hold of before its loop starts: database, socket, the datapath's events.

use datapath::control::{Datapath, DatapathEvent};
use ovsdb::db::lock::LockError;
use ovsdb::db::log::{Durability, LogError};
use ovsdb::db::store::OpenError;
use ovsdb::server::{ListenError, Listener, Now, Server};
use ovsdb::vswitch_schema::vswitch_schema;
use rustix::net::sockopt::socket_peercred;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a daemon that is ending may take: the kernel closes its devices one by one, some milliseconds each.
const PREDECESSOR: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// Opens the database, with the one row of the table Open_vSwitch that everything hangs on.
pub async fn database(path: &Path) -> anyhow::Result<Server> {
    let holder = |e: &OpenError| match e {
        OpenError::Log(LogError::Lock(LockError::Held { pid, .. })) => *pid,
        _ => None,
    };
    let mut server = after_predecessor(|| Server::open(path, vswitch_schema(), wall_clock()), holder).await?;
    if server.database().rows("Open_vSwitch").next().is_none() {
        let mut txn = server.database().begin();
        txn.comment("vswitch: initialize");
        let prepared = txn.insert("Open_vSwitch", []).and_then(|_| txn.finish());
        prepared
            .and_then(|p| server.commit(p, Durability::Synced, wall_clock()))
            .map_err(|e| anyhow::anyhow!("{}: cannot be initialized: {e}", path.display()))?;
    }
    Ok(server)
}

/// Opens the socket.
pub async fn listener(path: &Path) -> anyhow::Result<Listener> {
    let holder = |e: &ListenError| match e {
        ListenError::InUse { path } => {
            let peer = UnixStream::connect(path).ok()?;
            u32::try_from(socket_peercred(&peer).ok()?.pid.as_raw_nonzero().get()).ok()
        }
        _ => None,
    };
    after_predecessor(|| Listener::bind(path), holder).await
}

/// Waits while what is wanted is still held by a process that is ending: one that was killed holds on to its files for
/// a while after its parent has heard of its death.
async fn after_predecessor<T, E: std::fmt::Display>(
    mut attempt: impl FnMut() -> Result<T, E>,
    holder: impl Fn(&E) -> Option<u32>,
) -> anyhow::Result<T> {
    let deadline = tokio::time::Instant::now() + PREDECESSOR;
    loop {
        match attempt() {
            Err(e) if holder(&e).is_some_and(is_ending) && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(PAUSE).await;
            }
            // The text alone: it names its cause already.
            done => return done.map_err(|e| anyhow::anyhow!("{e}")),
        }
    }
}

/// Whether a process is on its way out, or gone.
fn is_ending(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => says_ending(&stat),
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    }
}

/// proc_pid_stat(5): after the name in parentheses, the state is the first field and the flags are the seventh.
fn says_ending(stat: &str) -> bool {
    /// `PF_EXITING` of linux/sched.h.
    const EXITING: u64 = 0x4;
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    let state = fields.next();
    let flags = fields.nth(5).and_then(|f| f.parse::<u64>().ok()).unwrap_or_default();
    matches!(state, Some("Z" | "X")) || flags & EXITING != 0
}

/// Lets the loop wait for the datapath's events: a thread that ends with the datapath.
pub fn forward_events(datapath: &mut Datapath) -> anyhow::Result<mpsc::UnboundedReceiver<DatapathEvent>> {
    let (to, events) = mpsc::unbounded_channel();
    if let Some(from) = datapath.events() {
        let forward = move || {
            for event in from {
                if to.send(event).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("datapath-events".to_owned()).spawn(forward)?;
    }
    Ok(events)
}

/// The host's distribution and its version, by /etc/os-release.
#[must_use]
pub fn system() -> (String, String) {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        line.map_or_else(|| "unknown".to_owned(), |v| v.trim_matches('"').to_owned())
    };
    (value("ID"), value("VERSION_ID"))
}

/// Milliseconds since 1970, for the database file.
#[must_use]
pub fn wall_clock() -> i64 {
    Now::read().date
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_process_is_told_from_a_living_one() {
        assert!(says_ending("17 (a) b) D 1 17 17 0 -1 4194308 0"));
        assert!(says_ending("17 (vswitch) Z 1 17 17 0 -1 4194304 0"));
        assert!(!says_ending("17 (Z) S 1 17 17 0 -1 4194304 0"));
        assert!(!says_ending(""));
        assert!(!is_ending(std::process::id()));
    }
}
