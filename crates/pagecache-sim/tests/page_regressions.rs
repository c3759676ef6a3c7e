//! What the page drivers once found, each told as it happened.

use pagecache_sim::disk::{Call, Effect, Fault, SimDisk, Survival, When};
use pagecache_sim::driver::seeded::run_steps;
use pagecache_sim::driver::{Mood, Step, Tally, World};
use pagecache_sim::page_driver::{Capped, PageOp, PageWorld};

/// A recovery wrote the unproven end of the log again, and the disk put it one block too far. The second walk, which asks the
/// user's `recover` about each fragment, took the damage for the log's end and recovered an older state without a word.
#[test]
fn damage_between_the_two_walks_of_a_start_is_told() {
    let mut before = PageWorld::new(SimDisk::new(7), 7);
    before.open().unwrap();
    for op in [PageOp::New(300), PageOp::Flush, PageOp::Link(0, 40), PageOp::New(9000), PageOp::Link(0, 20_000)] {
        before.apply(&op).unwrap();
    }
    before.disk().crash_at_sync(0);
    before.apply(&PageOp::Flush).unwrap();
    let mut after = before.over(before.disk().crash(Survival::KeepAll));
    after.disk().fault(Fault::new(Call::Write, When::Once(0), Effect::MisdirectedWrite { delta: 4096 }));
    assert!(!after.start().unwrap(), "it opened");
    assert!(after.trust().is_lost(), "it was not refused as damaged");
}

/// A disk put the close's mark too far, and then what the next start wrote again, over the acknowledged record itself; that start
/// ended on a full disk, and the one after it met a torn round that nothing proves. No store can know better. The driver did
/// not either, and called it a loss.
#[test]
fn a_start_on_a_disk_that_lies_may_cost_the_last_round() {
    let mut world = PageWorld::new(SimDisk::new(574), 574);
    world.open().unwrap();
    world.disk().fault(Fault::new(Call::Write, When::From(1), Effect::MisdirectedWrite { delta: 512 }));
    world.apply(&PageOp::Link(0, 1239)).unwrap();
    world.apply(&PageOp::MakeStable(0)).unwrap();
    world.disk().set_capacity(Some(world.disk().used_bytes() + 13_951));
    world.apply(&PageOp::New(0)).unwrap();
    world.close().unwrap();
    let lies = |world: &PageWorld| world.disk().struck().iter().filter(|strike| strike.effect.lies()).count();
    let before = lies(&world);
    assert!(!world.start().unwrap() && lies(&world) > before, "what is unproven was not written again");
    world.disk().clear_faults();
    world.disk().set_capacity(None);
    assert!(world.start().unwrap(), "what is lost is a tail");
}

/// A checkpoint failed at a write, and the directory at a sync when what it had begun was removed. The store went on as if
/// nothing had been: a failed sync says that nothing is known of what is on disk.
#[test]
fn a_failed_sync_behind_a_failed_checkpoint_ends_the_store() {
    let mut world = PageWorld::new(SimDisk::new(7), 7);
    world.open().unwrap();
    for op in [PageOp::New(40), PageOp::Flush] {
        world.apply(&op).unwrap();
    }
    // Two writes are the headers of a segment for the map, the third is a leaf, whose sync names it; the fourth is the root.
    world.disk().fault(Fault::new(Call::Write, When::Once(3), Effect::Eio));
    world.disk().fault(Fault::new(Call::SyncDir, When::Once(1), Effect::Eio));
    world.apply(&PageOp::Checkpoint).unwrap();
    let struck: Vec<Call> = world.disk().struck().iter().map(|strike| strike.call).collect();
    assert_eq!(struck, [Call::Write, Call::SyncDir]);
    world.disk().clear_faults();
    assert_eq!(world.mood().unwrap(), Mood::Poisoned);
}

/// Behind a start nobody knows how much of a segment long pages leave empty. The images of the first turn took the last segments below the cap,
/// there was none left for the checkpoint that would have given back what they replaced, and none ever again: whatever was freed.
#[test]
fn images_leave_a_checkpoint_its_segments_below_a_cap() {
    use PageOp::{Checkpoint, Flood, Flush, Free, Link, New, Replace, Tick};
    let first = [Flood(6000), Flood(12_000), New(16_000), Link(8, 1235), Free(5), New(16_000), Replace(31, 9000), Tick];
    let then = [Free(1), New(16_000), Free(7), Replace(8, 340), Flood(6000), Free(1), Flood(6000), Link(8, 40_053)];
    let before = first.into_iter().chain(then).chain([Flood(6000), Tick, Flood(6000)]).map(Step::Do);
    let behind = [Flood(6000), Tick, Flush, Checkpoint, Free(3), Flush, Checkpoint, Tick].map(Step::Do);
    let steps: Vec<_> = before.chain([Step::Restart]).chain(behind).collect();
    run_steps::<Capped>(16, &steps, &mut Tally::default()).unwrap_or_else(|broken| panic!("{broken}"));
}
