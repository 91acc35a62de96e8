//! A server that is killed under write load, again and again: what it acknowledged is in the file.
//!
//! The server runs in a process of its own, which is this test run again. `OVSDB_TEST_KILLS` says how often it is
//! killed.

mod common;

use ovsdb::client::Client;
use ovsdb::server::Server;
use ovsdb::vswitch_schema::vswitch_schema;
use serde_json::{Value, json};
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const DIR: &str = "OVSDB_TEST_KILL_DIR";
const WRITERS: usize = 3;
/// Bytes of a transaction at most: some dozens make the server compact its file.
const MOST_BYTES: u64 = 600_000;

/// What a writer has asked for, and what of that was acknowledged.
#[derive(Default)]
struct Progress {
    asked: AtomicI64,
    acknowledged: AtomicI64,
}

fn random(below: u64) -> u64 {
    RandomState::new().hash_one(0) % below
}

fn start(dir: &Path) -> Child {
    let myself = std::env::current_exe().expect("known");
    let mut command = Command::new(myself);
    command.args(["--exact", "nothing_acknowledged_is_lost_to_kill_9", "--nocapture"]).env(DIR, dir);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it runs")
}

/// The operations by which a writer sets its number.
fn set(writer: usize, n: i64) -> Vec<Value> {
    let uuid = format!("00000000-0000-0000-0000-00000000000{writer}");
    let text = "x".repeat(usize::try_from(random(MOST_BYTES)).expect("small"));
    let row = json!({"dscp": writer, "external_ids": ["map", [["n", n.to_string()], ["text", text]]]});
    if n == 1 {
        return vec![json!({"op": "insert", "table": "Queue", "uuid": uuid, "row": row})];
    }
    vec![json!({"op": "update", "table": "Queue", "where": [["_uuid", "==", ["uuid", uuid]]], "row": row})]
}

/// Writes until the server is gone.
async fn write(socket: &Path, writer: usize, progress: &Progress) {
    let mut client = loop {
        match Client::connect(socket).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    loop {
        let n = progress.acknowledged.load(Ordering::Relaxed) + 1;
        progress.asked.store(n, Ordering::Relaxed);
        let Ok(results) = client.transact("Open_vSwitch", set(writer, n)).await else { return };
        assert!(results[0].get("error").is_none() && results.len() == 1, "{results:?}");
        progress.acknowledged.store(n, Ordering::Relaxed);
    }
}

/// The writers' numbers in the file. Fails if it cannot be read.
fn found(dir: &Path) -> [i64; WRITERS] {
    let server = Server::open(&dir.join("conf.db"), vswitch_schema(), 0).expect("the file is readable");
    let mut found = [0; WRITERS];
    for (_, row) in server.database().rows("Queue") {
        let writer = usize::try_from(row.integer("dscp").expect("set")).expect("small");
        found[writer] = row.map_str("external_ids", "n").expect("set").parse().expect("a number");
    }
    found
}

#[test]
fn nothing_acknowledged_is_lost_to_kill_9() {
    if let Some(dir) = std::env::var_os(DIR) {
        // Its input ends with the test that started it.
        std::thread::spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            std::process::exit(1);
        });
        return common::serve(Path::new(&dir));
    }
    let kills: usize = std::env::var("OVSDB_TEST_KILLS").map_or(60, |n| n.parse().expect("a number"));
    let dir = tempfile::tempdir().expect("tempdir");
    let progress: [Progress; WRITERS] = Default::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let (mut compactions, mut length, mut done) = (0, 0, 0);
    for kill in 0..kills {
        let mut child = start(dir.path());
        let socket = dir.path().join("db.sock");
        let before: i64 = progress.iter().map(|p| p.acknowledged.load(Ordering::Relaxed)).sum();
        let stop = async {
            while progress.iter().map(|p| p.acknowledged.load(Ordering::Relaxed)).sum::<i64>() == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_micros(random(60_000))).await;
            child.kill().expect("running");
        };
        runtime.block_on(async {
            let [a, b, c] = &progress;
            tokio::join!(stop, write(&socket, 0, a), write(&socket, 1, b), write(&socket, 2, c));
        });
        child.wait().expect("killed");
        let now = std::fs::metadata(dir.path().join("conf.db")).expect("there").len();
        compactions += usize::from(now < length);
        length = now;
        for (writer, (found, progress)) in found(dir.path()).into_iter().zip(&progress).enumerate() {
            let (asked, acknowledged) = (&progress.asked, &progress.acknowledged);
            let (asked, known) = (asked.load(Ordering::Relaxed), acknowledged.load(Ordering::Relaxed));
            assert!((known..=asked).contains(&found), "kill {kill}, writer {writer}: {known} ≤ {found} ≤ {asked}");
            done += found - known;
            acknowledged.store(found, Ordering::Relaxed);
        }
    }
    let written: i64 = progress.iter().map(|p| p.acknowledged.load(Ordering::Relaxed)).sum();
    eprintln!(
        "{kills} kills, {written} transactions, {done} of them stored but not yet acknowledged, {compactions} compactions seen"
    );
    assert!(compactions > 0 && written > 10, "not much of a load");
}
