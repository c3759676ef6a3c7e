//! Workloads, peers, rows and reports: what every bench of this repository shares, `pagecache-compare` too.
#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod allocator;
pub mod chart;
pub mod cleaning;
pub mod engines;
pub mod files;
pub mod measure;
pub mod options;
pub mod ours;
pub mod plain;
pub mod report;
pub mod rows;
pub mod runs;
pub mod soak;
pub mod workload;
