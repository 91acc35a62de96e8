//! Tables of `list` and `find`, byte for byte as ovs-vsctl prints them.

use ovsdb::schema::ColumnType;
use ovsdb::value::{Datum, parse_uuid};
use serde_json::{Value, json};

use crate::error::{Result, fail};
use crate::text::show_bare;

/// How tables are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// The layout.
    pub format: Format,
    /// Whether anybody asked for it.
    pub asked_for: bool,
    /// The way cells are written.
    pub data: Data,
    /// Whether columns are named.
    pub headings: bool,
    /// Whether JSON is indented.
    pub pretty: bool,
    /// Of aligned columns, how many bytes they may be wide at most.
    pub max_width: Option<usize>,
}

/// A table's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One line a column, a blank line between rows.
    List,
    /// Aligned columns.
    Table,
    /// One `<table>` a table.
    Html,
    /// RFC 4180.
    Csv,
    /// One object a table.
    Json,
}

impl Format {
    /// The value of `--format`.
    pub(crate) fn parse(word: &str) -> Result<Format> {
        Ok(match word {
            "list" => Format::List,
            "table" => Format::Table,
            "html" => Format::Html,
            "csv" => Format::Csv,
            "json" => Format::Json,
            _ => fail!("--format={word}: there are list, table, html, csv and json"),
        })
    }
}

/// The way cells are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// As `set` reads them.
    String,
    /// Without punctuation.
    Bare,
    /// As RFC 7047 has them.
    Json,
}

impl Data {
    /// The value of `--data`.
    pub(crate) fn parse(word: &str) -> Result<Data> {
        Ok(match word {
            "string" => Data::String,
            "bare" => Data::Bare,
            "json" => Data::Json,
            _ => fail!("--data={word}: there are string, bare and json"),
        })
    }
}

/// Rows of values below the names of their columns.
#[derive(Debug)]
pub(crate) struct Table {
    /// Names and types of the columns.
    pub columns: Vec<(String, ColumnType)>,
    /// Rows with a value for each column.
    pub rows: Vec<Vec<Datum>>,
    /// In aligned columns and without punctuation, unless a layout is asked for.
    pub for_people: bool,
    /// How many of the last columns people are not shown: they read the same below the table.
    pub details: usize,
}

impl Table {
    /// The table as text.
    pub(crate) fn print(&self, style: &Style) -> String {
        if self.is_read_by_people(style) {
            let style = Style { format: Format::Table, data: Data::Bare, ..*style };
            return self.aligned(&style, self.columns.len() - self.details);
        }
        match style.format {
            Format::List => self.list(style),
            Format::Table => self.aligned(style, self.columns.len()),
            Format::Html => self.html(style),
            Format::Csv => self.csv(style),
            Format::Json => self.json(style),
        }
    }

    /// Whether it is printed for people, and so may be more text below it.
    pub(crate) fn is_read_by_people(&self, style: &Style) -> bool {
        self.for_people && !style.asked_for
    }

    fn cells(&self, row: &[Datum], data: Data) -> Vec<String> {
        let cell = |((_, ty), datum): (&(String, ColumnType), &Datum)| match data {
            Data::String => ty.to_text(datum),
            Data::Bare => show_bare(datum),
            Data::Json => datum.to_json().to_string(),
        };
        self.columns.iter().zip(row).map(cell).collect()
    }

    fn headings(&self) -> Vec<String> {
        self.columns.iter().map(|(name, _)| name.clone()).collect()
    }

