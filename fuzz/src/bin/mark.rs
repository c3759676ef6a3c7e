//! The mark that ends a flush round: 8 bytes LSN behind it, 8 bytes salt, then the mark.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use pagecache::fuzzing;
use pagecache_fuzz::bound::Bound;
use pagecache_fuzz::input::Input;
use pagecache_fuzz::mutate::decoder;

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let (end, salt) = (input.u64(), input.u64());
    let _bound = Bound::new(4096);
    fuzzing::mark(input.rest(), end, salt);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    decoder(data, size, max_size, seed, fuzzer_mutate, |data| {
        let mut input = Input::new(data);
        let (end, salt) = (input.u64(), input.u64());
        if let Some(bytes) = data.get_mut(16..) {
            fuzzing::repair_mark(bytes, end, salt);
        }
    })
});
