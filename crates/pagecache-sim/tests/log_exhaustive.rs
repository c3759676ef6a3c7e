//! Every short sequence of log operations, stopped before and after every call of the disk, recoveries included.

use pagecache_sim::driver::exhaustive::every_prelude;
use pagecache_sim::log_driver::{LogWorld, alphabet, preludes};

#[test]
fn no_crash_at_any_call_of_any_short_sequence_breaks_a_promise() {
    let all = every_prelude::<LogWorld>(&preludes(), &alphabet()).unwrap_or_else(|broken| panic!("{broken}"));
    println!("in all: {all}");
    assert!(all.images > 200_000 && all.operations > 0, "{all}");
    // Every image is crashed inside its recovery, one in 100 three deep.
    assert!(all.nested > all.explored && all.deep * 100 + 100 * preludes().len() as u64 > all.explored, "{all}");
}
