//! Names of tables and columns as people write them, and words of the form
//! `COLUMN[:KEY]OPERATOR VALUE`, as ovs-vsctl reads them.
//!
//! Names may be abbreviated as long as they stay unique; case does not matter, and `-` is `_`.

use ovsdb::schema::{ColumnSchema, DatabaseSchema, TableSchema};

use crate::error::{Result, fail, nearest};
use crate::text::Scanner;

/// A table of the schema with its name.
#[derive(Clone, Copy)]
pub(crate) struct Table<'s> {
    /// The name as the schema has it.
    pub name: &'s str,
    /// Its columns.
    pub schema: &'s TableSchema,
}

/// Finds a table by its name or an abbreviation.
pub(crate) fn find_table<'s>(schema: &'s DatabaseSchema, word: &str) -> Result<Table<'s>> {
    let names = || schema.tables.keys().map(String::as_str);
    match matching(word, names()).as_slice() {
        [name] => match schema.tables.get_key_value(*name) {
            Some((name, schema)) => Ok(Table { name, schema }),
            None => fail!("no table '{word}'"),
        },
        [] => match nearest(word, names()) {
            Some(near) => fail!("no table '{word}'; did you mean '{near}'?"),
            None => fail!("no table '{word}'; there are: {}", all_of(names())),
        },
        several => fail!("'{word}' could be any of these tables: {}", several.join(", ")),
    }
}

impl<'s> Table<'s> {
    /// Finds a column by its name or an abbreviation.
    pub(crate) fn column(&self, word: &str) -> Result<(&'s str, &'s ColumnSchema)> {
        let table = self.name;
        let names = || self.schema.columns.keys().map(String::as_str);
        match matching(word, names()).as_slice() {
            [name] => match self.schema.columns.get_key_value(*name) {
                Some((name, column)) => Ok((name, column)),
                None => fail!("{table} has no column '{word}'"),
            },
            [] => match nearest(word, names()) {
                Some(near) => fail!("{table} has no column '{word}'; did you mean '{near}'?"),
                None => fail!("{table} has no column '{word}'; it has: {}", all_of(names())),
            },
            several => {
                fail!("'{word}' could be any of these columns of {table}: {}", several.join(", "))
            }
        }
    }

    /// Like [`Table::column`], but `None` where nothing matches or several columns do.
    pub(crate) fn column_if_any(&self, word: &str) -> Option<(&'s str, &'s ColumnSchema)> {
        match matching(word, self.schema.columns.keys().map(String::as_str)).as_slice() {
            [name] => self.schema.columns.get_key_value(*name).map(|(n, c)| (n.as_str(), c)),
            _ => None,
        }
    }

    /// Finds a column that a client may change after its row exists.
    pub(crate) fn mutable_column(&self, word: &str) -> Result<(&'s str, &'s ColumnSchema)> {
        let (name, column) = self.column(word)?;
        if !column.mutable {
            fail!(
                "{} column {name} cannot change once the row exists; \
                 delete it and add it anew",
                self.name
            );
        }
        Ok((name, column))
    }
}

fn all_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// The exact name, or else all names that `word` abbreviates.
fn matching<'a>(word: &str, names: impl Iterator<Item = &'a str> + Clone) -> Vec<&'a str> {
    let fold = |s: &str| s.to_ascii_lowercase().replace('-', "_");
    let wanted = fold(word);
    let exact = |name: &&str| *name == word;
    if let Some(name) = names.clone().find(exact).or_else(|| names.clone().find(|n| fold(n) == wanted)) {
        return vec![name];
    }
    names.filter(|name| !wanted.is_empty() && fold(name).starts_with(&wanted)).collect()
}

/// `COLUMN[:KEY]`, and the operator and value where there is one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    /// The column, perhaps abbreviated.
    pub column: String,
    /// The key within a map.
    pub key: Option<String>,
    /// The operator and what it compares with or assigns.
    pub right: Option<(Operator, String)>,
}

