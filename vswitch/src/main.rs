//! The `vswitch` program: command line and log; the rest is in the library.

use clap::Parser;
use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;
use vswitch::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = match EnvFilter::try_new(&args.log) {
        Ok(filter) => filter,
        Err(e) => {
            eprintln!(
                "vswitch: --log {}: {e}; use a level (error, warn, info, debug, trace) or 'info,ovsdb=debug'",
                args.log
            );
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(stderr().is_terminal()).init();
    match vswitch::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!("{e:#}");
            ExitCode::FAILURE
        }
    }
}
