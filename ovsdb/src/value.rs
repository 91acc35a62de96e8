//! Values of RFC 7047 §5.1: atoms, and the sets and maps that columns hold.
//!
//! JSON enters here and leaves here. [`Datum::from_json`] checks shape, size and the column's
//! constraints once, so that everything behind it works on values that are known to be legal.
//!
//! What an attacker may try: duplicated set members and map keys, numbers outside `i64`, sets
//! larger than the column allows, unbounded nesting. All end in an [`OpError`]; the nesting
//! expected here is at most three levels and nothing recurses.

use crate::error::OpError;
use crate::schema::{BaseType, ColumnType};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub use crate::atom::{Atom, AtomType, NoSymbols, Real, Symbols, is_id, parse_uuid};
pub use uuid::Uuid;

/// A column's value. A scalar is a set of one; an absent optional is the empty set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Datum {
    /// A scalar, optional or set.
    Set(BTreeSet<Atom>),
    /// A map.
    Map(BTreeMap<Atom, Atom>),
}

/// An array of two. Like [`object`], it takes values as they are, where `json!` would make a copy of each.
fn pair(first: Value, second: Value) -> Value {
    Value::Array(vec![first, second])
}

/// An object with these members.
pub(crate) fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

impl Datum {
    /// `["set",[]]`.
    pub fn empty_set() -> Datum {
        Datum::Set(BTreeSet::new())
    }

    /// `["map",[]]`.
    pub fn empty_map() -> Datum {
        Datum::Map(BTreeMap::new())
    }

    /// A set of one.
    pub fn atom(atom: Atom) -> Datum {
        Datum::Set(BTreeSet::from([atom]))
    }

    /// A string.
    pub fn string(s: impl Into<String>) -> Datum {
        Datum::atom(Atom::String(s.into()))
    }

    /// An integer.
    pub fn integer(i: i64) -> Datum {
        Datum::atom(Atom::Integer(i))
    }

    /// A boolean.
    pub fn boolean(b: bool) -> Datum {
        Datum::atom(Atom::Boolean(b))
    }

    /// A row's identifier.
    pub fn uuid(u: Uuid) -> Datum {
        Datum::atom(Atom::Uuid(u))
    }

    /// The set of `atoms`; one given twice is there once.
    pub fn set_of(atoms: impl IntoIterator<Item = Atom>) -> Datum {
        Datum::Set(atoms.into_iter().collect())
    }

    /// A map from strings to strings; of a key given twice the last value stays.
    pub fn map_of_strings<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Datum
    where
        K: Into<String>,
        V: Into<String>,
    {
        let pair = |(k, v): (K, V)| (Atom::String(k.into()), Atom::String(v.into()));
        Datum::Map(pairs.into_iter().map(pair).collect())
    }

    /// No members, no pairs?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of members or pairs.
    pub fn len(&self) -> usize {
        match self {
            Datum::Set(set) => set.len(),
            Datum::Map(map) => map.len(),
        }
    }

    /// Reads a `<value>` for a column of type `ty`: shape, number of elements, constraints.
    pub fn from_json(ty: &ColumnType, v: &Value, symbols: &mut dyn Symbols) -> Result<Datum, OpError> {
        match &ty.value {
            None => set_from_json(ty, v, symbols),
            Some(value) => map_from_json(ty, value, v, symbols),
        }
    }

    /// The `<value>` of RFC 7047 §5.1; a set of one is written as its bare member.
    pub fn to_json(&self) -> Value {
        match self {
            Datum::Set(set) => match set.first() {
                Some(only) if set.len() == 1 => only.to_json(),
                _ => pair("set".into(), set.iter().map(Atom::to_json).collect()),
            },
            Datum::Map(map) => pair("map".into(), map.iter().map(|(k, v)| pair(k.to_json(), v.to_json())).collect()),
        }
    }

