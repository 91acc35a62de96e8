//! Looking at records: `list`, `find`, `get`.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use ovsdb::schema::{BaseType, ColumnType, DatabaseSchema};
use ovsdb::value::{Atom, AtomType, Datum, Uuid};

use super::{Command, Context, Family, Opt};
use crate::columns::{Operator, Spec, Table, find_table};
use crate::error::{Result, fail};
use crate::grammar::Parsed;
use crate::model::Needs;
use crate::output;
use crate::records;
use crate::text::{parse_atom, parse_datum};

pub(super) static FAMILY: Family = Family { title: "Looking at records", commands: &COMMANDS };

const IF_EXISTS: Opt = Opt { name: "--if-exists", value: None, help: "skip what is not there instead of failing" };
const COLUMNS: Opt =
    Opt { name: "--columns", value: Some("COLUMN[,COLUMN]..."), help: "only these columns, in this order" };

static COMMANDS: [Command; 3] = [
    Command {
        name: "list",
        args: "TABLE [RECORD]...",
        count: (1, usize::MAX),
        options: &[IF_EXISTS, COLUMNS],
        summary: "print records with all their columns",
        help: "\
Without RECORD it prints all records of TABLE, sorted by name. The global options --format, --data,
--no-headings and --bare say how.

A RECORD is named by its name, by its UUID or the first 4 or more digits of it; the one record of
Open_vSwitch is '.'. Names of tables and columns may be abbreviated.",
        examples: &[
            "vsctl list interface vx0",
            "vsctl --columns=name,ofport,error list interface",
            "vsctl --format=json list port",
        ],
        related: &["find", "get", "show"],
        needs: list_needs,
        run: list,
    },
    Command {
        name: "find",
        args: "TABLE [COLUMN[:KEY]OPERATOR VALUE]...",
        count: (1, usize::MAX),
        options: &[COLUMNS],
        summary: "print the records that satisfy all conditions",
        help: "\
The operators are = != < > <= >= and, comparing sets, {=} {!=} {<} (part of) {>} {<=} {>=}
{in} {not-in}. No blanks around them. A condition on a KEY that a record does not have is not
satisfied, except with operators on sets, for which such a record has the empty set.",
        examples: &[
            "vsctl find interface type=vxlan",
            "vsctl --bare --columns=name find port tag=10",
            "vsctl --columns=name,error find interface error!=[]",
        ],
        related: &["list", "get"],
        needs: find_needs,
        run: find,
    },
    Command {
        name: "get",
        args: "TABLE RECORD [COLUMN[:KEY]]...",
        count: (2, usize::MAX),
        options: &[
            Opt {
                name: "--if-exists",
                value: None,
                help: "print nothing for a missing record, a blank line for a missing key",
            },
            Opt { name: "--id", value: Some("@NAME"), help: "call the record @NAME in later commands" },
        ],
        summary: "print values from a record, one a line",
        help: "Without COLUMN it only checks that the record is there, or gives it a name.",
        examples: &[
            "vsctl get interface vx0 ofport",
            "vsctl get interface vx0 options:key",
            "vsctl -- --id=@p get port eth1 -- set mirror m0 output_port=@p",
        ],
        related: &["list", "set"],
        needs: get_needs,
        run: get,
    },
];

/// What tables call the identifier of a row.
const UUID_COLUMN: &str = "_uuid";

fn uuid_type() -> ColumnType {
    ColumnType::scalar(BaseType::any(AtomType::Uuid))
}

/// Columns to print, by name and type: those of `--columns`, or all.
fn columns(schema: &DatabaseSchema, args: &Parsed) -> Result<Vec<(String, ColumnType)>> {
    let table = find_table(schema, args.arg(0))?;
    let Some(wanted) = args.value("--columns") else {
        let all = table.schema.columns.iter().map(|(name, c)| (name.clone(), c.ty.clone()));
        return Ok([(UUID_COLUMN.to_owned(), uuid_type())].into_iter().chain(all).collect());
    };
    let words = wanted.split([',', ' ']).filter(|word| !word.is_empty());
    let columns: Vec<_> = words.map(|word| column(table, word)).collect::<Result<_>>()?;
    if columns.is_empty() {
        fail!("--columns={wanted}: expected at least one column");
    }
    Ok(columns)
}

fn column(table: Table<'_>, word: &str) -> Result<(String, ColumnType)> {
    if word.eq_ignore_ascii_case(UUID_COLUMN) {
        return Ok((UUID_COLUMN.to_owned(), uuid_type()));
    }
    let (name, column) = table.column(word)?;
    Ok((name.to_owned(), column.ty.clone()))
}

fn value(cx: &Context<'_, '_>, table: &str, row: &Uuid, column: &str) -> Result<Datum> {
    match column {
        UUID_COLUMN => Ok(Datum::uuid(*row)),
        _ => cx.model.get(table, row, column).cloned(),
    }
}

/// The type of the column, and of the values of one of its keys.
fn typed(table: Table<'_>, spec: &Spec) -> Result<(String, ColumnType)> {
    let (name, ty) = column(table, &spec.column)?;
    if spec.key.is_some() && !ty.is_map() {
        fail!("column {name} of {} is no map and has no keys", table.name);
    }
    Ok((name, ty))
}

