//! Changing records: `set`, `clear`, `add`, `remove`, `create`, `destroy`.

use ovsdb::schema::{ColumnType, DatabaseSchema};
use ovsdb::value::{Atom, Datum, Uuid, parse_uuid};

use super::{Command, Context, Family, Opt};
use crate::columns::{Spec, Table, find_table};
use crate::error::{Result, fail};
use crate::grammar::Parsed;
use crate::model::Needs;
use crate::records;
use crate::text::{parse_atom, parse_datum};

pub(super) static FAMILY: Family = Family { title: "Changing records", commands: &COMMANDS };

const IF_EXISTS: Opt = Opt { name: "--if-exists", value: None, help: "do nothing if the record is not there" };

static COMMANDS: [Command; 6] = [
    Command {
        name: "set",
        args: "TABLE RECORD COLUMN[:KEY]=VALUE...",
        count: (3, usize::MAX),
        options: &[IF_EXISTS],
        summary: "set columns, or single keys of map columns",
        help: "\
Writes VALUE to each COLUMN; with KEY only that key of the map changes. Several elements are
separated by commas, and the brackets of sets and braces of maps may be left out: trunks=10,20-29
external_ids=a=1,b=2. Nothing at all is [] or {}. A string with blanks, commas or brackets in it
goes into quotes within the shell's: 'external_ids:note=\"for rent, call Bo\"'.",
        examples: &[
            "vsctl set port eth1 tag=10",
            "vsctl set interface vx0 options:remote_ip=192.0.2.3 options:key=5001",
            "vsctl set bridge br0 other_config:mac-aging-time=60",
        ],
        related: &["get", "clear", "add", "remove"],
        needs: |args, schema, needs| edit_needs(args, schema, needs, Spec::assignment),
        run: |cx, args| {
            let Some((table, row)) = target(cx, args)? else { return Ok(()) };
            for word in args.args_from(2) {
                let spec = Spec::assignment(word)?;
                assign(cx, table, row, &spec).map_err(|e| e.at(word))?;
            }
            Ok(())
        },
    },
    Command {
        name: "clear",
        args: "TABLE RECORD COLUMN...",
        count: (3, usize::MAX),
        options: &[IF_EXISTS],
        summary: "empty columns that may be empty",
        help: "",
        examples: &["vsctl clear port eth1 tag trunks", "vsctl clear bridge br0 mirrors"],
        related: &["set", "remove"],
        needs: |args, schema, needs| edit_needs(args, schema, needs, Spec::plain),
        run: clear,
    },
    Command {
        name: "add",
        args: "TABLE RECORD COLUMN [KEY=]VALUE...",
        count: (4, usize::MAX),
        options: &[IF_EXISTS],
        summary: "add elements to a set or map column",
        help: "A key that the map has already gets the new value.",
        examples: &["vsctl add port eth1 trunks 30", "vsctl add bridge br0 external_ids owner=bo"],
        related: &["remove", "set"],
        needs: one_column_needs,
        run: add,
    },
    Command {
        name: "remove",
        args: "TABLE RECORD COLUMN VALUE|KEY|KEY=VALUE...",
        count: (4, usize::MAX),
        options: &[IF_EXISTS],
        summary: "remove elements from a set or map column",
        help: "\
From a map KEY removes the key whatever its value, KEY=VALUE only if it has that value. What is not
there need not be removed, and is no error.",
        examples: &["vsctl remove port eth1 trunks 30", "vsctl remove bridge br0 external_ids owner"],
        related: &["add", "clear"],
        needs: one_column_needs,
        run: remove,
    },
    Command {
        name: "create",
        args: "TABLE COLUMN[:KEY]=VALUE...",
        count: (1, usize::MAX),
        options: &[Opt {
            name: "--id",
            value: Some("@NAME|UUID"),
            help: "call the record @NAME in this run, or give it this UUID",
        }],
        summary: "create a record and print its UUID",
        help: "\
A record lives only as long as another refers to it (except in QoS, Queue and the like), so give it
an @NAME and set a column of another record to that in the same run.",
        examples: &["vsctl -- --id=@m create mirror name=m0 select_all=true -- add bridge br0 mirrors @m"],
        related: &["destroy", "set"],
        needs: create_needs,
        run: create,
    },
    Command {
        name: "destroy",
        args: "TABLE RECORD...",
        count: (1, usize::MAX),
        options: &[
            Opt { name: "--if-exists", value: None, help: "skip records that are not there" },
            Opt { name: "--all", value: None, help: "every record of the table" },
        ],
        summary: "delete records",
        help: "\
Most records are deleted by themselves once nothing refers to them, and cannot be while something
does; this is for those in QoS, Queue and the like.",
        examples: &["vsctl --all destroy qos"],
        related: &["create", "clear", "del-port", "del-br"],
        needs: |args, schema, needs| {
            records::need(needs, find_table(schema, args.arg(0))?.name);
            Ok(())
        },
        run: destroy,
    },
];

