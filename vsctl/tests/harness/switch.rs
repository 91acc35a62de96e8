//! A switch that the test plays: it moves no frames, but writes what one writes.

use std::path::PathBuf;
use std::thread::JoinHandle;

use ovsdb::client::{Client, ClientError};
use serde_json::{Value, json};
use tokio::sync::oneshot;

const DB: &str = "Open_vSwitch";

/// A played switch; ends with this value.
pub struct Switch(Option<(oneshot::Sender<()>, JoinHandle<()>)>);

impl Switch {
    /// Starts one on the server behind a socket.
    pub fn play(socket: PathBuf) -> Switch {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    ended = run(&socket) => ended.expect("the server serves"),
                    _ = stopped => {}
                }
            });
        });
        Switch(Some((stop, thread)))
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            assert!(thread.join().is_ok() || std::thread::panicking(), "the played switch panicked");
        }
    }
}

async fn run(socket: &PathBuf) -> Result<(), ClientError> {
    let mut client = Client::connect(socket).await?;
    let tables = json!({"Open_vSwitch": {"columns": ["next_cfg"]}, "Interface": {"columns": ["name"]}});
    client.call("monitor", vec![json!(DB), json!("switch"), tables]).await?;
    let mut next_ofport = 1;
    loop {
        act(&mut client, &mut next_ofport).await?;
        client.notification().await?;
    }
}

/// Gives new interfaces a number, or an error, and says that all is done.
async fn act(client: &mut Client, next_ofport: &mut i64) -> Result<(), ClientError> {
    let select = |table: &str, columns: Value| json!({"op": "select", "table": table, "where": [], "columns": columns});
    let results = client
        .transact(
            DB,
            vec![
                select("Interface", json!(["_uuid", "name", "type", "ofport", "options"])),
                select("Bridge", json!(["name"])),
                select("Open_vSwitch", json!(["_uuid", "next_cfg"])),
            ],
        )
        .await?;
    let rows = |at: usize| results[at]["rows"].as_array().cloned().unwrap_or_default();
    let bridges: Vec<Value> = rows(1).iter().map(|row| row["name"].clone()).collect();
    let is_new = |row: &Value| row["ofport"] == json!(["set", []]);
    let mut interfaces: Vec<Value> = rows(0).into_iter().filter(is_new).collect();
    interfaces.sort_by_key(|row| row["name"].to_string());
    let mut writes = Vec::new();
    for row in interfaces {
        let columns = if bridges.contains(&row["name"]) {
            json!({"ofport": 65534, "admin_state": "up"})
        } else {
            columns(&row, next_ofport)
        };
        writes.push(json!({"op": "update", "table": "Interface", "where": at(&row), "row": columns}));
    }
    // A tunnel that is smaller than what can be sent to it.
    if rows(0).iter().any(|row| is_new(row) && row["name"] == "vx-small") {
        for row in rows(0).iter().filter(|row| row["type"] == "") {
            let status = json!(["map", [["mtu_warning", "packets of up to 1500 bytes are too large for vx-small"]]]);
            let columns = json!({"status": status});
            writes.push(json!({"op": "update", "table": "Interface", "where": at(row), "row": columns}));
        }
    }
    for row in rows(2) {
        let columns = json!({"cur_cfg": row["next_cfg"]});
        writes.push(json!({"op": "update", "table": "Open_vSwitch", "where": at(&row), "row": columns}));
    }
    client.transact(DB, writes).await.map(|_| ())
}

fn at(row: &Value) -> Value {
    json!([["_uuid", "==", row["_uuid"]]])
}

/// What ovs-vswitchd wrote, with its dummy devices, when the commands were captured.
fn columns(row: &Value, next_ofport: &mut i64) -> Value {
    let name = row["name"].as_str().unwrap_or_default();
    if row["type"] == "bogus" {
        let error = format!("could not open network device {name} (Address family not supported by protocol)");
        return json!({"ofport": -1, "error": error});
    }
    let ofport = *next_ofport;
    *next_ofport += 1;
    if row["type"] == "patch" {
        return json!({"ofport": ofport, "error": "No usable peer 'pb' exists in 'system' datapath."});
    }
    let counters = [
        "rx_bytes",
        "rx_custom_packets_1",
        "rx_custom_packets_2",
        "rx_packets",
        "rx_q0_bytes",
        "rx_q0_packets",
        "tx_bytes",
        "tx_packets",
        "tx_q0_bytes",
        "tx_q0_packets",
    ];
    json!({
        "ofport": ofport,
        "admin_state": "up",
        "link_state": "up",
        "link_resets": 0,
        "ifindex": 0,
        "mtu": 1500,
        "mac_in_use": "aa:55:aa:55:00:12",
        "statistics": ["map", counters.map(|counter| json!([counter, 0]))],
    })
}
