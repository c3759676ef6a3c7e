//! The sequential specification of one page: what it is, what can be asked, and what it answers.

use std::collections::HashMap;

use pagecache::Version;

use super::history::Call;
use super::search::{Calls, Found, Model, Unexplained, explain};

/// A page as one thread alone would see it. Fragments are words, each unlike all others of the history.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Page {
    /// Allocated and never written.
    Empty,
    /// It holds data.
    Live {
        /// Of its last update; `None` where that never returned and nobody ever saw it.
        version: Option<Version>,
        /// Its fragments, oldest first.
        words: Vec<u64>,
    },
    /// Freed; `None` as above.
    Free(Option<Version>),
}

/// What is asked of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The page, merged.
    Get,
    /// A word on top of this version.
    Link(Version, u64),
    /// A word in place of this version.
    Replace(Version, u64),
    /// The end of this version.
    Free(Version),
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The page, its words oldest first.
    Page(Version, Vec<u64>),
    /// The update is made, and this is its version.
    Done(Version),
    /// The update is refused: the page is this by now.
    Conflict(Version, Vec<u64>),
    /// The page holds no data yet.
    Empty,
    /// The page was freed by this version.
    Free(Version),
    /// An error, which promises that nothing happened.
    Failed,
}

/// One call on a page.
pub type PageCall = Call<Ask, Answer>;

/// The specification; it knows the versions of updates that never returned from those who saw them.
#[derive(Debug, Default)]
pub struct PageModel {
    /// The version under which a word was seen as the newest of its page.
    seen: HashMap<u64, Version>,
    /// The version under which the page was seen free.
    freed: Option<Version>,
}

impl PageModel {
    /// The specification of a page on which these calls were made, and which was found so after a crash.
    pub fn of(calls: &[PageCall], found: Option<&Page>) -> PageModel {
        let (mut seen, mut freed) = (HashMap::new(), None);
        for call in calls {
            match (&call.ask, call.answer()) {
                (_, Some(Answer::Page(version, words) | Answer::Conflict(version, words))) => {
                    seen.extend(words.last().map(|word| (*word, *version)));
                }
                (Ask::Link(_, word) | Ask::Replace(_, word), Some(Answer::Done(version))) => {
                    seen.insert(*word, *version);
                }
                (_, Some(Answer::Free(version))) => freed = Some(*version),
                _ => {}
            }
        }
        match found {
            Some(Page::Live { version: Some(version), words }) => {
                seen.extend(words.last().map(|word| (*word, *version)));
            }
            Some(Page::Free(version)) => freed = *version,
            _ => {}
        }
        PageModel { seen, freed }
    }

    fn update(&self, page: &Page, ask: &Ask, done: Option<Version>) -> Option<Page> {
        let (at, version, words) = match (ask, page) {
            (Ask::Get, _) | (_, Page::Free(_)) => return None,
            (Ask::Link(at, word), Page::Live { words, .. }) => {
                (at, self.seen.get(word).copied(), [words, &[*word][..]].concat())
            }
            (Ask::Link(at, word) | Ask::Replace(at, word), _) => (at, self.seen.get(word).copied(), vec![*word]),
            (Ask::Free(at), _) => (at, self.freed, Vec::new()),
        };
        let current = match page {
            Page::Live { version, .. } => *version,
            _ => Some(Version::NONE),
        };
        let version = done.or(version);
        // A version that nobody ever saw is named by nobody.
        if current != Some(*at) || version.is_some_and(|version| version <= *at) {
            return None;
        }
        Some(match ask {
            Ask::Free(_) => Page::Free(version),
            _ => Page::Live { version, words },
        })
    }
}

impl Model for PageModel {
    type State = Page;
    type Ask = Ask;
    type Answer = Answer;

    fn step(&self, page: &Page, ask: &Ask, answer: Option<&Answer>) -> Option<Page> {
        let is = |version: &Version, words: &Vec<u64>| match page {
            Page::Live { version: own, words: held } => *own == Some(*version) && held == words,
            _ => false,
        };
        let at = match ask {
            Ask::Get => None,
            Ask::Link(at, _) | Ask::Replace(at, _) | Ask::Free(at) => Some(at),
        };
        let as_told = match answer {
            None => return self.update(page, ask, None),
            Some(Answer::Done(version)) => return self.update(page, ask, Some(*version)),
            Some(Answer::Failed) => true,
            Some(Answer::Page(version, words)) => at.is_none() && is(version, words),
            Some(Answer::Conflict(version, words)) => at.is_some_and(|at| at != version) && is(version, words),
            Some(Answer::Empty) => *page == Page::Empty && at != Some(&Version::NONE),
            Some(Answer::Free(version)) => matches!(page, Page::Free(own) if own.is_none_or(|own| own == *version)),
        };
        as_told.then(|| page.clone())
    }
}

/// Finds an order of all calls on one page that was empty before them.
///
/// # Errors
/// There is none.
pub fn explain_page(calls: &Calls<PageModel>) -> Result<Vec<usize>, Unexplained> {
    explain(&PageModel::of(calls, None), Page::Empty, calls, None)
}

/// Finds an order of all calls on one page that was empty before them, with a cut at which the page is what was `found` after
/// a crash, and before which is everything that had to be `kept`.
///
/// # Errors
/// There is none.
pub fn explain_crash(
    calls: &Calls<PageModel>,
    found: Page,
    kept: impl Fn(&PageCall) -> bool,
) -> Result<Vec<usize>, Unexplained> {
    let model = PageModel::of(calls, Some(&found));
    let kept = (0..calls.len()).filter(|at| kept(&calls[*at])).collect();
    explain(&model, Page::Empty, calls, Some(Found { state: found, kept }))
}
