//! Page chains and page ids as the log tells them: which version each page is at, and whether the next record may follow.

use std::collections::HashMap;

use crate::base::ids::{Lsn, PageId, Version};
use crate::format::page::PageHead;
use crate::format::record::Kind;
use crate::page::table::PAGES_MAX;

/// The newest state of a page.
#[derive(Clone, Copy, Debug)]
enum State {
    /// It holds this many bytes of payload; of them so many from the redo point on, if it begins below.
    Data {
        bytes: u64,
        behind: Option<u64>,
    },
    Free,
}

/// What the log says of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing: it has no record.
    Nothing,
    Free(Version),
    /// It holds data of this version.
    Data(Version),
}

/// Every page that the log has named so far. Memory grows with the pages, by what was checked to be records.
#[derive(Debug, Default)]
pub(super) struct Chains {
    pages: HashMap<PageId, (Version, State)>,
    /// Nothing is known of what happened to any page below.
    unknown_below: Version,
    /// Where the newest flush round began to end: what was freed below was stable when anything above was drawn.
    last_mark: Lsn,
    high_water: u64,
    /// Replay starts here.
    redo: Lsn,
    /// Pages with records from the redo point on, as they were there.
    at_redo: HashMap<PageId, Said>,
}

impl Chains {
    pub(super) fn new(redo: Lsn) -> Chains {
        Chains { redo, ..Chains::default() }
    }

    /// A stretch of the log that ends here could not be read.
    pub(super) fn gap(&mut self, end: Lsn) {
        self.unknown_below = self.unknown_below.max(end.into());
    }

    pub(super) fn mark(&mut self, own: Lsn) {
        self.last_mark = own;
    }

    /// Takes a page's next record, and says what does not fit.
    pub(super) fn apply(&mut self, lsn: Lsn, kind: Kind, head: PageHead, payload: u64) -> Option<String> {
        let PageHead { page, base } = head;
        if page.0 >= PAGES_MAX {
            return Some(format!("{page} is beyond the highest id there may be"));
        }
        self.high_water = self.high_water.max(page.0 + 1);
        let known = self.pages.get(&page).copied().filter(|(version, _)| *version >= self.unknown_below);
        let wrong = self.judge(lsn, kind, head, known);
        let is_behind = lsn >= self.redo;
        let more = if is_behind { payload } else { 0 };
        let state = match (kind, known) {
            (Kind::Free, _) => State::Free,
            (Kind::Link, Some((_, State::Data { bytes, behind }))) if base != Version::NONE => {
                State::Data { bytes: bytes + payload, behind: behind.map(|behind| behind + more) }
            }
            (Kind::Link, None) if base != Version::NONE => State::Data { bytes: payload, behind: Some(more) },
            _ => State::Data { bytes: payload, behind: (!is_behind).then_some(0) },
        };
        if is_behind && self.redo > Lsn(0) {
            let before = self.now(page);
            self.at_redo.entry(page).or_insert(before);
        }
        self.pages.insert(page, (lsn.into(), state));
        wrong
    }

    fn judge(&self, lsn: Lsn, kind: Kind, head: PageHead, known: Option<(Version, State)>) -> Option<String> {
        let PageHead { page, base } = head;
        match known {
            Some((version, _)) if version >= lsn.into() => {
                Some(format!("{page} goes from {version} to {lsn}: versions only rise"))
            }
            Some((version, State::Free)) if base != Version::NONE => {
                Some(format!("{page} is linked on {base}, but was freed at {version}"))
            }
            Some((version, State::Free)) if self.last_mark <= Lsn(version.0) => {
                Some(format!("{page} is used again before its free at {version} was stable"))
            }
            Some((version, State::Data { .. })) if kind == Kind::Link && base == Version::NONE => {
                Some(format!("{page} is linked on nothing, but holds data at {version}"))
            }
            Some((version, State::Data { .. })) if kind == Kind::Link && base != version => {
                Some(format!("{page} is linked on {base}, but is at {version}"))
            }
            // Where a stretch is missing, the version below may have been in it.
            None if base != Version::NONE && base >= self.unknown_below => {
                Some(format!("{page} is linked on {base}, where nothing is"))
            }
            _ => None,
        }
    }

    fn now(&self, page: PageId) -> Said {
        match self.pages.get(&page) {
            None => Said::Nothing,
            Some((version, State::Free)) => Said::Free(*version),
            Some((version, State::Data { .. })) => Said::Data(*version),
        }
    }

    /// What the log below the redo point says of a page. `None` where a stretch of the log is missing that may say more.
    pub(super) fn at_redo(&self, page: PageId) -> Option<Said> {
        let said = self.at_redo.get(&page).copied().unwrap_or_else(|| self.now(page));
        match said {
            Said::Free(version) | Said::Data(version) if version >= self.unknown_below => Some(said),
            said => self.is_whole().then_some(said),
        }
    }

    /// Whether a page may be at this at the log's end.
    pub(super) fn is_at(&self, page: PageId, said: Said) -> bool {
        match self.now(page) {
            now @ (Said::Free(version) | Said::Data(version)) if version >= self.unknown_below => now == said,
            // What came last may be missing.
            _ => !self.is_whole(),
        }
    }

    /// Whether no stretch of the log is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.unknown_below == Version::NONE
    }

    /// Takes what a leaf says of a page, with the bytes of payload that it needs: for a log that is not whole. What the log says from the
    /// redo point on is newer; where the leaf has seen the first of that too, it counts twice.
    pub(super) fn learn(&mut self, page: PageId, said: Said, bytes: u64) {
        let (of_leaf, state) = match said {
            Said::Nothing => return,
            Said::Free(version) => (version, State::Free),
            Said::Data(version) => (version, State::Data { bytes, behind: None }),
        };
        self.high_water = self.high_water.max(page.0 + 1);
        match self.pages.get_mut(&page) {
            Some((version, now)) if *version > of_leaf && *version >= self.redo.into() => {
                if let State::Data { behind: Some(behind), .. } = *now {
                    *now = State::Data { bytes: bytes + behind, behind: None };
                }
            }
            _ => drop(self.pages.insert(page, (of_leaf, state))),
        }
    }

    /// The pages that the log has named, in no order.
    pub(super) fn named(&self) -> impl Iterator<Item = PageId> + '_ {
        self.pages.keys().copied()
    }

    /// Ids that hold data, ids that are free, and the highest id plus 1.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let live = self.pages.values().filter(|(_, state)| matches!(state, State::Data { .. })).count() as u64;
        (live, self.pages.len() as u64 - live, self.high_water)
    }

    /// Bytes of payload of the newest version of every page.
    pub(super) fn live_bytes(&self) -> u64 {
        let bytes = |(_, state): &(Version, State)| if let State::Data { bytes, .. } = state { *bytes } else { 0 };
        self.pages.values().map(bytes).sum()
    }
}
