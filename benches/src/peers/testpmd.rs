//! DPDK's testpmd, which passes on what comes in by one port to the other: no switch, but the usual yardstick.

use super::{Stage, two_pods};
use vswitch_tests::netns::Lab;
use vswitch_tests::process::{eventually, run, words};

/// Two pods, every device by AF_XDP, one polling thread.
pub fn af_xdp(lab: &Lab) -> Result<Stage, String> {
    version().ok_or("no dpdk-testpmd on the path; Debian's package dpdk-dev has it")?;
    let host = lab.space("host");
    let ends = two_pods(lab, &host, "dpdk");
    for end in &ends {
        end.run("ethtool -K eth0 tx off");
    }
    let port = |n: u32| format!("--vdev=net_af_xdp{n},iface=p{},start_queue=0,queue_count=1", n + 1);
    // The main thread only prints, now and then, so that it doesn't wait for a key; the other one polls on the first core.
    let environment =
        format!("--no-huge -m 1024 --no-pci --no-telemetry -l 0,1 --main-lcore=1 {} {}", port(0), port(1));
    let forward = "--forward-mode=io --auto-start --nb-cores=1 --total-num-mbufs=32768 --stats-period=5";
    let mut testpmd = host.spawn(&format!("dpdk-testpmd {environment} -- {forward}"), &lab.dir().join("testpmd.log"));
    eventually("testpmd forwards", || {
        assert!(testpmd.alive(), "testpmd ended at once: {}", testpmd.log());
        if ends[0].pings("10.0.0.2") { Ok(()) } else { Err(testpmd.log()) }
    });
    let switch = vec![testpmd.pid()];
    Ok(Stage::new(ends, "10.0.0.2", switch, testpmd))
}

/// The version of the one on the path, if there is one.
#[must_use]
pub fn version() -> Option<String> {
    let told = run(&words("dpdk-testpmd -v --help"));
    let line = told.stderr.lines().chain(told.stdout.lines()).find_map(|line| line.split_once("RTE Version: "));
    line.map(|(_, version)| version.trim_matches('\'').to_owned())
}
