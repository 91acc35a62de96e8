//! DPDK's testpmd, which passes on what comes in by one port to the other: no switch, but the usual yardstick.

use super::{Stage, two_pods};
use vswitch_tests::netns::Lab;
use vswitch_tests::process::eventually;

/// Two pods, every device by AF_XDP, one polling thread.
pub fn af_xdp(lab: &Lab) -> Result<Stage, String> {
    let host = lab.space("host");
    if !host.try_run("which dpdk-testpmd").ok() {
        return Err("no dpdk-testpmd on the path; Debian's package dpdk has it".to_owned());
    }
    let ends = two_pods(lab, &host, "dpdk");
    for end in &ends {
        end.run("ethtool -K eth0 tx off");
    }
    let port = |n: u32| format!("--vdev=net_af_xdp{n},iface=p{},start_queue=0,queue_count=1", n + 1);
    // The main thread only prints, now and then, so that it doesn't wait for a key; the other one polls.
    let environment = format!("--no-huge -m 1024 --no-pci --in-memory --no-telemetry -l 0,1 {} {}", port(0), port(1));
    let forward = "--forward-mode=io --auto-start --nb-cores=1 --total-num-mbufs=32768 --stats-period=5";
    let mut testpmd = host.spawn(&format!("dpdk-testpmd {environment} -- {forward}"), &lab.dir().join("testpmd.log"));
    eventually("testpmd forwards", || {
        assert!(testpmd.alive(), "testpmd ended at once: {}", testpmd.log());
        if testpmd.log().contains("port statistics") { Ok(()) } else { Err(testpmd.log()) }
    });
    let switch = vec![testpmd.pid()];
    Ok(Stage::new(ends, "10.0.0.2", switch, testpmd))
}
