//! The books of the crash part: what was acknowledged, kept by the process that survives, against what is found.

use std::collections::BTreeMap;

use pagecache::{Materializer, PageCache, PageId};
use serde::{Deserialize, Serialize};

use crate::Failure;

/// Threads of a writer; page `n` belongs to thread `n % THREADS`.
pub(crate) const THREADS: u64 = 4;

/// One fragment of a page, determined by its page and number: any other bytes are wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    thread: u64,
    pub(crate) page: u64,
    pub(crate) number: u64,
    filler: Vec<u8>,
    check: u64,
}

pub(crate) fn mix(seed: u64) -> u64 {
    let mut word = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

impl Entry {
    /// The entry of a page with this number, with at most `filler` bytes of filler.
    pub(crate) fn new(page: u64, number: u64, filler: u64) -> Entry {
        let seed = mix(mix(page) ^ number);
        let len = filler / 2 + seed % (filler / 2 + 1);
        let filler = (0..len.div_ceil(8)).flat_map(|nth| mix(seed ^ nth).to_le_bytes()).take(len as usize).collect();
        Entry { thread: page % THREADS, page, number, filler, check: mix(seed ^ len) }
    }
}

/// A page is the list of its entries; merging puts lists end to end.
pub(crate) struct Entries;

impl Materializer for Entries {
    type PageFrag = Vec<Entry>;
    type Recovery = ();
    const RECOVERS: bool = false;

    fn new(_: &Option<()>) -> Self {
        Entries
    }

    fn merge(&self, frags: &[&Vec<Entry>]) -> Vec<Entry> {
        frags.iter().flat_map(|frag| frag.iter().cloned()).collect()
    }

    fn recover(&self, _: &Vec<Entry>) -> Option<()> {
        None
    }

    fn heap_size(&self, page: &Vec<Entry>) -> usize {
        page.capacity() * size_of::<Entry>() + page.iter().map(|entry| entry.filler.capacity()).sum::<usize>()
    }
}

/// The highest number that was acknowledged for each page.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    acknowledged: BTreeMap<u64, u64>,
}

/// What a comparison found, in entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Outcome {
    pub(super) acknowledged: u64,
    /// Of those acknowledged.
    pub(super) found: u64,
    /// Acknowledged and not there, or not what was written.
    pub(super) lost: u64,
    /// There, though nobody was told so yet: right, as long as they go on where the acknowledged ones end.
    pub(super) unacknowledged: u64,
}

impl Ledger {
    pub(super) fn acknowledge(&mut self, page: u64, number: u64) {
        let known = self.acknowledged.entry(page).or_default();
        *known = number.max(*known);
    }

    /// Acknowledged entries: a page's numbers start at 0, and each stands for all before it.
    pub(super) fn count(&self) -> u64 {
        self.acknowledged.values().map(|number| number + 1).sum()
    }

    /// Compares every fragment of every page, one by one.
    pub(super) fn compare(&self, pc: &PageCache<Entries>, filler: u64) -> Result<Outcome, Failure> {
        let guard = pc.pin();
        let mut outcome = Outcome { acknowledged: self.count(), ..Outcome::default() };
        let mut pages = pc.page_ids().map(|id| Ok(id?.0)).collect::<Result<Vec<u64>, pagecache::Error>>()?;
        pages.extend(self.acknowledged.keys());
        pages.sort_unstable();
        pages.dedup();
        for page in pages {
            let fragments: Vec<&Vec<Entry>> = match pc.fragments(PageId(page), &guard) {
                Ok((fragments, _)) => fragments.iter().collect(),
                Err(pagecache::Error::NoPage { .. }) => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            // Newest first, as they lie; what counts ends at the first one that is not the next.
            let entries = fragments.into_iter().rev().flatten();
            let right =
                entries.zip(0..).take_while(|(entry, nth)| **entry == Entry::new(page, *nth, filler)).count() as u64;
            let expected = self.acknowledged.get(&page).map_or(0, |number| number + 1);
            outcome.found += right.min(expected);
            outcome.lost += expected.saturating_sub(right);
            outcome.unacknowledged += right.saturating_sub(expected);
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagecache::{ConfigBuilder, Version};

    #[test]
    fn the_books_see_what_is_missing_what_is_wrong_and_what_is_early() {
        let pc = PageCache::<Entries>::start(ConfigBuilder::new().temporary(true).build()).unwrap();
        let guard = pc.pin();
        let mut ledger = Ledger::default();
        for page in 0..3 {
            let id = pc.allocate(&guard);
            let mut at = Version::NONE;
            for number in 0..10 {
                let entry = Entry::new(page, if (page, number) == (2, 5) { 6 } else { number }, 100);
                at = pc.link_at(id, at, vec![entry], &guard).unwrap();
            }
        }
        ledger.acknowledge(0, 6);
        ledger.acknowledge(1, 11);
        ledger.acknowledge(2, 9);
        ledger.acknowledge(7, 0);
        let outcome = ledger.compare(&pc, 100).unwrap();
        assert_eq!(outcome, Outcome { acknowledged: 30, found: 7 + 10 + 5, lost: 2 + 5 + 1, unacknowledged: 3 });
    }
}
