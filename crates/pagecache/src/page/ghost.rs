//! The ghost: which pages were evicted from the small queue of late. Two bytes a page, no lock, and nothing is ever moved.
//!
//! A word holds the traces of the last four pages of all that hash to it, the newest lowest: what comes in shifts the oldest out. So
//! a page is remembered for about as many evictions as the words have room for, and a trace needs no age. A trace may be another
//! page's (once in 2^14), and two who write one word at once may lose one of theirs: neither does any harm.

use super::buckets::Buckets;
use crate::base::ids::PageId;
use crate::base::sync::{AtomicU64, Ordering};

/// Words at first, as a power of two.
const FIRST: u32 = if cfg!(any(loom, shuttle)) { 0 } else { 3 };
/// Traces in a word, and bits of each.
const TRACES: u64 = 4;
const BITS: u32 = 16;

#[derive(Debug)]
pub(super) struct Ghost {
    words: Buckets<AtomicU64, FIRST>,
    /// Words in use: a power of two that only grows.
    len: AtomicU64,
}

/// Spreads the bits of a number: the last steps of splitmix64.
pub(super) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// What is kept of a page, never 0, and the hash that says in which word.
fn trace(id: PageId) -> (u64, u64) {
    let hash = mix(id.0);
    ((hash >> (u64::BITS - BITS)).max(1), hash)
}

/// A word with one more trace.
fn with(word: u64, trace: u64) -> u64 {
    word << BITS | trace
}

/// A word without a trace, if it has it.
fn without(word: u64, trace: u64) -> Option<u64> {
    let at = (0..TRACES as u32).map(|at| at * BITS).find(|at| word >> at & ((1 << BITS) - 1) == trace)?;
    let newer = word & ((1 << at) - 1);
    let older = word.checked_shr(at + BITS).unwrap_or(0) << at;
    Some(older | newer)
}

impl Ghost {
    pub(super) fn new() -> Ghost {
        Ghost { words: Buckets::new(), len: AtomicU64::new(1 << FIRST) }
    }

    /// Remembers a page, where there is to be room for about so many.
    pub(super) fn remember(&self, id: PageId, pages: u64) {
        // All orders relaxed: hints, each whole in its word.
        let wanted = pages.div_ceil(TRACES).next_power_of_two();
        let mut len = self.len.load(Ordering::Relaxed);
        // Where there is no memory for more, what there is does.
        while len < wanted && self.words.ensure(2 * len - 1).is_some() {
            len *= 2;
            self.len.fetch_max(len, Ordering::Relaxed);
        }
        let (trace, hash) = trace(id);
        let Some(word) = self.words.ensure(hash & (len - 1)) else { return };
        let before = word.load(Ordering::Relaxed);
        let _ = word.compare_exchange(before, with(before, trace), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether a page was evicted of late; it is forgotten then.
    pub(super) fn take(&self, id: PageId) -> bool {
        let (trace, hash) = trace(id);
        let len = self.len.load(Ordering::Relaxed);
        // Before the last growth it would have been in the second one.
        [len, len / 2].into_iter().filter(|len| *len > 0).any(|len| {
            let Some(word) = self.words.get(hash & (len - 1)) else { return false };
            let before = word.load(Ordering::Relaxed);
            let Some(after) = without(before, trace) else { return false };
            let _ = word.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed);
            true
        })
    }

    /// Bytes of memory of the words.
    pub(super) fn memory(&self) -> u64 {
        self.words.bytes()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_the_newest_four_in_order_and_gives_each_back_once() {
        let word = [1, 2, 3, 4, 5].into_iter().fold(0, with);
        assert_eq!(word, 0x0002_0003_0004_0005);
        assert_eq!(without(word, 1), None);
        assert_eq!(without(word, 2), Some(0x0003_0004_0005));
        assert_eq!(without(word, 4), Some(0x0002_0003_0005));
        assert_eq!(without(word, 5), Some(0x0002_0003_0004));
    }

    #[test]
    fn a_page_is_remembered_for_about_as_long_as_there_are_pages_and_costs_two_bytes() {
        for pages in [1u64, 100, 4096, 100_000] {
            let ghost = Ghost::new();
            (0..4 * pages).for_each(|id| ghost.remember(PageId(id), pages));
            let late = (3 * pages..4 * pages).rev().take(pages as usize / 2);
            let known = late.clone().filter(|id| ghost.take(PageId(*id))).count();
            assert!(known * 10 >= late.clone().count() * 8, "{known} of the last {} of {pages}", late.clone().count());
            assert!(late.filter(|id| ghost.take(PageId(*id))).count() * 100 <= known, "{pages} are known twice");
            let old = (0..pages).filter(|id| ghost.take(PageId(*id))).count();
            assert!(old as u64 <= pages.div_ceil(4).max(64), "{old} of the first of {pages}");
            let unknown = (0..pages).filter(|id| ghost.take(PageId(1 << 30 | *id))).count();
            assert!(unknown as u64 <= pages / 1000 + 1, "{unknown} of {pages} never came");
            assert!(ghost.memory() <= (4 * pages).max(64), "{} bytes for {pages}", ghost.memory());
        }
    }

    #[test]
    fn what_is_known_stays_known_when_it_grows() {
        let ghost = Ghost::new();
        (0..32).for_each(|id| ghost.remember(PageId(id), 32));
        let before = ghost.words.bytes();
        ghost.remember(PageId(1000), 64);
        assert!(ghost.words.bytes() > before);
        let known = (0..32).filter(|id| ghost.take(PageId(*id))).count();
        assert!(known >= 24, "{known} of 32");
    }
}