fn edit_needs(args: &Parsed, schema: &DatabaseSchema, needs: &mut Needs, spec: fn(&str) -> Result<Spec>) -> Result<()> {
    let table = find_table(schema, args.arg(0))?;
    records::need(needs, table.name);
    for word in args.args_from(2) {
        let (name, _) = table.column(&spec(word)?.column).map_err(|e| e.at(word))?;
        needs.column(table.name, name);
    }
    Ok(())
}

fn one_column_needs(args: &Parsed, schema: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    let table = find_table(schema, args.arg(0))?;
    records::need(needs, table.name);
    needs.column(table.name, table.column(args.arg(2))?.0);
    Ok(())
}

fn create_needs(args: &Parsed, schema: &DatabaseSchema, _: &mut Needs) -> Result<()> {
    let table = find_table(schema, args.arg(0))?;
    for word in args.args_from(1) {
        table.column(&Spec::assignment(word)?.column).map_err(|e| e.at(word))?;
    }
    Ok(())
}

/// The record to change, unless it is missing and may be.
fn target<'s>(cx: &Context<'_, 's>, args: &Parsed) -> Result<Option<(Table<'s>, Uuid)>> {
    let table = find_table(cx.model.schema(), args.arg(0))?;
    let row = match args.has("--if-exists") {
        true => records::find(cx.model, cx.names, table.name, args.arg(1))?,
        false => Some(records::get(cx.model, cx.names, table.name, args.arg(1))?),
    };
    Ok(row.map(|row| (table, row)))
}

/// `COLUMN[:KEY]=VALUE`, read.
enum Assignment {
    Column(Datum),
    Key(Atom, Atom),
}

fn read(cx: &mut Context<'_, '_>, column: &str, ty: &ColumnType, spec: &Spec) -> Result<Assignment> {
    let text = spec.right.as_ref().map_or("", |(_, text)| text.as_str());
    let Some(key) = &spec.key else {
        return parse_datum(ty, text, cx.names).map(Assignment::Column);
    };
    let Some(value_type) = &ty.value else {
        fail!("column {column} is no map and has no keys");
    };
    let key = parse_atom(&ty.key, key, cx.names)?;
    Ok(Assignment::Key(key, parse_atom(value_type, text, cx.names)?))
}

/// Carries out `COLUMN[:KEY]=VALUE` on a row that exists.
pub(super) fn assign(cx: &mut Context<'_, '_>, table: Table<'_>, row: Uuid, spec: &Spec) -> Result<()> {
    table.mutable_column(&spec.column)?;
    assign_to_new(cx, table, row, spec)
}

/// The same on a row that is being created, whose every column may be set.
fn assign_to_new(cx: &mut Context<'_, '_>, table: Table<'_>, row: Uuid, spec: &Spec) -> Result<()> {
    let (column, schema) = table.column(&spec.column)?;
    match read(cx, column, &schema.ty, spec)? {
        Assignment::Column(value) => cx.model.set(table.name, &row, column, value),
        Assignment::Key(key, value) => cx.model.add_to(table.name, &row, column, Datum::Map([(key, value)].into())),
    }
}

/// Whether `COLUMN[:KEY]=VALUE` is so already.
pub(super) fn holds(cx: &mut Context<'_, '_>, table: Table<'_>, row: Uuid, spec: &Spec) -> Result<bool> {
    let (column, schema) = table.column(&spec.column)?;
    let wanted = read(cx, column, &schema.ty, spec)?;
    let now = cx.model.get(table.name, &row, column)?;
    Ok(match wanted {
        Assignment::Column(value) => *now == value,
        Assignment::Key(key, value) => now.pairs().any(|pair| pair == (&key, &value)),
    })
}

