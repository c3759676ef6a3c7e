//! What a page cache should hold: the reference model of pages, as plain as can be.

use std::collections::BTreeMap;
use std::sync::Arc;

use pagecache::{Lsn, PageId, PageState, Version};

use crate::driver::{Checked, claim};

/// A fragment's bytes. Clones share them.
pub type Body = Arc<[u8]>;

/// What an update does.
#[derive(Clone, Debug)]
pub enum Change {
    /// The page is this and nothing else.
    Replace(Body),
    /// This comes on top.
    Link(Body),
    /// The page is no more.
    Free,
}

/// One update that was answered with `Ok`.
#[derive(Clone, Debug)]
struct Update {
    version: Version,
    page: PageId,
    change: Change,
}

/// A page as it should be. One that the model does not know was never allocated, or never written before a restart.
#[derive(Clone, Debug)]
pub enum Page {
    /// Allocated and not written yet; freed before by the record of this version, if it had an owner before.
    Empty(Option<Version>),
    /// It holds these fragments, oldest first.
    Live {
        /// Of its last update.
        version: Version,
        /// From the last replace on.
        bodies: Vec<Body>,
    },
    /// Freed by the record of this version.
    Free(Version),
}

/// All updates in the order of their versions, the pages they make, and what was promised about them.
///
/// - M4. After a crash the pages are what all updates below one place make of them, which is at or above `stable`: no page
///   is ahead of another one, none behind.
/// - M5. Versions rise, over all pages, lost ones and restarts included.
/// - M6. An id is free, allocated or never used. Only durably freed and never used ones are handed out.
#[derive(Clone, Debug, Default)]
pub struct PageModel {
    updates: Vec<Update>,
    pages: BTreeMap<PageId, Page>,
    /// One more than the highest id handed out.
    next: u64,
    stable: Lsn,
    above: Lsn,
}

impl PageModel {
    /// Of an empty store.
    pub fn new() -> PageModel {
        PageModel::default()
    }

    /// A page, if it was ever allocated.
    pub fn page(&self, id: PageId) -> Option<&Page> {
        self.pages.get(&id)
    }

    /// Pages that are allocated, empty ones included, by id.
    pub fn allocated(&self) -> impl DoubleEndedIterator<Item = PageId> {
        self.pages.iter().filter(|(_, page)| !matches!(page, Page::Free(_))).map(|(id, _)| *id)
    }

    /// Pages that hold data, by id.
    pub fn live(&self) -> impl Iterator<Item = PageId> {
        self.pages.iter().filter(|(_, page)| matches!(page, Page::Live { .. })).map(|(id, _)| *id)
    }

    /// Pages that are free and known to have been something.
    pub fn freed(&self) -> impl Iterator<Item = PageId> {
        self.pages.iter().filter(|(_, page)| matches!(page, Page::Free(_))).map(|(id, _)| *id)
    }

    /// One more than the highest id handed out.
    pub fn high_water(&self) -> u64 {
        self.next
    }

    /// Everything below was acknowledged.
    pub fn stable(&self) -> Lsn {
        self.stable
    }

    /// The version that an update of the page has to name.
    pub fn version(&self, id: PageId) -> Version {
        match self.pages.get(&id) {
            Some(Page::Live { version, .. }) => *version,
            _ => Version::NONE,
        }
    }

    /// The version of the last update of any page, lost ones aside.
    pub fn last_version(&self) -> Option<Version> {
        self.updates.last().map(|update| update.version)
    }

    /// The versions that a page has had, newest first.
    pub fn versions(&self, id: PageId) -> impl Iterator<Item = Version> {
        self.updates.iter().rev().filter(move |update| update.page == id).map(|update| update.version)
    }

    /// The bytes of the newest fragment of all.
    pub fn last_body(&self) -> Option<&Body> {
        self.updates.iter().rev().find_map(|update| match &update.change {
            Change::Replace(body) | Change::Link(body) => Some(body),
            Change::Free => None,
        })
    }

    /// What a store has to say of a page.
    pub fn state(&self, id: PageId) -> PageState {
        match self.pages.get(&id) {
            Some(Page::Live { version, .. }) => PageState::Live(*version),
            Some(Page::Empty(_)) => PageState::Empty,
            Some(Page::Free(version)) => PageState::Free(*version),
            None => PageState::Unallocated,
        }
    }

