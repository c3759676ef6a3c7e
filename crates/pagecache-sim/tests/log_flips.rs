//! One bit turned over in a log: the right records or a typed refusal.

use std::time::Instant;

use pagecache_sim::log_driver::{Flips, Left, SEGMENT, flip_bits, log_in_one_segment};

/// Turns over every `step`th bit of the one file of a log of which the last `unproven` records may be lost.
fn flip(left: Left, step: usize, unproven: usize) -> Flips {
    let begun = Instant::now();
    let (disk, records) = log_in_one_segment(left).unwrap();
    let names = disk.file_names();
    assert_eq!(names.len(), 1);
    let mut flips = Flips::default();
    let bits = (0..SEGMENT * 8).step_by(step);
    let checked = flip_bits(&disk, &names[0], bits, &records, records.len() - unproven, &mut flips);
    println!("{left:?}, {} records: {flips}, {:.1?}", records.len(), begun.elapsed());
    if let Err(broken) = checked {
        panic!("{broken}");
    }
    flips
}

#[test]
fn no_flipped_bit_of_a_closed_log_is_ever_silent() {
    let flips = flip(Left::Closed, 1, 0);
    assert_eq!(flips.tried, SEGMENT * 8);
    assert!(flips.right > 0 && flips.corrupt > 0 && flips.shorter == 0, "{flips}");
}

#[test]
fn a_flipped_bit_after_a_crash_costs_at_most_the_last_flush() {
    let flips = flip(Left::Killed, 7, 1);
    assert!(flips.right > 0 && flips.corrupt > 0 && flips.shorter > 0, "{flips}");
}
