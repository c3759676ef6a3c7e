//! Every short sequence of page operations, stopped before and after every call of the disk.

use std::time::Instant;

use pagecache_sim::driver::aftermath::Explore;
use pagecache_sim::driver::{Tally, exhaustive};
use pagecache_sim::page_driver::{PageWorld, alphabet, preludes};

#[test]
fn no_crash_at_any_call_of_any_short_sequence_breaks_a_promise() {
    let mut all = Tally::default();
    for (at, (place, prelude)) in preludes().into_iter().enumerate() {
        let begun = Instant::now();
        let limits = Explore { images: 32, nested_every: 64, depth: 1, nested_images: 4 };
        let mut tally = Tally::default();
        // From an empty store three operations; elsewhere two, the first of which is in the right place already.
        let length = if at == 0 { 3 } else { 2 };
        let outcome = exhaustive::run::<PageWorld>(&prelude, &alphabet(), length, &limits, &mut tally);
        println!("from {place}: {tally}, {:.1?}", begun.elapsed());
        if let Err(broken) = outcome {
            panic!("{broken}");
        }
        all += tally;
    }
    println!("in all: {all}");
    assert!(all.images > 120_000 && all.nested > 0 && all.operations > 0, "{all}");
}