    /// Notes that an id was handed out, when everything below `stable` was durable.
    ///
    /// # Errors
    /// It is in use, or its free is not durable, or ids that could be had were passed over (M6).
    pub fn handed_out(&mut self, id: PageId, stable: Lsn) -> Checked {
        let below = match self.pages.get(&id) {
            Some(Page::Free(version)) => {
                let durable = version.0 < stable.0;
                claim(durable, || format!("{id} is handed out: its free {version} is not below the stable {stable}"))?;
                Some(*version)
            }
            Some(page) => return claim(false, || format!("{id} is handed out and is {page:?}")),
            None => None,
        };
        if id.0 >= self.next {
            claim(id.0 == self.next, || format!("{id} is handed out: the next new one is {}", self.next))?;
            let free = (0..self.next).map(PageId).find(|id| match self.pages.get(id) {
                Some(Page::Free(version)) => version.0 < stable.0,
                Some(_) => false,
                None => true,
            });
            claim(free.is_none(), || format!("{id} is handed out, new, where {free:?} is free"))?;
            self.next += 1;
        }
        self.pages.insert(id, Page::Empty(below));
        Ok(())
    }

    /// Notes an update that was answered with this version.
    ///
    /// # Errors
    /// The version is not above all others (M5).
    pub fn changed(&mut self, id: PageId, change: Change, version: Version) -> Checked {
        let above = self.last_version().map_or(self.above.0, |last| self.above.0.max(last.0 + 1));
        claim(version.0 >= above, || format!("{id} becomes {version}: everything below {above} was drawn before"))?;
        make(&mut self.pages, id, &change, version);
        self.updates.push(Update { version, page: id, change });
        Ok(())
    }

    /// Notes that everything below is acknowledged as durable.
    pub fn acknowledged(&mut self, stable: Lsn) {
        self.stable = self.stable.max(stable);
    }

    /// Notes that no more than this is sure to be durable, and that versions above may be drawn again: the disk broke its word.
    pub fn doubt(&mut self, stable: Lsn) {
        (self.stable, self.above) = (stable, Lsn(0));
    }

    /// Checks what a recovery found: the state of each id from 0, at least as many as were ever handed out. Exactly that is
    /// expected from now on. `tail` is above every LSN in use.
    ///
    /// # Errors
    /// A promise is broken (M4).
    pub fn recovered(&mut self, found: &[PageState], high_water: u64, tail: Lsn) -> Checked {
        let newest = found.iter().filter_map(|state| match state {
            PageState::Live(version) | PageState::Free(version) => Some(*version),
            PageState::Empty | PageState::Unallocated => None,
        });
        let newest = newest.max().unwrap_or(Version::NONE);
        let cut = self.updates.partition_point(|update| update.version <= newest);
        if let Some(lost) = self.updates.get(cut) {
            claim(lost.version.0 >= self.stable.0, || {
                let (stable, Update { version, page, .. }) = (self.stable, lost);
                format!("{version} of {page} is gone: below {stable} was acknowledged, the last one found is {newest}")
            })?;
            self.updates.truncate(cut);
            self.pages.clear();
            for update in &self.updates {
                make(&mut self.pages, update.page, &update.change, update.version);
            }
        } else {
            // Ids that were not written before the stop are what they were before.
            self.pages.retain(|_, page| !matches!(page, Page::Empty(None)));
            for page in self.pages.values_mut() {
                if let Page::Empty(Some(freed)) = page {
                    *page = Page::Free(*freed);
                }
            }
        }
        self.next = self.pages.keys().next_back().map_or(0, |id| id.0 + 1);
        for (id, state) in (0..).map(PageId).zip(found) {
            let expected = self.state(id);
            claim(*state == expected, || format!("{id} is {state:?} and not {expected:?}, as of {newest}"))?;
        }
        claim(high_water == self.next, || format!("the next new id is {high_water} and not {}", self.next))?;
        self.stable = tail;
        self.above = self.above.max(tail);
        Ok(())
    }
}

