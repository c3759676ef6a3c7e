//! Every short sequence of page operations, stopped before and after every call of the disk, recoveries included.

use pagecache_sim::driver::exhaustive::every_prelude;
use pagecache_sim::page_driver::{PageWorld, alphabet, preludes};

#[test]
fn no_crash_at_any_call_of_any_short_sequence_breaks_a_promise() {
    let all = every_prelude::<PageWorld>(&preludes(), &alphabet()).unwrap_or_else(|broken| panic!("{broken}"));
    println!("in all: {all}");
    assert!(all.images > 120_000 && all.operations > 0, "{all}");
    // Every image is crashed inside its recovery, one in 100 three deep.
    assert!(all.nested > all.explored && all.deep * 100 + 100 * preludes().len() as u64 > all.explored, "{all}");
    let upkeep = all.upkeep;
    // The accounts of all that were not found damaged; the files of one in four.
    assert!(upkeep.accounts > all.images && upkeep.spaces * 6 > upkeep.accounts, "{all}");
    assert!(upkeep.is_whole() && upkeep.ways > 0 && upkeep.differing > 0, "{all}");
}