fn print_needs(args: &Parsed, schema: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    let table = find_table(schema, args.arg(0))?;
    records::need(needs, table.name);
    for (name, _) in columns(schema, args)?.iter().filter(|(name, _)| name != UUID_COLUMN) {
        needs.column(table.name, name);
    }
    Ok(())
}

fn print(cx: &mut Context<'_, '_>, args: &Parsed, rows: Vec<Uuid>) -> Result<()> {
    let table = find_table(cx.model.schema(), args.arg(0))?;
    let columns = columns(cx.model.schema(), args)?;
    let mut lines = Vec::new();
    for row in rows {
        let line = columns.iter().map(|(name, _)| value(cx, table.name, &row, name));
        lines.push(line.collect::<Result<Vec<_>>>()?);
    }
    cx.table = Some(output::Table { columns, rows: lines });
    Ok(())
}

/// All rows, by name where they have one, else by UUID.
fn sorted_rows(cx: &Context<'_, '_>, table: &str) -> Result<Vec<Uuid>> {
    let mut rows = Vec::new();
    for row in cx.model.rows(table) {
        let name = match records::name_column(table) {
            Some(column) => Some(cx.model.get(table, &row, column)?.clone()),
            None => None,
        };
        rows.push((name, row));
    }
    rows.sort();
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn list_needs(args: &Parsed, schema: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    print_needs(args, schema, needs)
}

fn list(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let table = find_table(cx.model.schema(), args.arg(0))?.name;
    if args.args_from(1).is_empty() {
        let rows = sorted_rows(cx, table)?;
        return print(cx, args, rows);
    }
    let mut rows = Vec::new();
    for record in args.args_from(1) {
        rows.extend(match args.has("--if-exists") {
            true => records::find(cx.model, cx.names, table, record)?,
            false => Some(records::get(cx.model, cx.names, table, record)?),
        });
    }
    print(cx, args, rows)
}

fn find_needs(args: &Parsed, schema: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    print_needs(args, schema, needs)?;
    let table = find_table(schema, args.arg(0))?;
    for word in args.args_from(1) {
        let (name, _) = typed(table, &Spec::condition(word)?).map_err(|e| e.at(word))?;
        if name != UUID_COLUMN {
            needs.column(table.name, &name);
        }
    }
    Ok(())
}

fn find(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let table = find_table(cx.model.schema(), args.arg(0))?;
    let mut rows = sorted_rows(cx, table.name)?;
    for word in args.args_from(1) {
        let spec = Spec::condition(word)?;
        let mut kept = Vec::new();
        for row in rows {
            if satisfies(cx, table, &row, &spec).map_err(|e| e.at(word))? {
                kept.push(row);
            }
        }
        rows = kept;
    }
    print(cx, args, rows)
}

fn satisfies(cx: &mut Context<'_, '_>, table: Table<'_>, row: &Uuid, spec: &Spec) -> Result<bool> {
    let Some((operator, text)) = &spec.right else {
        fail!("the condition has no operator");
    };
    let (name, mut ty) = typed(table, spec)?;
    let mut have = value(cx, table.name, row, &name)?;
    if let Some(key) = &spec.key
        && let Some(value_type) = ty.value.take()
    {
        let key = parse_atom(&ty.key, key, cx.names)?;
        let at_key = match &have {
            Datum::Map(map) => map.get(&key).cloned(),
            Datum::Set(_) => None,
        };
        if at_key.is_none() && !operator.is_set_operator() {
            return Ok(false);
        }
        have = Datum::set_of(at_key);
        ty = ColumnType { key: value_type, value: None, min: 0, max: ty.max };
    }
    let wanted = parse_datum(&ty, text, cx.names)?;
    Ok(compare(&have, *operator, &wanted))
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

fn get_needs(args: &Parsed, schema: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    let table = find_table(schema, args.arg(0))?;
    records::need(needs, table.name);
    for word in args.args_from(2) {
        let (name, _) = typed(table, &Spec::plain(word)?).map_err(|e| e.at(word))?;
        if name != UUID_COLUMN {
            needs.column(table.name, &name);
        }
    }
    Ok(())
}

fn get(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let table = find_table(cx.model.schema(), args.arg(0))?;
    let if_exists = args.has("--if-exists");
    if if_exists && args.value("--id").is_some() {
        fail!("--id and --if-exists do not go together");
    }
    let row = match if_exists {
        true => records::find(cx.model, cx.names, table.name, args.arg(1))?,
        false => Some(records::get(cx.model, cx.names, table.name, args.arg(1))?),
    };
    let Some(row) = row else {
        return Ok(());
    };
    if let Some(name) = args.value("--id") {
        cx.names.name(name, row)?;
    }
    for word in args.args_from(2) {
        let spec = Spec::plain(word)?;
        let (name, ty) = typed(table, &spec)?;
        let have = value(cx, table.name, &row, &name)?;
        if name != UUID_COLUMN {
            cx.model.rely_on(table.name, &row, &name)?;
        }
        let Some(key) = &spec.key else {
            cx.line(&ty.to_text(&have));
            continue;
        };
        let key = parse_atom(&ty.key, key, cx.names).map_err(|e| e.at(word))?;
        match have.pairs().find(|(there, _)| **there == key) {
            Some((_, value)) => cx.line(&value.to_string()),
            None if if_exists => cx.line(""),
            None => fail!("{} {} has no key {key} in {name}, which is {}", table.name, args.arg(1), ty.to_text(&have)),
        }
    }
    Ok(())
}
