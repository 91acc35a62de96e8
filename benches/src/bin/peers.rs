//! `vswitch` and every other switch that is here, in turns under the same loads, on the same machine in the same minutes.
//!
//! A round builds the lab of each peer anew, puts every workload on it and takes it down; the next round begins again, so
//! that a drift of the machine meets all. Tables go to standard output; they, every figure of every round and a chart for
//! each kind of figure into the directory of `--out`. What isn't installed is named and left out.
#![allow(clippy::print_stdout, reason = "a program that prints its results")]

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use std::any::Any;
use std::fs;
use std::io::IsTerminal as _;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::time::Duration;
use vswitch_benches::peers::load::{Length, Workload};
use vswitch_benches::peers::results::Results;
use vswitch_benches::peers::{CABLE, PEERS, Peer, report, svg, testpmd};
use vswitch_tests::netns::Lab;
use vswitch_tests::process::{program, run, words};

/// Compares vswitch with the other switches that are installed.
#[derive(Parser)]
struct Options {
    /// Only these peers, by name, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these workloads: tcp, tcp8, packets, latency, flood, idle
    #[arg(long, value_delimiter = ',')]
    workload: Vec<String>,
    /// Rounds, of which medians are taken
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each transfer
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// TCP congestion control of the ends, of those that the kernel allows in namespaces [default: the machine's]
    #[arg(long)]
    congestion: Option<String>,
    /// One round of one-second transfers, to see that it works
    #[arg(long)]
    quick: bool,
    /// Where results.json and the charts go
    #[arg(long, default_value = "target/bench-peers")]
    out: PathBuf,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let peers = chosen_peers(&options.only)?;
    let workloads = chosen_workloads(&options.workload)?;
    let congestion = options.congestion.as_deref();
    congestion.map_or(Ok(()), check_congestion)?;
    let (rounds, length) = if options.quick {
        (1, Length { transfer: Duration::from_secs(1), idle: Duration::from_secs(1), exchanges: 1000 })
    } else {
        let (transfer, idle) = (Duration::from_secs(options.seconds), Duration::from_secs(5));
        (options.rounds, Length { transfer, idle, exchanges: 5000 })
    };
    let head = head(rounds, length, &congestion.map_or_else(|| tcp_setting("tcp_congestion_control"), str::to_owned));
    for (what, told) in &head {
        println!("{what}: {told}");
    }
    println!();

    let mut results = Results::default();
    let (mut done, all) = (0, rounds * peers.len());
    for round in 0..rounds {
        for peer in &peers {
            done += 1;
            if !results.lacks(peer) {
                let say = |what: &str| progress(&format!("[{done}/{all}] round {}, {}: {what}", round + 1, peer.name));
                turn(peer, &wanted(peer, &workloads, round), length, congestion, &mut results, &say);
            }
        }
    }
    progress("");
    let text = report::text(&results);
    println!("{text}");
    for (peer, offloads) in &results.offloads {
        println!("offloads of the ends of {peer}: {offloads}");
    }
    write(&options.out, &results, &head).with_context(|| format!("writing into {}", options.out.display()))?;
    if let Some(ours) = results.missing.iter().find(|missing| missing.peer.starts_with("vswitch")) {
        bail!("{} itself could not be measured: {}", ours.peer, ours.why);
    }
    Ok(())
}

/// The peers of that name, ours first; all, if none is named.
fn chosen_peers(only: &[String]) -> Result<Vec<&'static Peer>> {
    let names = || PEERS.iter().map(|peer| peer.name).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = only.iter().find(|name| PEERS.iter().all(|peer| peer.name != **name)) {
        bail!("no peer is called '{unknown}'; there are {}", names());
    }
    // The cable is always among them: it tells what the generator reaches.
    let wanted = |peer: &&Peer| only.is_empty() || peer.name == CABLE || only.iter().any(|name| name == peer.name);
    Ok(PEERS.iter().filter(wanted).collect())
}

fn chosen_workloads(names: &[String]) -> Result<Vec<Workload>> {
    let all = || Workload::ALL.map(Workload::name).join(", ");
    if let Some(unknown) = names.iter().find(|name| Workload::ALL.iter().all(|w| w.name() != **name)) {
        bail!("no workload is called '{unknown}'; there are {}", all());
    }
    Ok(Workload::ALL.into_iter().filter(|w| names.is_empty() || names.iter().any(|n| n == w.name())).collect())
}

