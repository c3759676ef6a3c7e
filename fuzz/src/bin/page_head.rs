//! The head of a page's record: 1 byte kind and flags, 1 byte for where the body starts, then the body. It has no checksum.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pagecache::fuzzing;
use pagecache_fuzz::bound::Bound;
use pagecache_fuzz::input::Input;

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let (flags, body_at) = (input.u8(), input.u8());
    let body = input.rest();
    // Two bytes say of a part what takes sixteen in memory.
    let _bound = Bound::new(8 * body.len() + 4096);
    fuzzing::page_head(body, flags, body_at);
});
