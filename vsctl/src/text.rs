//! Values as people write them, in ovs-vsctl's syntax: sets `[1, 2]`, maps `{key=value}`,
//! strings that are no plain word in quotes as in JSON. Brackets and braces may be left out, and
//! blanks or commas separate elements. (Writing is [`ColumnType::to_text`].)
//!
//! Messages say what is wrong with the value; callers say which word of the command line it was.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::schema::{BaseType, ColumnType};
use ovsdb::value::{Atom, AtomType, Datum, Real, Uuid, parse_uuid};
use serde_json::Value;

use crate::error::{Result, fail, failed};

/// A range of integers such as `1-4` stands for at most so many.
const RANGE_LIMIT: i64 = 4096;

/// What `@name` stands for; filled by `--id=@name` before or after its first use.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<String, Name>);

/// One `@name`.
#[derive(Debug)]
struct Name {
    uuid: Uuid,
    defined: bool,
    used: bool,
    /// The switch keeps the row only if another refers to it.
    needs_use: bool,
}

impl Names {
    fn entry(&mut self, name: &str) -> &mut Name {
        let new = || Name { uuid: Uuid::new_v4(), defined: false, used: false, needs_use: false };
        self.0.entry(name.to_owned()).or_insert_with(new)
    }

    /// The row that `name` (with its `@`) stands for, decided now if nobody asked before.
    fn refer(&mut self, name: &str) -> Uuid {
        let entry = self.entry(name);
        entry.used = true;
        entry.uuid
    }

    /// `--id=@name` of a row about to be created: its identifier.
    pub(crate) fn create(&mut self, name: &str, needs_use: bool) -> Result<Uuid> {
        let entry = self.entry(check_name(name)?);
        if entry.defined {
            fail!("{name} is given by two --id options");
        }
        entry.defined = true;
        entry.needs_use = needs_use;
        Ok(entry.uuid)
    }

    /// `--id=@name` of a row that exists.
    pub(crate) fn name(&mut self, name: &str, uuid: Uuid) -> Result<()> {
        let defined = Name { uuid, defined: true, used: false, needs_use: false };
        match self.0.insert(check_name(name)?.to_owned(), defined) {
            None => Ok(()),
            Some(old) if old.defined => fail!("{name} is given by two --id options"),
            Some(_) => fail!("{name} is used before the 'get' that defines it; put 'get' first"),
        }
    }

    /// The row that `name` already stands for.
    pub(crate) fn known(&self, name: &str) -> Option<Uuid> {
        self.0.get(name).filter(|n| n.defined).map(|n| n.uuid)
    }

    /// Refuses names that no `--id` defined.
    pub(crate) fn check_all_defined(&self) -> Result<()> {
        match self.0.iter().find(|(_, name)| !name.defined) {
            None => Ok(()),
            Some((name, _)) => {
                fail!("{name} is not defined; define it by '-- --id={name} create …' or 'get …'")
            }
        }
    }

    /// Names of rows that the switch will drop because nothing refers to them.
    pub(crate) fn unused(&self) -> impl Iterator<Item = &str> {
        let lost = |name: &Name| name.needs_use && !name.used;
        self.0.iter().filter(move |(_, name)| lost(name)).map(|(name, _)| name.as_str())
    }
}

fn check_name(name: &str) -> Result<&str> {
    match name.strip_prefix('@') {
        Some(rest) if !rest.is_empty() => Ok(name),
        _ => fail!("--id={name}: a name begins with '@', as in --id=@{name}"),
    }
}

/// Takes words, quoted strings and punctuation off the front of a text.
pub(crate) struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    /// Starts at the front of `text`.
    pub(crate) fn new(text: &'a str) -> Scanner<'a> {
        Scanner { rest: text }
    }

    /// What has not been taken yet.
    pub(crate) fn rest(&self) -> &'a str {
        self.rest
    }

    /// Takes `c` if it is next.
    pub(crate) fn skip(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes a word as it stands or a quoted string, quotes and escapes included.
    /// Empty if punctuation is next.
    fn raw_token(&mut self) -> Result<&'a str> {
        let end = if self.rest.starts_with('"') {
            match closing_quote(self.rest) {
                Some(at) => at + 1,
                None => fail!("the string {} has no closing '\"'", self.rest),
            }
        } else {
            self.rest.find(is_delimiter).unwrap_or(self.rest.len())
        };
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(token)
    }

    /// Takes a word or a quoted string, and gives the string it means.
    pub(crate) fn token(&mut self) -> Result<String> {
        let raw = self.raw_token()?;
        if raw.starts_with('"') { unquote(raw) } else { Ok(raw.to_owned()) }
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches(is_blank);
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn is_delimiter(c: char) -> bool {
    is_blank(c) || ":=,[]{}!<>".contains(c)
}

/// The place of the quote that ends the string that begins `text`.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().skip(1).find_map(|(at, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at)
    })
}

