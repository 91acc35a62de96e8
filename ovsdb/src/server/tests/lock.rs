//! Locks as clients see them.

use super::*;

fn assert_lock(name: &str) -> Value {
    json!(["Open_vSwitch", {"op": "assert", "lock": name}])
}

fn told(what: &str) -> Value {
    json!({"id": null, "method": what, "params": ["L"]})
}

/// The messages are those of ovsdb-server 3.1.
#[test]
fn a_lock_is_handed_on_and_asserted() {
    let mut lab = Lab::new();
    let (mut a, mut b) = (lab.connect(1 << 20), lab.connect(1 << 20));
    assert_eq!(lab.call(&mut a, "lock", json!(["L"]))["result"], json!({"locked": true}));
    assert_eq!(lab.call(&mut b, "lock", json!(["L"]))["result"], json!({"locked": false}));
    assert_eq!(lab.call(&mut a, "transact", assert_lock("L"))["result"], json!([{}]));
    let not_owner = json!([{"details": "Asserted lock L not held.", "error": "not owner"}]);
    assert_eq!(lab.call(&mut b, "transact", assert_lock("L"))["result"], not_owner);
    assert_eq!(lab.call(&mut a, "unlock", json!(["L"]))["result"], json!({}));
    assert_eq!(b.take(), [told("locked")]);
    assert_eq!(lab.call(&mut a, "steal", json!(["L"]))["result"], json!({"locked": true}));
    assert_eq!(b.take(), [told("stolen")]);
    assert_eq!(lab.call(&mut b, "transact", assert_lock("L"))["result"], not_owner);
    assert_eq!(lab.call(&mut a, "steal", json!(["L"]))["error"]["error"], "syntax error");
    assert_eq!(lab.call(&mut b, "unlock", json!(["M"]))["error"]["error"], "syntax error");
    lab.handle(SessionEvent::Closed { session: a.session });
    assert_eq!(b.take(), [told("locked")]);
    assert_eq!(lab.call(&mut b, "transact", assert_lock("L"))["result"], json!([{}]));
}

/// Those who would get its locks are dropped for not reading, one by one.
#[test]
fn a_lock_goes_to_the_first_who_can_be_told() {
    let mut lab = Lab::new();
    let owner = lab.connect(1 << 20);
    lab.say(&owner, json!(1), "lock", json!(["L"]));
    let deaf: Vec<Peer> = (0..5).map(|_| lab.connect(40)).collect();
    for peer in &deaf {
        lab.say(peer, json!(1), "lock", json!(["L"]));
    }
    let mut last = lab.connect(1 << 20);
    lab.call(&mut last, "lock", json!(["L"]));
    lab.handle(SessionEvent::Closed { session: owner.session });
    assert_eq!(last.take(), [told("locked")]);
    assert_eq!(lab.server.sessions(), 1);
}

/// A transaction asserts its lock each time it is run.
#[test]
fn a_lock_that_is_lost_while_waiting_is_missed_afterwards() {
    let mut lab = Lab::new();
    let (mut a, mut b) = (lab.connect(1 << 20), lab.connect(1 << 20));
    lab.call(&mut a, "lock", json!(["L"]));
    let wait = json!({"op": "wait", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"], "until": "==",
                      "rows": [{"next_cfg": 5}]});
    let set = set_next_cfg(6)[1].clone();
    lab.say(&a, json!(1), "transact", json!(["Open_vSwitch", assert_lock("L")[1], wait, set]));
    lab.call(&mut b, "steal", json!(["L"]));
    assert_eq!(a.take(), [told("stolen")]);
    assert_eq!(lab.say(&b, json!(1), "transact", set_next_cfg(5)).len(), 1);
    let error = json!({"details": "Asserted lock L not held.", "error": "not owner"});
    assert_eq!(a.take()[0]["result"], json!([error, null, null]));
}
