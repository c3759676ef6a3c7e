//! The hunt for planted bugs: drivers within limits, and the check that each finds what it should and nothing where nothing is.

use std::time::Instant;

use pagecache::canary::{Canary, plant};
use pagecache_sim::driver::aftermath::Explore;
use pagecache_sim::driver::seeded::{Swarm, run_steps};
use pagecache_sim::driver::strikes::{Case, strike_everywhere};
use pagecache_sim::driver::{Checked, Step, Tally, Violation, exhaustive, share, without_panic};

/// A driver, by name.
pub type Driver = (&'static str, fn(&mut Tally) -> Checked);

/// All sequences of up to two steps from each prelude. The fullest first: most bugs show at once there.
pub fn every_short_sequence<W>(
    preludes: Vec<(&'static str, Vec<Step<W::Op>>)>,
    alphabet: &[Step<W::Op>],
    tally: &mut Tally,
) -> Checked
where
    W: Swarm,
    W::Op: Sync,
{
    let limits = Explore { images: 32, nested_every: 16, deep_every: 0, nested_images: 4 };
    preludes.into_iter().rev().try_for_each(|(_, prelude)| exhaustive::run::<W>(&prelude, alphabet, 2, &limits, tally))
}

/// Random runs.
pub fn seeds<W: Swarm>(steps: usize, tally: &mut Tally) -> Checked {
    share(400, tally, |seed, tally| {
        let seed = seed as u64;
        tally.runs += 1;
        run_steps::<W>(seed, &W::plan(seed, steps), tally).map(drop)
    })
}

/// Every fault at every call.
pub fn strikes<W: Swarm>(cases: &[Case<W::Op>], tally: &mut Tally) -> Checked {
    cases.iter().try_for_each(|case| strike_everywhere::<W>(case, tally).map(drop))
}

/// Plants each bug for each of its drivers, then none for all of them.
///
/// # Panics
/// Where a bug is not found, or where one is that nobody planted.
pub fn hunt(canaries: &[(Canary, &[Driver])]) {
    // Bugs may be found as panics, and those need no backtrace.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (mut missed, mut clean): (Vec<_>, Vec<Driver>) = (Vec::new(), Vec::new());
    for (canary, drivers) in canaries {
        plant(Some(*canary));
        for driver in *drivers {
            let (tally, broken) = run(driver);
            let outcome = broken.as_ref().map_or("NOT FOUND", Violation::claim);
            println!("{canary:?} by {}: {tally}: {outcome}", driver.0);
            if broken.is_none() {
                missed.push((canary, driver.0));
            }
            if clean.iter().all(|known| known.0 != driver.0) {
                clean.push(*driver);
            }
        }
    }
    plant(None);
    std::panic::set_hook(hook);
    for driver in &clean {
        let begun = Instant::now();
        let (tally, broken) = run(driver);
        println!("nothing planted: {}: {tally}, {:.1?}", driver.0, begun.elapsed());
        assert!(tally.images > 0, "{} looked at nothing", driver.0);
        if let Some(broken) = broken {
            panic!("{}: {broken}", driver.0);
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

fn run(driver: &Driver) -> (Tally, Option<Violation>) {
    let mut tally = Tally::default();
    let broken = without_panic(|| driver.1(&mut tally)).err();
    (tally, broken)
}
