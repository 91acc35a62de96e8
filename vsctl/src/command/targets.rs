//! What controllers and managers have in common: rows that hold a target, and a column that refers to them.

use ovsdb::value::{Atom, Datum, Uuid};

use super::Context;
use crate::error::{Result, failed};
use crate::model::Needs;

/// Where targets are kept.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// The table whose row has them.
    pub of: &'static str,
    /// Its column that refers to them.
    pub column: &'static str,
    /// The table that they are in.
    pub table: &'static str,
}

impl Kind {
    /// Asks for all of it.
    pub(super) fn need(self, needs: &mut Needs) {
        needs.column(self.of, self.column);
        needs.column(self.table, "target");
    }
}

/// Prints the targets that a row has, in order.
pub(super) fn print(cx: &mut Context<'_, '_>, kind: Kind, row: &Uuid) -> Result<()> {
    let mut targets = Vec::new();
    for target in cx.model.get(kind.of, row, kind.column)?.uuids().collect::<Vec<_>>() {
        targets.push(cx.model.text(kind.table, &target, "target")?.to_owned());
        cx.model.rely_on(kind.table, &target, "target")?;
    }
    targets.sort();
    targets.iter().for_each(|target| cx.line(target));
    cx.model.rely_on(kind.of, row, kind.column)
}

/// Gives a row these targets instead of those it has.
pub(super) fn replace(
    cx: &mut Context<'_, '_>,
    kind: Kind,
    row: &Uuid,
    targets: &[String],
    inactivity_probe: Option<&str>,
) -> Result<()> {
    let number = |text: &str| text.parse::<i64>().map_err(|_| failed!("--inactivity-probe={text}: not an integer"));
    let probe = inactivity_probe.map(number).transpose()?;
    for old in cx.model.get(kind.of, row, kind.column)?.uuids().collect::<Vec<_>>() {
        cx.model.forget(kind.table, &old)?;
    }
    let mut rows = Vec::new();
    for target in targets {
        if !has_a_known_method(target) {
            cx.notes.push(format!(
                "{target} is stored, but hardly a target; those begin with tcp: ssl: unix: ptcp: pssl: or punix:"
            ));
        }
        let new = cx.model.insert(kind.table)?;
        cx.model.set(kind.table, &new, "target", Datum::string(target))?;
        if let Some(probe) = probe {
            cx.model.set(kind.table, &new, "inactivity_probe", Datum::integer(probe))?;
        }
        rows.push(Atom::Uuid(new));
    }
    cx.model.set(kind.of, row, kind.column, Datum::set_of(rows))
}

fn has_a_known_method(target: &str) -> bool {
    let method = target.split_once(':').map(|(method, _)| method);
    method.is_some_and(|method| ["tcp", "ssl", "unix", "ptcp", "pssl", "punix"].contains(&method))
}
