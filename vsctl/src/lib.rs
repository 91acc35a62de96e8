//! The vswitch command line.
//!
//! A run reads its arguments ([`grammar`]), takes a snapshot of the tables that its commands look
//! at ([`session`], [`model`]), lets the commands ([`command`]) change the model, commits the
//! difference as one transaction, waits for the switch to act on it, and only then prints.
//! Everything that comes from the command line or the switch is untrusted and ends in an
//! [`error::Error`], never in a panic. One thread.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;

use ovsdb::schema::DatabaseSchema;
use ovsdb::value::{Datum, Uuid};

use command::Context;
use error::{Error, Result, failed};
use grammar::{Globals, Parsed, Request};
use model::{Model, Needs};
use output::Table;
use session::{InterfaceState, Outcome, Session, Stage};

mod columns;
mod command;
mod error;
mod grammar;
mod help;
mod model;
mod output;
mod records;
mod session;
mod text;
mod topology;

/// Runs vsctl with these arguments (without the program's name); gives the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let line: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let result = match grammar::parse(args) {
        Ok(Request::Print(text)) => print(&text),
        Ok(Request::Run(globals, commands)) => run_commands(&globals, &commands, &line.join(" ")),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            error.to_string().lines().for_each(|line| eprintln!("vsctl: {line}"));
            error.exit_code()
        }
    }
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| failed!("cannot write the output: {error}")),
    }
}

fn run_commands(globals: &Globals, commands: &[Parsed], line: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed!("cannot start: {error}"))?;
    let stage = RefCell::new(Stage::Connecting);
    let run = Run { globals, commands, line, stage: &stage };
    runtime.block_on(async {
        match globals.timeout {
            None => run.all().await,
            Some(patience) => match tokio::time::timeout(patience, run.all()).await {
                Ok(result) => result,
                Err(_) => Err(run.out_of_patience()),
            },
        }
    })
}

/// One run of vsctl.
struct Run<'a> {
    globals: &'a Globals,
    commands: &'a [Parsed],
    line: &'a str,
    stage: &'a RefCell<Stage>,
}

/// What the commands of a run left to print.
struct Printed {
    outputs: Vec<(String, Option<Table>)>,
    notes: Vec<String>,
}

