//! The entries of a leaf of the map: 1 byte for how many ids it has, then the entries. The checksum is that of its record.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pagecache::fuzzing;
use pagecache_fuzz::bound::Bound;
use pagecache_fuzz::input::Input;

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let power = input.u8();
    let bytes = input.rest();
    // Of the most ids that a leaf may have, each entry takes 24 bytes; a piece has 8 and is stored in 2.
    let _bound = Bound::new(4 * bytes.len() + (16 << 10));
    fuzzing::leaf(bytes, power);
});
