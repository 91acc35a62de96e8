//! The datapath with real devices: packet sockets, TAPs and tunnels between network namespaces. Needs root.

mod assist;
mod errors;
mod forwarding;
mod lab;
mod life;
mod sockets;
mod xdp;
