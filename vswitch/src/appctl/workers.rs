//! `dpif-netdev/pmd-rxq-show` and `dpif-netdev/pmd-stats-show`, in the manner of Open vSwitch, and `workers/list` for
//! `vsctl workers`: which worker receives from which port, and what that costs.
//!
//! Shares are of the last interval of statistics (`other_config:stats-update-interval`).

use super::Context;
use datapath::control::QueueStats;
use serde_json::{Value, json};
use std::fmt::Write;

/// One of them.
struct Worker {
    number: usize,
    /// Where it is kept.
    cpu: Option<usize>,
    queues: Vec<QueueStats>,
}

/// All of them.
fn workers(cx: &Context<'_>) -> Vec<Worker> {
    let (cpus, queues) = (cx.view.datapath.worker_cpus(), cx.view.datapath.queues());
    let of = |worker| queues.iter().filter(|queue| queue.worker == worker).cloned().collect();
    cpus.into_iter().enumerate().map(|(number, cpu)| Worker { number, cpu, queues: of(number) }).collect()
}

/// Those on the CPU that `-pmd` names; there is one datapath, by Open vSwitch's names for it.
fn asked_for(cx: &Context<'_>, args: &[&str]) -> Result<Vec<Worker>, String> {
    let (mut args, mut core) = (args.iter(), None);
    while let Some(word) = args.next() {
        match *word {
            "-pmd" => {
                let cpu = args.next().copied().unwrap_or_default();
                core = Some(cpu.parse().map_err(|_| format!("-pmd: '{cpu}' is no number of a CPU"))?);
            }
            "-secs" => return Err("-secs: what is shown is of the last stats-update-interval, no other".to_owned()),
            "netdev@ovs-netdev" | "ovs-netdev" | "netdev" => {}
            _ => return Err("please specify an existing datapath".to_owned()),
        }
    }
    Ok(workers(cx).into_iter().filter(|worker| core.is_none() || worker.cpu == core).collect())
}

fn head(worker: &Worker) -> String {
    let cpu = worker.cpu.map_or_else(|| "any".to_owned(), |cpu| cpu.to_string());
    format!("worker {} core_id {cpu}:", worker.number)
}

fn percent(share: u32) -> u32 {
    (share + 5) / 10
}

/// Which worker has which receive queues, and how much of its time each takes.
pub(super) fn rxq_show(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    let mut text = String::new();
    for worker in asked_for(cx, args)? {
        let _ = writeln!(text, "{}", head(&worker));
        for queue in worker.queues {
            let (ports, number) = (queue.ports.join(","), queue.number);
            let _ = writeln!(
                text,
                "  port: {ports:<16}  queue-id: {number:>2} (enabled)   pmd usage: {:>2} %",
                percent(queue.share)
            );
        }
    }
    Ok(text)
}

/// What each worker has received, and what that cost.
pub(super) fn stats_show(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    let mut text = String::new();
    for worker in asked_for(cx, args)? {
        let queues = &worker.queues;
        let frames: u64 = queues.iter().map(|queue| queue.frames).sum();
        let busy: u128 = queues.iter().map(|queue| queue.busy.as_nanos()).sum();
        let share = percent(queues.iter().map(|queue| queue.share).sum());
        let _ = writeln!(text, "{}", head(&worker));
        let _ = writeln!(text, "  packets received: {frames}");
        let _ = writeln!(text, "  busy: {} ms ({share} % lately)", busy / 1_000_000);
        let _ = writeln!(text, "  avg. ns per packet: {}", busy / u128::from(frames.max(1)));
    }
    Ok(text)
}

/// All receive queues, in JSON.
pub(super) fn list(cx: &mut Context<'_>, _: &[&str]) -> Result<String, String> {
    let mut rows = Vec::new();
    for Worker { number: worker, cpu, queues } in workers(cx) {
        if queues.is_empty() {
            rows.push(json!({"worker": worker, "cpu": cpu, "port": null, "queue": null, "usage": 0, "packets": 0}));
        }
        rows.extend(queues.iter().map(|q| {
            let (ports, usage) = (q.ports.join(","), percent(q.share));
            json!({"worker": worker, "cpu": cpu, "port": ports, "queue": q.number, "usage": usage, "packets": q.frames})
        }));
    }
    Ok(Value::from(rows).to_string())
}
