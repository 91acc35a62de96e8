//! Typed access to the members of a JSON object that comes from outside.
//!
//! Every failure names the object it is about: `Parsing WHAT failed: …`, with the object itself
//! as the error's `syntax`.

use crate::error::OpError;
use crate::value::is_id;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// A JSON object and what it is called in errors.
pub(crate) struct Members<'a> {
    what: Cow<'static, str>,
    json: &'a Value,
    map: &'a Map<String, Value>,
}

impl<'a> Members<'a> {
    /// `json`, which must be an object.
    pub fn of(json: &'a Value, what: impl Into<Cow<'static, str>>) -> Result<Members<'a>, OpError> {
        let what = what.into();
        match json.as_object() {
            Some(map) => Ok(Members { what, json, map }),
            None => Err(OpError::new("syntax error", format!("Parsing {what} failed: Object expected."))),
        }
    }

    /// The object itself.
    pub fn json(&self) -> &'a Value {
        self.json
    }

    /// The error `details`, at this object.
    pub fn error(&self, details: &str) -> OpError {
        OpError::syntax(self.json, format!("Parsing {} failed: {details}", self.what))
    }

    /// Refuses members that are not in `allowed`.
    pub fn only(&self, allowed: &[&str]) -> Result<(), OpError> {
        match self.map.keys().find(|k| !allowed.contains(&k.as_str())) {
            Some(k) => Err(self.error(&format!("Member '{k}' is present but not allowed here."))),
            None => Ok(()),
        }
    }

    /// The member `name` as `read` understands it, if it is there.
    pub fn optional<T>(&self, name: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, OpError> {
        let mismatch = || self.error(&format!("Type mismatch for member '{name}'."));
        self.map.get(name).map(|v| read(v).ok_or_else(mismatch)).transpose()
    }

    /// The member `name` as `read` understands it.
    pub fn required<T>(&self, name: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<T, OpError> {
        let missing = || self.error(&format!("Required '{name}' member is missing."));
        self.optional(name, read)?.ok_or_else(missing)
    }
}

/// Reads an `<id>`.
pub(crate) fn id(v: &Value) -> Option<&str> {
    v.as_str().filter(|s| is_id(s))
}

/// Reads a small non-negative integer.
pub(crate) fn small(v: &Value) -> Option<u32> {
    v.as_u64().and_then(|n| n.try_into().ok())
}
