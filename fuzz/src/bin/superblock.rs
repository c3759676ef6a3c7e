//! One copy of the superblock: the block.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use pagecache::fuzzing;
use pagecache_fuzz::bound::Bound;
use pagecache_fuzz::mutate::decoder;

fuzz_target!(|data: &[u8]| {
    // The block that the encoder makes.
    let _bound = Bound::new(8192);
    fuzzing::superblock(data);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    decoder(data, size, max_size, seed, fuzzer_mutate, fuzzing::repair_superblock)
});
