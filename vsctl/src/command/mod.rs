//! The commands, as rows of tables: name, arguments, options, help, what to read and what to do.
//! One family a file. `vsctl --help`, `vsctl help COMMAND` and the grammar all read these rows.

mod assist;
mod auto_attach;
mod bond;
mod bridge;
mod condition;
mod conntrack;
mod controller;
mod doctor;
mod drops;
mod edit;
mod fdb;
mod look;
mod manager;
mod mtu;
mod port;
pub(crate) mod short_form;
mod switch;
mod targets;
mod workers;

use std::collections::BTreeMap;

use ovsdb::schema::{BaseType, ColumnType, DatabaseSchema};
use ovsdb::value::{AtomType, Datum};
use serde_json::Value;

use crate::control::Control;
use crate::error::{Result, failed};
use crate::grammar::Parsed;
use crate::model::{Model, Needs};
use crate::output::Table;
use crate::text::Names;

/// A command.
pub(crate) struct Command {
    /// What people type.
    pub name: &'static str,
    /// Its arguments, for people.
    pub args: &'static str,
    /// Fewest and most arguments.
    pub count: (usize, usize),
    /// Options before its name.
    pub options: &'static [Opt],
    /// What it does, in half a line.
    pub summary: &'static str,
    /// What else there is to know.
    pub help: &'static str,
    /// Lines to type.
    pub examples: &'static [&'static str],
    /// Commands that one may have been looking for.
    pub related: &'static [&'static str],
    /// Says what it will look at.
    pub needs: fn(&Parsed, &DatabaseSchema, &mut Needs) -> Result<()>,
    /// Does it.
    pub run: fn(&mut Context<'_, '_>, &Parsed) -> Result<()>,
}

impl Command {
    /// Whether ovs-vsctl does not have it. Then its options and a format may stand behind its name, where people write
    /// them.
    pub(crate) fn is_ours(&self) -> bool {
        [&fdb::FAMILY, &HEALTH].iter().any(|family| family.commands.iter().any(|own| own.name == self.name))
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Command({})", self.name)
    }
}

/// An option of a command.
#[derive(Debug)]
pub(crate) struct Opt {
    /// With its dashes.
    pub name: &'static str,
    /// What its value is, if it takes one.
    pub value: Option<&'static str>,
    /// What it changes.
    pub help: &'static str,
}

/// Commands that belong together.
pub(crate) struct Family {
    /// Heading in the help.
    pub title: &'static str,
    /// Its rows.
    pub commands: &'static [Command],
}

/// All commands.
pub(crate) static FAMILIES: [&Family; 12] = [
    &bridge::FAMILY,
    &port::FAMILY,
    &bond::FAMILY,
    &fdb::FAMILY,
    &HEALTH,
    &switch::FAMILY,
    &look::FAMILY,
    &edit::FAMILY,
    &controller::FAMILY,
    &manager::FAMILY,
    &conntrack::FAMILY,
    &auto_attach::FAMILY,
];

/// What goes wrong, and why.
static HEALTH: Family = Family {
    title: "Health",
    commands: &[doctor::COMMAND, mtu::COMMAND, drops::COMMAND, assist::COMMAND, workers::COMMAND],
};

/// Of `set-controller` and `set-manager`.
const INACTIVITY_PROBE: Opt =
    Opt { name: "--inactivity-probe", value: Some("MSECS"), help: "stored; how long a connection may be silent" };

/// What a command works with and leaves behind.
pub(crate) struct Context<'m, 's> {
    /// The switch's rows.
    pub model: &'m mut Model<'s>,
    /// What `@name`s stand for.
    pub names: &'m mut Names,
    /// The running switch, for what is in no row.
    pub control: &'m Control,
    /// For standard output.
    pub out: String,
    /// For standard output, instead of `out`, which people read below it.
    pub table: Option<Table>,
    /// For standard error, after success.
    pub notes: Vec<String>,
    /// What comes when all is printed.
    pub then: Option<Then>,
}

/// What a command does when everything is printed.
#[derive(Debug)]
pub(crate) enum Then {
    /// Goes on printing what is dropped.
    Follow(drops::Follow),
    /// Ends with the exit status of an error and no word more.
    Fail,
}

impl Context<'_, '_> {
    /// Adds a line to the output.
    pub(crate) fn line(&mut self, text: &str) {
        self.out += text;
        self.out.push('\n');
    }

    /// The one row of Open_vSwitch.
    pub(crate) fn switch(&self) -> Result<ovsdb::value::Uuid> {
        self.model.rows("Open_vSwitch").next().ok_or_else(|| failed!("the database has no row in Open_vSwitch"))
    }
}

/// Every command.
pub(crate) fn all() -> impl Iterator<Item = &'static Command> {
    FAMILIES.iter().flat_map(|family| family.commands)
}

/// The command of this name.
pub(crate) fn find(name: &str) -> Option<&'static Command> {
    all().find(|command| command.name == name)
}

/// The second words of the commands whose name is `first` and another word.
pub(crate) fn second_words(first: &str) -> Vec<&'static str> {
    let second = |command: &'static Command| command.name.strip_prefix(first)?.strip_prefix(' ');
    all().filter_map(second).collect()
}

/// The command that these words begin with, and the words behind its name.
pub(crate) fn find_in(words: &[String]) -> Option<(&'static Command, &[String])> {
    let (first, rest) = words.split_first()?;
    let two = rest.split_first().and_then(|(second, rest)| Some((find(&format!("{first} {second}"))?, rest)));
    two.or_else(|| Some((find(first)?, rest)))
}

/// Whether a line with this command may wait for ever.
pub(crate) fn is_patient(parsed: &Parsed) -> bool {
    parsed.command.name == look::WAIT_UNTIL || parsed.has(drops::FOLLOW)
}

/// All options of commands, and whether they take a value.
pub(crate) fn option_names() -> BTreeMap<&'static str, bool> {
    all().flat_map(|c| c.options).map(|o| (o.name, o.value.is_some())).collect()
}

/// A cell of what the switch tells in JSON.
fn text(value: &Value) -> Datum {
    value.as_str().map_or_else(Datum::empty_set, Datum::string)
}

/// The same for a number.
fn number(value: &Value) -> Datum {
    value.as_i64().map_or_else(Datum::empty_set, Datum::integer)
}

/// A table for people, with columns of at most one value.
fn table_of<const N: usize>(columns: [(&str, AtomType); N], rows: Vec<Vec<Datum>>) -> Table {
    let column = |(name, ty): (&str, _)| {
        let ty = ColumnType { key: BaseType::any(ty), value: None, min: 0, max: 1 };
        (name.to_owned(), ty)
    };
    Table { columns: columns.into_iter().map(column).collect(), rows, for_people: true, details: 0 }
}

/// For commands that look at bridges and ports only.
fn needs_topology(_: &Parsed, _: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    crate::topology::need(needs);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_complete() {
        for command in all() {
            let name = command.name;
            assert!(!command.summary.is_empty() && !command.summary.ends_with('.'), "{name}");
            assert!(command.summary.len() <= 60, "{name}");
            assert!(!command.examples.is_empty(), "{name}");
            assert!(command.examples.iter().all(|line| line.starts_with("vsctl ")), "{name}");
            for related in command.related {
                assert!(find(related).is_some(), "{name}: {related}");
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().map(|c| c.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn examples_are_grammatical() {
        for line in all().flat_map(|c| c.examples) {
            let words = line.split_whitespace().skip(1).map(|w| w.replace('\'', "").into());
            crate::grammar::parse(words).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }
}
