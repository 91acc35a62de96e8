//! The scalar values of RFC 7047 §5.1, and how they are read from and written as JSON.

use crate::error::OpError;
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use uuid::Uuid;

/// The five scalar types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AtomType {
    /// A signed 64-bit integer.
    Integer,
    /// A double-precision number.
    Real,
    /// True or false.
    Boolean,
    /// Unicode text.
    String,
    /// A row's identifier.
    Uuid,
}

impl AtomType {
    /// The type's name in a schema.
    pub fn name(self) -> &'static str {
        match self {
            AtomType::Integer => "integer",
            AtomType::Real => "real",
            AtomType::Boolean => "boolean",
            AtomType::String => "string",
            AtomType::Uuid => "uuid",
        }
    }

    /// The type called `name`.
    pub fn from_name(name: &str) -> Option<AtomType> {
        Some(match name {
            "integer" => AtomType::Integer,
            "real" => AtomType::Real,
            "boolean" => AtomType::Boolean,
            "string" => AtomType::String,
            "uuid" => AtomType::Uuid,
            _ => return None,
        })
    }

    /// RFC 7047 §5.2.1: what a column holds until it is told otherwise.
    pub fn default_atom(self) -> Atom {
        match self {
            AtomType::Integer => Atom::Integer(0),
            AtomType::Real => Atom::Real(Real::new(0.0)),
            AtomType::Boolean => Atom::Boolean(false),
            AtomType::String => Atom::String(String::new()),
            AtomType::Uuid => Atom::Uuid(Uuid::nil()),
        }
    }
}

/// An `f64` with a total order, so that it can be a set's member or a map's key.
///
/// Never negative zero, which JSON would print differently from the zero it equals.
#[derive(Clone, Copy, Debug)]
pub struct Real(f64);

impl Real {
    /// Wraps `value`.
    pub fn new(value: f64) -> Real {
        Real(if value == 0.0 { 0.0 } else { value })
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Real) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Real {}
impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Real) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Real {
    fn cmp(&self, other: &Real) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}
impl Hash for Real {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// One scalar value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// A signed 64-bit integer.
    Integer(i64),
    /// A double-precision number.
    Real(Real),
    /// True or false.
    Boolean(bool),
    /// Unicode text.
    String(String),
    /// A row's identifier.
    Uuid(Uuid),
}

/// Gives the row identifiers behind the `named-uuid`s of a transaction.
pub trait Symbols {
    /// The identifier that `name` stands for; `None` where no names are in scope.
    fn resolve(&mut self, name: &str) -> Option<Uuid>;
}

/// The scope without names: everywhere but in a transaction.
pub struct NoSymbols;

impl Symbols for NoSymbols {
    fn resolve(&mut self, _: &str) -> Option<Uuid> {
        None
    }
}

impl Atom {
    /// Reads an `<atom>` of type `ty` (no constraints applied).
    pub fn from_json(ty: AtomType, v: &Value, symbols: &mut dyn Symbols) -> Result<Atom, OpError> {
        let atom = match ty {
            AtomType::Integer => integer_from_json(v).map(Atom::Integer),
            AtomType::Real => v.as_f64().map(|x| Atom::Real(Real::new(x))),
            AtomType::Boolean => v.as_bool().map(Atom::Boolean),
            AtomType::String => v.as_str().map(|s| Atom::String(s.to_owned())),
            AtomType::Uuid => return uuid_from_json(v, symbols).map(Atom::Uuid),
        };
        atom.ok_or_else(|| OpError::syntax(v, format!("expected {}", ty.name())))
    }

    /// The `<atom>` of RFC 7047 §5.1.
    pub fn to_json(&self) -> Value {
        match self {
            Atom::Integer(i) => json!(i),
            Atom::Real(r) => json!(r.get()),
            Atom::Boolean(b) => json!(b),
            Atom::String(s) => json!(s),
            Atom::Uuid(u) => Value::Array(vec!["uuid".into(), u.to_string().into()]),
        }
    }

    /// The atom's type.
    pub fn ty(&self) -> AtomType {
        match self {
            Atom::Integer(_) => AtomType::Integer,
            Atom::Real(_) => AtomType::Real,
            Atom::Boolean(_) => AtomType::Boolean,
            Atom::String(_) => AtomType::String,
            Atom::Uuid(_) => AtomType::Uuid,
        }
    }
}

/// The way atoms are written for people: a string that reads as a word stands bare, any other
/// is quoted as in JSON.
impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Integer(i) => write!(f, "{i}"),
            Atom::Real(r) => write!(f, "{}", r.get()),
            Atom::Boolean(b) => write!(f, "{b}"),
            Atom::String(s) if is_bare_word(s) => f.write_str(s),
            Atom::String(s) => write!(f, "{}", Value::from(s.as_str())),
            Atom::Uuid(u) => write!(f, "{u}"),
        }
    }
}

/// Can `s` be written without quotes and still be read as a string?
fn is_bare_word(s: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && s.chars().all(word)
        && s != "true"
        && s != "false"
        && parse_uuid(s).is_none()
}

/// Is `s` an `<id>`: a letter or underscore, then letters, digits and underscores?
pub fn is_id(s: &str) -> bool {
    s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Reads the 36-character form of RFC 4122, and only that.
pub fn parse_uuid(s: &str) -> Option<Uuid> {
    if s.len() == 36 { Uuid::try_parse(s).ok() } else { None }
}

/// An integer, or a real without a fraction: some clients' JSON libraries know only doubles.
fn integer_from_json(v: &Value) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0; // 2^63
    v.as_i64().or_else(|| {
        let x = v.as_f64()?;
        (v.is_f64() && x.fract() == 0.0 && (-LIMIT..LIMIT).contains(&x)).then_some(x as i64)
    })
}

fn uuid_from_json(v: &Value, symbols: &mut dyn Symbols) -> Result<Uuid, OpError> {
    let (kind, text) = match v.as_array().map(Vec::as_slice) {
        Some([Value::String(kind), Value::String(text)]) => (kind.as_str(), text),
        _ => return Err(OpError::syntax(v, "expected [\"uuid\", <string>]")),
    };
    match kind {
        "uuid" => parse_uuid(text).ok_or_else(|| OpError::syntax(v, format!("\"{text}\" is not a valid UUID"))),
        "named-uuid" if !is_id(text) => Err(OpError::syntax(v, "named-uuid string is not a valid <id>")),
        "named-uuid" => {
            symbols.resolve(text).ok_or_else(|| OpError::syntax(v, "a named-uuid has no meaning outside a transaction"))
        }
        _ => Err(OpError::syntax(v, "expected [\"uuid\", <string>]")),
    }
}