fn unquote(text: &str) -> Result<String> {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::String(s)) if !s.contains('\0') => Ok(s),
        _ => fail!("{text} is not a string as JSON writes it"),
    }
}

/// Reads one element that makes up the whole text.
pub(crate) fn parse_atom(base: &BaseType, text: &str, names: &mut Names) -> Result<Atom> {
    let atom = match base.ty {
        AtomType::String => Atom::String(match text.starts_with('"') {
            true if closing_quote(text) == Some(text.len() - 1) => unquote(text)?,
            true => fail!("{text}: the string has no closing '\"' at its end"),
            false if text.is_empty() => fail!("missing value; write '\"\"' for the empty string"),
            false => text.to_owned(),
        }),
        AtomType::Integer => match text.trim_start_matches(is_blank).parse() {
            Ok(i) => Atom::Integer(i),
            Err(_) => fail!("'{text}' is not an integer"),
        },
        AtomType::Real => match text.trim().parse::<f64>() {
            Ok(x) if x.is_finite() => Atom::Real(Real::new(x)),
            _ => fail!("'{text}' is not a number"),
        },
        AtomType::Boolean => match text {
            "true" | "yes" | "on" | "1" => Atom::Boolean(true),
            "false" | "no" | "off" | "0" => Atom::Boolean(false),
            _ => fail!("'{text}' is neither true nor false"),
        },
        AtomType::Uuid if text.starts_with('@') => Atom::Uuid(names.refer(text)),
        AtomType::Uuid => match parse_uuid(text) {
            Some(uuid) => Atom::Uuid(uuid),
            None => fail!("'{text}' is neither a UUID nor an @name"),
        },
    };
    base.check(&atom).map_err(|e| failed!("{}", e.details))?;
    Ok(atom)
}

/// Reads a whole value for a column of type `ty`.
pub(crate) fn parse_datum(ty: &ColumnType, text: &str, names: &mut Names) -> Result<Datum> {
    if text.is_empty() {
        fail!("no value; nothing at all is {}", if ty.is_map() { "{}" } else { "[]" });
    }
    if let Some(datum) = plain_string(ty, text)? {
        return Ok(datum);
    }
    let mut scanner = Scanner::new(text);
    scanner.skip_blanks();
    let (open, close) = if ty.value.is_some() { ('{', '}') } else { ('[', ']') };
    let bracketed = scanner.skip(open);
    let mut set = BTreeSet::new();
    let mut map = BTreeMap::new();
    let mut count = 0;
    loop {
        scanner.skip_blanks();
        if scanner.rest.is_empty() || (bracketed && scanner.rest.starts_with(close)) {
            break;
        }
        count += match &ty.value {
            None => parse_members(&ty.key, &mut scanner, names, &mut set)?,
            Some(value) => parse_pair(&ty.key, value, &mut scanner, names, &mut map)?,
        };
        scanner.skip_blanks();
        scanner.skip(',');
    }
    if bracketed {
        if !scanner.skip(close) {
            fail!("missing '{close}' at the end");
        }
        scanner.skip_blanks();
        if !scanner.rest.is_empty() {
            fail!("'{}' after '{close}'", scanner.rest);
        }
    }
    check_count(ty, count)?;
    Ok(if ty.value.is_some() { Datum::Map(map) } else { Datum::Set(set) })
}

