//! The root of a checkpoint, its parts put together: 1 byte for the size of segments, then the root. Checksums are those of its
//! records.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pagecache::fuzzing;
use pagecache_fuzz::bound::Bound;
use pagecache_fuzz::input::Input;

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let power = input.u8();
    let bytes = input.rest();
    // A leaf that is not there takes a byte, and 24 in a list that grows by doubling.
    let _bound = Bound::new(64 * bytes.len() + 4096);
    fuzzing::root(bytes, power);
});
