//! The same store opened in other ways than the usual: what each says is compared.

use pagecache::storage::Storage;
use pagecache::{Error, PageCache, PageId, PageState, version};

use super::check::same;
use super::{Answer, Concat, PageWorld, builder};
use crate::driver::{Checked, Violation, claim};

/// The files that say where the checkpoint is.
const SUPERBLOCKS: [&str; 2] = ["super-a", "super-b"];

/// Bytes of pages that are read of a store opened in another way.
const CONTENT_MAX: usize = 64 << 10;

impl PageWorld {
    /// The store opened in other ways than the usual: without its checkpoint, by the whole log; and, where the copies of the superblock
    /// differ, by each alone. Nothing where there is no checkpoint, or the disk is
    /// not to be relied on.
    pub(super) fn by_other_ways(&mut self) -> Result<Vec<(String, PageCache<Concat>)>, Violation> {
        let names = self.disk.file_names();
        let copies = SUPERBLOCKS.into_iter().filter(|copy| names.iter().any(|name| name == copy));
        let copies: Vec<_> = copies.map(|copy| (copy, self.disk.read_file(copy))).collect();
        if copies.is_empty() || self.trust.is_betrayed() || self.disk.crashed() {
            return Ok(Vec::new());
        }
        let mut ways = vec![SUPERBLOCKS.to_vec()];
        if let [(one, of_one), (two, of_two)] = &copies[..]
            && of_one != of_two
        {
            self.upkeep.differing += 1;
            ways.extend([vec![*one], vec![*two]]);
        }
        let mut opened = Vec::new();
        for without in &ways {
            let name = format!("without {}", without.join(" and "));
            match self.opened_without(without).map_err(|broken| broken.within(&name))? {
                Some(pages) => opened.push((name, pages)),
                None => self.upkeep.barred += 1,
            }
        }
        Ok(opened)
    }

    fn opened_without(&self, without: &[&str]) -> Result<Option<PageCache<Concat>>, Violation> {
        let disk = self.disk.kill();
        disk.clear_faults();
        for copy in without {
            // Not there where the first checkpoint was not finished.
            let _ = disk.remove(copy);
        }
        let config = builder(&disk).collector(self.collector.clone()).read_only(true);
        match PageCache::<Concat>::start(config.build()) {
            // The one that is left was being written.
            Err(Error::Corrupt(at)) if at.what == "both copies of the superblock are damaged" => Ok(None),
            // Segments that were cleaned are no longer there for those who do not know the checkpoint.
            Err(Error::Corrupt(at)) if without.len() == 2 && at.what == "a segment is missing" => Ok(None),
            Err(error) => Err(Violation::new(format!("it does not open: {error}"))),
            Ok(pages) => Ok(Some(pages)),
        }
    }

    /// Compares the pages of a store with those of another way to open it: what each is, and what some hold.
    pub(super) fn check_same(&self, pages: &PageCache<Concat>, other: &PageCache<Concat>) -> Checked {
        let (found, expected) = (self.states(pages)?, self.states(other)?);
        claim(found == expected, || format!("{expected:?}, and by its checkpoint {found:?}"))?;
        let live: Vec<_> = self.model.live().collect();
        let first = (other.stats().tail.0 / 8 % live.len().max(1) as u64) as usize;
        let (guard, mut bytes) = (self.handle.pin(), 0);
        for id in live[first..].iter().chain(&live[..first]) {
            if bytes >= CONTENT_MAX {
                break;
            }
            let (page, token) = other.get(*id, &guard).map_err(|error| Violation::new(format!("{id}: {error}")))?;
            let state = PageState::Live(version(token));
            bytes += self.check_live(*id, state, |bodies| same(bodies, [&*page].into_iter()))?;
        }
        Ok(())
    }

    fn states(&self, pages: &PageCache<Concat>) -> Result<Vec<PageState>, Violation> {
        let guard = self.handle.pin();
        let states = (0..pages.stats().ids_high_water).map(|id| pages.state(PageId(id), &guard));
        states.collect::<Answer<_>>().map_err(|error| Violation::new(format!("a state cannot be told: {error}")))
    }
}
