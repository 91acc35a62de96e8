//! From the checked configuration to the datapath: what should be ([`desired`]), how to get there ([`plan`], a pure
//! difference), and getting there ([`apply`]).

pub mod apply;
pub mod desired;
pub mod loops;
pub mod mirrors;
pub mod ofport;
pub mod plan;
pub mod ways_out;
