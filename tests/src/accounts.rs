//! The books of a real `vswitch`, from its counters: every frame that came has gone somewhere or was dropped for a reason.

use crate::netns::Host;
use crate::process::eventually;
use crate::rpc::Rpc;
use serde_json::json;

/// What may be at any port: a full queue on a busy machine, and what pods and hosts say by themselves while the network is
/// still being built, be it in the moment between their port's coming up and the switch's hearing of that.
const ALWAYS_EXPECTED: [&str; 3] = ["tx_queue_full", "no_output", "port_down"];

/// Received, copied, generated and split frames are those transmitted, merged and dropped, when all is quiet.
///
/// # Panics
/// If they are not.
pub fn check_accounts(host: &Host) {
    let _ = counters(host);
}

/// The same, and frames were dropped for no other reasons than these.
///
/// # Panics
/// If the accounts don't balance, or with the other drops.
pub fn check_drops_are(host: &Host, expected: &[&str]) {
    let unexpected: Vec<_> = counters(host)
        .into_iter()
        .filter_map(|(key, n)| Some((key.strip_prefix("drop_")?.to_owned(), n)))
        .filter(|(reason, n)| *n > 0 && !expected.iter().chain(&ALWAYS_EXPECTED).any(|known| known == reason))
        .collect();
    assert!(unexpected.is_empty(), "dropped: {unexpected:?}\n{}", host.vsctl("drops"));
}

/// All counters since the start, by `coverage/show`, once they balance.
///
/// # Panics
/// If they don't.
#[must_use]
pub fn counters(host: &Host) -> Vec<(String, u64)> {
    let mut control = Rpc::connect(&host.socket().with_file_name("db.ctl"));
    eventually("the accounts balance", || {
        let shown = control.call("coverage/show", &json!([]));
        let text = shown["result"].as_str().unwrap_or_default();
        let ends = |line: &str| Some((line.split(' ').next()?.to_owned(), line.rsplit(' ').next()?.parse().ok()?));
        let counters: Vec<(String, u64)> = text.lines().filter_map(ends).collect();
        let sum =
            |wanted: fn(&str) -> bool| -> u64 { counters.iter().filter(|(key, _)| wanted(key)).map(|(_, n)| n).sum() };
        let come = sum(|key| ["rx_packets", "copied", "generated", "split"].contains(&key));
        let gone = sum(|key| ["tx_packets", "merged"].contains(&key) || key.starts_with("drop_"));
        if come == gone && come > 0 { Ok(counters) } else { Err(format!("{come} came, {gone} went: {text}")) }
    })
}

/// Chunks of the memory of AF_XDP ports, which one region is enough for: free, the kernel's, the workers'.
///
/// # Panics
/// If there are several regions, or none.
#[must_use]
pub fn umem(host: &Host) -> [u64; 3] {
    let shown = Rpc::connect(&host.socket().with_file_name("db.ctl")).call("umem/show", &json!([]));
    let text = shown["result"].as_str().unwrap_or_default().to_owned();
    assert_eq!(text.lines().count(), 1, "one region is enough: {text}");
    ["free ", "kernel ", "workers "].map(|key| {
        let number = text.split(key).nth(1).and_then(|rest| rest.split([',', '\n']).next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no '{key}' in {text}"))
    })
}
