//! What the tests and benchmarks of vswitch stand on.
//!
//! - [`lab`]: a switch in memory, in which a test plays the network and accounts for every packet and counter;
//! - [`capture`]: what `ovs-vsctl` did on Open vSwitch, recorded;
//! - [`netns`]: network namespaces as machines, with a real `vswitch` on each, all removed at the end;
//! - [`accounts`]: whether a real switch accounts for every frame, and why it dropped those it did;
//! - [`checksums`]: whether what a receiver gets has right checksums;
//! - [`process`]: running programs with a time limit, and waiting for something to come true;
//! - [`rpc`]: a client of OVSDB that sends exactly what a test says;
//! - [`text`]: what two programs printed, made comparable;
//! - [`tunnel_pair`]: a pod on each of two hosts and a tunnel of any kind between them;
//! - [`two_hosts`]: the lab of the demo, two tenants between two hosts;
//! - [`ovs`]: Open vSwitch's own unmodified tools, to drive us with and to compare us to;
//! - [`python`]: Python clients of Open vSwitch, from PyPI.

pub mod accounts;
pub mod capture;
pub mod checksums;
pub mod lab;
pub mod netns;
pub mod ovs;
pub mod process;
pub mod python;
pub mod rpc;
pub mod text;
pub mod tunnel_pair;
pub mod two_hosts;
