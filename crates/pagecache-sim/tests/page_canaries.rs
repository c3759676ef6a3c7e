//! The page drivers find every bug that is planted in the handling of pages, and none where none is.

use std::time::Instant;

use pagecache::canary::{Canary, plant};
use pagecache_sim::driver::aftermath::Explore;
use pagecache_sim::driver::seeded::{Swarm, run_steps};
use pagecache_sim::driver::{Tally, Violation, World, exhaustive, without_panic};
use pagecache_sim::page_driver::{Flips, Moment, PageWorld, SEGMENT, alphabet, closed_store, flip_bits, preludes};

/// Those of pages, and those of the log that show through them. A stable LSN inside a record takes a reservation that another
/// thread holds, which no operation on pages does here.
const CANARIES: [(Canary, &[Driver]); 9] = [
    (Canary::IdReusedBeforeFreeStable, &[SEQUENCES, SEEDS]),
    (Canary::StaleTokenAccepted, &[SEQUENCES, SEEDS]),
    (Canary::FreeForgottenAtReplay, &[SEQUENCES, SEEDS]),
    (Canary::SkippedSync, &[SEQUENCES, SEEDS]),
    (Canary::EarlyAcknowledgement, &[SEQUENCES, SEEDS]),
    (Canary::UnsyncedBytesTrusted, &[SEQUENCES, SEEDS]),
    (Canary::SkippedDirectorySync, &[SEQUENCES, SEEDS]),
    (Canary::TornSegmentContinued, &[SEQUENCES, SEEDS]),
    (Canary::DamageTakenForTornTail, &[FLIPS]),
];

type Driver = (&'static str, fn() -> Hunt);

const SEQUENCES: Driver = ("every short sequence", every_short_sequence);
const SEEDS: Driver = ("seeds", seeds);
const FLIPS: Driver = ("flips", flips);

/// A driver, within limits: what it did, and what it found.
type Hunt = (Tally, Option<Violation>);

fn every_short_sequence() -> Hunt {
    let limits = Explore { images: 32, nested_every: 16, deep_every: 0, nested_images: 4 };
    let mut tally = Tally::default();
    // The fullest first: most bugs show at once there.
    for (_, prelude) in preludes().into_iter().rev() {
        let run = || exhaustive::run::<PageWorld>(&prelude, &alphabet(), 2, &limits, &mut tally);
        if let Err(broken) = without_panic(run) {
            return (tally, Some(broken));
        }
    }
    (tally, None)
}

fn seeds() -> Hunt {
    let mut tally = Tally::default();
    for seed in 0..150 {
        tally.runs += 1;
        if let Err(broken) = run_steps::<PageWorld>(seed, &PageWorld::plan(seed, 200), &mut tally) {
            return (tally, Some(broken));
        }
    }
    (tally, None)
}

/// Some bits of each byte: all of them are turned over in a test of their own.
fn flips() -> Hunt {
    let mut flips = Flips::default();
    let run = || {
        let world = closed_store()?;
        flip_bits(&world, &world.disk().file_names()[0], (0..SEGMENT * 8).step_by(61), Moment::Closed, &mut flips)
    };
    let broken = without_panic(run).err();
    (Tally { images: flips.tried, ..Tally::default() }, broken)
}

#[test]
fn every_planted_bug_is_found_and_none_where_none_is() {
    // Bugs may be found as panics, and those need no backtrace.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for (canary, drivers) in CANARIES {
        plant(Some(canary));
        for (name, driver) in drivers {
            let begun = Instant::now();
            let (tally, broken) = driver();
            let outcome = broken.as_ref().map_or("NOT FOUND", Violation::claim);
            println!("{canary:?} by {name}: {tally}, {:.1?}: {outcome}", begun.elapsed());
            if broken.is_none() {
                missed.push((canary, name));
            }
        }
    }
    plant(None);
    std::panic::set_hook(hook);
    for (name, driver) in [SEQUENCES, SEEDS, FLIPS] {
        let begun = Instant::now();
        let (tally, broken) = driver();
        println!("nothing planted: {name}: {tally}, {:.1?}", begun.elapsed());
        assert!(tally.images > 0);
        if let Some(broken) = broken {
            panic!("{name}: {broken}");
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
