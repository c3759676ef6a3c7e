//! What the drivers once found, each told as it happened.

use pagecache::inspect::verify;
use pagecache_sim::disk::{AfterSync, Call, Effect, Fault, SimDisk, Survival, When};
use pagecache_sim::driver::aftermath::Explore;
use pagecache_sim::driver::seeded::run_steps;
use pagecache_sim::driver::{Step, Tally, World, exhaustive};
use pagecache_sim::log_driver::{LogOp, LogWorld, config};

const LIMITS: Explore = Explore { images: 32, nested_every: 1, deep_every: 0, nested_images: 8 };

/// Stops at every call of the last steps, which come after the first ones.
fn stop_everywhere(first: &[LogOp], last: &[Step<LogOp>]) {
    let first: Vec<_> = first.iter().map(|op| Step::Do(*op)).collect();
    stop_everywhere_after(&first, last);
}

fn stop_everywhere_after(prelude: &[Step<LogOp>], last: &[Step<LogOp>]) {
    let mut tally = Tally::default();
    if let Err(broken) = exhaustive::run::<LogWorld>(prelude, last, 1, &LIMITS, &mut tally) {
        panic!("{broken}");
    }
    println!("{tally}");
    assert!(tally.images > 0 && tally.nested > 0);
}

/// With many seeds, as a seed decides the image.
fn strike(fault: &[Fault]) {
    let steps: Vec<_> = fault.iter().cloned().map(Step::Fault).chain([Step::Restart]).collect();
    let mut tally = Tally::default();
    for seed in 0..200 {
        if let Err(broken) = run_steps::<LogWorld>(seed, &steps, &mut tally) {
            panic!("seed {seed}: {broken}");
        }
    }
    println!("{tally}");
    assert!(tally.faults > 0);
}

/// A torn tail over three segments was cut by removing the last two. A crash kept the removal of the second and lost that of
/// the third: a chain with a gap, called damage for ever after.
#[test]
fn discarded_segments_go_only_when_nothing_needs_their_order() {
    stop_everywhere(&[LogOp::Write(70_000)], &[Step::Do(LogOp::Write(70_000))]);
}

/// An idle tick asked whether the log was at rest under a lock, and held the lock while it answered.
#[test]
fn a_tick_at_rest_ends() {
    stop_everywhere(&[LogOp::Write(1), LogOp::Tick, LogOp::Tick], &[Step::Do(LogOp::Tick)]);
}

/// A process died between the write and the sync of the mark of its close, the last block of a segment. The next one read it
/// from the cache, went on in the next segment and said there that all before was stable; the machine then lost the mark.
#[test]
fn what_a_clean_close_left_in_the_cache_alone_is_not_believed() {
    for granules in [-1124, -612, -100, -1] {
        stop_everywhere(&[LogOp::ToSegmentEnd(granules), LogOp::Flush], &[Step::Restart]);
    }
}

/// The next process named the next segment and died before it synced the directory. The one after it found the name in the
/// cache and behind a clean close, and put its records there; the machine then lost the name, and all of them.
#[test]
fn the_name_of_a_segment_behind_a_clean_close_is_synced() {
    // Marks of two restarts fill the blocks that records leave free, and the close of the third is the last block.
    let records = [LogOp::Write(8000); 4].into_iter().chain([LogOp::Flush]).map(Step::Do);
    let prelude: Vec<_> = records.chain([Step::Restart, Step::Restart]).collect();
    stop_everywhere_after(&prelude, &[Step::Restart]);
}

/// The mark of a close, with a sync that failed and called its pages clean; the next opening synced only what it wrote itself.
#[test]
fn the_mark_of_a_close_that_failed_to_sync_is_written_again() {
    strike(&[Fault::new(Call::SyncData, When::From(0), Effect::SyncFails(AfterSync::KeptClean))]);
}

/// A recovery failed to sync the directory after naming a new segment. The next one found the name in the cache, named the
/// empty segment as the one before its own, and the machine lost it.
#[test]
fn no_segment_names_an_empty_one_whose_own_name_may_be_lost() {
    strike(&[
        Fault::new(Call::Write, When::Once(0), Effect::Eio),
        Fault::new(Call::SyncDir, When::Once(1), Effect::SyncFails(AfterSync::KeptClean)),
    ]);
}

/// The first process of all failed to sync the directory and died; the second found the name of its empty segment in the cache,
/// made a segment behind it, and the machine lost the first name: a segment was missing for ever after.
#[test]
fn no_segment_names_the_first_one_while_that_is_empty_and_its_name_may_be_lost() {
    let disk = SimDisk::new(1);
    disk.fault(Fault::new(Call::SyncDir, When::Once(0), Effect::SyncFails(AfterSync::KeptClean)));
    let mut first = LogWorld::new(disk, 1);
    assert!(!first.start().unwrap());
    let mut second = first.over(first.disk().kill());
    second.open().unwrap();
    second.prove().unwrap();
    let mut third = second.over(second.disk().crash(Survival::DropAll));
    third.open().unwrap();
    third.prove().unwrap();
    third.close().unwrap();
    assert!(verify(config(third.disk())).unwrap().is_sound());
}

/// A trim failed to sync the directory and the log went on as if nothing had been.
#[test]
fn a_failed_sync_of_the_directory_ends_the_log_in_a_trim_too() {
    let mut steps: Vec<_> = [LogOp::Write(70_000), LogOp::Write(70_000), LogOp::Flush].map(Step::Do).to_vec();
    steps.push(Step::Fault(Fault::new(Call::SyncDir, When::From(0), Effect::Eio)));
    steps.push(Step::Do(LogOp::Trim(pagecache_sim::log_driver::Which::Stable)));
    steps.push(Step::Do(LogOp::Write(1)));
    for seed in 0..20 {
        let mut tally = Tally::default();
        if let Err(broken) = run_steps::<LogWorld>(seed, &steps, &mut tally) {
            panic!("seed {seed}: {broken}");
        }
        assert!(tally.faults > 0);
    }
}
