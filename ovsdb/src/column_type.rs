//! Column types: what a column may hold (`<type>` and `<base-type>` of RFC 7047 §3.2).

use crate::error::OpError;
use crate::members::{Members, small};
use crate::value::{Atom, AtomType, Datum, NoSymbols};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;

/// `"max": "unlimited"`.
pub const UNLIMITED: u32 = u32::MAX;

/// A column's `<type>`: a set of `key`, or a map from `key` to `value`.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnType {
    /// Members of the set, keys of the map.
    pub key: BaseType,
    /// Values of the map; a set has none.
    pub value: Option<BaseType>,
    /// Fewest elements: 0 or 1.
    pub min: u32,
    /// Most elements; [`UNLIMITED`] for no limit.
    pub max: u32,
}

/// A `<base-type>`: an atomic type and what narrows it.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseType {
    /// The atomic type.
    pub ty: AtomType,
    /// Which of its values are allowed.
    pub limits: Limits,
    /// For `uuid`: the table that the row must be in.
    pub ref_table: Option<String>,
    /// What a reference does to the row it points to; meaningless without `ref_table`.
    pub ref_type: RefType,
}

/// The allowed values of a base type.
#[derive(Clone, Debug, PartialEq)]
pub enum Limits {
    /// All.
    None,
    /// Only these.
    Enum(BTreeSet<Atom>),
    /// Integers from `min` to `max`.
    Integer {
        /// Least value, `i64::MIN` if unbounded.
        min: i64,
        /// Greatest value, `i64::MAX` if unbounded.
        max: i64,
    },
    /// Reals from `min` to `max`.
    Real {
        /// Least value, negative infinity if unbounded.
        min: f64,
        /// Greatest value, infinity if unbounded.
        max: f64,
    },
    /// Strings of `min` to `max` characters.
    Length {
        /// Fewest characters.
        min: u32,
        /// Most characters, `u32::MAX` if unbounded.
        max: u32,
    },
}

/// What a reference does to the row it points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefType {
    /// Keeps it alive; the row cannot be deleted.
    Strong,
    /// Vanishes with it.
    Weak,
}

impl ColumnType {
    /// A scalar of type `key`.
    pub fn scalar(key: BaseType) -> ColumnType {
        ColumnType { key, value: None, min: 1, max: 1 }
    }

    /// Reads a `<type>`.
    pub fn from_json(v: &Value) -> Result<ColumnType, OpError> {
        if v.is_string() {
            return Ok(ColumnType::scalar(BaseType::from_json(v)?));
        }
        let object = Members::of(v, "column type")?;
        object.only(&["key", "value", "min", "max"])?;
        let limit = |v: &Value| if v == "unlimited" { Some(UNLIMITED) } else { small(v) };
        let min = object.optional("min", small)?.unwrap_or(1);
        let max = object.optional("max", limit)?.unwrap_or(1);
        if min > 1 || max < 1 {
            return Err(object.error("'min' must be 0 or 1, 'max' at least 1."));
        }
        Ok(ColumnType {
            key: BaseType::from_json(object.required("key", Some)?)?,
            value: object.optional("value", Some)?.map(BaseType::from_json).transpose()?,
            min,
            max,
        })
    }

    /// The `<type>`.
    pub fn to_json(&self) -> Value {
        let key = self.key.to_json();
        if self.is_scalar() && key.is_string() {
            return key;
        }
        let mut v = json!({ "key": key });
        if let Some(value) = &self.value {
            v["value"] = value.to_json();
        }
        if self.min != 1 {
            v["min"] = json!(self.min);
        }
        if self.max == UNLIMITED {
            v["max"] = json!("unlimited");
        } else if self.max != 1 {
            v["max"] = json!(self.max);
        }
        v
    }

    /// A map?
    pub fn is_map(&self) -> bool {
        self.value.is_some()
    }

    /// Exactly one atom?
    pub fn is_scalar(&self) -> bool {
        self.value.is_none() && self.min == 1 && self.max == 1
    }

    /// At most one atom, perhaps none?
    pub fn is_optional(&self) -> bool {
        self.value.is_none() && self.min == 0 && self.max == 1
    }

    /// What the column holds until it is told otherwise (RFC 7047 §5.2.1).
    pub fn default_datum(&self) -> Datum {
        match &self.value {
            None if self.min == 0 => Datum::empty_set(),
            None => Datum::atom(self.key.default_atom()),
            Some(_) if self.min == 0 => Datum::empty_map(),
            Some(value) => Datum::Map([(self.key.default_atom(), value.default_atom())].into()),
        }
    }

    /// Is `datum` what the column holds until it is told otherwise?
    pub fn is_default(&self, datum: &Datum) -> bool {
        match (datum, &self.value) {
            (d, _) if self.min == 0 => d.is_empty(),
            (Datum::Set(set), None) => set.len() == 1 && set.first() == Some(&self.key.default_atom()),
            _ => *datum == self.default_datum(),
        }
    }