/// How `find` compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    /// `=`; in `set` the assignment.
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `>`
    Greater,
    /// `<=`
    LessOrEqual,
    /// `>=`
    GreaterOrEqual,
    /// `{=}`
    SetEqual,
    /// `{!=}`
    SetNotEqual,
    /// `{<}`
    Subset,
    /// `{>}`
    Superset,
    /// `{<=}` and `{in}`
    SubsetOrEqual,
    /// `{>=}`
    SupersetOrEqual,
    /// `{not-in}`
    Disjoint,
}

impl Operator {
    /// Longer signs first, so that the first that fits is the right one.
    const SIGNS: [(&str, Operator); 14] = [
        ("{not-in}", Operator::Disjoint),
        ("{!=}", Operator::SetNotEqual),
        ("{<=}", Operator::SubsetOrEqual),
        ("{>=}", Operator::SupersetOrEqual),
        ("{in}", Operator::SubsetOrEqual),
        ("{=}", Operator::SetEqual),
        ("{<}", Operator::Subset),
        ("{>}", Operator::Superset),
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("=", Operator::Equal),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ];

    /// Whether it compares sets, so that an absent key counts as the empty set.
    pub(crate) fn is_set_operator(self) -> bool {
        matches!(
            self,
            Operator::SetEqual
                | Operator::SetNotEqual
                | Operator::Subset
                | Operator::Superset
                | Operator::SubsetOrEqual
                | Operator::SupersetOrEqual
                | Operator::Disjoint
        )
    }
}

impl Spec {
    /// Reads `COLUMN[:KEY]`.
    pub(crate) fn plain(word: &str) -> Result<Spec> {
        let (spec, rest) = Spec::left(word)?;
        if !rest.is_empty() {
            fail!("{word}: '{rest}' after the column; expected COLUMN or COLUMN:KEY");
        }
        Ok(spec)
    }

    /// Reads `COLUMN[:KEY]=VALUE`.
    pub(crate) fn assignment(word: &str) -> Result<Spec> {
        let (mut spec, rest) = Spec::left(word)?;
        match rest.strip_prefix('=') {
            Some("") => fail!(
                "{word}: no value after '='; write {word}'\"\"' for the empty string, \
                 {word}[] for nothing at all"
            ),
            Some(value) => spec.right = Some((Operator::Equal, value.to_owned())),
            None => fail!("{word}: expected COLUMN=VALUE or COLUMN:KEY=VALUE"),
        }
        Ok(spec)
    }

    /// Reads `COLUMN[:KEY]OPERATOR VALUE`.
    pub(crate) fn condition(word: &str) -> Result<Spec> {
        let (mut spec, rest) = Spec::left(word)?;
        let sign = Operator::SIGNS.iter().find_map(|(sign, op)| rest.strip_prefix(sign).map(|value| (*op, value)));
        match sign {
            Some((op, value)) if !value.is_empty() => spec.right = Some((op, value.to_owned())),
            _ => fail!(
                "{word}: expected COLUMN[:KEY] then one of = != < > <= >= {{=}} {{!=}} {{<}} \
                 {{>}} {{<=}} {{>=}} {{in}} {{not-in}}, then a value"
            ),
        }
        Ok(spec)
    }

