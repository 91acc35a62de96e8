//! One run: snapshot, commands, commit, output, the wait for the switch.

use std::cell::RefCell;
use std::collections::BTreeMap;

use ovsdb::schema::DatabaseSchema;
use ovsdb::value::{Atom, Datum, Uuid, parse_uuid};

use crate::command::{Context, Then};
use crate::control::Control;
use crate::error::{Error, Result, fail, failed};
use crate::globals::Globals;
use crate::grammar::Parsed;
use crate::model::{Model, Needs};
use crate::output::{Format, Table, one_line};
use crate::report::{about_columns, check, out_of_patience, turned_up, warnings};
use crate::session::{MirrorState, News, Outcome, Session, Stage};
use crate::text::Names;

/// How often a run is started over because others changed what it relies on.
const ATTEMPTS: u32 = 100;

/// Runs the commands of a line as one transaction.
pub(crate) fn run(globals: &Globals, commands: &[Parsed], line: &str) -> Result<()> {
    globals.log.info(&format!("called as vsctl {line}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed!("cannot start: {error}"))?;
    let stage = RefCell::new(Stage::Connecting);
    let run = Run { globals, commands, line, stage: &stage };
    let result = runtime.block_on(async {
        match globals.timeout {
            None => run.all().await,
            Some(patience) => match tokio::time::timeout(patience, run.all()).await {
                Ok(result) => result,
                Err(_) => Err(out_of_patience(patience, &globals.remotes, &stage.borrow())),
            },
        }
    });
    // A name server that does not answer must not keep us.
    runtime.shutdown_background();
    result
}

/// One run of vsctl.
struct Run<'a> {
    globals: &'a Globals,
    commands: &'a [Parsed],
    line: &'a str,
    stage: &'a RefCell<Stage>,
}

impl Run<'_> {
    async fn all(&self) -> Result<()> {
        let mut session = Session::connect(self.globals, self.stage).await?;
        let schema = session.schema().await?;
        let mut needs = needs(self.commands, &schema)?;
        let control = Control::of(self.globals);
        let (mut refused, mut watching, mut overtaken) = (false, false, 0);
        while overtaken < ATTEMPTS {
            let mut model = session.snapshot(&schema, &needs).await?;
            let mut printed = match carry_out(self.commands, &mut model, &control) {
                Err(Error::NotYet(what)) if watching => {
                    session.change(what).await?;
                    continue;
                }
                // What changes between this snapshot and the watch, the next snapshot shows.
                Err(Error::NotYet(_)) => {
                    session.watch(&needs).await?;
                    watching = true;
                    continue;
                }
                // What stands in the way, and what there is instead, may be in rows that were not read.
                Err(_) if needs.widen() => continue,
                printed => printed?,
            };
            let ops = model.operations().filter(|_| !self.globals.dry_run);
            let Some(ops) = ops else {
                self.print(&printed)?;
                return self.go_on(printed.then, &control).await;
            };
            let raise = match self.globals.wait {
                true => model.rows("Open_vSwitch").next().map(|row| model.at(&row)),
                false => None,
            };
            let comment = format!("vsctl {}", self.line);
            match session.commit(ops, raise, &comment).await? {
                Outcome::Overtaken => overtaken += 1,
                // Somebody may have taken the same name since the snapshot; a new snapshot tells.
                Outcome::Refused(error) if refused => fail!("the switch refuses this: {error}"),
                Outcome::Refused(_) => {
                    refused = true;
                    needs.widen();
                }
                Outcome::Committed { rows, next_cfg } => {
                    printed.rename(&rows);
                    self.print(&printed)?;
                    let Some(next_cfg) = next_cfg else {
                        return self.go_on(printed.then, &control).await;
                    };
                    let news = session.wait_for(&schema, next_cfg).await?;
                    self.check(&mut session, &schema, &model, &rows, &news).await?;
                    return self.go_on(printed.then, &control).await;
                }
            }
        }
        fail!("gave up after {ATTEMPTS} attempts: others keep changing the same rows; nothing was changed")
    }

    /// What comes when all is printed and nothing was changed.
    async fn go_on(&self, then: Vec<Then>, control: &Control) -> Result<()> {
        for then in then {
            match then {
                Then::Follow(follow) => {
                    self.stage.replace(Stage::Following);
                    follow.run(control, &self.globals.style).await?;
                }
                Then::Fail => return Err(Error::Found),
            }
        }
        Ok(())
    }

    fn print(&self, printed: &Printed) -> Result<()> {
        crate::print(&printed.text(self.globals))?;
        printed.notes.iter().for_each(|note| self.globals.log.warn(note));
        Ok(())
    }

    /// Reports what the switch says about what was added or changed: of interfaces and ports all, of bridges what has no
    /// effect. A port that was changed may have put its interfaces in error. Of `news` at other interfaces, the warnings
    /// that turned up.
    async fn check(
        &self,
        session: &mut Session<'_>,
        schema: &DatabaseSchema,
        model: &Model<'_>,
        new_rows: &BTreeMap<Uuid, Uuid>,
        news: &News,
    ) -> Result<()> {
        let theirs = |own: &Uuid| *new_rows.get(own).unwrap_or(own);
        let all =
            ["Bridge", "Port", "Interface"].map(|table| model.touched(table).into_iter().map(move |own| (table, own)));
        let touched: Vec<(&str, Uuid)> = all.into_iter().flatten().collect();
        let rows: Vec<_> = touched.iter().map(|(table, own)| (*table, theirs(own))).collect();
        let (mut interfaces, mut of_ports) = (Vec::new(), Vec::new());
        let states = if rows.is_empty() { Vec::new() } else { session.states(schema, &rows).await? };
        for ((table, own), state) in touched.iter().zip(states) {
            let Some(state) = state else { continue };
            let mut told = about_columns(&state, |column| model.sets(table, own, column));
            if *table != "Bridge" {
                told.extend(warnings(&state));
            }
            told.iter().for_each(|warning| self.globals.log.warn(warning));
            of_ports.extend(state.interfaces.iter().map(|&uuid| ("Interface", uuid)));
            if *table == "Interface" {
                interfaces.push(state);
            }
        }
        for (_, news) in news.iter().filter(|(row, _)| !rows.contains(&("Interface", **row))) {
            turned_up(news).iter().for_each(|warning| self.globals.log.warn(warning));
        }
        of_ports.retain(|row| !rows.contains(row));
        if !of_ports.is_empty() {
            interfaces.extend(session.states(schema, &of_ports).await?.into_iter().flatten());
        }
        let touched = |table, row: &Uuid, column: Option<&str>| {
            let changed =
                |own: &Uuid| theirs(own) == *row && column.is_none_or(|column| model.sets(table, own, column));
            model.touched(table).iter().any(changed)
        };
        let mut mirrors = Vec::new();
        if !model.touched("Mirror").is_empty()
            || model.touched("Bridge").iter().any(|b| model.sets("Bridge", b, "mirrors"))
        {
            mirrors = session.mirrors(schema).await?;
            mirrors.retain(|m| touched("Mirror", &m.row, None) || touched("Bridge", &m.bridge_row, Some("mirrors")));
        }
        for MirrorState { name, warning, .. } in &mirrors {
            warning.iter().for_each(|text| self.globals.log.warn(&format!("warning: mirror {name}: {text}")));
        }
        check(&interfaces, &mirrors)
    }
}

