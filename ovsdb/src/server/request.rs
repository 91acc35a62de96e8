//! The methods of RFC 7047 §4.1 and ovsdb-server(7) §4.1, as a closed list.
//!
//! Lenient where deployed clients need it: extra parameters of `get_schema` and `list_dbs` are ignored
//! (python's OVS library and libovsdb send some), `monitor_cond_since` may omit the transaction id.

use crate::db::MonitorVersion;
use crate::error::OpError;
use crate::members::id;
use crate::value::parse_uuid;
use serde_json::{Value, json};

/// One of our databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Db {
    /// The one that clients come for.
    Main,
    /// `_Server`, about the server itself.
    Info,
}

/// A request whose parameters have the right shape.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    ListDbs,
    GetSchema {
        db: Db,
    },
    Transact {
        db: Db,
        operations: Vec<Value>,
    },
    Monitor {
        version: MonitorVersion,
        db: Db,
        id: Value,
        requests: Value,
    },
    MonitorCondChange {
        id: Value,
        new_id: Value,
        requests: Value,
    },
    MonitorCancel {
        id: Value,
    },
    Lock {
        name: String,
    },
    Steal {
        name: String,
    },
    Unlock {
        name: String,
    },
    Echo {
        params: Vec<Value>,
    },
    /// The client can handle databases that come and go; ours do not.
    SetDbChangeAware,
    GetServerId,
}

impl Request {
    /// Sorts out a request, or says why not, in the form of a reply's `error`. `main` is the name of the main
    /// database.
    pub(super) fn parse(method: &str, mut params: Vec<Value>, main: &str) -> Result<Request, Value> {
        match method {
            "list_dbs" => Ok(Request::ListDbs),
            "get_schema" => Ok(Request::GetSchema { db: database(method, &params, main)? }),
            "transact" => {
                let db = database(method, &params, main)?;
                Ok(Request::Transact { db, operations: params.split_off(1) })
            }
            "monitor" => monitor(MonitorVersion::V1, method, params, main),
            "monitor_cond" => monitor(MonitorVersion::V2, method, params, main),
            "monitor_cond_since" => monitor(MonitorVersion::V3, method, params, main),
            "monitor_cond_change" => match <[Value; 3]>::try_from(params) {
                Ok([id, new_id, requests]) => Ok(Request::MonitorCondChange { id, new_id, requests }),
                Err(params) => Err(syntax(params, "invalid parameters")),
            },
            "monitor_cancel" => match <[Value; 1]>::try_from(params) {
                Ok([id]) => Ok(Request::MonitorCancel { id }),
                Err(_) => Err(json!("invalid parameters")),
            },
            "lock" => Ok(Request::Lock { name: lock_name(method, params)? }),
            "steal" => Ok(Request::Steal { name: lock_name(method, params)? }),
            "unlock" => Ok(Request::Unlock { name: lock_name(method, params)? }),
            "echo" => Ok(Request::Echo { params }),
            "set_db_change_aware" => match params[..] {
                [Value::Bool(_)] => Ok(Request::SetDbChangeAware),
                _ => Err(syntax(params, "set_db_change_aware: true or false parameter expected")),
            },
            "get_server_id" => Ok(Request::GetServerId),
            "convert" => {
                let details = "the schema of this server's database is that of its version and is not converted online";
                Err(OpError::new("not supported", details).to_json())
            }
            _ => Err(json!("unknown method")),
        }
    }
}

fn database(method: &str, params: &[Value], main: &str) -> Result<Db, Value> {
    match params.first().and_then(Value::as_str) {
        Some(name) if name == main => Ok(Db::Main),
        Some("_Server") => Ok(Db::Info),
        Some(name) => {
            let details = format!("{method} request specifies unknown database {name}");
            Err(OpError::new("unknown database", details).at(&Value::Array(params.to_vec())).to_json())
        }
        None => Err(syntax(params.to_vec(), &format!("{method} request params must begin with <db-name>"))),
    }
}

