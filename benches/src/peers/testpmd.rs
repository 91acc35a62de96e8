//! DPDK's testpmd, which passes on what comes in by one port to the other: no switch, but the usual yardstick.

use super::{Stage, two_pods};
use std::fs;
use std::path::{Path, PathBuf};
use vswitch_tests::netns::Lab;
use vswitch_tests::ovs::prefix;
use vswitch_tests::process::{eventually, run, words};

/// Two pods, every device by AF_XDP, one polling thread.
pub fn af_xdp(lab: &Lab) -> Result<Stage, String> {
    let (program, _) = found().ok_or("no dpdk-testpmd; fetch it with: tests/setup.sh peers")?;
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
    let mut testpmd = host.spawn(&format!("{program} {environment} -- {forward}"), &lab.dir().join("testpmd.log"));
    eventually("testpmd forwards", || {
        assert!(testpmd.alive(), "testpmd ended at once: {}", testpmd.log());
        if ends[0].pings("10.0.0.2") { Ok(()) } else { Err(testpmd.log()) }
    });
    let switch = vec![testpmd.pid()];
    Ok(Stage::new(ends, "10.0.0.2", switch, testpmd))
}

/// The version of the one that is here, if there is one.
#[must_use]
pub fn version() -> Option<String> {
    found().map(|(_, version)| version)
}

/// The command that starts it, from the path or unpacked, and its version.
fn found() -> Option<(String, String)> {
    let tree = prefix().join("dpdk");
    ["dpdk-testpmd".to_owned(), unpacked(&tree)].into_iter().find_map(|command| {
        let told = run(&words(&format!("{command} -v --help")));
        let line = told.stderr.lines().chain(told.stdout.lines()).find_map(|line| line.split_once("RTE Version: "));
        line.map(|(_, version)| (command, version.trim_matches('\'').to_owned()))
    })
}

/// The command that starts the one of packages that were unpacked there: with their libraries, and their drivers loaded
/// beforehand, as it takes none from a directory that others may write to.
fn unpacked(tree: &Path) -> String {
    let libraries = [tree.join("usr/lib"), tree.join("lib")].iter().flat_map(|dir| children(dir)).collect::<Vec<_>>();
    let drivers: Vec<_> = libraries.iter().flat_map(|dir| children(&dir.join("dpdk"))).collect();
    let loaded = ["librte_bus_vdev", "librte_mempool_ring", "librte_net_af_xdp"].iter().flat_map(|driver| {
        let prefix = format!("{driver}.so.");
        let of = move |file: &PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
        drivers.iter().flat_map(|dir| children(dir)).find(of)
    });
    let list = |paths: &mut dyn Iterator<Item = &PathBuf>| {
        paths.map(|path| path.display().to_string()).collect::<Vec<_>>().join(":")
    };
    let loaded: Vec<_> = loaded.collect();
    let paths = (list(&mut libraries.iter().chain(&drivers)), list(&mut loaded.iter()));
    let program = tree.join("usr/bin/dpdk-testpmd");
    format!("env LD_LIBRARY_PATH={} LD_PRELOAD={} {}", paths.0, paths.1, program.display())
}

/// What is in a directory, in the order of the names; nothing where there is none.
fn children(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    all.sort();
    all
}
