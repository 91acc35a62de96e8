//! The `vswitch` program: command line and log; the rest is in the library.

use clap::Parser;
use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{fmt, registry};
use vswitch::Args;
use vswitch::log::Log;

fn main() -> ExitCode {
    let args = Args::parse();
    let (log, filter) = match Log::new(&args.log) {
        Ok(log) => log,
        Err(e) => {
            eprintln!("vswitch: --log: {e}");
            return ExitCode::from(2);
        }
    };
    let lines = fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal());
    registry().with(lines.with_filter(filter)).init();
    match vswitch::run(&args, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!("{e:#}");
            ExitCode::FAILURE
        }
    }
}
