//! The hunts: each bug is planted in a process of its own, which runs one scenario and must fail.

use std::process::Command;

use pagecache::canary::{Canary, plant};

use super::harness::{SCHEDULES, SCHEDULES_DEFAULT};

const PLANT: &str = "PAGECACHE_SCHEDULES_PLANT";

/// A bug, the scenario that meets it, and what is said of it.
type Hunt = (Canary, &'static str, &'static [&'static str]);

const HUNTS: [Hunt; 22] = [
    (Canary::PageInWithoutCompare, "histories::every_schedule::a_history_has_an_order", &["no order"]),
    (Canary::UnstableEvicted, "links::every_schedule::a_link_meets_page_ins_and_evictions", &["Corrupt", "damaged"]),
    (Canary::FailedSwapTakenForSuccess, "links::every_schedule::a_link_meets_links", &["a conflict of"]),
    (Canary::IdGivenBackTwice, "ids::every_schedule::freed_ids_go_round", &["handed out twice", "assertion"]),
    (Canary::WaitersForgottenAtFailure, "failures::every_schedule::a_failure_is_told_to_all_who_wait", &["deadlock"]),
    (Canary::LostWakeup, "shutdown::every_schedule::writers_wait_for_room_and_for_durability", &["deadlock"]),
    (
        Canary::TailReadAfterSlots,
        "shutdown::every_schedule::the_background_meets_writers_and_a_close",
        &["Corrupt", "damaged"],
    ),
    (
        Canary::SlotClearedBeforeCopy,
        "shutdown::every_schedule::writers_wait_for_room_and_for_durability",
        &["is lost", "Corrupt", "damaged"],
    ),
    (Canary::EarlyAcknowledgement, "histories::every_schedule::a_crash_at_any_moment_leaves_a_cut", &["no order"]),
    (Canary::SkippedSync, "histories::every_schedule::a_crash_at_any_moment_leaves_a_cut", &["no order"]),
    (
        Canary::SharedReadByPage,
        "histories::every_schedule::a_history_has_an_order",
        &["no order", "Corrupt", "damaged"],
    ),
    (
        Canary::DirtyBeforePublish,
        "checkpoints::every_schedule::a_checkpoint_meets_updates",
        &["by the whole log", "was stable", "does not go on the version below it"],
    ),
    (
        Canary::DirectoryDuringBirth,
        "checkpoints::every_schedule::checkpoints_meet_births",
        &["by the whole log", "was stable", "damaged", "Corrupt"],
    ),
    (
        Canary::RedoPointTooHigh,
        "checkpoints::every_schedule::a_checkpoint_meets_updates",
        &["by the whole log", "was stable"],
    ),
    (
        Canary::LeafCapturedUnstable,
        "checkpoints::every_schedule::a_checkpoint_is_cut_short_at_any_moment",
        &["by the whole log", "was stable", "damaged", "Corrupt"],
    ),
    (
        Canary::MarksLostWithCheckpoint,
        "checkpoints::every_schedule::a_checkpoint_that_fails_meets_updates",
        &["by the whole log", "was stable", "does not go on the version below it"],
    ),
    // What is in memory may be right still, under a marker that is not.
    (
        Canary::MovedWithoutCompare,
        "cleaning::every_schedule::cleaning_meets_updates",
        &["assertion", "counted as in use"],
    ),
    (
        Canary::GrowingSegmentEmpty,
        "cleaning::every_schedule::checkpoints_meet_cleaning",
        &["the segment of a page is gone"],
    ),
    (
        Canary::RecycledByCheckpointUnderway,
        "cleaning::every_schedule::cleaning_is_cut_short_at_any_moment",
        &["the segment of a page is gone"],
    ),
    (
        Canary::MoveUnsaid,
        "given_back::every_schedule::what_the_log_gives_back_is_cut_short_at_any_moment",
        &["the segment of a page is gone"],
    ),
    (
        Canary::GivenBackUnstable,
        "given_back::every_schedule::what_the_log_gives_back_is_cut_short_at_any_moment",
        &["the segment of a page is gone", "a segment is missing"],
    ),
    (Canary::StaleTokenAccepted, "histories::every_schedule::a_history_has_an_order", &["no order"]),
];

pub fn plant_what_was_asked() {
    if let Ok(asked) = std::env::var(PLANT) {
        let known = HUNTS.iter().map(|(canary, ..)| *canary).find(|canary| format!("{canary:?}") == asked);
        plant(Some(known.unwrap_or_else(|| panic!("no bug is called {asked}"))));
    }
}

/// What the scenario says of itself with this bug in it, if it fails as it should: in as many schedules as it has by itself, or in ten times
/// as many, since some bugs show in one of thousands.
fn hunt(wanted: Hunt) -> Result<String, String> {
    hunt_in(wanted, SCHEDULES_DEFAULT).or_else(|_| hunt_in(wanted, 10 * SCHEDULES_DEFAULT))
}

fn hunt_in((canary, scenario, signs): Hunt, schedules: usize) -> Result<String, String> {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", scenario, "--nocapture"]).env(PLANT, format!("{canary:?}")).env("RUST_BACKTRACE", "0");
    child.env(SCHEDULES, schedules.to_string());
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find(|line| line.contains(": fails in schedule")).unwrap_or("nothing was said");
    let line = format!("{canary:?}: {line}");
    match !output.status.success() && signs.iter().any(|sign| line.contains(sign)) {
        true => Ok(line),
        false => Err(format!("{line}\n{said}")),
    }
}

#[test]
fn every_planted_bug_is_found() {
    let found: Vec<_> = HUNTS.into_iter().map(hunt).collect();
    found.iter().flatten().for_each(|line| println!("{line}"));
    let missed: Vec<_> = found.into_iter().filter_map(Result::err).collect();
    assert!(missed.is_empty(), "not found:\n{}", missed.join("\n"));
}
