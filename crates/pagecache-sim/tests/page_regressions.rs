//! What the page drivers once found, each told as it happened.

use pagecache_sim::disk::{Call, Effect, Fault, SimDisk, Survival, When};
use pagecache_sim::driver::World;
use pagecache_sim::page_driver::{PageOp, PageWorld};

/// A recovery wrote the unproven end of the log again, and the disk put it one block too far. The second walk, which asks the
/// user's `recover` about each fragment, took the damage for the log's end and recovered an older state without a word.
#[test]
fn damage_between_the_two_walks_of_a_start_is_told() {
    let mut before = PageWorld::new(SimDisk::new(7), 7);
    before.open().unwrap();
    for op in [PageOp::New(300), PageOp::Flush, PageOp::Link(0, 40), PageOp::New(9000), PageOp::Link(0, 20_000)] {
        before.apply(&op).unwrap();
    }
    before.disk().crash_at_sync();
    before.apply(&PageOp::Flush).unwrap();
    let mut after = before.over(before.disk().crash(Survival::KeepAll));
    after.disk().fault(Fault::new(Call::Write, When::Once(0), Effect::MisdirectedWrite { delta: 4096 }));
    assert!(!after.start().unwrap(), "it opened");
    assert!(after.trust().is_lost(), "it was not refused as damaged");
}
