//! The command line.

use std::path::PathBuf;

/// A virtual switch: serves an OVSDB database and forwards frames as it says.
///
/// Configure it with vsctl, or with any client of Open vSwitch's database.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "vswitch", version, max_term_width = 100)]
pub struct Args {
    /// The Unix socket that clients connect to. The control socket for 'ovs-appctl -t' lies beside it, '.ctl' for '.sock'.
    #[arg(long, env = "VSWITCH_SOCKET", value_name = "PATH", default_value = "/run/vswitch/db.sock")]
    pub socket: PathBuf,

    /// The database file; made if it does not exist. Only one daemon can have it open.
    #[arg(long, env = "VSWITCH_DB", value_name = "FILE", default_value = "/var/lib/vswitch/conf.db")]
    pub db: PathBuf,

    /// What to log to standard error: a level, or levels by module as in 'info,ovsdb=debug'.
    #[arg(long, env = "VSWITCH_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}
