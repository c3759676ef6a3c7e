//! Real bugs of real stores, each as a claim on this one: `docs/TESTING.md` has the table of all of them.
#![forbid(unsafe_code)]

mod crafted;
mod errors;
mod ids;
mod segments;
mod table;
mod torn;
mod waiters;

// Not all that the other binary shares is wanted here.
#[allow(dead_code)]
#[path = "../faults_on_stores/harness.rs"]
mod harness;
