//! Links that meet links, page-ins and evictions: every word lands once, in the order of the versions, and stays.

use std::sync::Arc;

use pagecache::{PageId, Version};
use pagecache_sim::disk::{SimDisk, Survival};

use crate::harness::{Store, chosen, count, join, options, scenarios};

/// Words and the versions under which they were acknowledged.
type Told = Vec<(Version, u64)>;

/// Links these words one by one.
fn linker(store: &Arc<Store>, id: PageId, at: Version, words: [u64; 2]) -> shuttle::thread::JoinHandle<Told> {
    store.spawn(move |store, local| {
        let mut at = at;
        words
            .map(|word| {
                at = store.link(id, at, word, local);
                (at, word)
            })
            .to_vec()
    })
}

/// Reads a page a few times: it only grows.
fn reader(store: &Arc<Store>, ids: Vec<PageId>) -> shuttle::thread::JoinHandle<Told> {
    store.spawn(move |store, local| {
        for id in ids {
            let (old, words) = store.read(id, local);
            let (new, more) = store.read(id, local);
            assert!(new >= old && more.starts_with(&words), "{words:?} at {old}, then {more:?} at {new}");
            assert_eq!(new == old, more == words);
        }
        Vec::new()
    })
}

/// The page is its first word and all that were linked, in the order of their versions.
fn check(store: &Store, id: PageId, first: (Version, u64), mut told: Told) {
    told.push(first);
    told.sort_unstable();
    let (at, words) = store.read(id, &store.local());
    let expected: Vec<u64> = told.iter().map(|(_, word)| *word).collect();
    assert_eq!((at, words), (told.last().unwrap().0, expected));
}

/// The same now, and after everything was made durable and the rest was lost.
fn check_now_and_later(store: Arc<Store>, pages: &[(PageId, (Version, u64), Told)]) {
    for (id, first, told) in pages {
        check(&store, *id, *first, told.clone());
    }
    store.pages.flush().unwrap();
    let again = Store::start(&store.disk.crash(Survival::DropAll));
    for (id, first, told) in pages {
        check(&again, *id, *first, told.clone());
    }
}

fn a_link_meets_links() {
    let disk = SimDisk::new(0);
    let store = Store::with(options(&disk).cache_capacity(16 << 20), &disk);
    let (id, made) = store.page(1);
    let linkers = [[10, 11], [20, 21], [30, 31]].map(|words| linker(&store, id, made, words));
    let told = join(linkers.into_iter().chain([reader(&store, vec![id])])).concat();
    check_now_and_later(store, &[(id, (made, 1), told)]);
}

/// The cache holds two of the fragments, so nearly every step pages something in and something else out.
fn a_link_meets_page_ins_and_evictions() {
    let disk = SimDisk::new(0);
    let store = Store::start(&disk);
    let [one, two] = [1, 2].map(|word| (store.page(word), word));
    if chosen(2) == 0 {
        store.pages.flush().unwrap();
    }
    let linkers = [
        linker(&store, one.0.0, one.0.1, [10, 11]),
        linker(&store, two.0.0, two.0.1, [20, 21]),
        reader(&store, vec![one.0.0, two.0.0]),
    ];
    let mut told = join(linkers);
    let second = told.remove(1);
    count("page-ins", store.page_ins());
    check_now_and_later(store, &[(one.0.0, (one.0.1, 1), told.concat()), (two.0.0, (two.0.1, 2), second)]);
}

/// Two link to the page that a third one reads in and evicts.
fn links_meet_on_a_page_that_comes_and_goes() {
    let disk = SimDisk::new(0);
    let store = Store::start(&disk);
    let [(id, made), (other, _)] = [store.page(1), store.page(2)];
    let threads =
        [linker(&store, id, made, [10, 11]), linker(&store, id, made, [20, 21]), reader(&store, vec![other, id])];
    let told = join(threads).concat();
    count("page-ins", store.page_ins());
    check_now_and_later(store, &[(id, (made, 1), told)]);
}

scenarios! {
    a_link_meets_links,
    a_link_meets_page_ins_and_evictions,
    links_meet_on_a_page_that_comes_and_goes,
}
