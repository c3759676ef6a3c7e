//! The shipped types under shuttle, on the simulated disk: threads that meet in ten thousand random orders, and in as many with few
//! switches at the worst of places.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test -p pagecache-sim --test schedules --target-dir target/shuttle -- --nocapture`
#![cfg(shuttle)]

mod checkpoints;
mod cleaning;
mod evictions;
mod failures;
mod given_back;
mod harness;
mod histories;
mod ids;
mod links;
mod misses;
mod planted_bugs;
mod readers;
mod shutdown;
