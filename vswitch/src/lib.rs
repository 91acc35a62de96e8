//! The vswitch daemon: keeps the OVSDB database, and a datapath that does what it says.
//!
//! ```text
//!  clients ⇄ ovsdb::server ──commit──▶ config ──▶ reconcile::{desired, plan, apply} ──▶ datapath::control
//!                 ▲                                   ▲                                      │
//!                 └──────────── status ◀──────────────┼──────────── results, counters ◀──────┘
//!                                              netlink (links, addresses, routes)
//! ```
//!
//! [`daemon`] is the one loop that drives it, on one thread; session tasks and the datapath's workers run beside it and
//! talk to it by channels only.

pub mod appctl;
pub mod args;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod log;
pub mod managers;
pub mod mtu;
pub mod netlink;
pub mod reconcile;
pub mod retry;
pub mod start;
pub mod status;
pub mod told;

pub use args::Args;

use anyhow::Context;
use daemon::Daemon;
use log::Log;
use tokio::signal::unix::{SignalKind, signal};

/// Runs the daemon until SIGTERM, SIGINT or a word on its control socket.
pub fn run(args: &Args, log: Log) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async {
            tokio::select! {
                _ = term.recv() => "SIGTERM",
                _ = int.recv() => "SIGINT",
            }
        };
        serve(args, log, stop).await
    })
}

/// Runs the daemon until `stop` is done, whose output says why, or a client of its control socket asks for the end; in
/// the network namespace of the calling thread.
pub async fn serve(args: &Args, log: Log, stop: impl Future<Output = &'static str>) -> anyhow::Result<()> {
    let mut stop = std::pin::pin!(stop);
    let daemon = tokio::select! {
        opened = Daemon::open(args, log) => opened?,
        why = &mut stop => {
            tracing::info!("stopping before the start was over: {why}");
            return Ok(());
        }
    };
    daemon.run(stop).await
}