impl Run<'_> {
    async fn all(&self) -> Result<()> {
        let mut session = Session::connect(self.globals, self.stage).await?;
        let schema = session.schema().await?;
        let mut needs = Needs::default();
        needs.table("Open_vSwitch");
        for parsed in self.commands {
            (parsed.command.needs)(parsed, &schema, &mut needs)?;
        }
        let mut refusal = None;
        loop {
            let mut model = session.snapshot(&schema, &needs).await?;
            let mut printed = self.run_commands(&mut model)?;
            let ops = model.operations().filter(|_| !self.globals.dry_run);
            let Some(ops) = ops else {
                return self.print(printed);
            };
            let raise = match self.globals.wait {
                true => model.rows("Open_vSwitch").next().map(|row| model.at(&row)),
                false => None,
            };
            let comment = format!("vsctl {}", self.line);
            match session.commit(ops, raise, &comment).await? {
                Outcome::Overtaken => {}
                // Somebody may have taken the same name since the snapshot; a new one tells.
                Outcome::Refused(error) if refusal.as_ref() != Some(&error) => refusal = Some(error),
                Outcome::Refused(error) => return Err(failed!("the switch refuses this: {error}")),
                Outcome::Committed { rows, next_cfg } => {
                    printed.rename(&rows);
                    self.print(printed)?;
                    let Some(next_cfg) = next_cfg else {
                        return Ok(());
                    };
                    session.wait_for(next_cfg).await?;
                    return self.check(&mut session, &schema, &model, &rows).await;
                }
            }
        }
    }

    fn run_commands(&self, model: &mut Model<'_>) -> Result<Printed> {
        if model.rows("Open_vSwitch").next().is_none() {
            model.insert("Open_vSwitch", Uuid::new_v4())?;
        }
        let mut names = text::Names::default();
        let mut printed = Printed { outputs: Vec::new(), notes: Vec::new() };
        for parsed in self.commands {
            let mut cx = Context { model, names: &mut names, out: String::new(), table: None, notes: Vec::new() };
            (parsed.command.run)(&mut cx, parsed)?;
            printed.outputs.push((cx.out, cx.table));
            printed.notes.extend(cx.notes);
        }
        names.check_all_defined()?;
        printed.notes.extend(
            names.unused().map(|name| format!("the record {name} is gone at once, because nothing refers to it")),
        );
        Ok(printed)
    }

    fn print(&self, printed: Printed) -> Result<()> {
        let mut text = String::new();
        let mut tables = 0;
        for (out, table) in printed.outputs {
            match table {
                Some(table) => {
                    if tables > 0 && self.globals.style.format != output::Format::Json {
                        text.push('\n');
                    }
                    tables += 1;
                    text += &table.print(&self.globals.style);
                }
                None if self.globals.oneline => text += &output::one_line(&out),
                None => text += &out,
            }
        }
        print(&text)?;
        printed.notes.iter().for_each(|note| eprintln!("vsctl: {note}"));
        Ok(())
    }

    /// Reports what the switch says about the interfaces that were added or changed.
    async fn check(
        &self,
        session: &mut Session<'_>,
        schema: &DatabaseSchema,
        model: &Model<'_>,
        new_rows: &BTreeMap<Uuid, Uuid>,
    ) -> Result<()> {
        let touched = model.touched("Interface");
        let rows: Vec<Uuid> = touched.iter().map(|own| *new_rows.get(own).unwrap_or(own)).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let mut errors = Vec::new();
        for state in session.interfaces(schema, &rows).await? {
            warnings(&state).iter().for_each(|warning| eprintln!("vsctl: {warning}"));
            errors.extend(error_of(&state));
        }
        if errors.is_empty() { Ok(()) } else { Err(Error::Degraded(errors)) }
    }

    fn out_of_patience(&self) -> Error {
        let secs = self.globals.timeout.unwrap_or_default().as_secs();
        let socket = self.globals.socket.display();
        Error::TimedOut(match &*self.stage.borrow() {
            Stage::Connecting => {
                format!("timed out after {secs} s: no connection to {socket}; is vswitch running?")
            }
            Stage::Talking => format!(
                "timed out after {secs} s: the switch at {socket} does not answer; \
                 nothing may have been changed"
            ),
            Stage::Waiting { wanted, reached } => format!(
                "timed out after {secs} s: the change is committed, but the switch has not acted \
                 on it (it is at cur_cfg {reached} of {wanted}); is vswitch running? \
                 --no-wait does not wait for it, --timeout=SECS waits longer"
            ),
        })
    }
}

impl Printed {
    /// Puts the UUIDs that the switch gave to new rows in place of those that the model had.
    fn rename(&mut self, rows: &BTreeMap<Uuid, Uuid>) {
        for (text, table) in &mut self.outputs {
            for (own, real) in rows {
                if text.contains(&own.to_string()) {
                    *text = text.replace(&own.to_string(), &real.to_string());
                }
            }
            for cell in table.iter_mut().flat_map(|table| &mut table.rows).flatten() {
                rename_in(cell, rows);
            }
        }
    }
}

fn rename_in(datum: &mut Datum, rows: &BTreeMap<Uuid, Uuid>) {
    use ovsdb::value::Atom;
    let real = |atom: &Atom| match atom {
        Atom::Uuid(own) => Atom::Uuid(*rows.get(own).unwrap_or(own)),
        other => other.clone(),
    };
    match datum {
        Datum::Set(set) => *set = set.iter().map(real).collect(),
        Datum::Map(map) => *map = map.iter().map(|(k, v)| (real(k), real(v))).collect(),
    }
}

/// `status` keys that end in `_warning` are meant for whoever set the interface up.
fn warnings(state: &InterfaceState) -> Vec<String> {
    let pairs = state.status.string_pairs();
    pairs
        .filter(|(key, _)| key.ends_with("_warning"))
        .map(|(_, text)| format!("warning: {}: {text}", state.name))
        .collect()
}

/// What to say of an interface that could not be set up.
fn error_of(state: &InterfaceState) -> Vec<String> {
    let name = &state.name;
    let why = match (&state.error, state.ofport) {
        (Some(error), _) => error.as_str(),
        (None, None | Some(-1)) => "the switch gave it no port number and does not say why",
        (None, Some(_)) => return Vec::new(),
    };
    vec![
        format!("Error detected while setting up '{name}': {why}"),
        format!(
            "The change is committed and the switch goes on trying; 'vsctl get interface {name} \
             error' shows how it stands, 'vsctl del-port {name}' takes it back."
        ),
    ]
}
