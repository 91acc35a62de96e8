//! Small frames, as many as one core can send: sent raw in batches, counted by the kernel where they arrive.
//!
//! A veth pair hands a frame over within the sender's system call, so the core of the generator does the kernel's part of
//! the receiving, too: a switch in the kernel runs on it wholly. Frames are addressed to nobody at the far end, whose stack
//! drops them at once; how many arrived is what the kernel has counted on the device by then.
//!
//! A switch that uses XDP can be offered more than it takes: the kernel makes frames for XDP itself, several times as many as
//! a core can send otherwise, so that the figure is the switch's and not the generator's. Who else has the device meets none
//! of them.

use crate::peers::cpu::spent_on;
use crate::peers::sys::{self, BATCH, Injector, Sender};
use crate::peers::{STATION, Stage, inside};
use datapath::types::MacAddr;
use datapath::wire::ipv4::fill_checksum;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// 64 bytes on the wire, the last four of which are the frame check sequence, which nobody hands to the kernel.
const LEN: usize = 60;
/// What isn't counted at the start.
const WARM_UP: Duration = Duration::from_millis(300);
/// Frames that one call makes: the kernel takes some 25 ms to begin and to end, this many take it most of a second.
const INJECTED: u32 = 2 << 20;

/// Who sends the frames.
#[derive(Clone, Copy, Debug)]
pub enum Senders {
    /// One station.
    One,
    /// Each frame another one, of more than any table holds: whoever floods a switch with addresses.
    New,
    /// One station, whose frames the kernel makes for the XDP program at the far end of the near end's cable.
    Kernel,
}

pub fn run(stage: &Stage, senders: Senders, time: Duration) -> Result<Vec<f64>, String> {
    let Stage { ends: [near, far], target, switch, .. } = stage;
    let failed = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
    inside(far, announce).and_then(|sent| sent).map_err(failed("sending from the station"))?;
    let stop = AtomicBool::new(false);
    let end = Instant::now() + WARM_UP + time + Duration::from_secs(1);
    let running = || !stop.load(Ordering::Relaxed) && Instant::now() < end;
    thread::scope(|scope| {
        let generator = scope.spawn(|| inside(near, || generate(*target, senders, running)).and_then(|sent| sent));
        let counted = inside(far, || {
            thread::sleep(WARM_UP);
            let ((frames, seconds), spent) = spent_on(switch, || arrived(time));
            (frames / seconds / 1e6, spent.for_one_of(frames / 1e6))
        });
        stop.store(true, Ordering::Relaxed);
        let sent = generator.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let offered = sent.map_err(failed("generating frames"))?;
        let (rate, cpu) = counted.map_err(failed("counting frames"))?;
        let offered = matches!(senders, Senders::Kernel).then_some(offered);
        let figures = [rate].into_iter().chain(cpu).chain(offered).collect();
        if rate == 0.0 { Err("no frame arrived".to_owned()) } else { Ok(figures) }
    })
}

/// Lets the switches learn where the station is.
fn announce() -> io::Result<()> {
    let mut sender = Sender::open("eth0")?;
    for _ in 0..3 {
        sender.send(&[frame(MacAddr::BROADCAST, STATION); BATCH])?;
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Sends frames for as long as `running` says, on the last core; how many, in million a second.
fn generate(target: MacAddr, senders: Senders, running: impl Fn() -> bool) -> io::Result<f64> {
    sys::stay_on_last_core()?;
    let (start, mut frames) = (Instant::now(), 0);
    let frame = frame(target, MacAddr([2, 0, 0, 0, 0, 0xdd]));
    if matches!(senders, Senders::Kernel) {
        let injector = Injector::open("eth0")?;
        while running() {
            injector.inject(&frame, INJECTED)?;
            frames += u64::from(INJECTED);
        }
    } else {
        let mut sender = Sender::open("eth0")?;
        let (mut batch, mut station) = ([frame; BATCH], 0);
        while running() {
            if matches!(senders, Senders::New) {
                batch.iter_mut().for_each(|frame| readdress(frame, &mut station));
            }
            sender.send(&batch)?;
            frames += BATCH as u64;
        }
    }
    Ok(frames as f64 / start.elapsed().as_secs_f64() / 1e6)
}

/// Makes a frame the next station's.
fn readdress(frame: &mut [u8; LEN], station: &mut u32) {
    *station = station.wrapping_add(1);
    // The last four bytes of the source; the second byte sets them apart from the ends.
    frame[7] = 0xf1;
    frame[8..12].copy_from_slice(&station.to_be_bytes());
}

/// Frames that arrive within about `time`, and the seconds that it really was.
fn arrived(time: Duration) -> (f64, f64) {
    let (start, before) = (Instant::now(), received());
    thread::sleep(time);
    let (after, seconds) = (received(), start.elapsed().as_secs_f64());
    (after.saturating_sub(before) as f64, seconds)
}

/// Frames that this thread's `eth0` has received so far.
fn received() -> u64 {
    fs::read_to_string("/proc/thread-self/net/dev").ok().and_then(|text| packets_of(&text, "eth0")).unwrap_or_default()
}

/// The second number behind the device's name: frames received (proc_pid_net(5)).
fn packets_of(text: &str, device: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.trim_start().strip_prefix(device)?.strip_prefix(':'))?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// A UDP datagram from 10.0.0.1 to 10.0.2.9, which the peer that routes has a neighbour for.
fn frame(dst: MacAddr, src: MacAddr) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[..6].copy_from_slice(&dst.0);
    bytes[6..12].copy_from_slice(&src.0);
    bytes[12..14].copy_from_slice(&[0x08, 0x00]);
    bytes[14..34].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 2, 9]);
    fill_checksum(&mut bytes[14..34]);
    // Ports 9 and 9 (discard), 26 bytes, no checksum.
    bytes[34..42].copy_from_slice(&[0, 9, 0, 9, 0, 26, 0, 0]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use datapath::wire::checksum::Sum;

    #[test]
    fn the_frame_is_a_valid_datagram() {
        let bytes = frame(STATION, MacAddr([2, 0, 0, 0, 0, 1]));
        assert!(Sum::of(&bytes[14..34]).verifies(), "the header's checksum");
        let lengths = [&bytes[16..18], &bytes[38..40]].map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])));
        assert_eq!(lengths, [LEN - 14, LEN - 34]);
    }

    #[test]
    fn the_kernel_s_count() {
        let text = "Inter-|   Receive\n face |bytes    packets\n    lo:   1 2 0\n  eth0: 600 10 0 0\n eth01: 7 8\n";
        assert_eq!(packets_of(text, "eth0"), Some(10));
        assert_eq!(packets_of(text, "eth1"), None);
    }
}
