//! What must hold for any bytes that reach OVSDB from outside: one function for each way in.
//!
//! Each takes bytes and panics if something does not hold. libFuzzer looks for such bytes (`make fuzz`, by way of
//! `targets/`); `ovsdb/tests/corpus.rs` calls the same functions with those of `corpus/`.

pub mod log;
pub mod scanner;
pub mod transact;
pub mod values;
