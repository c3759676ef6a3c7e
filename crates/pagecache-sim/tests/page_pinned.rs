//! Every short sequence of operations while files are kept for a backup, stopped before and after every counted call.

use pagecache_sim::driver::Tally;
use pagecache_sim::driver::aftermath::Explore;
use pagecache_sim::driver::exhaustive::run;
use pagecache_sim::page_driver::{PageWorld, pinned, pinned_alphabet};

#[test]
fn no_file_goes_under_a_pin_and_no_crash_under_it_breaks_a_promise() {
    let limits = Explore { images: 32, nested_every: 16, deep_every: 0, nested_images: 4 };
    let mut tally = Tally::default();
    run::<PageWorld>(&pinned(), &pinned_alphabet(), 3, &limits, &mut tally).unwrap_or_else(|broken| panic!("{broken}"));
    println!("{tally}");
    let upkeep = tally.upkeep;
    assert!(tally.images > 10_000 && upkeep.copied > 0 && upkeep.moved > 0 && upkeep.given_back > 0, "{tally}");
}
