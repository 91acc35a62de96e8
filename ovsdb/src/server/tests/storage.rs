//! A disk that fails under a running server: what is refused is refused whole, and everything goes on.

use super::*;
use crate::db::faults;

/// Sets `next_cfg` to 1, 2, … 6. Returns the last value that was acknowledged.
fn work(lab: &mut Lab, author: &mut Peer, watcher: &mut Peer) -> i64 {
    let mut acknowledged = 0;
    for n in 1..=6 {
        let commits = lab.say(author, json!(n), "transact", set_next_cfg(n));
        let reply = author.take().pop().expect("a reply");
        let results = reply["result"].as_array().expect("results").clone();
        assert_eq!(results[0], json!({"count": 1}), "all operations went well");
        match results.get(1) {
            None => acknowledged = n,
            Some(error) => {
                assert_eq!(error["error"], "I/O error");
                let details = error["details"].as_str().expect("text");
                assert!(details.ends_with("; the transaction was not applied"), "{details}");
            }
        }
        assert_eq!((commits.len() == 1, watcher.take().len() == 1), (acknowledged == n, acknowledged == n));
        assert_eq!(value(&lab.server), acknowledged);
    }
    acknowledged
}

fn value(server: &Server) -> i64 {
    server.database().rows("Open_vSwitch").next().and_then(|(_, row)| row.integer("next_cfg")).expect("a row")
}

fn lab() -> (Lab, Peer, Peer) {
    let mut lab = Lab::new();
    let (author, mut watcher) = (lab.connect(1 << 20), lab.connect(1 << 20));
    lab.call(&mut watcher, "monitor", json!(["Open_vSwitch", 1, {"Open_vSwitch": {"columns": ["next_cfg"]}}]));
    (lab, author, watcher)
}

#[test]
fn a_transaction_that_cannot_be_stored_is_refused_whole() {
    let (mut one, mut author, mut watcher) = lab();
    let calls = faults::count(|| assert_eq!(work(&mut one, &mut author, &mut watcher), 6));
    assert!(calls >= 12, "{calls}");
    for first in 0..calls {
        for length in [1, 2, 3, 5, usize::MAX] {
            let (mut lab, mut author, mut watcher) = lab();
            let broken = faults::fail(first, first.saturating_add(length));
            let acknowledged = work(&mut lab, &mut author, &mut watcher);
            drop(broken);
            assert!(length > 1 || acknowledged >= 5, "one failure costs one transaction");
            let Lab { mut server, _dir: dir, .. } = lab;
            // Once the disk is well again the next transaction makes good what could not be taken back.
            let update = json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"system_type": "x"}});
            let prepared = server.database().execute(&[update]).prepared.expect("a change");
            server.commit(prepared, Durability::Synced, 0).expect("room");
            drop(server);
            let server = Server::open(&dir.path().join("conf.db"), vswitch_schema(), 0).expect("good");
            assert_eq!(value(&server), acknowledged, "calls {first} to +{length}");
        }
    }
}
