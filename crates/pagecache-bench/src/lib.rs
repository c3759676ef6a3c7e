//! Workloads and first benches.