/// What the commands look at.
pub(crate) fn needs(commands: &[Parsed], schema: &DatabaseSchema) -> Result<Needs> {
    let mut needs = Needs::default();
    needs.table("Open_vSwitch");
    for parsed in commands {
        (parsed.command.needs)(parsed, schema, &mut needs)?;
    }
    Ok(needs)
}

/// Carries the commands out on the model.
pub(crate) fn carry_out(commands: &[Parsed], model: &mut Model<'_>, control: &Control) -> Result<Printed> {
    if model.rows("Open_vSwitch").next().is_none() {
        model.insert("Open_vSwitch")?;
    }
    let mut names = Names::default();
    let mut printed = Printed::default();
    for parsed in commands {
        let (out, table, notes, then) = (String::new(), None, Vec::new(), None);
        let mut cx = Context { model, names: &mut names, control, out, table, notes, then };
        (parsed.command.run)(&mut cx, parsed)?;
        printed.then.extend(cx.then);
        printed.outputs.push((cx.out, cx.table));
        printed.notes.extend(cx.notes);
    }
    names.check_all_defined()?;
    let lost = |name| format!("the record {name} is gone at once, because nothing refers to it");
    printed.notes.extend(names.unused().map(lost));
    Ok(printed)
}

/// What the commands of a run left to print.
#[derive(Debug, Default)]
pub(crate) struct Printed {
    /// Of each command, its text or its table.
    outputs: Vec<(String, Option<Table>)>,
    /// For standard error.
    pub notes: Vec<String>,
    /// What comes after.
    pub then: Vec<Then>,
}

impl Printed {
    /// What goes to standard output.
    pub(crate) fn text(&self, globals: &Globals) -> String {
        let mut text = String::new();
        let mut tables = 0;
        for (out, table) in &self.outputs {
            match table {
                Some(table) => {
                    if tables > 0 && !matches!(globals.style.format, Format::Json | Format::Html) {
                        text.push('\n');
                    }
                    tables += 1;
                    text += &table.print(&globals.style);
                    if table.is_read_by_people(&globals.style) {
                        text += out;
                    }
                }
                None if globals.oneline => text += &one_line(out),
                None => text += out,
            }
        }
        text
    }

    /// Puts the UUIDs that the switch gave to new rows in place of those that the model had.
    fn rename(&mut self, rows: &BTreeMap<Uuid, Uuid>) {
        for (text, table) in &mut self.outputs {
            rename_in_text(text, rows);
            for cell in table.iter_mut().flat_map(|table| &mut table.rows).flatten() {
                rename_in(cell, rows);
            }
        }
    }
}

/// A UUID is written in as many characters, all of them ASCII.
const UUID_LEN: usize = 36;

fn rename_in_text(text: &mut String, rows: &BTreeMap<Uuid, Uuid>) {
    let mut at = 0;
    while at + UUID_LEN <= text.len() {
        let own = text.get(at..at + UUID_LEN).and_then(parse_uuid);
        match own.and_then(|own| rows.get(&own)) {
            Some(real) => {
                text.replace_range(at..at + UUID_LEN, &real.to_string());
                at += UUID_LEN;
            }
            None => at += 1,
        }
    }
}

fn rename_in(datum: &mut Datum, rows: &BTreeMap<Uuid, Uuid>) {
    let real = |atom: &Atom| match atom {
        Atom::Uuid(own) => Atom::Uuid(*rows.get(own).unwrap_or(own)),
        other => other.clone(),
    };
    match datum {
        Datum::Set(set) => *set = set.iter().map(real).collect(),
        Datum::Map(map) => *map = map.iter().map(|(k, v)| (real(k), real(v))).collect(),
    }
}
