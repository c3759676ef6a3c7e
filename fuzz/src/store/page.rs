//! A directory of arbitrary files as a page cache.

use std::collections::{BTreeMap, BTreeSet};

use pagecache::inspect;
use pagecache::{Error, Materializer, PageCache, PageId, PageState, Version};

use super::{IDS_MAX, Sum, bound, config, full, place, sum, told};
use crate::disk::{Disk, Files};

/// Pages of bytes; a merge is a concatenation. What it recovers is the longest fragment.
pub(super) struct Concat<const RECOVERS: bool>;

impl<const RECOVERS: bool> Materializer for Concat<RECOVERS> {
    type PageFrag = Vec<u8>;
    type Recovery = usize;
    const RECOVERS: bool = RECOVERS;
    fn new(_: &Option<usize>) -> Self {
        Concat
    }
    fn merge(&self, frags: &[&Vec<u8>]) -> Vec<u8> {
        frags.iter().fold(Vec::new(), |whole, frag| [&whole[..], frag].concat())
    }
    fn recover(&self, frag: &Vec<u8>) -> Option<usize> {
        (frag.len() > 4).then_some(frag.len())
    }
}

type Pages<const RECOVERS: bool> = PageCache<Concat<RECOVERS>>;

/// A page's version, and its content or what is wrong with it.
type Page = (Version, Result<Sum, String>);

/// The pages that hold data.
pub(super) type Contents = BTreeMap<PageId, Page>;

pub(super) fn open<const RECOVERS: bool>(disk: &Disk, read_only: bool) -> Result<Pages<RECOVERS>, String> {
    Pages::start(config(disk).read_only(read_only).build()).map_err(|error| told(&error))
}

/// Pages whose leaf of the map cannot be read have no version, nor have those of which it names a place in no segment.
pub(super) fn contents<const RECOVERS: bool>(pages: &Pages<RECOVERS>) -> Contents {
    let mut contents = Contents::new();
    for id in (0..pages.stats().ids_high_water).map(PageId) {
        let guard = pages.pin();
        let version = match pages.state(id, &guard) {
            Ok(PageState::Live(version)) => version,
            Ok(_) => continue,
            Err(Error::Corrupt(at)) => {
                contents.insert(id, (Version::NONE, Err(place(&at))));
                continue;
            }
            Err(other) => panic!("no error for a damaged leaf: {other:?}"),
        };
        let found = match pages.get(id, &guard) {
            Ok((page, token)) => {
                assert_eq!(pagecache::version(token), version);
                Ok(sum(&page))
            }
            Err(Error::Corrupt(at)) => {
                assert_eq!(at.page, Some(id), "damage of another page: {at:?}");
                Err(place(&at))
            }
            Err(Error::Decode { page, what }) => {
                assert_eq!(page, Some(id));
                Err(what)
            }
            // Below the redo point no opening looks.
            Err(Error::Incompatible { found, .. }) => Err(found),
            Err(other) => panic!("no error for a damaged page: {other:?}"),
        };
        contents.insert(id, (version, found));
    }
    let mut listed = (BTreeSet::new(), 0);
    for id in pages.page_ids() {
        match id {
            Ok(id) => _ = listed.0.insert(id),
            Err(error) => {
                assert!(error.is_corrupt(), "{error:?}");
                listed.1 += 1;
            }
        }
    }
    let of_lost_leaf = |(_, (_, found)): &(&PageId, &Page)| found.as_ref().is_err_and(|at| at.contains("(None from"));
    let (lost, known): (Vec<_>, Vec<_>) = contents.iter().partition(of_lost_leaf);
    let known = known.into_iter().map(|(id, _)| *id).collect();
    assert_eq!(listed, (known, lost.len()), "pages are listed that are not there");
    contents
}

/// Checks a directory. Returns whether it was one worth keeping: not, where an id is beyond what is looked at.
pub fn check(files: &Files) -> bool {
    let disk = Disk::of(files);
    let report = {
        let _bound = bound(files);
        inspect::verify(config(&disk).build())
    };
    let sound = match report {
        Ok(report) if report.pages.high_water > IDS_MAX => return false,
        Ok(report) => report.is_sound(),
        Err(_) => false,
    };
    // Both ways: with a second walk that decodes every fragment, and without.
    match sum(files.values().next().map_or(&[], |file| file)).1.is_multiple_of(2) {
        true => check_as::<true>(files, &disk, sound),
        false => check_as::<false>(files, &disk, sound),
    }
}

fn check_as<const RECOVERS: bool>(files: &Files, disk: &Disk, sound: bool) -> bool {
    let _bound = bound(files);
    // A root may know of higher ids than the log does.
    if open::<RECOVERS>(disk, true).is_ok_and(|pages| pages.stats().ids_high_water > IDS_MAX) {
        return false;
    }
    compare_and_change::<RECOVERS>(files, disk, sound);
    true
}