/// A column that holds one string takes a word with punctuation in it, such as a MAC address,
/// without the quotes that ovs-vsctl asks for.
fn plain_string(ty: &ColumnType, text: &str) -> Result<Option<Datum>> {
    let single = ty.value.is_none() && ty.key.ty == AtomType::String && ty.max == 1;
    let punctuated = text.contains(|c| ":=!<>".contains(c));
    if !single || !punctuated || text.contains(|c: char| is_blank(c) || ",\"[]{}".contains(c)) {
        return Ok(None);
    }
    let atom = Atom::String(text.to_owned());
    ty.key.check(&atom).map_err(|e| failed!("{}", e.details))?;
    Ok(Some(Datum::atom(atom)))
}

fn check_count(ty: &ColumnType, count: usize) -> Result<()> {
    let (min, max) = (ty.min as usize, ty.max as usize);
    if count > max {
        fail!("{count} values, but there can be only {max}");
    }
    if count < min {
        fail!("{count} values, but there must be at least {min}");
    }
    Ok(())
}

/// Takes an element, or a range of integers; says how many that were.
fn parse_members(
    base: &BaseType,
    scanner: &mut Scanner<'_>,
    names: &mut Names,
    set: &mut BTreeSet<Atom>,
) -> Result<usize> {
    let token = element(scanner)?;
    let range = match base.ty {
        AtomType::Integer => parse_range(token)?,
        _ => None,
    };
    let Some((from, to)) = range else {
        let atom = parse_atom(base, token, names)?;
        return add(set, atom).map(|()| 1);
    };
    for i in from..=to {
        let atom = Atom::Integer(i);
        base.check(&atom).map_err(|e| failed!("{}", e.details))?;
        add(set, atom)?;
    }
    Ok(usize::try_from(to - from + 1).unwrap_or(usize::MAX))
}

fn add(set: &mut BTreeSet<Atom>, atom: Atom) -> Result<()> {
    let text = atom.to_string();
    if !set.insert(atom) {
        fail!("{text} is there twice");
    }
    Ok(())
}

fn parse_pair(
    key: &BaseType,
    value: &BaseType,
    scanner: &mut Scanner<'_>,
    names: &mut Names,
    map: &mut BTreeMap<Atom, Atom>,
) -> Result<usize> {
    let key_text = element(scanner)?;
    let key = parse_atom(key, key_text, names)?;
    if !scanner.skip('=') {
        fail!("expected '=' and a value after the key {key_text}");
    }
    let value_text = element(scanner)?;
    let value = parse_atom(value, value_text, names)?;
    if map.insert(key, value).is_some() {
        fail!("the key {key_text} is there twice");
    }
    Ok(1)
}

/// Takes an element as it stands; punctuation where one should be is an error.
fn element<'a>(scanner: &mut Scanner<'a>) -> Result<&'a str> {
    let token = scanner.raw_token()?;
    if !token.is_empty() {
        return Ok(token);
    }
    match scanner.rest.chars().next() {
        Some(c) => fail!("unexpected '{c}'; put a string with '{c}' in it into quotes: '\"…\"'"),
        None => fail!("a value is missing at the end; '\"\"' is the empty string"),
    }
}

/// `1-4`, both ends included; `None` if it is no range but perhaps a number.
fn parse_range(token: &str) -> Result<Option<(i64, i64)>> {
    let Some(dash) = token.char_indices().skip(1).find(|(_, c)| *c == '-').map(|(at, _)| at) else {
        return Ok(None);
    };
    match (token[..dash].parse::<i64>(), token[dash + 1..].parse::<i64>()) {
        (Ok(from), Ok(to)) if from > to => fail!("the range {token} ends before it starts"),
        (Ok(from), Ok(to)) if to.saturating_sub(from) >= RANGE_LIMIT => {
            fail!("the range {token} has more than {RANGE_LIMIT} members")
        }
        (Ok(from), Ok(to)) => Ok(Some((from, to))),
        _ => fail!("'{token}' is neither an integer nor a range"),
    }
}

