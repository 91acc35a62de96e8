//! Conditions of `find` and `wait-until`: `COLUMN[:KEY]OPERATOR VALUE`.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use ovsdb::schema::{BaseType, ColumnType};
use ovsdb::value::{Atom, AtomType, Datum, Uuid};

use super::Context;
use crate::columns::{Operator, Spec, Table};
use crate::error::{Result, fail};
use crate::model::Needs;
use crate::text::{parse_atom, parse_datum};

/// What tables call the identifier of a row.
pub(super) const UUID_COLUMN: &str = "_uuid";

/// Its type.
pub(super) fn uuid_type() -> ColumnType {
    ColumnType::scalar(BaseType::any(AtomType::Uuid))
}

/// A column by its name or an abbreviation, `_uuid` too.
pub(super) fn column(table: Table<'_>, word: &str) -> Result<(String, ColumnType)> {
    let folded = word.to_ascii_lowercase().replace('-', "_");
    if folded.len() > 1 && UUID_COLUMN.starts_with(&folded) {
        return Ok((UUID_COLUMN.to_owned(), uuid_type()));
    }
    let (name, column) = table.column(word)?;
    Ok((name.to_owned(), column.ty.clone()))
}

/// A column's value, `_uuid` too.
pub(super) fn value(cx: &Context<'_, '_>, table: &str, row: &Uuid, column: &str) -> Result<Datum> {
    match column {
        UUID_COLUMN => Ok(Datum::uuid(*row)),
        _ => cx.model.get(table, row, column).cloned(),
    }
}

/// The type of the column, and of the values of one of its keys.
pub(super) fn typed(table: Table<'_>, spec: &Spec) -> Result<(String, ColumnType)> {
    let (name, ty) = column(table, &spec.column)?;
    if spec.key.is_some() && !ty.is_map() {
        fail!("column {name} of {} is no map and has no keys", table.name);
    }
    Ok((name, ty))
}

/// Asks for the columns that conditions look at.
pub(super) fn need(table: Table<'_>, conditions: &[String], needs: &mut Needs) -> Result<()> {
    for word in conditions {
        let (name, _) = column(table, &Spec::condition(word)?.column).map_err(|e| e.at(word))?;
        if name != UUID_COLUMN {
            needs.column(table.name, &name);
        }
    }
    Ok(())
}

/// Whether all conditions hold for a row.
pub(super) fn hold(cx: &mut Context<'_, '_>, table: Table<'_>, row: &Uuid, conditions: &[String]) -> Result<bool> {
    for word in conditions {
        let spec = Spec::condition(word)?;
        if !satisfies(cx, table, row, &spec).map_err(|e| e.at(word))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn satisfies(cx: &mut Context<'_, '_>, table: Table<'_>, row: &Uuid, spec: &Spec) -> Result<bool> {
    let Some((operator, text)) = &spec.right else {
        fail!("the condition has no operator");
    };
    let (name, mut ty) = typed(table, spec)?;
    let mut have = value(cx, table.name, row, &name)?;
    let mut absent = false;
    if let Some(key) = &spec.key
        && let Some(value_type) = ty.value.take()
    {
        let key = parse_atom(&ty.key, key, cx.names)?;
        let at_key = match &have {
            Datum::Map(map) => map.get(&key).cloned(),
            Datum::Set(_) => None,
        };
        absent = at_key.is_none() && !operator.is_set_operator();
        have = Datum::set_of(at_key);
        ty = ColumnType { key: value_type, value: None, min: 0, max: ty.max };
    }
    let wanted = parse_datum(&ty, text, cx.names)?;
    Ok(!absent && compare(&have, *operator, &wanted))
}

fn compare(have: &Datum, operator: Operator, wanted: &Datum) -> bool {
    let within = |a: &Datum, b: &Datum| elements(a).is_subset(&elements(b));
    match operator {
        Operator::Equal | Operator::SetEqual => have == wanted,
        Operator::NotEqual | Operator::SetNotEqual => have != wanted,
        Operator::Less => order(have, wanted) == Ordering::Less,
        Operator::Greater => order(have, wanted) == Ordering::Greater,
        Operator::LessOrEqual => order(have, wanted) != Ordering::Greater,
        Operator::GreaterOrEqual => order(have, wanted) != Ordering::Less,
        Operator::Subset => have.len() < wanted.len() && within(have, wanted),
        Operator::Superset => have.len() > wanted.len() && within(wanted, have),
        Operator::SubsetOrEqual => within(have, wanted),
        Operator::SupersetOrEqual => within(wanted, have),
        Operator::Disjoint => elements(have).is_disjoint(&elements(wanted)),
    }
}

/// Members, or pairs of key and value.
fn elements(datum: &Datum) -> BTreeSet<(&Atom, Option<&Atom>)> {
    match datum {
        Datum::Set(set) => set.iter().map(|atom| (atom, None)).collect(),
        Datum::Map(map) => map.iter().map(|(key, value)| (key, Some(value))).collect(),
    }
}

/// Fewer elements first; then by the elements, in order; of maps, by all keys before any value.
fn order(a: &Datum, b: &Datum) -> Ordering {
    let (left, right) = (elements(a), elements(b));
    let firsts =
        |set: &BTreeSet<(&Atom, Option<&Atom>)>| set.iter().map(|(first, _)| (*first).clone()).collect::<Vec<_>>();
    let by_len = left.len().cmp(&right.len());
    by_len.then_with(|| firsts(&left).cmp(&firsts(&right))).then_with(|| left.cmp(&right))
}
