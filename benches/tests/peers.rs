//! The runner that compares us with the other switches works from end to end: two of them, one second each.

use std::process::Command;
use vswitch_tests::netns::Lab;
use vswitch_tests::process::program;

#[test]
fn two_peers_are_measured_drawn_and_told() {
    // Where there are no namespaces, this says so and the test is over.
    let Some(lab) = Lab::open() else { return };
    let out = lab.dir().join("out");
    let run = Command::new(env!("CARGO_BIN_EXE_peers"))
        .args(["--quick", "--only", "vswitch,bridge", "--workload", "tcp,packets,latency,idle"])
        .args(["--congestion", "reno", "--out"])
        .arg(&out)
        .env("VSWITCH_BIN_DIR", program("vswitch").parent().expect("a directory"))
        .output()
        .expect("the runner starts");
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{text}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(text.contains("TCP, 1 flow, two pods on one host") && text.contains("Linux bridge"), "{text}");
    assert!(text.contains("TCP with reno"), "{text}");

    let json = std::fs::read_to_string(out.join("results.json")).expect("results.json");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["missing"].as_array().map(Vec::len), Some(0), "{json:#}");
    let rows = json["rows"].as_array().expect("rows");
    for peer in ["vswitch", "bridge", "cable"] {
        for workload in ["tcp", "packets", "latency"] {
            let first = rows.iter().find(|row| row["peer"] == peer && row["workload"] == workload);
            let median = first.and_then(|row| row["median"].as_f64());
            assert!(median.is_some_and(|median| median > 0.0), "{peer}, {workload}: {json:#}");
        }
    }
    let memory = rows.iter().find(|row| row["metric"] == "memory").expect("the memory of a process");
    assert_eq!(memory["peer"], "vswitch", "the bridge has none");
    for chart in ["tcp-rate", "packets-rate", "latency-p99", "idle-memory"] {
        let svg = std::fs::read_to_string(out.join(format!("{chart}.svg"))).expect("a chart");
        assert!(svg.contains(">vswitch</text>"), "{svg}");
    }
}

#[test]
fn unknown_names_are_refused_with_the_known_ones() {
    for (option, known) in [("--only", "ovs-afxdp"), ("--workload", "tcp8"), ("--congestion", "reno")] {
        let run =
            Command::new(env!("CARGO_BIN_EXE_peers")).args([option, "nothing"]).output().expect("the runner starts");
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(!run.status.success() && said.contains("'nothing'") && said.contains(known), "{said}");
    }
}