/// Writes a value without brackets, braces and quotes.
pub(crate) fn show_bare(datum: &Datum) -> String {
    let bare = |atom: &Atom| match atom {
        Atom::String(s) => s.clone(),
        other => other.to_string(),
    };
    let words: Vec<String> = match datum {
        Datum::Set(set) => set.iter().map(bare).collect(),
        Datum::Map(map) => map.iter().map(|(k, v)| format!("{}={}", bare(k), bare(v))).collect(),
    };
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb::vswitch_schema::vswitch_schema;

    fn ty(table: &str, column: &str) -> ColumnType {
        vswitch_schema().tables[table].columns[column].ty.clone()
    }

    /// Reads a value and writes it again.
    fn again(table: &str, column: &str, text: &str) -> String {
        let ty = ty(table, column);
        match parse_datum(&ty, text, &mut Names::default()) {
            Ok(datum) => ty.to_text(&datum),
            Err(error) => format!("refused: {error}"),
        }
    }

    #[test]
    fn integers_and_sets_of_them() {
        for (text, value) in [
            ("1", "[1]"),
            ("1,2,3", "[1, 2, 3]"),
            (" 3 2 , 1 ", "[1, 2, 3]"),
            ("[1,2]", "[1, 2]"),
            ("1,2,", "[1, 2]"),
            ("[]", "[]"),
            ("1-4", "[1, 2, 3, 4]"),
            ("10,1-3", "[1, 2, 3, 10]"),
            ("+5", "[5]"),
            ("4-1", "refused: the range 4-1 ends before it starts"),
            ("1-99999", "refused: the range 1-99999 has more than 4096 members"),
            ("1-2-3", "refused: '1-2-3' is neither an integer nor a range"),
            ("1,,2", "refused: unexpected ','; put a string with ',' in it into quotes: '\"…\"'"),
            ("1,1", "refused: 1 is there twice"),
            ("[1,2", "refused: missing ']' at the end"),
            ("[1] 2", "refused: '2' after ']'"),
            ("4096", "refused: 4096 is not in the valid range 0 to 4095 (inclusive)"),
            ("0x10", "refused: '0x10' is not an integer"),
            ("99999999999999999999", "refused: '99999999999999999999' is not an integer"),
            ("-5", "refused: -5 is not in the valid range 0 to 4095 (inclusive)"),
        ] {
            assert_eq!(again("Port", "trunks", text), value, "{text}");
        }
        assert_eq!(again("Port", "tag", "5"), "5");
        assert_eq!(again("Port", "tag", "[5]"), "5");
        assert_eq!(again("Port", "tag", "[]"), "[]");
        assert_eq!(again("Port", "tag", "5,6"), "refused: 2 values, but there can be only 1");
    }

    #[test]
    fn strings() {
        for (text, value) in [
            ("netdev", "netdev"),
            (" netdev ", "netdev"),
            ("[netdev]", "netdev"),
            ("\"\"", "\"\""),
            ("\"a b\"", "\"a b\""),
            ("true", "\"true\""),
            ("\"\\u00e9\\n\"", "\"é\\n\""),
            ("00:11:22:33:44:55", "\"00:11:22:33:44:55\""),
            ("a,b", "refused: 2 values, but there can be only 1"),
            ("", "refused: no value; nothing at all is []"),
            ("[]", "refused: 0 values, but there must be at least 1"),
            ("\"a", "refused: the string \"a has no closing '\"'"),
            ("\"a\\x\"", "refused: \"a\\x\" is not a string as JSON writes it"),
            ("\"a\\u0000\"", "refused: \"a\\u0000\" is not a string as JSON writes it"),
        ] {
            assert_eq!(again("Bridge", "datapath_type", text), value, "{text}");
        }
        assert_eq!(
            again("Port", "vlan_mode", "odd"),
            "refused: odd is not one of the allowed values \
             ([access, dot1q-tunnel, native-tagged, native-untagged, trunk])"
        );
    }

    #[test]
    fn maps() {
        for (text, value) in [
            ("a=b", "{a=b}"),
            ("a=b,c=d", "{a=b, c=d}"),
            ("{c=d, a=b}", "{a=b, c=d}"),
            ("\"a\"=\"b c\", d=e f=g", "{a=\"b c\", d=e, f=g}"),
            ("a=\"x=y,{z}\"", "{a=\"x=y,{z}\"}"),
            ("key=5000", "{key=\"5000\"}"),
            ("a=\"\"", "{a=\"\"}"),
            ("{}", "{}"),
            ("a", "refused: expected '=' and a value after the key a"),
            ("a=", "refused: a value is missing at the end; '\"\"' is the empty string"),
            ("a=b=c", "refused: unexpected '='; put a string with '=' in it into quotes: '\"…\"'"),
            ("a=b,a=c", "refused: the key a is there twice"),
            ("{a=b} x", "refused: 'x' after '}'"),
        ] {
            assert_eq!(again("Bridge", "external_ids", text), value, "{text}");
        }
    }

    #[test]
    fn booleans_and_references() {
        for (text, value) in [("true", "true"), ("on", "true"), ("0", "false"), ("no", "false")] {
            assert_eq!(again("Port", "fake_bridge", text), value);
        }
        assert_eq!(again("Port", "fake_bridge", "maybe"), "refused: 'maybe' is neither true nor false");
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        assert_eq!(again("Port", "qos", uuid), uuid);
        assert_eq!(again("Port", "qos", "p1"), "refused: 'p1' is neither a UUID nor an @name");
    }

    #[test]
    fn a_single_value_is_the_rest_of_the_word() {
        let value = ty("Bridge", "external_ids").value.unwrap();
        let read = |text: &str| parse_atom(&value, text, &mut Names::default()).map(|a| a.to_string());
        assert_eq!(read("c d,e:f={[x]}").unwrap(), "\"c d,e:f={[x]}\"");
        assert_eq!(read("\"c\"").unwrap(), "c");
        assert_eq!(read("\"c\" d").unwrap_err().to_string(), "\"c\" d: the string has no closing '\"' at its end");
        assert_eq!(read("").unwrap_err().to_string(), "missing value; write '\"\"' for the empty string");
    }

    #[test]
    fn names_before_and_after_their_definition() {
        let mut names = Names::default();
        let qos = ty("Port", "qos");
        let early = parse_datum(&qos, "@q", &mut names).unwrap();
        assert_eq!(
            names.check_all_defined().unwrap_err().to_string(),
            "@q is not defined; define it by '-- --id=@q create …' or 'get …'"
        );
        assert_eq!(early.as_uuid(), Some(names.create("@q", true).unwrap()));
        assert_eq!(names.check_all_defined(), Ok(()));
        assert_eq!(names.create("@q", true).unwrap_err().to_string(), "@q is given by two --id options");
        assert_eq!(names.unused().count(), 0);
        names.create("@lost", true).unwrap();
        assert_eq!(names.unused().collect::<Vec<_>>(), ["@lost"]);

        parse_datum(&qos, "@late", &mut names).unwrap();
        let refused = names.name("@late", Uuid::nil()).unwrap_err().to_string();
        assert_eq!(refused, "@late is used before the 'get' that defines it; put 'get' first");
        let refused = names.name("late", Uuid::nil()).unwrap_err().to_string();
        assert_eq!(refused, "--id=late: a name begins with '@', as in --id=@late");
    }

    #[test]
    fn bare_values() {
        let show =
            |table, column, text| show_bare(&parse_datum(&ty(table, column), text, &mut Names::default()).unwrap());
        assert_eq!(show("Port", "trunks", "3,1"), "1 3");
        assert_eq!(show("Port", "trunks", "[]"), "");
        assert_eq!(show("Bridge", "external_ids", "a=\"b c\",d=true"), "a=b c d=true");
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back(pairs: std::collections::BTreeMap<String, String>, word: String, numbers: Vec<i64>) {
            let clean = |s: &String| s.replace('\0', "");
            let map = Datum::map_of_strings(pairs.iter().map(|(k, v)| (clean(k), clean(v))));
            let again = |table, column, datum: &Datum| {
                let ty = ty(table, column);
                parse_datum(&ty, &ty.to_text(datum), &mut Names::default()).unwrap()
            };
            proptest::prop_assert_eq!(again("Bridge", "external_ids", &map), map);
            let word = Datum::string(clean(&word));
            proptest::prop_assert_eq!(again("Bridge", "datapath_type", &word), word);
            let numbers = Datum::set_of(numbers.into_iter().map(Atom::Integer));
            proptest::prop_assert_eq!(again("Interface", "cfm_remote_mpids", &numbers), numbers);
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            for (table, column) in [("Bridge", "external_ids"), ("Port", "trunks"), ("Port", "qos"), ("Bridge", "name")] {
                let _ = parse_datum(&ty(table, column), &text, &mut Names::default());
            }
            let _ = crate::columns::Spec::condition(&text);
        }
    }
}
