//! The stretches of a file that are not zero.

use std::ops::Range;

const BLOCK: usize = 256;
const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Zeros that end a stretch: fewer cost less than the head of another one.
const GAP: usize = 16;

/// Where a file is not zero.
pub fn stretches(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut found: Vec<Range<usize>> = Vec::new();
    // Most blocks are zero: they are told from others by one comparison, as every byte looked at alone is one more that the
    // fuzzer traces.
    for (nth, block) in bytes.chunks(BLOCK).enumerate().filter(|(_, block)| **block != ZEROS[..block.len()]) {
        for within in (0..block.len()).filter(|at| block[*at] != 0) {
            let at = nth * BLOCK + within;
            match found.last_mut().filter(|last| at - last.end <= GAP && at - last.start < usize::from(u16::MAX)) {
                Some(last) => last.end = at + 1,
                None => found.push(at..at + 1),
            }
        }
    }
    found.into_iter().map(|range| (range.start, &bytes[range])).collect()
}
