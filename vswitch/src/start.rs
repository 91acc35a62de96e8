//! What the daemon takes hold of before its loop starts: database, socket, the datapath's events.

use anyhow::Context;
use datapath::control::{Datapath, DatapathEvent};
use ovsdb::db::lock::LockError;
use ovsdb::db::log::{Durability, LogError};
use ovsdb::db::store::OpenError;
use ovsdb::server::{ListenError, Listener, Server};
use ovsdb::vswitch_schema::vswitch_schema;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// A daemon that was just killed lets go of its lock and its socket a little later than its parent hears of its end.
const PREDECESSOR: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(20);

/// Opens the database, with the one row of the table Open_vSwitch that everything hangs on.
pub async fn database(path: &Path) -> anyhow::Result<Server> {
    let held = |e: &OpenError| matches!(e, OpenError::Log(LogError::Lock(LockError::Held { .. })));
    let mut server = patiently(|| Server::open(path, vswitch_schema(), wall_clock()), held).await?;
    if server.database().rows("Open_vSwitch").next().is_none() {
        let mut txn = server.database().begin();
        txn.comment("vswitch: initialize");
        let prepared = txn.insert("Open_vSwitch", []).and_then(|_| txn.finish());
        prepared
            .and_then(|p| server.commit(p, Durability::Synced, wall_clock()))
            .map_err(|e| anyhow::anyhow!("{e}"))
            .context("cannot initialize the database")?;
    }
    Ok(server)
}

/// Opens the socket.
pub async fn listener(path: &Path) -> anyhow::Result<Listener> {
    Ok(patiently(|| Listener::bind(path), |e| matches!(e, ListenError::InUse { .. })).await?)
}

/// Tries again for a moment while `held` says that somebody else has it.
async fn patiently<T, E>(mut attempt: impl FnMut() -> Result<T, E>, held: impl Fn(&E) -> bool) -> Result<T, E> {
    let deadline = tokio::time::Instant::now() + PREDECESSOR;
    loop {
        match attempt() {
            Err(e) if held(&e) && tokio::time::Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
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
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
