//! The methods of RFC 7047 §4.1 and ovsdb-server(7) §4.1, as a closed list.
//!
//! Lenient where deployed clients need it: extra parameters of `get_schema` and `list_dbs` are ignored
//! (python's OVS library and libovsdb send some), `monitor_cond_since` may omit the transaction id.

use crate::db::MonitorVersion;
use crate::error::OpError;
use serde_json::{Value, json};

/// A request whose parameters have the right shape.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    ListDbs,
    GetSchema {
        db: String,
    },
    Transact {
        db: String,
        operations: Vec<Value>,
    },
    Monitor {
        version: MonitorVersion,
        db: String,
        id: Value,
        requests: Value,
    },
    MonitorCancel {
        id: Value,
    },
    Echo {
        params: Vec<Value>,
    },
    /// The client can handle databases that come and go; ours do not.
    SetDbChangeAware,
    GetServerId,
}

/// Methods that Open vSwitch has and a later version of this switch may get.
const NOT_YET: [&str; 5] = ["lock", "steal", "unlock", "monitor_cond_change", "convert"];

impl Request {
    /// Sorts out a request, or says why not, in the form of a reply's `error`.
    pub(super) fn parse(method: &str, mut params: Vec<Value>) -> Result<Request, Value> {
        match method {
            "list_dbs" => Ok(Request::ListDbs),
            "get_schema" => Ok(Request::GetSchema { db: db_name(method, &params)? }),
            "transact" => {
                let db = db_name(method, &params)?;
                Ok(Request::Transact { db, operations: params.split_off(1) })
            }
            "monitor" => monitor(MonitorVersion::V1, method, params),
            "monitor_cond" => monitor(MonitorVersion::V2, method, params),
            "monitor_cond_since" => monitor(MonitorVersion::V3, method, params),
            "monitor_cancel" => match <[Value; 1]>::try_from(params) {
                Ok([id]) => Ok(Request::MonitorCancel { id }),
                Err(params) => Err(syntax(params, "monitor_cancel request params must be <json-value>")),
            },
            "echo" => Ok(Request::Echo { params }),
            "set_db_change_aware" => Ok(Request::SetDbChangeAware),
            "get_server_id" => Ok(Request::GetServerId),
            _ if NOT_YET.contains(&method) => {
                Err(OpError::new("not supported", format!("this server does not have {method} yet")).to_json())
            }
            _ => Err(json!("unknown method")),
        }
    }
}

fn db_name(method: &str, params: &[Value]) -> Result<String, Value> {
    let name = params.first().and_then(Value::as_str).map(str::to_owned);
    name.ok_or_else(|| syntax(params.to_vec(), &format!("{method} request params must begin with <db-name>")))
}

fn monitor(version: MonitorVersion, method: &str, params: Vec<Value>) -> Result<Request, Value> {
    let db = db_name(method, &params)?;
    let most = if version == MonitorVersion::V3 { 4 } else { 3 };
    if !(3..=most).contains(&params.len()) {
        let details = format!("{method} request params must be <db-name>, <json-value>, <monitor-requests>");
        return Err(syntax(params, &details));
    }
    let mut rest = params.into_iter().skip(1);
    let (id, requests) = (rest.next().unwrap_or_default(), rest.next().unwrap_or_default());
    Ok(Request::Monitor { version, db, id, requests })
}

fn syntax(params: Vec<Value>, details: &str) -> Value {
    OpError::syntax(&Value::Array(params), details).to_json()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, params: Value) -> Result<Request, Value> {
        Request::parse(method, params.as_array().cloned().unwrap_or_default())
    }

    #[test]
    fn clients_may_send_more_than_the_rfc_says() {
        assert_eq!(parse("list_dbs", json!([null])), Ok(Request::ListDbs));
        assert_eq!(parse("get_schema", json!(["D", "u"])), Ok(Request::GetSchema { db: "D".into() }));
        let expected =
            Request::Monitor { version: MonitorVersion::V3, db: "D".into(), id: json!(["m", 1]), requests: json!({}) };
        assert_eq!(parse("monitor_cond_since", json!(["D", ["m", 1], {}])), Ok(expected));
        assert!(parse("monitor_cond_since", json!(["D", ["m", 1], {}, "0"])).is_ok());
    }

    #[test]
    fn wrong_shapes_are_named() {
        let expected = json!({"error": "syntax error", "syntax": "[5]",
            "details": "get_schema request params must begin with <db-name>"});
        assert_eq!(parse("get_schema", json!([5])), Err(expected));
        for (method, params) in [
            ("transact", json!([])),
            ("monitor", json!(["D"])),
            ("monitor", json!(["D", 1, {}, "x"])),
            ("monitor_cond", json!([1, 2, 3])),
            ("monitor_cancel", json!([])),
        ] {
            let error = parse(method, params).expect_err("wrong");
            assert_eq!(error["error"], "syntax error", "{method}: {error}");
        }
        assert_eq!(parse("frob", json!([])), Err(json!("unknown method")));
        assert_eq!(parse("lock", json!(["a"])).expect_err("not yet")["error"], "not supported");
    }
}