    /// What changed from `self` to `new`, in `update2`'s terms: of sets, the members that only
    /// one has; of maps, the pairs that only `new` has, and with their old value the keys that
    /// only `self` has. See [`ColumnType::diff`] for columns of at most one element.
    pub fn diff(&self, new: &Datum) -> Datum {
        match (self, new) {
            (Datum::Set(old), Datum::Set(new)) => Datum::Set(old.symmetric_difference(new).cloned().collect()),
            (Datum::Map(old), Datum::Map(new)) => {
                let gone = old.iter().filter(|(k, _)| !new.contains_key(k));
                let fresh = new.iter().filter(|(k, v)| old.get(k) != Some(v));
                let own = |(k, v): (&Atom, &Atom)| (k.clone(), v.clone());
                Datum::Map(gone.chain(fresh).map(own).collect())
            }
            _ => new.clone(),
        }
    }

    /// Undoes [`Datum::diff`]: the new value, from the old one and the difference.
    #[must_use]
    pub fn apply_diff(&self, diff: &Datum) -> Datum {
        match (self, diff) {
            (Datum::Set(old), Datum::Set(diff)) => Datum::Set(old.symmetric_difference(diff).cloned().collect()),
            (Datum::Map(old), Datum::Map(diff)) => {
                let mut new = old.clone();
                for (k, v) in diff {
                    if old.get(k) == Some(v) {
                        new.remove(k);
                    } else {
                        new.insert(k.clone(), v.clone());
                    }
                }
                Datum::Map(new)
            }
            _ => diff.clone(),
        }
    }

    /// The only member of a set of one.
    pub fn as_atom(&self) -> Option<&Atom> {
        match self {
            Datum::Set(set) if set.len() == 1 => set.first(),
            _ => None,
        }
    }

    /// The string, of a set of one string.
    pub fn as_str(&self) -> Option<&str> {
        match self.as_atom()? {
            Atom::String(s) => Some(s),
            _ => None,
        }
    }

    /// The integer, of a set of one integer.
    pub fn as_i64(&self) -> Option<i64> {
        match self.as_atom()? {
            Atom::Integer(i) => Some(*i),
            _ => None,
        }
    }

    /// The boolean, of a set of one boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self.as_atom()? {
            Atom::Boolean(b) => Some(*b),
            _ => None,
        }
    }

    /// The identifier, of a set of one.
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self.as_atom()? {
            Atom::Uuid(u) => Some(*u),
            _ => None,
        }
    }

    /// A set's members; nothing for a map.
    pub fn atoms(&self) -> impl Iterator<Item = &Atom> {
        let set = match self {
            Datum::Set(set) => Some(set),
            Datum::Map(_) => None,
        };
        set.into_iter().flatten()
    }

    /// A map's pairs; nothing for a set.
    pub fn pairs(&self) -> impl Iterator<Item = (&Atom, &Atom)> {
        let map = match self {
            Datum::Map(map) => Some(map),
            Datum::Set(_) => None,
        };
        map.into_iter().flatten()
    }

    /// The identifiers in a set.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> {
        self.atoms().filter_map(|a| match a {
            Atom::Uuid(u) => Some(*u),
            _ => None,
        })
    }

    /// The integers in a set.
    pub fn integers(&self) -> impl Iterator<Item = i64> {
        self.atoms().filter_map(|a| match a {
            Atom::Integer(i) => Some(*i),
            _ => None,
        })
    }

    /// The strings in a set.
    pub fn strings(&self) -> impl Iterator<Item = &str> {
        self.atoms().filter_map(|a| match a {
            Atom::String(s) => Some(s.as_str()),
            _ => None,
        })
    }

    /// The pairs of a map from strings to strings.
    pub fn string_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs().filter_map(|pair| match pair {
            (Atom::String(k), Atom::String(v)) => Some((k.as_str(), v.as_str())),
            _ => None,
        })
    }

    /// The value of `key` in a map from strings to strings.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        let Datum::Map(map) = self else { return None };
        match map.get(&Atom::String(key.to_owned()))? {
            Atom::String(s) => Some(s),
            _ => None,
        }
    }
}

/// `["set", [..]]` and `["map", [..]]`: the list, if `v` is tagged so.
fn tagged<'a>(v: &'a Value, tag: &str) -> Option<&'a Value> {
    match v.as_array().map(Vec::as_slice) {
        Some([Value::String(t), rest @ ..]) if t == tag => Some(if let [list] = rest { list } else { &Value::Null }),
        _ => None,
    }
}

