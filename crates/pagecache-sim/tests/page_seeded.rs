//! Long random runs of pages over a failing disk.

use std::time::Instant;

use pagecache_sim::driver::seeded::{run_seed, run_seeds};
use pagecache_sim::page_driver::PageWorld;

/// `PAGECACHE_SIM_SEEDS` asks for another number of seeds.
fn seeds(default: u64) -> u64 {
    std::env::var("PAGECACHE_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(default)
}

#[test]
fn no_seed_breaks_a_promise() {
    let begun = Instant::now();
    let tally = run_seeds::<PageWorld>(0..seeds(2000), 300).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{tally}, {:.1?}", begun.elapsed());
    assert!(tally.images > 0 && tally.faults > 0 && tally.operations > 0 && tally.starts > 0);
    let upkeep = tally.upkeep;
    assert!(upkeep.accounts > 0 && upkeep.spaces > 0 && upkeep.calmed > 0 && upkeep.is_whole(), "{tally}");
    assert!(upkeep.survivor_bytes > 0 && upkeep.ways > 0 && upkeep.copied > 0 && upkeep.differing > 0, "{tally}");
}

#[test]
fn equal_seeds_give_equal_runs() {
    let traces = || -> Vec<u64> { (0..10).map(|seed| run_seed::<PageWorld>(seed, 200).trace).collect() };
    let (first, second) = (traces(), traces());
    assert_eq!(first, second);
    assert!(first.windows(2).all(|pair| pair[0] != pair[1]), "{first:?}");
    println!("{} seeds twice", first.len());
}
