//! Whole transactions against a whole database.

use super::*;
use crate::value::parse_uuid;
use crate::vswitch_schema::vswitch_schema;

/// Replaces, in order of appearance, the identifiers that the server chose by `<0>`, `<1>`…;
/// those that the requests chose begin with zeros and stay.
fn anonymous(reply: &Value) -> String {
    let mut text = reply.to_string();
    let mut count = 0;
    let mut at = 0;
    while at + 36 <= text.len() {
        let found = text.get(at..at + 36).filter(|s| !s.starts_with("00000000-")).and_then(parse_uuid);
        if let Some(uuid) = found {
            text = text.replace(&uuid.to_string(), &format!("<{count}>"));
            count += 1;
        }
        at += 1;
    }
    text
}

/// Runs operations and applies what comes out.
fn transact(db: &mut Database, ops: &Value) -> (Value, Option<Commit>) {
    let executed = db.execute(ops.as_array().unwrap());
    (executed.reply, executed.prepared.map(|p| db.apply(p)))
}

/// `golden.txt` is a dialogue with ovsdb-server 3.1: what it answered, we answer.
#[test]
fn replies_of_the_real_server() {
    let mut db = Database::new(vswitch_schema());
    let lines: Vec<&str> = include_str!("golden.txt").lines().filter(|l| !l.starts_with('#')).collect();
    assert!(lines.len() > 200);
    let mut wrong = Vec::new();
    for pair in lines.chunks(2) {
        let [request, expected] = pair else { panic!("an unpaired line") };
        let ops = serde_json::from_str(request.strip_prefix("> ").unwrap()).unwrap();
        let (reply, _) = transact(&mut db, &ops);
        if anonymous(&reply) != *expected {
            wrong.push(format!("{request}\n  expected {expected}\n  got      {}", anonymous(&reply)));
        }
    }
    assert!(wrong.is_empty(), "{} replies differ:\n{}", wrong.len(), wrong.join("\n"));
}
