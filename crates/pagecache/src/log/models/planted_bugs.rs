//! The hunts: each bug is planted in a process of its own, which runs one model and must fail.

use std::process::Command;

use crate::base::canary::{Canary, plant};

const PLANT: &str = "PAGECACHE_MODELS_PLANT";
const KNOWN: [Canary; 7] = [
    Canary::LostWakeup,
    Canary::SlotClearedBeforeCopy,
    Canary::StableInsideRecord,
    Canary::EarlyAcknowledgement,
    Canary::SkippedSync,
    Canary::TailReadAfterSlots,
    Canary::RingReusedEarly,
];

pub(super) fn plant_what_was_asked() {
    if let Ok(asked) = std::env::var(PLANT) {
        plant(KNOWN.into_iter().find(|canary| format!("{canary:?}") == asked));
    }
}

fn found(canary: Canary, model: &str, signs: &[&str]) {
    let test = format!("{}::every_schedule::{model}", module_path!().rsplit_once("::").unwrap().0);
    let test = test.split_once("::").unwrap().1;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env(PLANT, format!("{canary:?}")).env("RUST_BACKTRACE", "0");
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find(|line| line.contains(": fails in schedule")).unwrap_or("nothing");
    println!("{canary:?}: {line}");
    assert!(!output.status.success() && signs.iter().any(|sign| line.contains(sign)), "{canary:?}: {said}");
}

#[test]
fn a_lost_wake_up_is_found() {
    found(Canary::LostWakeup, "a_leader_sleeps_on_a_slot", &["deadlock"]);
}

#[test]
fn a_slot_cleared_before_the_copy_is_found() {
    found(Canary::SlotClearedBeforeCopy, "two_writers_and_a_reader", &["no whole record", "Causality violation"]);
}

#[test]
fn a_stable_lsn_inside_a_record_is_found() {
    found(Canary::StableInsideRecord, "a_watcher_believes_the_stable_lsn", &["no whole record", "not a record's end"]);
}

#[test]
fn an_early_acknowledgement_is_found() {
    found(Canary::EarlyAcknowledgement, "a_watcher_believes_the_stable_lsn", &["no whole record", "Causality"]);
}

#[test]
fn a_skipped_sync_is_found() {
    found(Canary::SkippedSync, "two_commit", &["no whole record"]);
}

#[test]
fn a_tail_read_after_the_slots_is_found() {
    found(Canary::TailReadAfterSlots, "two_writers_and_a_reader", &["no whole record", "Causality violation"]);
}

#[test]
fn a_ring_reused_early_is_found() {
    found(Canary::RingReusedEarly, "the_ring_goes_round_over_written_bytes_only", &["Causality", "no whole record"]);
}