    fn list(&self, style: &Style) -> String {
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            for (cell, (name, _)) in self.cells(row, style.data).iter().zip(&self.columns) {
                if style.headings {
                    text += &format!("{name:<20}: ");
                }
                text += cell;
                text.push('\n');
            }
        }
        text
    }

    /// The first so many columns.
    fn aligned(&self, style: &Style, shown: usize) -> String {
        let mut lines: Vec<Vec<String>> = Vec::new();
        if shown == 0 {
            return String::new();
        }
        if style.headings {
            lines.push(self.headings());
        }
        lines.extend(self.rows.iter().map(|row| self.cells(row, style.data)));
        lines.iter_mut().for_each(|line| line.truncate(shown));
        let width = |at: usize| {
            let needed = lines.iter().map(|line| line[at].len()).max().unwrap_or(0);
            let heading = if style.headings { self.columns[at].0.len() } else { 0 };
            style.max_width.map_or(needed, |max| needed.min(max.max(heading)))
        };
        let widths: Vec<usize> = (0..shown).map(width).collect();
        for line in &mut lines {
            line.iter_mut().zip(&widths).for_each(|(cell, width)| cut(cell, *width));
        }
        if style.headings {
            lines.insert(1, widths.iter().map(|width| "-".repeat(*width)).collect());
        }
        let mut text = String::new();
        for line in &lines {
            for (at, cell) in line.iter().enumerate() {
                text += cell;
                if at + 1 < line.len() {
                    text += &" ".repeat(widths[at] - cell.len() + 1);
                }
            }
            text.push('\n');
        }
        text
    }

    fn html(&self, style: &Style) -> String {
        let mut text = "<table border=1>\n".to_owned();
        let mut add = |element: &str, cells: &[String]| {
            text += "  <tr>\n";
            for (cell, (column, _)) in cells.iter().zip(&self.columns) {
                let cell = match (column.as_str(), element) {
                    ("_uuid", "td") => html_anchor(cell),
                    _ => html_cell(cell),
                };
                text += &format!("    <{element}>{cell}</{element}>\n");
            }
            text += "  </tr>\n";
        };
        if style.headings {
            add("th", &self.headings());
        }
        self.rows.iter().for_each(|row| add("td", &self.cells(row, style.data)));
        text + "</table>\n"
    }

    fn csv(&self, style: &Style) -> String {
        let quoted = |cell: String| match cell.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell,
        };
        let headings = style.headings.then(|| self.headings());
        let rows = self.rows.iter().map(|row| self.cells(row, style.data));
        headings
            .into_iter()
            .chain(rows)
            .map(|cells| cells.into_iter().map(quoted).collect::<Vec<_>>().join(",") + "\n")
            .collect()
    }

    fn json(&self, style: &Style) -> String {
        let rows = self.rows.iter().map(|row| row.iter().map(Datum::to_json).collect::<Vec<_>>());
        let table = json!({ "data": rows.collect::<Vec<_>>(), "headings": self.headings() });
        let mut text = if style.pretty { pretty(&table, 0) } else { table.to_string() };
        text.push('\n');
        text
    }
}

