//! What is in use, and what is done about it: the accounts, every byte of the files, and turns of cleaning, counted.

use pagecache::{PageCache, Stats};

use super::check::Before;
use super::{Concat, PageWorld};
use crate::driver::{Blind, Checked, Upkeep, Violation, claim};

/// Of so many opened stores, the files of one are read and taken apart.
const SPACES_EVERY: u64 = 4;

impl PageWorld {
    /// The accounts of a store that was just opened, and whose leaves were all read, say what the map does.
    pub(super) fn check_opened_accounts(&mut self, pages: &PageCache<Concat>) -> Checked {
        // A disk that broke its word may have lost a segment that pages are in.
        if self.trust.is_betrayed() {
            return Ok(());
        }
        self.upkeep.accounts += 1;
        pages.check_accounts().map_err(|differ| Violation::new(format!("the accounts of an opened store: {differ}")))
    }

    /// Every byte of the files of a store that was just opened, undisturbed, is of some part of it. Of one store in a few, which the calls
    /// of its disk pick: all is read for it.
    pub(super) fn check_space(&mut self, pages: &PageCache<Concat>) -> Checked {
        if self.trust.is_betrayed() || self.disk.crashed() || !self.disk.trace_hash().is_multiple_of(SPACES_EVERY) {
            return Ok(());
        }
        let space = pages.space().map_err(|error| Violation::new(format!("space cannot be told: {error}")))?;
        let (parts, len) = (space.parts, self.disk.total_len());
        self.upkeep.spaces += 1;
        claim(parts.total() == len && space.files_bytes == len, || format!("the files have {len} bytes: {space:?}"))?;
        claim(parts.leftovers == 0 && parts.unreadable == 0, || format!("what an opening leaves: {parts:?}"))
    }

    /// The files of segments.
    pub(super) fn segments(&self) -> Vec<String> {
        self.disk.file_names().into_iter().filter(|name| name.starts_with("seg-")).collect()
    }

    /// Counts what an operation did.
    pub(super) fn count(&mut self, stats: &Stats, before: &Before) {
        let now = self.segments();
        self.upkeep += Upkeep {
            checkpoints: stats.checkpoints - before.stats.checkpoints,
            fold_bytes: stats.fold_bytes - before.stats.fold_bytes,
            survivor_bytes: stats.survivor_bytes - before.stats.survivor_bytes,
            given_back: before.segments.iter().filter(|segment| !now.contains(segment)).count() as u64,
            ..Upkeep::default()
        };
    }

    /// A turn of cleaning. How many pages it moved.
    pub(super) fn clean(&mut self, pages: &PageCache<Concat>) -> Result<Option<u64>, Violation> {
        let since = self.disk.struck().len();
        let moved = self.excused(pages.clean(), since, Blind::Nothing)?;
        self.upkeep.moved += moved.unwrap_or(0);
        Ok(moved)
    }
}
