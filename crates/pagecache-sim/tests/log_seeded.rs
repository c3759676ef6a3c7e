//! Long random runs of the log over a failing disk.

use std::time::Instant;

use pagecache_sim::driver::seeded::{run_seed, run_seeds};
use pagecache_sim::log_driver::LogWorld;

/// `PAGECACHE_SIM_SEEDS` asks for another number of seeds.
fn seeds(default: u64) -> u64 {
    std::env::var("PAGECACHE_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(default)
}

const STEPS: usize = 300;

#[test]
fn no_seed_breaks_a_promise() {
    let begun = Instant::now();
    let tally = run_seeds::<LogWorld>(0..seeds(2000), STEPS).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{tally}, {:.1?}", begun.elapsed());
    assert!(tally.images > 0 && tally.faults > 0 && tally.operations > 0 && tally.starts > 0);
}

#[test]
fn a_seed_makes_the_same_calls_every_time() {
    let mut traces = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let run = || run_seed::<LogWorld>(seed, STEPS);
        let (one, two) = (run(), run());
        assert_eq!((one.trace, one.tally), (two.trace, two.tally), "seed {seed}");
        traces.insert(one.trace);
    }
    println!("{} different runs of 40 seeds, each repeated", traces.len());
    assert_eq!(traces.len(), 40);
}
