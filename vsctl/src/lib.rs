//! The vswitch command line.
//!
//! A run reads its arguments ([`grammar`], [`globals`]), takes a snapshot of the tables that its commands look
//! at ([`session`], [`model`]), lets the commands ([`command`]) change the model, commits the
//! difference as one transaction, prints, and waits for the switch to act on it ([`run`], [`report`]).
//! Everything that comes from the command line or the switch is untrusted and ends in an
//! [`error::Error`], never in a panic. One thread.

use std::ffi::OsString;
use std::io::Write as _;

use error::{Result, failed};
use grammar::Request;

mod columns;
mod command;
mod complete;
mod control;
mod error;
mod globals;
mod grammar;
mod help;
mod itself;
#[cfg(test)]
mod lab;
mod log;
mod man;
mod model;
mod output;
mod records;
mod report;
mod run;
mod session;
mod text;
mod topology;

/// Runs vsctl with these arguments (without the program's name); gives the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let line: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let (result, log) = match grammar::parse(args) {
        Ok(Request::Print(text)) => (print(&text), None),
        Ok(Request::Run(globals, commands)) => (run::run(&globals, &commands, &line.join(" ")), Some(globals.log)),
        Err(error) => (Err(error), None),
    };
    let Err(error) = result else { return 0 };
    match log {
        Some(log) => log.error(&error.to_string()),
        None => log::print_error(&error.to_string()),
    }
    error.exit_code()
}

fn print(text: &str) -> Result<()> {
    put(text).map(|_| ())
}

/// Writes to standard output; whether somebody still reads there.
fn put(text: &str) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        // Whoever reads has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(failed!("cannot write the output: {error}")),
    }
}
