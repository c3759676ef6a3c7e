//! The last flush torn at every one of its bytes, with the file's old bytes, zeros or garbage behind the tear.

use std::time::Instant;

use pagecache_sim::driver::{Tally, World, torn_everywhere};
use pagecache_sim::log_driver::{LogOp, LogWorld, Which};
use pagecache_sim::page_driver::{PageOp, PageWorld};

fn tear<W: World>(name: &str, steps: &[W::Op], last: &W::Op) -> u64 {
    tear_at::<W>(name, steps, last, 0)
}

fn tear_at<W: World>(name: &str, steps: &[W::Op], last: &W::Op, sync: u64) -> u64 {
    let (begun, mut tally) = (Instant::now(), Tally::default());
    let torn = torn_everywhere::<W>(steps, last, sync, &mut tally).unwrap_or_else(|broken| panic!("{name}: {broken}"));
    println!("{name}: torn at {torn} bytes: {tally}, {:.1?}", begun.elapsed());
    torn
}

#[test]
fn no_tear_of_the_last_record_of_a_log_breaks_a_promise() {
    use LogOp::{Flush, Tick, ToSegmentEnd, Trim, Write};
    // A block, from the record's first byte to the mark's last one.
    assert_eq!(tear::<LogWorld>("a record", &[Write(300), Flush, Write(900)], &Flush), 4097);
    assert_eq!(tear::<LogWorld>("a mark", &[Write(300), Flush], &Tick), 4097);
    let long = Write(70_000);
    // A file that was used before: the old records stand behind the tear.
    let used = [long, long, Flush, Trim(Which::Stable), ToSegmentEnd(0), Write(300), Flush, Write(900)];
    assert_eq!(tear::<LogWorld>("a record in a file that is used again", &used, &Flush), 4097);
    assert!(tear::<LogWorld>("a record over a block's end", &[Write(3000), Write(3000)], &Flush) > 8192);
}

#[test]
fn no_tear_of_the_last_update_of_pages_breaks_a_promise() {
    use PageOp::{Checkpoint, Flush, Free, Link, New, Replace};
    let steps = [New(300), New(40), Flush, Link(0, 40), Replace(1, 900), Free(0)];
    assert_eq!(tear::<PageWorld>("updates", &steps, &Flush), 4097);
    // The log is synced first, then the leaves, the roots, a block each, and the two copies of the superblock.
    let steps = [New(300), New(40), Checkpoint, Link(0, 40)];
    for (sync, name, blocks) in [(1, "leaves", 1), (2, "roots", 2), (3, "a superblock", 1), (4, "its other copy", 1)] {
        assert_eq!(tear_at::<PageWorld>(name, &steps, &Checkpoint, sync), blocks * 4096 + 1);
    }
    assert!(tear::<PageWorld>("an extent", &[New(300), Flush, Link(0, 16_500)], &Flush) > 16_384);
}