    /// May a value have `len` elements?
    pub fn check_len(&self, len: usize) -> Result<(), OpError> {
        let (kind, elements) = match self.value {
            None => ("set", "members"),
            Some(_) => ("map", "pairs"),
        };
        if (self.min as usize..=self.max as usize).contains(&len) {
            return Ok(());
        }
        let details = if self.is_scalar() {
            format!("{kind} must have exactly one member but {len} are present")
        } else {
            let (min, max) = (self.min, self.max);
            format!("{kind} must have {min} to {max} {elements} but {len} are present")
        };
        Err(OpError::new("syntax error", details))
    }

    /// Does `datum`, whose atoms are of this type, keep to the column's constraints?
    pub fn check(&self, datum: &Datum) -> Result<(), OpError> {
        self.check_len(datum.len())?;
        datum.atoms().try_for_each(|a| self.key.check(a))?;
        datum.pairs().try_for_each(|(k, v)| {
            self.key.check(k)?;
            self.value.as_ref().map_or(Ok(()), |base| base.check(v))
        })
    }

    /// Is `datum` of this type at all? (Of values made in process; JSON is checked as it is read.)
    pub fn admits(&self, datum: &Datum) -> bool {
        match (datum, &self.value) {
            (Datum::Set(set), None) => set.iter().all(|a| a.ty() == self.key.ty),
            (Datum::Map(map), Some(value)) => map.iter().all(|(k, v)| k.ty() == self.key.ty && v.ty() == value.ty),
            _ => false,
        }
    }

    /// The difference between two values as `update2` and the log send it: the new value where
    /// the column holds at most one element, else [`Datum::diff`].
    pub fn diff(&self, old: &Datum, new: &Datum) -> Datum {
        if self.max == 1 { new.clone() } else { old.diff(new) }
    }

    /// The new value, from the old one and [`ColumnType::diff`].
    pub fn apply_diff(&self, old: &Datum, diff: &Datum) -> Datum {
        if self.max == 1 { diff.clone() } else { old.apply_diff(diff) }
    }

    /// `datum` written for people: a scalar bare, `[a, b]`, `{k=v}`.
    pub fn to_text(&self, datum: &Datum) -> String {
        let list = |items: Vec<String>| items.join(", ");
        match datum {
            Datum::Set(set) => {
                let text = list(set.iter().map(Atom::to_string).collect());
                if self.max == 1 && set.len() == 1 { text } else { format!("[{text}]") }
            }
            Datum::Map(map) => {
                format!("{{{}}}", list(map.iter().map(|(k, v)| format!("{k}={v}")).collect()))
            }
        }
    }
}

/// The type in words: `integer`, `set of up to 4096 integers`, `map of (string, uuid) pairs`.
impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.ty.name();
        if self.is_scalar() {
            return f.write_str(key);
        }
        f.write_str(if self.is_map() { "map of " } else { "set of " })?;
        match (self.min, self.max) {
            (0, UNLIMITED) => {}
            (_, UNLIMITED) => f.write_str("1 or more ")?,
            (0, max) => write!(f, "up to {max} ")?,
            (_, max) => write!(f, "1 to {max} ")?,
        }
        match &self.value {
            None => write!(f, "{key}s"),
            Some(value) => write!(f, "({key}, {}) pairs", value.ty.name()),
        }
    }
}

impl BaseType {
    /// The type `ty` without constraints.
    pub fn any(ty: AtomType) -> BaseType {
        BaseType { ty, limits: Limits::None, ref_table: None, ref_type: RefType::Strong }
    }

    /// Reads a `<base-type>`.
    pub fn from_json(v: &Value) -> Result<BaseType, OpError> {
        let atomic = |name: &Value| {
            name.as_str()
                .and_then(AtomType::from_name)
                .ok_or_else(|| OpError::syntax(v, format!("{name} is not an atomic type")))
        };
        if v.is_string() {
            return Ok(BaseType::any(atomic(v)?));
        }
        let object = Members::of(v, "base type")?;
        let ty = atomic(object.required("type", Some)?)?;
        let mut base = BaseType::any(ty);
        if let Some(list) = object.optional("enum", Some)? {
            object.only(&["type", "enum"])?;
            let set = ColumnType { key: base.clone(), value: None, min: 1, max: UNLIMITED };
            if let Datum::Set(values) = Datum::from_json(&set, list, &mut NoSymbols)? {
                base.limits = Limits::Enum(values);
            }
            return Ok(base);
        }
        match ty {
            AtomType::Uuid => {
                base.ref_table = object.optional("refTable", Value::as_str)?.map(str::to_owned);
                match base.ref_table {
                    Some(_) => object.only(&["type", "refTable", "refType"])?,
                    None => object.only(&["type"])?,
                }
                let strength = |v: &Value| match v.as_str() {
                    Some("strong") => Some(RefType::Strong),
                    Some("weak") => Some(RefType::Weak),
                    _ => None,
                };
                base.ref_type = object.optional("refType", strength)?.unwrap_or(RefType::Strong);
            }
            _ => base.limits = Limits::from_json(ty, &object)?,
        }
        Ok(base)
    }

