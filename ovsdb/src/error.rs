//! The error object of RFC 7047 §3.1, as it stands in replies.
//!
//! Every failure that outside input can cause ends as one of these: a word from the RFC's (or
//! ovsdb-server's) list for programs, `details` for people, and for malformed requests the piece
//! of JSON that was at fault.

use serde_json::{Map, Value};
use std::fmt;

/// An `<error>` object: `{"error": WORD, "details": TEXT, "syntax": JSON TEXT}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpError {
    /// The RFC's word for the kind of failure, such as `constraint violation`.
    pub error: String,
    /// What happened, with the values involved; may be empty.
    pub details: String,
    /// The offending part of the request as compact JSON, when the request itself is at fault.
    pub syntax: Option<String>,
}

impl OpError {
    /// An error of kind `word` that explains itself by `details`.
    pub fn new(word: &str, details: impl Into<String>) -> OpError {
        OpError { error: word.to_owned(), details: details.into(), syntax: None }
    }

    /// `syntax error`: `json` is not what the protocol or the schema asks for at this place.
    pub fn syntax(json: &Value, details: impl Into<String>) -> OpError {
        OpError::new("syntax error", details).at(json)
    }

    /// `constraint violation`: well-formed, but the schema forbids the value.
    pub fn constraint(details: impl Into<String>) -> OpError {
        OpError::new("constraint violation", details)
    }

    /// Names `json` as the place of the error.
    #[must_use]
    pub fn at(mut self, json: &Value) -> OpError {
        self.syntax = Some(json.to_string());
        self
    }

    /// The object as sent to clients.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("error".to_owned(), self.error.clone().into());
        if !self.details.is_empty() {
            object.insert("details".to_owned(), self.details.clone().into());
        }
        if let Some(syntax) = &self.syntax {
            object.insert("syntax".to_owned(), syntax.clone().into());
        }
        Value::Object(object)
    }

    /// Reads an error object from a reply; `None` if `json` is not one.
    pub fn from_json(json: &Value) -> Option<OpError> {
        let text = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(OpError { error: text("error")?, details: text("details").unwrap_or_default(), syntax: text("syntax") })
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)?;
        if !self.details.is_empty() {
            write!(f, ": {}", self.details)?;
        }
        if let Some(syntax) = &self.syntax {
            write!(f, " (at {syntax})")?;
        }
        Ok(())
    }
}

impl std::error::Error for OpError {}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_round_trip() {
        let bare = OpError::new("aborted", "");
        assert_eq!(bare.to_json(), json!({"error": "aborted"}));
        let full = OpError::syntax(&json!({"b": 1, "a": ["set", []]}), "no such thing");
        assert_eq!(
            full.to_json(),
            json!({"error": "syntax error", "details": "no such thing",
                   "syntax": "{\"a\":[\"set\",[]],\"b\":1}"})
        );
        for e in [bare, full] {
            assert_eq!(OpError::from_json(&e.to_json()), Some(e));
        }
        assert_eq!(OpError::from_json(&json!({"details": "x"})), None);
    }
}