/// Refuses a congestion control that namespaces can't use.
fn check_congestion(name: &str) -> Result<()> {
    let allowed = tcp_setting("tcp_allowed_congestion_control");
    if allowed.split_whitespace().all(|other| other != name) {
        bail!(
            "the kernel does not allow the congestion control '{name}' in namespaces, but: {allowed}; \
             'sysctl -w net.ipv4.tcp_allowed_congestion_control=…' allows more"
        );
    }
    Ok(())
}

fn tcp_setting(name: &str) -> String {
    fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default().trim().to_owned()
}

/// What of the workloads a peer is put under in a round. To be idle once is enough.
fn wanted(peer: &Peer, workloads: &[Workload], round: usize) -> Vec<Workload> {
    workloads.iter().copied().filter(|&w| peer.takes(w) && (w != Workload::Idle || round == 0)).collect()
}

/// Builds the peer's lab and puts the workloads on it.
fn turn(
    peer: &'static Peer,
    workloads: &[Workload],
    length: Length,
    congestion: Option<&str>,
    results: &mut Results,
    say: &dyn Fn(&str),
) {
    say("set-up");
    let Some(lab) = Lab::open() else { return results.miss(peer, None, "no network namespaces".to_owned()) };
    let build = || {
        let stage = (peer.build)(&lab)?;
        congestion.into_iter().for_each(|name| stage.set_congestion(name));
        Ok(stage)
    };
    let stage = match attempt(build) {
        Ok(stage) => stage,
        Err(why) => return results.miss(peer, None, why),
    };
    if results.offloads.iter().all(|(name, _)| *name != peer.name) {
        results.offloads.push((peer.name, stage.offloads()));
    }
    for &workload in workloads {
        say(workload.title());
        results.add(peer, workload, attempt(|| workload.run(&stage, length)));
    }
}

/// Does it. The lab's helpers panic with the reason when something fails; here that is the result of a row.
fn attempt<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let message = |panic: Box<dyn Any + Send>| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => other.downcast::<&str>().map_or("a panic without words".to_owned(), |text| (*text).to_owned()),
    };
    let hook = take_hook();
    set_hook(Box::new(|_| ()));
    let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(message(panic)));
    set_hook(hook);
    done
}

/// Says what is going on, in one line that the next one replaces.
fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{what}");
    } else if !what.is_empty() {
        eprintln!("{what}");
    }
}

/// What the figures depend on.
fn head(rounds: usize, length: Length, congestion: &str) -> Vec<(&'static str, String)> {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let first_line = |text: &str| text.lines().next().unwrap_or_default().trim().to_owned();
    let version = |command: &str| {
        let found = run(&words(&format!("{command} --version")));
        if found.ok() { first_line(&found.stdout) } else { "not here".to_owned() }
    };
    let cpu = file("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, m)| m);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let ovs = vswitch_tests::ovs::program("ovs-vswitchd").map(|path| version(&path.display().to_string()));
    vec![
        ("machine", format!("{cores} cores, {model}")),
        ("kernel", first_line(&file("/proc/sys/kernel/osrelease"))),
        ("vswitch", version(&program("vswitch").display().to_string())),
        ("Open vSwitch", ovs.unwrap_or("not here".to_owned())),
        ("iperf3", version("iperf3")),
        ("testpmd", testpmd::version().unwrap_or("not here".to_owned())),
        (
            "run",
            format!(
                "{rounds} rounds, medians; transfers of {:?}, veth pairs with default offloads, TCP with {congestion}",
                length.transfer
            ),
        ),
    ]
}

fn write(out: &Path, results: &Results, head: &[(&str, String)]) -> Result<()> {
    fs::create_dir_all(out)?;
    fs::write(out.join("results.json"), format!("{:#}\n", report::json(results, head)))?;
    for workload in Workload::ALL {
        for (n, metric) in workload.metrics().iter().enumerate() {
            if let Some(chart) = svg::chart(results, workload, n) {
                fs::write(out.join(format!("{}-{}.svg", workload.name(), metric.key)), chart)?;
            }
        }
    }
    println!("figures of all rounds and charts: {}", out.display());
    Ok(())
}