    /// The `<base-type>`.
    pub fn to_json(&self) -> Value {
        let name = json!(self.ty.name());
        let mut v = json!({ "type": name });
        match &self.limits {
            Limits::None => {}
            Limits::Enum(values) => v["enum"] = Datum::Set(values.clone()).to_json(),
            Limits::Integer { min, max } => {
                set_unless(&mut v, "minInteger", min, &i64::MIN);
                set_unless(&mut v, "maxInteger", max, &i64::MAX);
            }
            Limits::Real { min, max } => {
                set_unless(&mut v, "minReal", min, &f64::NEG_INFINITY);
                set_unless(&mut v, "maxReal", max, &f64::INFINITY);
            }
            Limits::Length { min, max } => {
                set_unless(&mut v, "minLength", min, &0);
                set_unless(&mut v, "maxLength", max, &u32::MAX);
            }
        }
        if let Some(table) = &self.ref_table {
            v["refTable"] = json!(table);
            if self.ref_type == RefType::Weak {
                v["refType"] = json!("weak");
            }
        }
        if v.as_object().is_some_and(|o| o.len() == 1) { name } else { v }
    }

    /// RFC 7047 §5.2.1's default for the atomic type.
    pub fn default_atom(&self) -> Atom {
        self.ty.default_atom()
    }

    /// Is `atom`, which is of this atomic type, one of the allowed values?
    pub fn check(&self, atom: &Atom) -> Result<(), OpError> {
        match (&self.limits, atom) {
            (Limits::Enum(values), _) if !values.contains(atom) => {
                let allowed: Vec<String> = values.iter().map(Atom::to_string).collect();
                Err(OpError::constraint(format!("{atom} is not one of the allowed values ([{}])", allowed.join(", "))))
            }
            (Limits::Integer { min, max }, Atom::Integer(i)) => {
                in_range(i, min..=max, (*min > i64::MIN, *max < i64::MAX))
            }
            (Limits::Real { min, max }, Atom::Real(r)) => {
                in_range(&r.get(), min..=max, (min.is_finite(), max.is_finite()))
            }
            (Limits::Length { min, max }, Atom::String(s)) => {
                let len = s.chars().count();
                let text = Value::from(s.as_str());
                if len < *min as usize {
                    Err(OpError::constraint(format!("{text} length {len} is less than minimum allowed length {min}")))
                } else if len > *max as usize {
                    Err(OpError::constraint(format!(
                        "{text} length {len} is greater than maximum allowed length {max}"
                    )))
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }
}

impl Limits {
    fn from_json(ty: AtomType, object: &Members<'_>) -> Result<Limits, OpError> {
        let limits = match ty {
            AtomType::Integer => {
                object.only(&["type", "minInteger", "maxInteger"])?;
                Limits::Integer {
                    min: object.optional("minInteger", Value::as_i64)?.unwrap_or(i64::MIN),
                    max: object.optional("maxInteger", Value::as_i64)?.unwrap_or(i64::MAX),
                }
            }
            AtomType::Real => {
                object.only(&["type", "minReal", "maxReal"])?;
                Limits::Real {
                    min: object.optional("minReal", Value::as_f64)?.unwrap_or(f64::NEG_INFINITY),
                    max: object.optional("maxReal", Value::as_f64)?.unwrap_or(f64::INFINITY),
                }
            }
            AtomType::String => {
                object.only(&["type", "minLength", "maxLength"])?;
                Limits::Length {
                    min: object.optional("minLength", small)?.unwrap_or(0),
                    max: object.optional("maxLength", small)?.unwrap_or(u32::MAX),
                }
            }
            AtomType::Boolean | AtomType::Uuid => {
                object.only(&["type"])?;
                Limits::None
            }
        };
        let ordered = match limits {
            Limits::Integer { min, max } => min <= max,
            Limits::Real { min, max } => min <= max,
            Limits::Length { min, max } => min <= max,
            Limits::None | Limits::Enum(_) => true,
        };
        if !ordered {
            return Err(object.error("The minimum exceeds the maximum."));
        }
        let unbounded = matches!(
            limits,
            Limits::Integer { min: i64::MIN, max: i64::MAX }
                | Limits::Real { min: f64::NEG_INFINITY, max: f64::INFINITY }
                | Limits::Length { min: 0, max: u32::MAX }
        );
        Ok(if unbounded { Limits::None } else { limits })
    }
}

/// `bounded`: is there a lower, is there an upper limit (for the wording)?
fn in_range<T: PartialOrd + fmt::Display>(
    x: &T,
    range: std::ops::RangeInclusive<&T>,
    bounded: (bool, bool),
) -> Result<(), OpError> {
    let (min, max) = (range.start(), range.end());
    if range.contains(&x) {
        return Ok(());
    }
    Err(OpError::constraint(match bounded {
        (true, true) => format!("{x} is not in the valid range {min} to {max} (inclusive)"),
        (true, false) => format!("{x} is less than minimum allowed value {min}"),
        _ => format!("{x} is greater than maximum allowed value {max}"),
    }))
}

fn set_unless<T: PartialEq + serde::Serialize>(v: &mut Value, name: &str, x: &T, default: &T) {
    if x != default {
        v[name] = json!(x);
    }
}
