//! An in-memory device: frames put in by a test or benchmark, frames taken out by it.