    fn left(word: &str) -> Result<(Spec, &str)> {
        let mut scanner = Scanner::new(word);
        let column = scanner.token().map_err(|e| e.at(word))?;
        if column.is_empty() {
            fail!("{word}: expected the name of a column first");
        }
        let key = match scanner.skip(':') {
            true => Some(scanner.token().map_err(|e| e.at(word))?),
            false => None,
        };
        if key.as_deref() == Some("") {
            fail!("{word}: expected a key after ':'");
        }
        Ok((Spec { column, key, right: None }, scanner.rest()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb::vswitch_schema::vswitch_schema;

    fn refused<T>(result: Result<T>) -> String {
        result.err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn tables_by_abbreviation() {
        let schema = vswitch_schema();
        for (word, name) in [
            ("Port", "Port"),
            ("port", "Port"),
            ("p", "Port"),
            ("net", "NetFlow"),
            ("open-v", "Open_vSwitch"),
            ("ct_z", "CT_Zone"),
        ] {
            assert_eq!(find_table(&schema, word).map(|t| t.name), Ok(name), "{word}");
        }
        assert_eq!(refused(find_table(&schema, "Prt")), "no table 'Prt'; did you mean 'Port'?");
        assert_eq!(refused(find_table(&schema, "I")), "'I' could be any of these tables: IPFIX, Interface");
    }

    #[test]
    fn columns_by_abbreviation() {
        let schema = vswitch_schema();
        let port = find_table(&schema, "Port").unwrap();
        let name = |word: &str| port.column(word).map(|(name, _)| name);
        assert_eq!(name("tag"), Ok("tag"));
        assert_eq!(name("external-ids"), Ok("external_ids"));
        assert_eq!(name("VLAN-M"), Ok("vlan_mode"));
        assert_eq!(refused(name("t")), "'t' could be any of these columns of Port: tag, trunks");
        assert_eq!(refused(name("tga")), "Port has no column 'tga'; did you mean 'tag'?");
        assert_eq!(
            refused(port.mutable_column("name").map(|_| ())),
            "Port column name cannot change once the row exists; delete it and add it anew"
        );
    }

    #[test]
    fn assignments() {
        let read = |word| Spec::assignment(word).map(|s| (s.column, s.key, s.right.unwrap().1)).unwrap();
        let own = |s: &str| s.to_owned();
        assert_eq!(read("tag=5"), (own("tag"), None, own("5")));
        assert_eq!(read("options:key=5000"), (own("options"), Some(own("key")), own("5000")));
        assert_eq!(read("external_ids:a+=b"), (own("external_ids"), Some(own("a+")), own("b")));
        assert_eq!(
            read(r#"other_config:"fdb-1-02:00:00:00:00:01"=p1"#),
            (own("other_config"), Some(own("fdb-1-02:00:00:00:00:01")), own("p1"))
        );
        assert_eq!(read("a=b=c"), (own("a"), None, own("b=c")));
    }

    #[test]
    fn refused_assignments() {
        let read = |word| refused(Spec::assignment(word));
        assert_eq!(read("tag"), "tag: expected COLUMN=VALUE or COLUMN:KEY=VALUE");
        assert_eq!(
            read("tag="),
            "tag=: no value after '='; write tag='\"\"' for the empty string, tag=[] for nothing at all"
        );
        assert_eq!(read("=5"), "=5: expected the name of a column first");
        assert_eq!(read("options:=5"), "options:=5: expected a key after ':'");
        assert!(read("tag!=5").starts_with("tag!=5: expected COLUMN=VALUE"));
    }

    #[test]
    fn conditions() {
        let read = |word| Spec::condition(word).unwrap().right.unwrap();
        assert_eq!(read("tag!=5"), (Operator::NotEqual, "5".to_owned()));
        assert_eq!(read("tag<=5"), (Operator::LessOrEqual, "5".to_owned()));
        assert_eq!(read("tag{<=}5"), (Operator::SubsetOrEqual, "5".to_owned()));
        assert_eq!(read("tag{in}5"), (Operator::SubsetOrEqual, "5".to_owned()));
        assert_eq!(read("tag{not-in}5"), (Operator::Disjoint, "5".to_owned()));
        assert_eq!(read("options:key=5"), (Operator::Equal, "5".to_owned()));
        assert!(refused(Spec::condition("tag")).starts_with("tag: expected COLUMN[:KEY] then"));
        assert!(refused(Spec::condition("tag=")).starts_with("tag=: expected COLUMN[:KEY] then"));
    }

    #[test]
    fn plain_columns() {
        assert_eq!(Spec::plain("tag").map(|s| s.key), Ok(None));
        assert_eq!(Spec::plain("options:key").map(|s| s.key), Ok(Some("key".to_owned())));
        assert_eq!(refused(Spec::plain("tag=1")), "tag=1: '=1' after the column; expected COLUMN or COLUMN:KEY");
    }
}
