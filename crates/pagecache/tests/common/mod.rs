//! What pages are made of in several tests.

use pagecache::{Fragment, Materializer, PageBytes};

/// Pages of bytes, stored as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Fragment for Bytes {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(&self.0);
        Ok(())
    }
    fn decode(bytes: PageBytes) -> Result<Bytes, String> {
        Ok(Bytes(bytes.to_vec()))
    }
    fn heap_size(&self) -> usize {
        self.0.capacity()
    }
}

/// Merges by appending; recovers nothing.
pub struct Joined;

impl Materializer for Joined {
    type PageFrag = Bytes;
    type Recovery = ();
    const RECOVERS: bool = false;
    fn new(_: &Option<()>) -> Self {
        Joined
    }
    fn merge(&self, frags: &[&Bytes]) -> Bytes {
        Bytes(frags.iter().flat_map(|frag| frag.0.iter().copied()).collect())
    }
    fn recover(&self, _: &Bytes) -> Option<()> {
        None
    }
}