fn monitor(version: MonitorVersion, method: &str, params: Vec<Value>, main: &str) -> Result<Request, Value> {
    let db = database(method, &params, main)?;
    let most = if version == MonitorVersion::V3 { 4 } else { 3 };
    if !(3..=most).contains(&params.len()) {
        return Err(syntax(params, "invalid parameters"));
    }
    let mut rest = params.into_iter().skip(1);
    let (id, requests) = (rest.next().unwrap_or_default(), rest.next().unwrap_or_default());
    match rest.next() {
        Some(last) if !last.is_string() => Err(OpError::syntax(&last, "last-txn-id must be string").to_json()),
        Some(last) if last.as_str().and_then(parse_uuid).is_none() => {
            Err(OpError::syntax(&last, "last-txn-id must be UUID format.").to_json())
        }
        _ => Ok(Request::Monitor { version, db, id, requests }),
    }
}

fn lock_name(method: &str, params: Vec<Value>) -> Result<String, Value> {
    match &params[..] {
        [name] if id(name).is_some() => Ok(name.as_str().unwrap_or_default().to_owned()),
        _ => Err(syntax(params, &format!("{method} request params must be <id>"))),
    }
}

fn syntax(params: Vec<Value>, details: &str) -> Value {
    OpError::syntax(&Value::Array(params), details).to_json()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, params: Value) -> Result<Request, Value> {
        Request::parse(method, params.as_array().cloned().unwrap_or_default(), "D")
    }

    #[test]
    fn clients_may_send_more_than_the_rfc_says() {
        assert_eq!(parse("list_dbs", json!([null])), Ok(Request::ListDbs));
        assert_eq!(parse("get_schema", json!(["D", "u"])), Ok(Request::GetSchema { db: Db::Main }));
        let expected =
            Request::Monitor { version: MonitorVersion::V3, db: Db::Info, id: json!(["m", 1]), requests: json!({}) };
        assert_eq!(parse("monitor_cond_since", json!(["_Server", ["m", 1], {}])), Ok(expected));
        let nil = "00000000-0000-0000-0000-000000000000";
        assert!(parse("monitor_cond_since", json!(["D", ["m", 1], {}, nil])).is_ok());
    }

    /// As ovsdb-server 3.1 answers.
    #[test]
    fn wrong_shapes_are_named() {
        for (method, params, details) in [
            ("get_schema", json!([5]), "get_schema request params must begin with <db-name>"),
            ("transact", json!([]), "transact request params must begin with <db-name>"),
            ("monitor", json!(["D"]), "invalid parameters"),
            ("monitor", json!(["D", 1, {}, "x"]), "invalid parameters"),
            ("monitor_cond", json!([1, 2, 3]), "monitor_cond request params must begin with <db-name>"),
            ("monitor_cond_change", json!([1, 2]), "invalid parameters"),
            ("lock", json!([]), "lock request params must be <id>"),
            ("lock", json!(["a", "b"]), "lock request params must be <id>"),
            ("steal", json!(["a b"]), "steal request params must be <id>"),
            ("unlock", json!([5]), "unlock request params must be <id>"),
            ("set_db_change_aware", json!([1]), "set_db_change_aware: true or false parameter expected"),
        ] {
            let expected = json!({"error": "syntax error", "details": details, "syntax": params.to_string()});
            assert_eq!(parse(method, params), Err(expected), "{method}");
        }
        let expected =
            json!({"error": "syntax error", "details": "last-txn-id must be UUID format.", "syntax": "\"z\""});
        assert_eq!(parse("monitor_cond_since", json!(["D", 1, {}, "z"])), Err(expected));
        let expected = json!({"error": "syntax error", "details": "last-txn-id must be string", "syntax": "null"});
        assert_eq!(parse("monitor_cond_since", json!(["D", 1, {}, null])), Err(expected));
        let unknown = json!({"error": "unknown database", "syntax": "[\"E\",\"x\",{}]",
            "details": "monitor request specifies unknown database E"});
        assert_eq!(parse("monitor", json!(["E", "x", {}])), Err(unknown));
        assert_eq!(parse("monitor_cancel", json!([])), Err(json!("invalid parameters")));
        assert_eq!(parse("cancel", json!([1])), Err(json!("unknown method")), "it is a notification");
        assert_eq!(parse("convert", json!(["D", {}])).expect_err("refused")["error"], "not supported");
    }
}
