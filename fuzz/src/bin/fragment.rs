//! Fragments of pages: the first byte picks the type, the rest is what was stored.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use pagecache::{Fragment, PageBytes};
use pagecache_fuzz::bound::Bound;
use pagecache_fuzz::input::Input;
use serde::{Deserialize, Serialize};

/// What an index may keep in a page.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Node {
    Leaf { keys: Vec<Box<[u8]>>, values: Vec<Option<u64>> },
    Inner { pivots: BTreeMap<String, (u32, i16)>, right: Option<Box<Node>> },
    Moved(u64, char, bool),
    Gone,
}

/// A layout of its own: a count, then so many words.
#[derive(Debug, PartialEq)]
struct Words(Vec<u8>);

impl Fragment for Words {
    fn as_bytes(&self) -> Option<&[u8]> {
        Some(&self.0)
    }
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend(&self.0);
        Ok(())
    }
    fn decode(bytes: PageBytes) -> Result<Self, String> {
        assert!(bytes.as_ptr().addr().is_multiple_of(8) && bytes.heap_size() >= bytes.len());
        match bytes.first() {
            Some(count) if bytes.len() == 1 + 8 * usize::from(*count) => Ok(Words(bytes.to_vec())),
            _ => Err("not so many words".to_owned()),
        }
    }
    fn heap_size(&self) -> usize {
        self.0.capacity()
    }
}

fn stored(bytes: &[u8]) -> PageBytes {
    let mut stored = PageBytes::zeroed(bytes.len());
    stored.as_mut_slice().copy_from_slice(bytes);
    assert_eq!(&*stored, bytes);
    stored
}

/// What decodes comes back from its own encoding as itself.
fn there_and_back<F: Fragment + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(fragment) = F::decode(stored(bytes)) else { return };
    let mut out = Vec::new();
    match fragment.as_bytes() {
        Some(bytes) => out.extend(bytes),
        None => fragment.encode(&mut out).expect("it was decoded"),
    }
    assert!(out.len() <= bytes.len(), "an encoding longer than one that was stored");
    let again = F::decode(stored(&out)).expect("it was encoded");
    // By bytes too: a number that is none does not equal itself.
    let mut twice = Vec::new();
    again.encode(&mut twice).expect("it was decoded");
    assert_eq!(out, twice);
    assert!(fragment.heap_size() <= 64 * bytes.len() + 4096);
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let which = input.u8() % 7;
    let bytes = input.rest();
    // serde sets aside at most 1 MiB for a length that it has not seen yet.
    let _bound = Bound::new((2 << 20) + 64 * bytes.len());
    match which {
        0 => there_and_back::<String>(bytes),
        1 => there_and_back::<Vec<u8>>(bytes),
        2 => there_and_back::<Vec<u64>>(bytes),
        3 => there_and_back::<Vec<(u8, f64, i128)>>(bytes),
        4 => there_and_back::<Node>(bytes),
        5 => there_and_back::<Words>(bytes),
        _ => there_and_back::<BTreeMap<u16, Vec<String>>>(bytes),
    }
});
