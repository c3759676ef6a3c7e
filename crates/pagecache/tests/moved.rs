//! A page with deltas that is moved on disk stays where it is in memory, and everything that can happen to a page can happen to it afterwards.
#![cfg(not(loom))]

use pagecache::storage::MemoryStorage;
use pagecache::{Background, ConfigBuilder, Materializer, PageCache, PageId, PageState, Version};

/// Pages are numbers in a row.
struct Row;

impl Materializer for Row {
    type PageFrag = Vec<u16>;
    type Recovery = ();
    fn new(_: &Option<()>) -> Self {
        Row
    }
    fn merge(&self, frags: &[&Vec<u16>]) -> Vec<u16> {
        frags.iter().flat_map(|frag| frag.iter().copied()).collect()
    }
    fn recover(&self, _: &Vec<u16>) -> Option<()> {
        None
    }
}

type Pages = PageCache<Row>;

const PAGES: u64 = 120;

/// Numbers of a link: not so many that a page is folded in memory by three of them.
const LINK: usize = 400;

fn start(storage: &MemoryStorage) -> Pages {
    let config = ConfigBuilder::new().storage(storage.clone()).segment_size(64 << 10).log_limit(256 << 10);
    Pages::start(config.fill_target(0.95).background(Background::Caller).build()).unwrap()
}

/// What a page is after so many links.
fn row(page: u64, links: u16) -> Vec<u16> {
    let base = (0..5000).map(|at| (page as u16) << 8 ^ at);
    base.chain((1..=links).flat_map(|link| [link; LINK])).collect()
}

/// Pages with this many links each, among others that are gone: what they are in is to be emptied.
fn linked(pages: &Pages, links: u16) -> Vec<(PageId, Version)> {
    let guard = pages.pin();
    let page = |content| {
        let id = pages.allocate(&guard);
        (id, pages.replace_at(id, Version::NONE, content, &guard).unwrap())
    };
    let both = (0..PAGES).map(|nth| (page(row(nth, 0)), page(vec![1; 20_000])));
    let (mut all, others): (Vec<_>, Vec<_>) = both.unzip();
    for link in 1..=links {
        for (id, at) in &mut all {
            *at = pages.link_at(*id, *at, vec![link; LINK], &guard).unwrap();
        }
    }
    for (other, at) in others {
        pages.free_at(other, at, &guard).unwrap();
    }
    drop(guard);
    pages.flush().unwrap();
    pages.checkpoint().unwrap();
    all
}

/// Where a page's fragments are in memory, newest first.
fn places(pages: &Pages, id: PageId) -> Vec<*const Vec<u16>> {
    let guard = pages.pin();
    let (fragments, _) = pages.fragments(id, &guard).unwrap();
    assert_eq!(fragments.count(), fragments.iter().count());
    fragments.iter().map(std::ptr::from_ref).collect()
}

/// Moves as many pages as these are. Of how many the fragments are where they were.
fn moved(pages: &Pages, all: &[(PageId, Version)]) -> u64 {
    let before: Vec<_> = all.iter().map(|(id, _)| places(pages, *id)).collect();
    // Most of them once: a second move merges what is still under a marker.
    let mut moved = 0;
    while moved < PAGES {
        let now = pages.clean().unwrap();
        assert!(now > 0, "{moved} moved, and no more are");
        moved += now;
    }
    pages.check_accounts().unwrap();
    let stayed = all.iter().zip(&before).filter(|((id, _), before)| places(pages, *id) == **before);
    stayed.count() as u64
}

fn check(pages: &Pages, all: &[(PageId, Version)], links: u16) {
    for ((id, at), nth) in all.iter().zip(0..) {
        let guard = pages.pin();
        assert_eq!(pages.state(*id, &guard).unwrap(), PageState::Live(*at));
        assert_eq!(pages.get(*id, &guard).unwrap().0, row(nth, links), "{id}");
    }
    pages.check_accounts().unwrap();
}

#[test]
fn fragments_stay_where_they_are() {
    let storage = MemoryStorage::new();
    let pages = start(&storage);
    let all = linked(&pages, 3);
    assert!(moved(&pages, &all) > PAGES * 3 / 4);
    assert!(all.iter().filter(|(id, _)| places(&pages, *id).len() == 4).count() as u64 > PAGES * 3 / 4);
    check(&pages, &all, 3);
    // A fold has taken the marker away: now it is one fragment.
    assert!(all.iter().all(|(id, _)| places(&pages, *id).len() == 1));
    pages.close().unwrap();
    check(&start(&storage), &all, 3);
}

#[test]
fn what_is_linked_afterwards_goes_on_top_and_survives() {
    let storage = MemoryStorage::new();
    let pages = start(&storage);
    let mut all = linked(&pages, 2);
    assert!(moved(&pages, &all) > PAGES * 3 / 4);
    for link in 3..=9 {
        for (id, at) in &mut all {
            *at = pages.link_at(*id, *at, vec![link; LINK], &pages.pin()).unwrap();
        }
        pages.check_accounts().unwrap();
    }
    check(&pages, &all, 9);
    pages.close().unwrap();
    check(&start(&storage), &all, 9);
}

#[test]
fn it_is_moved_again_replaced_and_freed() {
    let storage = MemoryStorage::new();
    let pages = start(&storage);
    let mut all = linked(&pages, 3);
    assert!(moved(&pages, &all) > PAGES * 3 / 4);
    // Again, with nothing linked since: what is in use of a segment is made little by frees of its neighbours.
    let guard = pages.pin();
    for (id, at) in all.drain(..all.len() * 2 / 3) {
        let freed = pages.free_at(id, at, &guard).unwrap();
        assert_eq!(pages.state(id, &guard).unwrap(), PageState::Free(freed));
    }
    drop(guard);
    pages.check_accounts().unwrap();
    let before = pages.stats();
    pages.flush().unwrap();
    for _ in 0..10 {
        pages.clean().unwrap();
    }
    assert!(pages.stats().survivor_bytes > before.survivor_bytes, "images were moved again");
    let (id, at) = all[0];
    all[0].1 = pages.replace_at(id, at, row(PAGES * 2 / 3, 3), &pages.pin()).unwrap();
    pages.check_accounts().unwrap();
    let all_at = |pages: &Pages| {
        for ((id, at), nth) in all.iter().zip(PAGES * 2 / 3..) {
            let guard = pages.pin();
            assert_eq!(pages.state(*id, &guard).unwrap(), PageState::Live(*at));
            assert_eq!(pages.get(*id, &guard).unwrap().0, row(nth, 3));
        }
        pages.check_accounts().unwrap();
    };
    all_at(&pages);
    pages.close().unwrap();
    all_at(&start(&storage));
}