fn set_from_json(ty: &ColumnType, v: &Value, symbols: &mut dyn Symbols) -> Result<Datum, OpError> {
    let Some(list) = tagged(v, "set") else {
        return Ok(Datum::atom(element(&ty.key, v, symbols)?));
    };
    let list = list.as_array().ok_or_else(|| OpError::syntax(v, "expected [\"set\", <array>]"))?;
    ty.check_len(list.len()).map_err(|e| e.at(v))?;
    let mut set = BTreeSet::new();
    for member in list {
        if !set.insert(element(&ty.key, member, symbols)?) {
            return Err(OpError::new("ovsdb error", "set contains duplicate"));
        }
    }
    Ok(Datum::Set(set))
}

fn map_from_json(
    ty: &ColumnType,
    value_type: &BaseType,
    v: &Value,
    symbols: &mut dyn Symbols,
) -> Result<Datum, OpError> {
    let list =
        tagged(v, "map").and_then(Value::as_array).ok_or_else(|| OpError::syntax(v, "expected [\"map\", <array>]"))?;
    ty.check_len(list.len()).map_err(|e| e.at(v))?;
    let mut map = BTreeMap::new();
    for pair in list {
        let Some([key, value]) = pair.as_array().map(Vec::as_slice) else {
            return Err(OpError::syntax(pair, "expected 2-element array"));
        };
        let key = element(&ty.key, key, symbols)?;
        let value = element(value_type, value, symbols)?;
        if map.insert(key, value).is_some() {
            return Err(OpError::new("ovsdb error", "map contains duplicate key"));
        }
    }
    Ok(Datum::Map(map))
}