fn clear(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let Some((table, row)) = target(cx, args)? else { return Ok(()) };
    for word in args.args_from(2) {
        let (column, schema) = table.mutable_column(word)?;
        if schema.ty.min > 0 {
            fail!("column {column} of {} cannot be empty; 'set' gives it another value", table.name);
        }
        cx.model.set(table.name, &row, column, schema.ty.default_datum())?;
    }
    Ok(())
}

/// The type that an argument of `add` or `remove` is read as: any number of elements but none.
fn elements_of(ty: &ColumnType) -> ColumnType {
    ColumnType { min: 1, max: u32::MAX, ..ty.clone() }
}

fn add(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let Some((table, row)) = target(cx, args)? else { return Ok(()) };
    let (column, schema) = table.mutable_column(args.arg(2))?;
    for word in args.args_from(3) {
        let more = parse_datum(&elements_of(&schema.ty), word, cx.names).map_err(|e| e.at(word))?;
        cx.model.add_to(table.name, &row, column, more)?;
    }
    let now = cx.model.get(table.name, &row, column)?;
    if now.len() > schema.ty.max as usize {
        fail!(
            "column {column} of {} {} would be {}, but can hold only {}; use 'set' to replace it",
            table.name,
            args.arg(1),
            elements_of(&schema.ty).to_text(now),
            schema.ty.max
        );
    }
    Ok(())
}

fn remove(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let Some((table, row)) = target(cx, args)? else { return Ok(()) };
    let (column, schema) = table.mutable_column(args.arg(2))?;
    let pairs = elements_of(&schema.ty);
    let keys = ColumnType { value: None, ..pairs.clone() };
    for word in args.args_from(3) {
        let less = match parse_datum(&pairs, word, cx.names) {
            Err(_) if pairs.is_map() => parse_datum(&keys, word, cx.names),
            other => other,
        };
        let less = less.map_err(|e| e.at(word))?;
        cx.model.take_from(table.name, &row, column, less)?;
    }
    if cx.model.get(table.name, &row, column)?.len() < schema.ty.min as usize {
        fail!("column {column} of {} cannot be empty; 'set' gives it another value", table.name);
    }
    Ok(())
}

fn create(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let table = find_table(cx.model.schema(), args.arg(0))?;
    let row = match args.value("--id") {
        None => cx.model.insert(table.name)?,
        Some(id) => match parse_uuid(id) {
            Some(uuid) => cx.model.insert_chosen(table.name, uuid).map(|()| uuid)?,
            None => {
                let uuid = cx.names.create(id, !table.schema.is_root)?;
                cx.model.insert_promised(table.name, uuid).map(|()| uuid)?
            }
        },
    };
    for word in args.args_from(1) {
        let spec = Spec::assignment(word)?;
        assign_to_new(cx, table, row, &spec).map_err(|e| e.at(word))?;
    }
    if args.value("--id").is_none() && !table.schema.is_root {
        cx.notes.push(format!(
            "the new record in {} is gone at once, because nothing refers to it; \
             see 'vsctl help create'",
            table.name
        ));
    }
    cx.line(&row.to_string());
    Ok(())
}

fn destroy(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let table = find_table(cx.model.schema(), args.arg(0))?.name;
    let records = args.args_from(1);
    let rows: Vec<Uuid> = match (args.has("--all"), records.is_empty()) {
        (true, true) => cx.model.rows(table).collect(),
        (true, false) => fail!("destroy takes either --all or records"),
        (false, true) => fail!("destroy needs the records to delete, or --all"),
        (false, false) => {
            let mut rows = Vec::new();
            for record in records {
                rows.extend(match args.has("--if-exists") {
                    true => records::find(cx.model, cx.names, table, record)?,
                    false => Some(records::get(cx.model, cx.names, table, record)?),
                });
            }
            rows
        }
    };
    for row in rows {
        if cx.model.has_row(table, &row) {
            cx.model.delete(table, &row)?;
        }
    }
    Ok(())
}
