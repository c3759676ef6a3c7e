//! A directory of arbitrary files, opened as a page cache: every page read, changed, and read again after another opening.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target, fuzzer_mutate};
use pagecache_fuzz::{archive, mutate, store};

fuzz_target!(|data: &[u8]| -> Corpus {
    match store::page::check(&archive::unpack(data)) {
        true => Corpus::Keep,
        false => Corpus::Reject,
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::directory(data, size, max_size, seed, fuzzer_mutate)
});
