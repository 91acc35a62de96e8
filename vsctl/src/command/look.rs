//! Looking at records: `list`, `find`, `get`, `wait-until`.

use ovsdb::schema::{ColumnType, DatabaseSchema};
use ovsdb::value::Uuid;

use super::condition::{self, UUID_COLUMN, column, typed, uuid_type, value};
use super::{Command, Context, Family, Opt};
use crate::columns::{Spec, find_table};
use crate::error::{Error, Result, fail};
use crate::grammar::Parsed;
use crate::model::Needs;
use crate::output;
use crate::records;
use crate::text::parse_atom;

pub(super) static FAMILY: Family = Family { title: "Looking at records", commands: &COMMANDS };

const IF_EXISTS: Opt = Opt { name: "--if-exists", value: None, help: "skip what is not there instead of failing" };
const COLUMNS: Opt =
    Opt { name: "--columns", value: Some("COLUMN[,COLUMN]..."), help: "only these columns, in this order" };

static COMMANDS: [Command; 4] = [
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
    Command {
        name: WAIT_UNTIL,
        args: "TABLE RECORD [COLUMN[:KEY]OPERATOR VALUE]...",
        count: (2, usize::MAX),
        options: &[],
        summary: "wait until a record is there and satisfies conditions",
        help: "\
The conditions are those of 'find'. It waits for ever unless --timeout is given. The other commands
of the line run when the conditions hold; those that it says more about are best put behind it.",
        examples: &["vsctl --timeout=30 wait-until interface vx0 ofport!=[]", "vsctl wait-until bridge br0 -- show"],
        related: &["find", "get"],
        needs: wait_needs,
        run: wait_until,
    },
];

/// The command that may take its time.
pub(super) const WAIT_UNTIL: &str = "wait-until";

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
    cx.table = Some(output::Table { columns, rows: lines, for_people: false, details: 0 });
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
    condition::need(table, args.args_from(1), needs)
}

fn find(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let table = find_table(cx.model.schema(), args.arg(0))?;
    let mut rows = Vec::new();
    for row in sorted_rows(cx, table.name)? {
        if condition::hold(cx, table, &row, args.args_from(1))? {
            rows.push(row);
        }
    }
    print(cx, args, rows)
}

fn wait_needs(args: &Parsed, schema: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    let table = find_table(schema, args.arg(0))?;
    records::need(needs, table.name);
    condition::need(table, args.args_from(2), needs)
}

fn wait_until(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let table = find_table(cx.model.schema(), args.arg(0))?;
    let what = format!("{} {}", table.name, args.arg(1));
    let Some(row) = records::find(cx.model, cx.names, table.name, args.arg(1))? else {
        return Err(Error::NotYet(format!("there is no {what}")));
    };
    for word in args.args_from(2) {
        if !condition::hold(cx, table, &row, std::slice::from_ref(word))? {
            return Err(Error::NotYet(format!("{word} does not hold for {what}")));
        }
    }
    Ok(())
}

fn get_needs(args: &Parsed, schema: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    let table = find_table(schema, args.arg(0))?;
    records::need(needs, table.name);
    for word in args.args_from(2) {
        let (name, _) = column(table, &Spec::plain(word)?.column).map_err(|e| e.at(word))?;
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
