//! Simulated faulty storage, a reference model and drivers over them.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod disk;
pub mod rng;
