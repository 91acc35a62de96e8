//! A socket of the crate and its two halves, and the end of them.
#![allow(unsafe_code)]

use ::afxdp::socket::{Socket, SocketNewError, SocketOptions, SocketRx, SocketTx};
use ::afxdp::umem::Umem;
use std::mem::ManuallyDrop;
use std::sync::Arc;

/// A socket that receives and sends.
///
/// The halves are never dropped: the crate frees the ring of the half that is dropped first, and the C library reads it
/// when the other one closes the socket. These few dozen bytes are given up instead.
#[derive(Debug)]
pub struct Halves {
    socket: ManuallyDrop<Arc<Socket<'static, ()>>>,
    pub rx: ManuallyDrop<SocketRx<'static, ()>>,
    pub tx: ManuallyDrop<SocketTx<'static, ()>>,
}

impl Halves {
    /// Opens one on a queue of a device, with rings of `size`.
    pub fn open(
        umem: Arc<Umem<'static, ()>>,
        device: &str,
        queue: u32,
        size: u32,
        zero_copy: bool,
    ) -> Result<Self, SocketNewError> {
        let options = SocketOptions { zero_copy_mode: zero_copy, copy_mode: !zero_copy, ..Default::default() };
        let (socket, rx, tx) = Socket::new(umem, device, queue as usize, size, size, options)?;
        Ok(Self { socket: ManuallyDrop::new(socket), rx: ManuallyDrop::new(rx), tx: ManuallyDrop::new(tx) })
    }
}

impl Drop for Halves {
    fn drop(&mut self) {
        let socket = Arc::as_ptr(&self.socket);
        // SAFETY: `socket` and each half hold one reference, which nobody else gives up since none of them is dropped. The
        // last one closes the socket, while the rings of both halves are still there.
        unsafe { (0..3).for_each(|_| Arc::decrement_strong_count(socket)) };
    }
}
