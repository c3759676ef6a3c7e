//! One bit turned over in a store of pages: the right pages or a typed refusal.

use std::time::Instant;

use pagecache_sim::driver::World;
use pagecache_sim::page_driver::{Flips, Moment, SEGMENT, closed_store, flip_bits};

const BITS: u64 = SEGMENT * 8;

/// Turns over these bits of the one file of a store.
fn flip(bits: impl Iterator<Item = u64>, moment: Moment) -> Flips {
    let world = closed_store().unwrap();
    let names = world.disk().file_names();
    assert_eq!(names.len(), 1);
    let mut flips = Flips::default();
    if let Err(broken) = flip_bits(&world, &names[0], bits, moment, &mut flips) {
        panic!("{broken}");
    }
    flips
}

#[test]
fn no_flipped_bit_of_a_closed_store_is_ever_silent() {
    let begun = Instant::now();
    // Two halves at once, each on a store of its own.
    let (low, high) = std::thread::scope(|scope| {
        let low = scope.spawn(|| flip(0..BITS / 2, Moment::Closed));
        (flip(BITS / 2..BITS, Moment::Closed), low.join().unwrap())
    });
    println!("{low}; {high}; {:.1?}", begun.elapsed());
    assert_eq!(low.tried + high.tried, BITS);
    assert!(low.right + high.right > 0 && low.corrupt + high.corrupt > 0);
}

#[test]
fn a_bit_that_flips_under_an_open_store_costs_its_page_alone() {
    let begun = Instant::now();
    let flips = flip((0..BITS).step_by(13), Moment::Open);
    println!("{flips}, {:.1?}", begun.elapsed());
    assert!(flips.right > 0 && flips.pages_corrupt > 0 && flips.corrupt == 0, "{flips}");
}
