//! What every kernel port does alike when it sends: go on behind a refused frame, and say why it was refused.

use super::Unsent;
use crate::packet::{Frame, Pool};
use crate::switch::verdict::DropReason;
use std::io;

/// Sends all frames in order. `call` sends a few from the front of what it is given and says how many, or fails with the
/// first one's error; that one is skipped. `header` bytes at the front of each frame are taken off again where it could
/// not be sent. How many were.
pub fn send_all(
    pool: &mut Pool,
    frames: &mut Vec<Frame>,
    unsent: &mut Unsent,
    header: usize,
    call: impl FnMut(&[Frame]) -> io::Result<usize>,
) -> u64 {
    send_together(pool, frames, unsent, header, |_| 1, call)
}

/// The same where frames are sent several at a time: `together` says how many at the front are, and so share an error.
pub fn send_together(
    pool: &mut Pool,
    frames: &mut Vec<Frame>,
    unsent: &mut Unsent,
    header: usize,
    together: impl Fn(&[Frame]) -> usize,
    mut call: impl FnMut(&[Frame]) -> io::Result<usize>,
) -> u64 {
    let (mut at, mut failed) = (0, Vec::new());
    while at < frames.len() {
        match call(&frames[at..]) {
            Ok(n) if n > 0 => at += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // The device takes no more for now, and the next frame would hear the same.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                failed.extend((at..frames.len()).map(|i| (i, DropReason::TxQueueFull)));
                break;
            }
            refused => {
                let reason = refused.map_or_else(|e| reason(&e), |_| DropReason::TxError);
                let end = at + together(&frames[at..]).max(1);
                failed.extend((at..end).map(|i| (i, reason)));
                at = end;
            }
        }
    }
    let sent = (frames.len() - failed.len()) as u64;
    let mut failed = failed.into_iter().peekable();
    for (i, mut frame) in frames.drain(..).enumerate() {
        match failed.next_if(|(at, _)| *at == i) {
            None => pool.recycle(frame),
            Some((_, reason)) => {
                frame.pop_front(header);
                unsent.push((frame, reason));
            }
        }
    }
    sent
}

/// The reason for a failed send of one frame.
fn reason(error: &io::Error) -> DropReason {
    match error.raw_os_error().unwrap_or(0) {
        libc::EMSGSIZE => DropReason::TxTooBig,
        // ENOBUFS: a full queue on the way, or a veth whose far end has a smaller MTU; trying again helps neither.
        libc::EAGAIN | libc::ENOBUFS => DropReason::TxQueueFull,
        libc::ENETDOWN | libc::ENXIO | libc::ENODEV | libc::EIO | libc::EBADFD => DropReason::PortDown,
        libc::ENETUNREACH | libc::EHOSTUNREACH => DropReason::TxNoRoute,
        _ => DropReason::TxError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends frames 0 to 5 through `answers`, one per call; returns what was sent per call and what was not.
    fn run(answers: &[Result<usize, i32>]) -> (Vec<u8>, Vec<(u8, DropReason)>, u64) {
        let mut frames: Vec<_> = (0..6).map(|i| Frame::from_bytes(&[99, i])).collect();
        let (mut answers, mut out, mut unsent) = (answers.iter(), vec![], vec![]);
        let sent = send_all(&mut Pool::new(0), &mut frames, &mut unsent, 1, |rest| {
            match *answers.next().expect("one call too many") {
                Ok(n) => {
                    out.extend(rest[..n].iter().map(|f| f.bytes()[1]));
                    Ok(n)
                }
                Err(errno) => Err(io::Error::from_raw_os_error(errno)),
            }
        });
        assert!(frames.is_empty() && answers.next().is_none());
        (out, unsent.iter().map(|(f, r)| (f.bytes()[0], *r)).collect(), sent)
    }

    #[test]
    fn a_refused_frame_is_skipped_and_the_rest_go_out_in_order() {
        let got = run(&[Ok(2), Err(libc::EMSGSIZE), Err(libc::EINTR), Ok(1), Err(libc::ENOBUFS), Ok(1)]);
        let unsent = vec![(2, DropReason::TxTooBig), (4, DropReason::TxQueueFull)];
        assert_eq!(got, (vec![0, 1, 3, 5], unsent, 4));
    }

    #[test]
    fn what_goes_together_is_refused_together() {
        let mut frames: Vec<_> = (0..6).map(|i| Frame::from_bytes(&[i])).collect();
        let (mut calls, mut unsent) = (vec![], vec![]);
        let sent = send_together(
            &mut Pool::new(0),
            &mut frames,
            &mut unsent,
            0,
            |frames| frames.len().min(2),
            |frames| {
                calls.push(frames[0].bytes()[0]);
                if calls.len() == 2 { Err(io::Error::from_raw_os_error(libc::EMSGSIZE)) } else { Ok(2) }
            },
        );
        let refused: Vec<_> = unsent.iter().map(|(frame, reason)| (frame.bytes()[0], *reason)).collect();
        assert_eq!((sent, calls), (4, vec![0, 2, 4]));
        assert_eq!(refused, [(2, DropReason::TxTooBig), (3, DropReason::TxTooBig)]);
    }

    #[test]
    fn a_full_device_is_not_asked_again_for_each_frame() {
        let (out, unsent, sent) = run(&[Ok(4), Err(libc::EAGAIN)]);
        assert_eq!((out, sent), (vec![0, 1, 2, 3], 4));
        assert_eq!(unsent, [(4, DropReason::TxQueueFull), (5, DropReason::TxQueueFull)]);
    }

    #[test]
    fn errors_have_their_reasons() {
        for (errno, expected) in [
            (libc::EMSGSIZE, DropReason::TxTooBig),
            (libc::ENOBUFS, DropReason::TxQueueFull),
            (libc::ENETDOWN, DropReason::PortDown),
            (libc::ENXIO, DropReason::PortDown),
            (libc::EIO, DropReason::PortDown),
            (libc::EBADFD, DropReason::PortDown),
            (libc::EHOSTUNREACH, DropReason::TxNoRoute),
            (libc::ENETUNREACH, DropReason::TxNoRoute),
            (libc::EINVAL, DropReason::TxError),
            (libc::EPERM, DropReason::TxError),
        ] {
            assert_eq!(reason(&io::Error::from_raw_os_error(errno)), expected, "{errno}");
        }
    }
}