fn compare_and_change<const RECOVERS: bool>(files: &Files, disk: &Disk, sound: bool) {
    let read =
        |disk: &Disk| open::<RECOVERS>(disk, true).map(|pages| (contents(&pages), pages.recovered_state().copied()));
    let seen = read(disk);
    assert_eq!(seen, read(disk), "two readers see different pages");
    assert!(disk.files() == *files, "a reader has written");
    let (pages, seen) = match (open::<RECOVERS>(disk, false), seen) {
        (Ok(pages), Ok(seen)) => (pages, seen),
        // Only a writer needs a segment: whether there is one it knows before what the records of the log say is looked at.
        (Err(one), Err(other)) => {
            return assert!(one == other || one.starts_with("NoSpace"), "{one}, and a reader: {other}");
        }
        (Err(error), Ok(_)) => return assert!(error.starts_with("NoSpace"), "a writer is refused: {error}"),
        (Ok(_), Err(error)) => panic!("a reader is refused, a writer is not: {error}"),
    };
    assert_eq!((contents(&pages), pages.recovered_state().copied()), seen, "a writer sees other pages than a reader");
    let (mut expected, _) = seen;
    if !change(&pages, &mut expected) {
        return;
    }
    pages.close().expect("nothing is wrong with the disk");
    let pages = open::<RECOVERS>(disk, false).expect("it was closed");
    let mut found = contents(&pages);
    // The highest id has risen over those of a leaf that was known to be lost.
    let lost: BTreeSet<Page> = expected.values().filter(|page| page.0 == Version::NONE).cloned().collect();
    found.retain(|id, page| expected.contains_key(id) || !lost.contains(page));
    assert_eq!(found, expected, "changed, closed, opened again");
    pages.close().expect("nothing is wrong with the disk");
    if sound {
        let report = inspect::verify(config(disk).build()).expect("it opens");
        assert!(report.is_sound(), "it was sound before: {:?}", report.problems);
    }
}

/// Links to, replaces and frees a few pages each, and makes two new ones. Returns whether there was room for it.
fn change<const RECOVERS: bool>(pages: &Pages<RECOVERS>, expected: &mut Contents) -> bool {
    let ids: Vec<PageId> = expected.keys().copied().take(9).collect();
    for (nth, id) in ids.into_iter().enumerate() {
        let guard = pages.pin();
        let (at, found) = expected.get(&id).cloned().expect("it is one of these");
        let fragment = vec![nth as u8; nth];
        let outcome = match nth % 3 {
            0 => pages.link_at(id, at, fragment, &guard).map(|_| true).map_err(Error::from),
            1 => pages.replace_at(id, at, fragment, &guard).map(|_| true).map_err(Error::from),
            _ => pages.free_at(id, at, &guard).map(|_| false).map_err(Error::from),
        };
        if at == Version::NONE {
            assert!(matches!(&outcome, Err(Error::Corrupt(_))), "what is not known of {id} was changed: {outcome:?}");
            continue;
        }
        match outcome {
            Ok(true) => {
                let (page, token) = match pages.get(id, &guard) {
                    Ok(found) => found,
                    // A link goes on top of what cannot be read, where it need not be read for it.
                    Err(error) => {
                        assert!(found.is_err() && nth % 3 == 0, "{error:?}");
                        expected.remove(&id);
                        let now = contents(pages).remove(&id).expect("it holds data");
                        expected.insert(id, now);
                        continue;
                    }
                };
                expected.insert(id, (pagecache::version(token), Ok(sum(&page))));
            }
            Ok(false) => {
                expected.remove(&id);
            }
            Err(error) if full(&error) => return false,
            // What is damaged can be given up or replaced, and not always linked to.
            Err(error) => {
                let typed = error.is_corrupt() || matches!(error, Error::Decode { .. } | Error::Incompatible { .. });
                assert!(found.is_err() && nth % 3 == 0 && typed, "{error:?}");
            }
        }
    }
    for len in [3, 20_000] {
        let guard = pages.pin();
        let Ok(id) = pages.try_allocate() else { return false };
        assert!(!expected.contains_key(&id), "{id} is handed out and holds data");
        let page = vec![7; len];
        let of_it = sum(&page);
        // An id that was freed is at the version of its free.
        let at = match pages.state(id, &guard).expect("the guard is the store's") {
            PageState::Empty => Version::NONE,
            PageState::Free(at) => at,
            other => panic!("{id} was allocated and is {other:?}"),
        };
        match pages.replace_at(id, at, page, &guard).map_err(Error::from) {
            Ok(version) => expected.insert(id, (version, Ok(of_it))),
            Err(error) if full(&error) => return false,
            Err(error) => panic!("a new page is not written: {error:?}"),
        };
    }
    match pages.flush() {
        Ok(_) => {}
        Err(error) if full(&error) => return false,
        Err(error) => panic!("pages that opened are not flushed: {error:?}"),
    }
    let is_lost = |(version, _): &Page| *version == Version::NONE;
    match pages.checkpoint() {
        Ok(_) => true,
        Err(error) if full(&error) => false,
        Err(error) => {
            assert!(error.is_corrupt() && expected.values().any(is_lost), "no checkpoint is written: {error:?}");
            true
        }
    }
}
