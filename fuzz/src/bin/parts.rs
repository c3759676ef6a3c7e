//! The small decoders, picked by the first byte: a varint, a reference to an extent, the name of a file, the heads of a leaf and of
//! a part of a root. None has a checksum.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pagecache::fuzzing;
use pagecache_fuzz::bound::Bound;
use pagecache_fuzz::input::Input;

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let which = input.u8() % 5;
    let bytes = input.rest();
    let _bound = Bound::new(2 * bytes.len() + 4096);
    match which {
        0 => fuzzing::varint(bytes),
        1 => fuzzing::extent_ref(bytes),
        3 => fuzzing::leaf_head(bytes),
        4 => fuzzing::part_head(bytes),
        _ => fuzzing::file_name(&String::from_utf8_lossy(bytes)),
    };
});
