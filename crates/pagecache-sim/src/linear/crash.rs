//! Durable linearizability: what is found after a crash is a cut through an order of all calls, behind everything that was
//! acknowledged, and one cut for all pages.
//!
//! The kit promises a prefix, so calls that returned and were not flushed may be missing: the buffered form of Izraelevitz, Mendes
//! and Scott, "Linearizability of persistent memory objects under a full-system-crash failure model" (2016).

use pagecache::{Error, PageCache, PageId, PageState, Version, version};

use super::page::{Answer, Page, PageCall, explain_crash};
use super::player::{Joined, Story};

/// What each page is now.
///
/// # Errors
/// A page that cannot be read.
pub fn find(pages: &PageCache<Joined>, ids: &[PageId]) -> Result<Vec<Page>, Error> {
    let guard = pages.pin();
    ids.iter()
        .map(|id| match pages.get(*id, &guard) {
            Ok((page, token)) => Ok(Page::Live { version: Some(version(token)), words: page.0.clone() }),
            Err(Error::NoPage { state: PageState::Free(version), .. }) => Ok(Page::Free(Some(version))),
            Err(Error::NoPage { .. }) => Ok(Page::Empty),
            Err(error) => Err(error),
        })
        .collect()
}

impl Story {
    /// Whether the pages found after a crash at this time are explained: each by a cut behind all calls that had returned before
    /// the last flush began that was acknowledged by then, all of them by one cut.
    ///
    /// # Errors
    /// What is wrong.
    pub fn explain_crash(&self, found: &[Page], crashed: u64) -> Result<(), String> {
        let acknowledged = self.flushes.iter().filter(|(_, ended)| *ended < crashed).map(|(begun, _)| *begun).max();
        let kept = |call: &PageCall| acknowledged.is_some_and(|begun| call.ended_before(begun));
        for (calls, page) in self.pages.iter().zip(found) {
            explain_crash(calls, page.clone(), kept).map_err(|unexplained| unexplained.to_string())?;
        }
        one_prefix(&self.pages, found)
    }
}

/// Versions are places in the one order of all updates: no page has an update that comes after one that another page has lost.
fn one_prefix(pages: &[Vec<PageCall>], found: &[Page]) -> Result<(), String> {
    let own = |page: &Page| match page {
        Page::Live { version, .. } | Page::Free(version) => version.unwrap_or(Version::NONE),
        Page::Empty => Version::NONE,
    };
    let newest = found.iter().map(own).max().unwrap_or(Version::NONE);
    for (calls, page) in pages.iter().zip(found) {
        for call in calls {
            if let Some(Answer::Done(lost)) = call.answer()
                && *lost > own(page)
                && *lost < newest
            {
                return Err(format!("{lost} is lost and {newest} is there: {calls:?} {found:?}"));
            }
        }
    }
    Ok(())
}