/// Cuts a text after so many bytes, or before, where a character ends.
fn cut(text: &mut String, width: usize) {
    if text.len() > width {
        let end = (0..=width).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
}

/// The cell of a row's own UUID: an anchor, that shows the beginning.
fn html_anchor(text: &str) -> String {
    let begin: String = text.chars().take(8).collect();
    format!("<a name=\"{}\">{}</a>", html_text(text), html_text(&begin))
}

/// A cell's text; a UUID becomes a link to its row that shows the beginning.
fn html_cell(mut text: &str) -> String {
    const UUID_LEN: usize = 36;
    let mut html = String::new();
    while let Some(c) = text.chars().next() {
        let uuid = text.get(..UUID_LEN).filter(|uuid| parse_uuid(uuid).is_some());
        let taken = match uuid {
            Some(uuid) => {
                html += &format!("<a href=\"#{uuid}\">{}</a>", &uuid[..8]);
                UUID_LEN
            }
            None => {
                html += &html_text(&text[..c.len_utf8()]);
                c.len_utf8()
            }
        };
        text = &text[taken..];
    }
    html
}

fn html_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// JSON over several lines: two blanks a level, closing brackets at the end of the last line.
fn pretty(value: &Value, depth: usize) -> String {
    let inner = "  ".repeat(depth + 1);
    match value {
        Value::Array(items) if !items.is_empty() => {
            let items: Vec<String> = items.iter().map(|item| format!("\n{inner}{}", pretty(item, depth + 1))).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(members) if !members.is_empty() => {
            let member =
                |(key, item): (&String, &Value)| format!("\n{inner}{}: {}", json!(key), pretty(item, depth + 1));
            let members: Vec<String> = members.iter().map(member).collect();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

/// One command's output as one line, for `--oneline`.
pub(crate) fn one_line(text: &str) -> String {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.replace('\\', "\\\\").replace('\n', "\\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb::value::{Atom, Uuid};
    use ovsdb::vswitch_schema::vswitch_schema;

    fn table() -> Table {
        let schema = vswitch_schema();
        let column = |name: &str| (name.to_owned(), schema.tables["Port"].columns[name].ty.clone());
        let trunks = Datum::set_of([10, 20].map(Atom::Integer));
        let ids = Datum::map_of_strings([("a", "b,c"), ("d", "e")]);
        Table {
            columns: ["name", "trunks", "tag", "external_ids"].map(column).into(),
            for_people: false,
            details: 0,
            rows: vec![
                vec![Datum::string("p1"), trunks, Datum::empty_set(), ids],
                vec![Datum::string("p 2"), Datum::empty_set(), Datum::integer(5), Datum::empty_map()],
            ],
        }
    }

    fn print(format: Format, data: Data, headings: bool) -> String {
        table().print(&Style { format, asked_for: true, data, headings, pretty: false, max_width: None })
    }

    #[test]
    fn a_table_for_people_is_aligned_unless_told_otherwise() {
        let style = |format, asked_for| Style {
            format,
            asked_for,
            data: Data::String,
            headings: true,
            pretty: false,
            max_width: None,
        };
        let table = Table { for_people: true, ..table() };
        let columns = "name trunks tag external_ids";
        assert!(table.print(&style(Format::List, false)).starts_with(columns));
        assert!(table.print(&style(Format::List, true)).starts_with("name                : "));
        assert!(table.print(&style(Format::Json, true)).starts_with("{\"data\""));
        let table = Table { details: 2, ..table };
        assert_eq!(table.print(&style(Format::List, false)), "name trunks\n---- ------\np1   10 20\np 2  \n");
        assert!(table.print(&style(Format::Csv, true)).starts_with("name,trunks,tag,external_ids\n"));
    }

    #[test]
    fn lists() {
        let text = "\
name                : p1
trunks              : [10, 20]
tag                 : []
external_ids        : {a=\"b,c\", d=e}

name                : \"p 2\"
trunks              : []
tag                 : 5
external_ids        : {}
";
        assert_eq!(print(Format::List, Data::String, true), text);
        let bare = "p1\n10 20\n\na=b,c d=e\n\np 2\n\n5\n\n";
        assert_eq!(print(Format::List, Data::Bare, false), bare);
    }

    #[test]
    fn aligned_tables() {
        let text = "\
name  trunks   tag external_ids
----- -------- --- --------------
p1    [10, 20] []  {a=\"b,c\", d=e}
\"p 2\" []       5   {}
";
        assert_eq!(print(Format::Table, Data::String, true), text);
        assert_eq!(print(Format::Table, Data::Bare, false), "p1  10 20   a=b,c d=e\np 2       5 \n");
    }

    #[test]
    fn columns_no_wider_than_wanted() {
        let cut = |max_width, headings| {
            let style = Style {
                format: Format::Table,
                asked_for: true,
                data: Data::String,
                headings,
                pretty: false,
                max_width,
            };
            table().print(&style)
        };
        let text = "\
name  trunks tag external_ids
----- ------ --- ------------
p1    [10, 2 []  {a=\"b,c\", d=
\"p 2\" []     5   {}
";
        assert_eq!(cut(Some(6), true), text);
        assert_eq!(cut(Some(3), false), "p1  [10 [] {a=\n\"p  []  5  {}\n");
    }

    #[test]
    fn html() {
        let mut table = table();
        let uuid = Uuid::from_u128(0x11112222_3333_4444_5555_666677778888);
        table.columns.truncate(1);
        table.columns.push(("_uuid".to_owned(), table.columns[0].1.clone()));
        table.rows = vec![vec![Datum::string(format!("<x>&{uuid}ü")), Datum::uuid(uuid)]];
        let row = "  <tr>\n    <td>&quot;&lt;x&gt;&amp;<a href=\"#11112222-3333-4444-5555-666677778888\">11112222</a>ü\
            &quot;</td>\n    <td><a name=\"11112222-3333-4444-5555-666677778888\">11112222</a></td>\n  </tr>\n";
        let head = "  <tr>\n    <th>name</th>\n    <th>_uuid</th>\n  </tr>\n";
        let print = |headings| {
            table.print(&Style {
                format: Format::Html,
                asked_for: true,
                data: Data::String,
                headings,
                pretty: false,
                max_width: None,
            })
        };
        assert_eq!(print(true), format!("<table border=1>\n{head}{row}</table>\n"));
        assert_eq!(print(false), format!("<table border=1>\n{row}</table>\n"));
    }

    #[test]
    fn csv() {
        let text =
            "name,trunks,tag,external_ids\np1,\"[10, 20]\",[],\"{a=\"\"b,c\"\", d=e}\"\n\"\"\"p 2\"\"\",[],5,{}\n";
        assert_eq!(print(Format::Csv, Data::String, true), text);
    }

    #[test]
    fn json_text() {
        let text = concat!(
            r#"{"data":[["p1",["set",[10,20]],["set",[]],["map",[["a","b,c"],["d","e"]]]],"#,
            r#"["p 2",["set",[]],5,["map",[]]]],"headings":["name","trunks","tag","external_ids"]}"#,
            "\n"
        );
        assert_eq!(print(Format::Json, Data::String, false), text);
        let small = json!({"b": [], "a": ["x", [1]]});
        assert_eq!(pretty(&small, 0), "{\n  \"a\": [\n    \"x\",\n    [\n      1]],\n  \"b\": []}");
    }

    #[test]
    fn cells_as_json() {
        assert_eq!(
            print(Format::Csv, Data::Json, false).lines().last(),
            Some("\"\"\"p 2\"\"\",\"[\"\"set\"\",[]]\",5,\"[\"\"map\"\",[]]\"")
        );
    }

    #[test]
    fn one_line_each() {
        assert_eq!(one_line("a\nb\\c\n"), "a\\nb\\\\c\n");
        assert_eq!(one_line(""), "\n");
    }
}
