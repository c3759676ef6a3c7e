//! What stands at a place in the log: 8 bytes LSN, 8 bytes salt, 4 bytes room, then the bytes there.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use pagecache::fuzzing;
use pagecache_fuzz::bound::Bound;
use pagecache_fuzz::input::Input;
use pagecache_fuzz::mutate::decoder;

const HEAD: usize = 20;

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let (lsn, salt, room) = (input.u64(), input.u64(), input.u32());
    let bytes = input.rest();
    // Two bytes say of a part of an extent what takes sixteen in memory; the encoder's copy of the bytes is shorter.
    let _bound = Bound::new(8 * bytes.len() + 4096);
    fuzzing::record(bytes, lsn, salt, u64::from(room));
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    decoder(data, size, max_size, seed, fuzzer_mutate, |data| {
        let mut input = Input::new(data);
        let (lsn, salt) = (input.u64(), input.u64());
        if let Some(bytes) = data.get_mut(HEAD..) {
            fuzzing::repair_record(bytes, lsn, salt);
        }
    })
});
