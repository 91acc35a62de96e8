//! References between rows (RFC 7047 §3.2): strong ones keep their target, weak ones lose it.
//!
//! A row that no row refers to strongly, in a table that is not part of the root set, is garbage;
//! counting is enough to find it, since the rows of a schema without cycles of strong references
//! cannot keep each other alive. All of this happens once, when a transaction ends, and costs what
//! the transaction touched, not what the database holds.

use super::txn::Txn;
use crate::error::OpError;
use crate::schema::RefType;
use crate::value::Uuid;
use std::collections::{BTreeSet, HashMap};

/// How the numbers of strong references change: (table, row) → difference.
type Deltas<'a> = HashMap<(&'a str, Uuid), isize>;

/// Checks that strong references hold, then deletes the rows that lost or never had one.
pub(super) fn count_and_collect(txn: &mut Txn<'_>) -> Result<(), OpError> {
    let mut deltas = count(txn)?;
    check_deletions(txn, &deltas)?;
    collect(txn, &mut deltas)
}

/// Sums up the changes; refuses a new reference to a row that is not there.
fn count<'a>(txn: &Txn<'a>) -> Result<Deltas<'a>, OpError> {
    let mut deltas = Deltas::new();
    for (&name, edits) in &txn.edits {
        let (_, _, base) = txn.table(name)?;
        for reference in base.references.iter().filter(|r| r.ty == RefType::Strong) {
            let (target, ..) = txn.table(&reference.target)?;
            for (uuid, edit) in edits {
                let mut old = BTreeSet::new();
                for to in edit.old.iter().flat_map(|row| reference.targets(row)) {
                    *deltas.entry((target, to)).or_default() -= 1;
                    old.insert(to);
                }
                for to in edit.new.iter().flat_map(|row| reference.targets(row)) {
                    *deltas.entry((target, to)).or_default() += 1;
                    if !old.contains(&to) && txn.row(target, &to).is_none() {
                        return Err(OpError::new(
                            "referential integrity violation",
                            format!(
                                "Table {name} column {} row {uuid} references nonexistent row {to} in table {target}.",
                                reference.column
                            ),
                        ));
                    }
                }
            }
        }
    }
    Ok(deltas)
}

/// Refuses to delete a row that is still referred to.
fn check_deletions(txn: &Txn<'_>, deltas: &Deltas<'_>) -> Result<(), OpError> {
    for (&name, edits) in &txn.edits {
        for (uuid, _) in edits.iter().filter(|(_, edit)| edit.new.is_none()) {
            let left = references_to(txn, deltas, name, uuid);
            if left > 0 {
                return Err(OpError::new(
                    "referential integrity violation",
                    format!("cannot delete {name} row {uuid} because of {left} remaining reference(s)"),
                ));
            }
        }
    }
    Ok(())
}

/// Deletes unreferenced rows outside the root set, and what becomes unreferenced by that.
fn collect<'a>(txn: &mut Txn<'a>, deltas: &mut Deltas<'a>) -> Result<(), OpError> {
    let inserted = txn.edits.iter().flat_map(|(&name, edits)| edits.keys().map(move |uuid| (name, *uuid)));
    let lost = deltas.iter().filter(|(_, delta)| **delta < 0).map(|(row, _)| *row);
    let mut suspects: Vec<(&str, Uuid)> = inserted.chain(lost).collect();
    while let Some((name, uuid)) = suspects.pop() {
        let (_, schema, base) = txn.table(name)?;
        if schema.is_root || references_to(txn, deltas, name, &uuid) > 0 {
            continue;
        }
        let Some(row) = txn.row(name, &uuid) else { continue };
        let mut freed = Vec::new();
        for reference in base.references.iter().filter(|r| r.ty == RefType::Strong) {
            let (target, ..) = txn.table(&reference.target)?;
            freed.extend(reference.targets(row).map(|to| (target, to)));
        }
        txn.remove(name, &uuid);
        for row in freed {
            *deltas.entry(row).or_default() -= 1;
            suspects.push(row);
        }
    }
    Ok(())
}

/// How many strong references to the row there are once this transaction is committed.
fn references_to(txn: &Txn<'_>, deltas: &Deltas<'_>, table: &str, uuid: &Uuid) -> usize {
    let before = txn.db.tables.get(table).and_then(|t| t.strong.get(uuid)).copied().unwrap_or(0);
    let delta = deltas.get(&(table, *uuid)).copied().unwrap_or(0);
    before.saturating_add_signed(delta)
}

/// Removes weak references to rows that are not there: from the rows that this transaction wrote,
/// and from all that referred to a row it deleted.
pub(super) fn drop_lost_weak(txn: &mut Txn<'_>) -> Result<(), OpError> {
    let mut holders: BTreeSet<(&str, Uuid)> = BTreeSet::new();
    for (&name, edits) in &txn.edits {
        let (_, _, base) = txn.table(name)?;
        for (uuid, edit) in edits {
            if edit.new.is_some() {
                holders.insert((name, *uuid));
            } else if let Some(from) = base.weak.get(uuid) {
                for (holder, uuid) in from {
                    holders.insert((txn.table(holder)?.0, *uuid));
                }
            }
        }
    }
    for (name, uuid) in holders {
        let (_, schema, base) = txn.table(name)?;
        for reference in base.references.iter().filter(|r| r.ty == RefType::Weak) {
            let Some(row) = txn.row(name, &uuid) else { break };
            let lost = |to: &Uuid| txn.row(&reference.target, to).is_none();
            if !reference.targets(row).any(|to| lost(&to)) {
                continue;
            }
            let Some(datum) = reference.without(row, lost) else { continue };
            if schema.column(&reference.column).is_some_and(|c| c.ty.check_len(datum.len()).is_err()) {
                return Err(OpError::constraint(format!(
                    "Table {name} column {} row {uuid} would be empty without its weak references \
                     to rows of table {} that do not exist, and may not be empty.",
                    reference.column, reference.target
                )));
            }
            txn.write(name, &uuid, &reference.column, datum);
        }
    }
    Ok(())
}
