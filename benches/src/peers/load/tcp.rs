//! TCP at full speed, by iperf3.

use crate::peers::Stage;
use crate::peers::cpu::spent_on;
use std::time::Duration;

pub fn run(stage: &Stage, flows: u32, time: Duration) -> Result<Vec<f64>, String> {
    let [client, server] = &stage.ends;
    let options = format!("--parallel {flows} --time {}", time.as_secs().max(1));
    let (rate, spent) = spent_on(&stage.switch, || client.try_tcp(server, &stage.address, &options));
    let rate = rate? / 1e9;
    if rate == 0.0 {
        return Err("TCP stalls: nothing arrived".to_owned());
    }
    let gigabits = rate * time.as_secs().max(1) as f64;
    Ok([vec![rate], spent.for_one_of(gigabits).to_vec()].concat())
}
