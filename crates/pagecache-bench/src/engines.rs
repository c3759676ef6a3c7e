//! What a row needs of the thing it measures: the kit, `plain`, and the predecessors in `pagecache-compare` all fit it.

/// A log that takes records from many threads.
pub trait Appends: Sync {
    /// Appends a record. What it returns is good for [`wait`](Appends::wait).
    fn append(&self, record: &[u8]) -> u64;

    /// Returns once the record that `append` returned this for is durable.
    fn wait(&self, at: u64);

    /// Makes everything durable.
    fn flush(&self);
}

/// Pages that take updates from many threads. Ids are counted from 0 in the order of [`fill`](Pages::fill).
pub trait Pages: Sync {
    /// Makes pages of `len` equal bytes each.
    fn fill(&self, pages: u64, len: usize);

    /// Pins, gets a page and sums all its bytes.
    fn sum(&self, id: u64) -> u64;

    /// Pins, gets a page, reads the first 32 bytes of what it is now and links a fragment to it, again if it has moved on.
    fn read_and_link(&self, id: u64, fragment: Vec<u8>) -> u64;

    /// Gives a page that nobody else changes its whole content.
    fn replace(&self, id: u64, page: Vec<u8>);

    /// Makes everything durable.
    fn flush(&self);
}
