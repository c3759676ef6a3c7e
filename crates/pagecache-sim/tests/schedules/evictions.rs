//! Evictions that meet page-ins, updates and frees: whatever is in memory is found by who looks for room.

use std::sync::Arc;

use pagecache::crossbeam_epoch::LocalHandle;
use pagecache::{Error, PageId, Rejected, Version, version};
use pagecache_sim::disk::SimDisk;
use pagecache_sim::linear::player::Words;

use crate::harness::{Store, chosen, count, join, scenarios};

/// Reads these pages as they come; some are freed meanwhile.
fn read(store: &Store, ids: &[PageId], local: &LocalHandle) {
    for id in ids {
        match store.pages.get(*id, &local.pin()) {
            Ok((page, _)) => assert!(!page.0.is_empty()),
            Err(Error::NoPage { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Frees a page, whatever others have linked to it, and takes an id for another page: the same one, if its free is stable by then.
fn free_and_take(store: &Store, id: PageId, mut at: Version, word: u64, local: &LocalHandle) -> PageId {
    loop {
        match store.pages.free_at(id, at, &local.pin()) {
            Ok(_) => break,
            Err(Rejected::Conflict { token, .. }) => at = version(token),
            Err(Rejected::Failed { error, .. }) => panic!("{error}"),
        }
    }
    if chosen(2) == 0 {
        store.pages.flush().unwrap();
    }
    let guard = local.pin();
    let other = store.pages.allocate(&guard);
    count("ids that came back", (other == id).into());
    store.pages.replace_at(other, Version::NONE, Words(vec![word]), &guard).unwrap();
    other
}

/// Links a word, unless the page was freed.
fn link(store: &Store, id: PageId, mut at: Version, word: u64, local: &LocalHandle) {
    loop {
        match store.pages.link_at(id, at, Words(vec![word]), &local.pin()) {
            Ok(_) | Err(Rejected::Failed { error: Error::NoPage { .. }, .. }) => return,
            Err(Rejected::Conflict { token, .. }) => at = version(token),
            Err(Rejected::Failed { error, .. }) => panic!("{error}"),
        }
    }
}

/// The cache holds two fragments; a page that is more than the cache drives all others out, and goes itself.
fn evictions_meet_page_ins_and_frees() {
    let disk = SimDisk::new(0);
    let store: Arc<Store> = Store::start(&disk);
    let [(one, at_one), (two, at_two), (three, _)] = [1, 2, 3].map(|word| store.page(word));
    if chosen(2) == 0 {
        store.pages.flush().unwrap();
    }
    let reader = store.spawn(move |store, local| {
        read(store, &[two, one, three], local);
        one
    });
    let linker = store.spawn(move |store, local| {
        link(store, two, at_two, 20, local);
        link(store, one, at_one, 10, local);
        two
    });
    let freer = store.spawn(move |store, local| free_and_take(store, one, at_one, 40, local));
    let four = join([reader, linker, freer])[2];
    count("page-ins", store.page_ins());
    let local = store.local();
    // What was linked to the page may have come before its free or to its next owner.
    assert!(store.read(four, &local).1.starts_with(&[40]));
    assert_eq!(store.read(two, &local).1, [2, 20]);
    assert_eq!(store.read(three, &local).1, [3]);
    store.pages.flush().unwrap();
    let (large, mut at) = store.page(50);
    for word in 51..53 {
        at = store.link(large, at, word, &local);
    }
    // Lists of where two or three pages are, and no page.
    let left = store.pages.stats().resident_bytes;
    assert!(left <= 80, "what is in memory is not found: {left} bytes");
    assert_eq!(store.read(large, &local), (at, vec![50, 51, 52]));
}

scenarios! {
    evictions_meet_page_ins_and_frees,
}