fn element(base: &BaseType, v: &Value, symbols: &mut dyn Symbols) -> Result<Atom, OpError> {
    let atom = Atom::from_json(base.ty, v, symbols)?;
    base.check(&atom)?;
    Ok(atom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Limits, UNLIMITED};
    use proptest::prelude::*;
    use serde_json::json;

    fn column(json: Value) -> ColumnType {
        ColumnType::from_json(&json).unwrap()
    }

    fn read(ty: &ColumnType, v: Value) -> Result<Datum, OpError> {
        Datum::from_json(ty, &v, &mut NoSymbols)
    }

    #[test]
    fn scalars_sets_and_maps() {
        let tag = column(json!({"key": {"type": "integer", "maxInteger": 4095}, "min": 0}));
        assert_eq!(read(&tag, json!(7)).unwrap(), Datum::integer(7));
        assert_eq!(read(&tag, json!(7.0)).unwrap(), Datum::integer(7));
        assert_eq!(read(&tag, json!(["set", [7]])).unwrap(), Datum::integer(7));
        assert_eq!(read(&tag, json!(["set", []])).unwrap(), Datum::empty_set());
        assert_eq!(Datum::empty_set().to_json(), json!(["set", []]));
        let strings = column(json!({"key": "string", "min": 0, "max": "unlimited"}));
        let set = read(&strings, json!(["set", ["b", "a"]])).unwrap();
        assert_eq!(set.to_json(), json!(["set", ["a", "b"]]));
        assert_eq!(set.strings().collect::<Vec<_>>(), ["a", "b"]);
        let config = column(json!({"key": "string", "value": "string", "min": 0, "max": "unlimited"}));
        let map = read(&config, json!(["map", [["k", "v"]]])).unwrap();
        assert_eq!(map.get_str("k"), Some("v"));
        assert_eq!(map.to_json(), json!(["map", [["k", "v"]]]));
        assert_eq!(Datum::map_of_strings([("k", "v")]), map);
    }

    /// Every refusal, with the object that ovsdb-server answers.
    #[test]
    fn refusals() {
        let syntax = |v: Value, details: &str| OpError::syntax(&v, details);
        let name = column(json!("string"));
        let tag = column(json!({"key": {"type": "integer", "minInteger": 0, "maxInteger": 4095}, "min": 0}));
        let config = column(json!({"key": "string", "value": "string", "min": 0, "max": "unlimited"}));
        let ports = column(json!({"key": "uuid", "max": "unlimited"}));
        let cases = [
            (&name, json!(5), syntax(json!(5), "expected string")),
            (
                &name,
                json!(["set", ["a", "b"]]),
                syntax(json!(["set", ["a", "b"]]), "set must have exactly one member but 2 are present"),
            ),
            (&tag, json!(1.5), syntax(json!(1.5), "expected integer")),
            (&tag, json!({}), syntax(json!({}), "expected integer")),
            (
                &tag,
                json!(9_223_372_036_854_775_808_u64),
                syntax(json!(9_223_372_036_854_775_808_u64), "expected integer"),
            ),
            (
                &tag,
                json!(["set", [1, 2]]),
                syntax(json!(["set", [1, 2]]), "set must have 0 to 1 members but 2 are present"),
            ),
            (&tag, json!(["set", 5]), syntax(json!(["set", 5]), "expected [\"set\", <array>]")),
            (&tag, json!(["set"]), syntax(json!(["set"]), "expected [\"set\", <array>]")),
            (&tag, json!(4096), OpError::constraint("4096 is not in the valid range 0 to 4095 (inclusive)")),
            (&config, json!("x"), syntax(json!("x"), "expected [\"map\", <array>]")),
            (&config, json!(["set", []]), syntax(json!(["set", []]), "expected [\"map\", <array>]")),
            (&config, json!(["map", [["a"]]]), syntax(json!(["a"]), "expected 2-element array")),
            (
                &config,
                json!(["map", [["a", "1"], ["a", "2"]]]),
                OpError::new("ovsdb error", "map contains duplicate key"),
            ),
            (
                &ports,
                json!(["set", []]),
                syntax(json!(["set", []]), "set must have 1 to 4294967295 members but 0 are present"),
            ),
            (&ports, json!(["set", ["x"]]), syntax(json!("x"), "expected [\"uuid\", <string>]")),
            (&ports, json!(["uuid", "xx"]), syntax(json!(["uuid", "xx"]), "\"xx\" is not a valid UUID")),
            (
                &ports,
                json!(["named-uuid", "5x"]),
                syntax(json!(["named-uuid", "5x"]), "named-uuid string is not a valid <id>"),
            ),
            (
                &ports,
                json!(["named-uuid", "x"]),
                syntax(json!(["named-uuid", "x"]), "a named-uuid has no meaning outside a transaction"),
            ),
        ];
        for (ty, v, error) in cases {
            assert_eq!(read(ty, v.clone()), Err(error), "{v}");
        }
        let twice = column(json!({"key": "integer", "min": 0, "max": 3}));
        assert_eq!(read(&twice, json!(["set", [1, 1]])), Err(OpError::new("ovsdb error", "set contains duplicate")));
    }

    #[test]
    fn limits_in_words() {
        let check = |base: Value, atom: Atom| BaseType::from_json(&base).unwrap().check(&atom).map_err(|e| e.details);
        let text = |s: &str| Atom::String(s.to_owned());
        let err = |s: &str| Err(s.to_owned());
        let least = json!({"type": "integer", "minInteger": 25});
        assert_eq!(check(least.clone(), Atom::Integer(25)), Ok(()));
        assert_eq!(check(least, Atom::Integer(24)), err("24 is less than minimum allowed value 25"));
        let most = json!({"type": "real", "maxReal": 0.5});
        assert_eq!(check(most, Atom::Real(Real::new(0.75))), err("0.75 is greater than maximum allowed value 0.5"));
        let mode = json!({"type": "string", "enum": ["set", ["b", "a c"]]});
        assert_eq!(check(mode.clone(), text("b")), Ok(()));
        assert_eq!(check(mode, text("x y")), err("\"x y\" is not one of the allowed values ([\"a c\", b])"));
        let length = json!({"type": "string", "minLength": 2, "maxLength": 3});
        assert_eq!(check(length.clone(), text("äöü")), Ok(()));
        assert_eq!(check(length.clone(), text("ä")), err("\"ä\" length 1 is less than minimum allowed length 2"));
        assert_eq!(check(length, text("abcd")), err("\"abcd\" length 4 is greater than maximum allowed length 3"));
    }

    #[test]
    fn words_and_quotes() {
        let show = |s: &str| Atom::String(s.to_owned()).to_string();
        for bare in ["br0", "_x", "a-b.c"] {
            assert_eq!(show(bare), bare);
        }
        for quoted in ["", "0br", "a b", "true", "a/b", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"] {
            assert_eq!(show(quoted), format!("\"{quoted}\""));
        }
    }

    #[test]
    fn diff_of_an_optional_is_its_new_value() {
        let tag = column(json!({"key": "integer", "min": 0}));
        let (none, one, two) = (Datum::empty_set(), Datum::integer(1), Datum::integer(2));
        assert_eq!(tag.diff(&one, &two), two);
        assert_eq!(tag.diff(&one, &none), none);
        assert_eq!(tag.apply_diff(&one, &none), none);
        let trunks = column(json!({"key": "integer", "min": 0, "max": 4096}));
        assert_eq!(trunks.diff(&one, &two), Datum::set_of([Atom::Integer(1), Atom::Integer(2)]));
    }

    fn atom(ty: AtomType) -> BoxedStrategy<Atom> {
        match ty {
            AtomType::Integer => any::<i64>().prop_map(Atom::Integer).boxed(),
            AtomType::Real => proptest::num::f64::NORMAL.prop_map(|x| Atom::Real(Real::new(x))).boxed(),
            AtomType::Boolean => any::<bool>().prop_map(Atom::Boolean).boxed(),
            AtomType::String => any::<String>().prop_map(Atom::String).boxed(),
            AtomType::Uuid => any::<u128>().prop_map(|n| Atom::Uuid(Uuid::from_u128(n))).boxed(),
        }
    }

    fn few(ty: AtomType) -> BoxedStrategy<Atom> {
        // From a small pool too, so that two values have members in common.
        prop_oneof![
            atom(ty),
            (0..4_i64).prop_map(move |i| match ty {
                AtomType::Integer => Atom::Integer(i),
                AtomType::Real => Atom::Real(Real::new(i as f64)),
                AtomType::Boolean => Atom::Boolean(i % 2 == 0),
                AtomType::String => Atom::String(i.to_string()),
                AtomType::Uuid => Atom::Uuid(Uuid::from_u128(i as u128)),
            })
        ]
        .boxed()
    }

    const TYPES: [AtomType; 5] =
        [AtomType::Integer, AtomType::Real, AtomType::Boolean, AtomType::String, AtomType::Uuid];

    /// A column type and two values of it.
    fn typed_pair() -> impl Strategy<Value = (ColumnType, Datum, Datum)> {
        let ty = proptest::sample::select(&TYPES[..]);
        (ty.clone(), proptest::option::of(ty)).prop_flat_map(|(key, value)| {
            let column = ColumnType {
                key: BaseType { limits: Limits::None, ..BaseType::any(key) },
                value: value.map(BaseType::any),
                min: 0,
                max: UNLIMITED,
            };
            let datum = match value {
                None => proptest::collection::btree_set(few(key), 0..6).prop_map(Datum::Set).boxed(),
                Some(v) => proptest::collection::btree_map(few(key), few(v), 0..6).prop_map(Datum::Map).boxed(),
            };
            (Just(column), datum.clone(), datum)
        })
    }

    proptest! {
        #[test]
        fn json_round_trip((ty, a, _) in typed_pair()) {
            let text = a.to_json().to_string();
            let back = Datum::from_json(&ty, &serde_json::from_str(&text).unwrap(), &mut NoSymbols);
            prop_assert_eq!(back, Ok(a));
        }

        #[test]
        fn diff_then_apply_is_identity((ty, a, b) in typed_pair()) {
            prop_assert_eq!(a.apply_diff(&a.diff(&b)), b.clone());
            prop_assert_eq!(ty.apply_diff(&a, &ty.diff(&a, &b)), b);
            prop_assert!(a.diff(&a).is_empty());
        }

        /// Whatever JSON comes, reading it ends in a value or an error.
        #[test]
        fn garbage_is_refused(text in "[\\[\\]{}\",:0-9a-z-]{0,40}", (ty, ..) in typed_pair()) {
            if let Ok(v) = serde_json::from_str::<Value>(&text) {
                let _ = Datum::from_json(&ty, &v, &mut NoSymbols);
            }
        }
    }
}
