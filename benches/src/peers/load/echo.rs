//! One UDP request after the other, each sent when the last one is answered.

use crate::peers::{Stage, inside};
use crate::percentile;
use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const PORT: u16 = 7;
/// The requests of the beginning, which find caches cold, aren't counted.
const WARM_UP: usize = 200;
/// Fewer answers than these tell nothing about the slowest hundredth.
const ENOUGH: usize = 200;
/// A peer that takes milliseconds is not asked as often.
const LIMIT: Duration = Duration::from_secs(5);
/// An answer that is later than this is lost.
const LATE: Duration = Duration::from_millis(200);

/// The median and the 99th percentile of the round trips, in µs.
pub fn run(stage: &Stage, exchanges: usize) -> Result<Vec<f64>, String> {
    let Stage { ends: [near, far], address, .. } = stage;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let server = scope.spawn(|| inside(far, || answer(&stop)).and_then(|done| done));
        let asked = inside(near, || ask(address, exchanges)).and_then(|done| done);
        stop.store(true, Ordering::Relaxed);
        server
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .map_err(|e| format!("answering: {e}"))?;
        let times = asked.map_err(|e| format!("asking {address}: {e}"))?;
        if times.len() < ENOUGH {
            return Err(format!("only {} answers within {LIMIT:?}", times.len()));
        }
        Ok([50.0, 99.0].map(|p| percentile(&times, p)).to_vec())
    })
}

/// Sends back what comes.
fn answer(stop: &AtomicBool) -> io::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", PORT))?;
    socket.set_read_timeout(Some(LATE))?;
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..len], from)?;
        }
    }
    Ok(())
}

/// The round trips in µs. A lost request counts as one of [`LATE`].
fn ask(address: &str, exchanges: usize) -> io::Result<Vec<f64>> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.connect((address, PORT))?;
    socket.set_read_timeout(Some(LATE))?;
    let (mut times, end) = (Vec::with_capacity(exchanges), Instant::now() + LIMIT);
    for number in 0..WARM_UP + exchanges {
        let took = ask_once(&socket, number as u64)?;
        if number >= WARM_UP {
            times.push(took.as_secs_f64() * 1e6);
        }
        if Instant::now() > end {
            break;
        }
    }
    Ok(times)
}

fn ask_once(socket: &UdpSocket, number: u64) -> io::Result<Duration> {
    let (start, mut buffer) = (Instant::now(), [0; 64]);
    // Refused: the server isn't there yet.
    match socket.send(&number.to_be_bytes()) {
        Err(e) if e.kind() != io::ErrorKind::ConnectionRefused => return Err(e),
        _ => {}
    }
    // An answer to an earlier request, given up already, is none to this one.
    while start.elapsed() < LATE {
        if socket.recv(&mut buffer).is_ok_and(|len| buffer[..len] == number.to_be_bytes()) {
            return Ok(start.elapsed());
        }
    }
    Ok(LATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_answers_are_not_taken_for_others() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        client.connect(server.local_addr().expect("an address")).expect("connected");
        client.set_read_timeout(Some(LATE)).expect("a time limit");
        let to = client.local_addr().expect("an address");
        server.send_to(&1u64.to_be_bytes(), to).expect("sent");
        assert_eq!(ask_once(&client, 2).expect("asked"), LATE, "answered by what was for another");
        server.send_to(&3u64.to_be_bytes(), to).expect("sent");
        assert!(ask_once(&client, 3).expect("asked") < LATE);
    }
}
