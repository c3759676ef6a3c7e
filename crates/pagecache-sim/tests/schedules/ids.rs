//! Ids that are freed, allocated and linked to at once: each has one owner, who sees nothing of those before.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use pagecache::crossbeam_epoch::LocalHandle;
use pagecache::{Error, PageId, PageState, Rejected, Version, version};
use pagecache_sim::disk::{SimDisk, Survival};
use pagecache_sim::linear::player::Words;

use crate::harness::{Store, chosen, count, join, scenarios};

/// Who has which id now. Not a lock of the kit's door: nobody is switched away inside.
#[derive(Default)]
struct Owned {
    now: Mutex<BTreeSet<PageId>>,
    before: Mutex<BTreeSet<PageId>>,
}

impl Owned {
    fn take(&self, id: PageId) {
        assert!(self.now.lock().unwrap().insert(id), "{id} is handed out twice");
    }

    /// Before the free: the id may be somebody else's before it returns.
    fn leave(&self, id: PageId) {
        assert!(self.now.lock().unwrap().remove(&id));
        self.before.lock().unwrap().insert(id);
    }

    fn is_old(&self, id: PageId) -> bool {
        self.before.lock().unwrap().contains(&id)
    }
}

/// An id of one's own, with the one word that is on it.
type Kept = (PageId, u64);

/// Takes an id and writes its first word; nobody else has it, and nothing is left on it.
fn take(store: &Store, owned: &Owned, word: u64, local: &LocalHandle) -> (PageId, Version) {
    let guard = local.pin();
    let id = store.pages.allocate(&guard);
    owned.take(id);
    count("ids that had an owner before", owned.is_old(id).into());
    match store.pages.get(id, &guard) {
        Err(Error::NoPage { state: PageState::Empty, .. }) => {}
        found => panic!("{id} was just allocated and is {found:?}"),
    }
    let made = store.pages.replace_at(id, Version::NONE, Words(vec![word]), &guard);
    let made = made.unwrap_or_else(|error| panic!("nobody else writes to {id}: {error}"));
    let (page, token) = store.pages.get(id, &guard).unwrap();
    assert_eq!((version(token), &page.0), (made, &vec![word]));
    (id, made)
}

/// Frees a page of one's own, whatever others have linked to it.
fn free(store: &Store, owned: &Owned, (id, mut at): (PageId, Version), local: &LocalHandle) {
    owned.leave(id);
    loop {
        let guard = local.pin();
        match store.pages.free_at(id, at, &guard) {
            Ok(freed) => {
                assert!(freed > at);
                return;
            }
            Err(Rejected::Conflict { token, .. }) => at = version(token),
            Err(Rejected::Failed { error, .. }) => panic!("a free by the owner of {id} failed: {error}"),
        };
    }
}

/// Takes and frees ids, and keeps the last one.
fn allocator(store: &Arc<Store>, owned: &Arc<Owned>, words: [u64; 3]) -> shuttle::thread::JoinHandle<Vec<Kept>> {
    let owned = Arc::clone(owned);
    store.spawn(move |store, local| {
        let mut kept = Vec::new();
        for word in words {
            let (id, made) = take(store, &owned, word, local);
            if word == words[2] {
                kept.push((id, word));
                continue;
            }
            free(store, &owned, (id, made), local);
            if chosen(2) == 0 {
                store.pages.flush().unwrap();
            }
        }
        kept
    })
}

/// What is owned is there, and nothing else is; the rest can be had, each id once.
fn check(store: &Store, kept: &[Kept]) {
    for (id, word) in kept {
        assert_eq!(store.read(*id, &store.local()).1, [*word]);
    }
    let mut ids: Vec<_> = kept.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    assert_eq!(store.pages.page_ids().map(Result::unwrap).collect::<Vec<_>>(), ids);
    assert_eq!(store.pages.page_count().unwrap(), ids.len() as u64);
    let mut taken: BTreeSet<_> = ids.into_iter().collect();
    let local = store.local();
    for _ in 0..store.pages.stats().ids_high_water + 2 {
        let id = store.pages.allocate(&local.pin());
        assert!(taken.insert(id), "{id} is handed out twice");
    }
}

fn check_now_and_later(store: &Store, kept: &[Kept]) {
    store.pages.flush().unwrap();
    let again = Store::start(&store.disk.crash(Survival::DropAll));
    check(&again, kept);
    check(store, kept);
}

/// One frees a page, another links to it with the tokens of its first life, two take ids.
fn a_free_meets_a_link_and_allocations() {
    const FIRST_LIFE: [u64; 4] = [1, 10, 11, 12];
    let store = Store::start(&SimDisk::new(0));
    let owned = Arc::new(Owned::default());
    let first = store.page(1);
    owned.take(first.0);
    let own = Arc::clone(&owned);
    let freer = store.spawn(move |store, local| {
        free(store, &own, first, local);
        store.pages.flush().unwrap();
        if let Ok((page, _)) = store.pages.get(first.0, &local.pin()) {
            assert!(page.0.iter().all(|word| !FIRST_LIFE.contains(word)), "{} was freed and is {page:?}", first.0);
        }
        Vec::new()
    });
    let linker = store.spawn(move |store, local| {
        let (id, mut at) = first;
        for word in [10, 11, 12] {
            let guard = local.pin();
            match store.pages.link_at(id, at, Words(vec![word]), &guard) {
                Ok(made) => at = made,
                Err(Rejected::Conflict { token, .. }) => {
                    assert!(version(token) > at);
                    count("stale tokens refused by a new owner's page", 1);
                }
                Err(Rejected::Failed { error: Error::NoPage { .. }, .. }) => count("links refused by a freed page", 1),
                Err(Rejected::Failed { error, .. }) => panic!("{error}"),
            }
        }
        Vec::new()
    });
    let allocators = [[20, 21, 22], [30, 31, 32]].map(|words| allocator(&store, &owned, words));
    let kept = join([freer, linker].into_iter().chain(allocators)).concat();
    check_now_and_later(&store, &kept);
}

/// Ids go round among threads that free what they take.
fn freed_ids_go_round() {
    let store = Store::start(&SimDisk::new(0));
    let owned = Arc::new(Owned::default());
    let threads = [[10, 11, 12], [20, 21, 22], [30, 31, 32]].map(|words| allocator(&store, &owned, words));
    let kept = join(threads).concat();
    check_now_and_later(&store, &kept);
}

scenarios! {
    a_free_meets_a_link_and_allocations,
    freed_ids_go_round,
}
