//! Workloads, peers and measuring: what the benches share.
#![forbid(unsafe_code)]

pub mod measure;
pub mod plain;
pub mod workload;