fn make(pages: &mut BTreeMap<PageId, Page>, id: PageId, change: &Change, version: Version) {
    let page = pages.entry(id).or_insert(Page::Empty(None));
    match (change, &mut *page) {
        (Change::Link(body), Page::Live { version: at, bodies }) => {
            *at = version;
            bodies.push(Arc::clone(body));
        }
        (Change::Link(body) | Change::Replace(body), _) => {
            *page = Page::Live { version, bodies: vec![Arc::clone(body)] };
        }
        (Change::Free, _) => *page = Page::Free(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PageState::{Free, Live, Unallocated};

    fn body(byte: u8) -> Body {
        Arc::from([byte; 3])
    }

    /// 0: replaced at 8, linked at 24. 1: replaced at 16, freed at 32. Stable up to 24.
    fn model() -> PageModel {
        let mut model = PageModel::new();
        model.handed_out(PageId(0), Lsn(0)).unwrap();
        model.handed_out(PageId(1), Lsn(0)).unwrap();
        model.changed(PageId(0), Change::Replace(body(1)), Version(8)).unwrap();
        model.changed(PageId(1), Change::Replace(body(2)), Version(16)).unwrap();
        model.changed(PageId(0), Change::Link(body(3)), Version(24)).unwrap();
        model.changed(PageId(1), Change::Free, Version(32)).unwrap();
        model.acknowledged(Lsn(24));
        model
    }

    #[test]
    fn every_cut_that_holds_the_acknowledged_is_allowed_and_nothing_else() {
        let recovers = |found: &[PageState]| model().recovered(found, found.len() as u64, Lsn(40)).is_ok();
        let v = Version;
        assert!(recovers(&[Live(v(8)), Live(v(16))]));
        assert!(recovers(&[Live(v(24)), Live(v(16))]));
        assert!(recovers(&[Live(v(24)), Free(v(32))]));
        assert!(!recovers(&[Live(v(8))]), "acknowledged and lost");
        assert!(!recovers(&[Live(v(8)), Free(v(32))]), "a hole on another page");
        assert!(!recovers(&[Live(v(24)), Unallocated]), "a page is missing");
        assert!(!recovers(&[Live(v(24)), Free(v(40))]), "never made");
        assert!(!recovers(&[Live(v(24)), Live(v(16)), Live(v(8))]), "a page that nobody made");
    }

    #[test]
    fn what_was_recovered_is_expected_from_then_on() {
        let mut model = model();
        model.recovered(&[Live(Version(24)), Live(Version(16))], 2, Lsn(40)).unwrap();
        let found = [Live(Version(8)), Live(Version(16))];
        assert!(model.clone().recovered(&found, 2, Lsn(48)).is_err(), "shown and lost");
        assert!(model.changed(PageId(1), Change::Free, Version(32)).is_err(), "below what was drawn");
        assert!(matches!(model.page(PageId(1)), Some(Page::Live { .. })), "the free is lost");
        model.changed(PageId(1), Change::Free, Version(40)).unwrap();
    }

    #[test]
    fn ids_come_back_after_a_durable_free_and_no_other_way() {
        let model = model();
        assert!(model.clone().handed_out(PageId(0), Lsn(40)).is_err(), "it holds data");
        assert!(model.clone().handed_out(PageId(1), Lsn(32)).is_err(), "its free is not durable");
        assert!(model.clone().handed_out(PageId(1), Lsn(40)).is_ok());
        assert!(model.clone().handed_out(PageId(2), Lsn(32)).is_ok());
        assert!(model.clone().handed_out(PageId(2), Lsn(40)).is_err(), "there is a free one");
        assert!(model.clone().handed_out(PageId(3), Lsn(32)).is_err(), "there is one before");
    }

    #[test]
    fn an_id_that_was_never_written_is_never_used_after_a_restart() {
        let mut model = model();
        model.acknowledged(Lsn(40));
        model.handed_out(PageId(1), Lsn(40)).unwrap();
        model.handed_out(PageId(2), Lsn(40)).unwrap();
        assert_eq!(model.allocated().count(), 3);
        model.recovered(&[Live(Version(24)), Free(Version(32)), Unallocated], 2, Lsn(48)).unwrap();
        assert_eq!((model.allocated().count(), model.high_water()), (1, 2));
    }
}
