//! A reader that holds its guard: what it was shown stays whole, however the page is changed, freed and evicted meanwhile; and in
//! the end nothing is kept.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use pagecache::crossbeam_epoch::LocalHandle;
use pagecache::{Error, Fragment, Materializer, PageBytes, PageId, Rejected, Version, version};
use pagecache_sim::disk::SimDisk;
use pagecache_sim::linear::player::{WEIGHT, Words};
use shuttle::thread::yield_now;

use crate::harness::{Store, chosen, count, join, scenarios};

thread_local! {
    /// Fragments made in this schedule, and those of them that were dropped. Shuttle has one thread of the system for all of its
    /// own, so they share these.
    static MADE: Cell<u64> = const { Cell::new(0) };
    static DROPPED: RefCell<HashSet<u64>> = RefCell::new(HashSet::new());
}

/// Words whose end is noticed.
#[derive(Debug)]
struct Watched {
    words: Words,
    number: u64,
}

impl Watched {
    fn new(words: Words) -> Watched {
        Watched { words, number: MADE.replace(MADE.get() + 1) }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        assert!(DROPPED.with_borrow_mut(|dropped| dropped.insert(self.number)), "dropped twice");
    }
}

impl Fragment for Watched {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        Fragment::encode(&self.words, out)
    }

    fn decode(bytes: PageBytes) -> Result<Watched, String> {
        Fragment::decode(bytes).map(Watched::new)
    }

    fn heap_size(&self) -> usize {
        WEIGHT
    }
}

struct Watch;

impl Materializer for Watch {
    type PageFrag = Watched;
    type Recovery = ();
    const RECOVERS: bool = false;

    fn new(_: &Option<()>) -> Watch {
        Watch
    }

    fn merge(&self, frags: &[&Watched]) -> Watched {
        Watched::new(Words(frags.iter().flat_map(|frag| frag.words.0.iter().copied()).collect()))
    }

    fn recover(&self, _: &Watched) -> Option<()> {
        None
    }
}

type Pages = Store<Watch>;

fn write(store: &Pages, id: PageId, at: Version, word: u64, local: &LocalHandle) -> Option<Version> {
    let guard = local.pin();
    let frag = Watched::new(Words(vec![word]));
    let done = match chosen(2) {
        0 => store.pages.link_at(id, at, frag, &guard),
        _ => store.pages.replace_at(id, at, frag, &guard),
    };
    match done {
        Ok(made) => Some(made),
        Err(Rejected::Conflict { token, .. }) => Some(version(token)),
        Err(Rejected::Failed { error: Error::NoPage { .. }, .. }) => None,
        Err(Rejected::Failed { error, .. }) => panic!("{error}"),
    }
}

/// Holds what it was shown over several switches, looking at it again and again.
fn hold(store: &Pages, id: PageId, local: &LocalHandle) {
    let guard = local.pin();
    let alive = |numbers: &[u64]| {
        let dead = |number: &u64| DROPPED.with_borrow(|dropped| dropped.contains(number));
        assert!(!numbers.iter().any(dead), "what a guard's holder saw was dropped");
    };
    let Ok((page, token)) = store.pages.get(id, &guard) else { return };
    let Ok((fragments, _)) = store.pages.fragments(id, &guard) else { return };
    let seen: Vec<u64> = fragments.iter().map(|frag| frag.number).chain([page.number]).collect();
    let words = page.words.clone();
    for _ in 0..4 {
        yield_now();
        alive(&seen);
        assert_eq!(page.words, words, "{}", version(token));
        let _ = store.pages.get(id, &local.pin());
    }
    let changed = store.pages.get(id, &guard).map_or(true, |(now, _)| now.number != page.number);
    count("pages that changed under a guard", changed.into());
}

fn a_guard_keeps_what_its_holder_saw() {
    MADE.set(0);
    DROPPED.with_borrow_mut(HashSet::clear);
    let store = Pages::start(&SimDisk::new(0));
    let ids = {
        let local = store.local();
        let guard = local.pin();
        [1, 2].map(|word| {
            let id = store.pages.allocate(&guard);
            (id, write(&store, id, Version::NONE, word, &local).unwrap())
        })
    };
    let reader = store.spawn(move |store, local| ids.iter().for_each(|(id, _)| hold(store, *id, local)));
    let writers = [10, 20].map(|word| {
        store.spawn(move |store, local| {
            for (id, at) in ids {
                let Some(now) = write(store, id, at, word, local) else { continue };
                let Some(now) = write(store, id, now, word + 1, local) else { continue };
                if word == 10 && id == ids[0].0 {
                    let _ = store.pages.free_at(id, now, &local.pin());
                }
                // Pushes this thread's garbage to the collector, which drops what no guard holds.
                local.pin().flush();
            }
        })
    });
    join(writers.into_iter().chain([reader]));
    drop(store);
    assert_eq!(MADE.get(), DROPPED.with_borrow(HashSet::len) as u64, "something outlives the store and its guards");
}

scenarios! {
    a_guard_keeps_what_its_holder_saw,
}
