//! Long random runs of pages below a cap on disk, which is met again and again.

use std::time::Instant;

use pagecache_sim::driver::seeded::run_seeds;
use pagecache_sim::page_driver::Capped;

#[test]
fn below_a_cap_updates_are_refused_and_nothing_else_is() {
    let begun = Instant::now();
    let seeds = std::env::var("PAGECACHE_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(300);
    let tally = run_seeds::<Capped>(0..seeds, 200).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{tally}, {:.1?}", begun.elapsed());
    let upkeep = tally.upkeep;
    assert!(upkeep.capped > 0 && upkeep.lifted > 0 && upkeep.given_back > 0, "{tally}");
}
