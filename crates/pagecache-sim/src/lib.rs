//! Simulated faulty storage, a reference model and drivers over them.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod disk;
pub mod driver;
pub mod linear;
pub mod log_driver;
pub mod log_model;
pub mod page_driver;
pub mod page_model;
pub mod rng;
