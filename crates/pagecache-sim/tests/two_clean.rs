//! A turn of cleaning on two threads, one that copies and one that writes, on a disk that fails at each call of either: the turn says what
//! happened, the next one goes on, and nothing is lost.
#![forbid(unsafe_code)]

use pagecache::{Background, ConfigBuilder, Error, Materializer, PageCache, PageId, Version};
use pagecache_sim::disk::{AfterSync, Call, Effect, Fault, SimDisk, Survival, When};

struct Joined;

impl Materializer for Joined {
    type PageFrag = Vec<u8>;
    type Recovery = ();
    const RECOVERS: bool = false;
    fn new(_: &Option<()>) -> Joined {
        Joined
    }
    fn merge(&self, frags: &[&Vec<u8>]) -> Vec<u8> {
        frags.iter().flat_map(|frag| frag.iter().copied()).collect()
    }
    fn recover(&self, _: &Vec<u8>) -> Option<()> {
        None
    }
}

type Pages = PageCache<Joined>;

const PAGES: u64 = 2400;

/// Nothing is cleaned by itself, and the cache is so small that a batch has 1 MiB.
fn config(disk: &SimDisk) -> ConfigBuilder {
    let builder = ConfigBuilder::new().storage(disk.clone()).segment_size(256 << 10).log_limit(1 << 30);
    builder.cache_capacity(4 << 20).background(Background::Threads).flush_every_ms(None)
}

fn content(page: u64) -> Vec<u8> {
    (0..2000).map(|at| (page * 31 + at) as u8).collect()
}

/// 2,400 pages of 2,000 bytes, of two records each, and between them as many that are free: some 5 MB to be moved, in segments that are half empty.
fn scattered(disk: &SimDisk) -> Pages {
    let pages = Pages::start(config(disk).build()).unwrap();
    let mut versions = Vec::new();
    for page in 0..2 * PAGES {
        let guard = pages.pin();
        let id = pages.allocate(&guard);
        let bytes = content(page / 2);
        let (first, second) = bytes.split_at(1000);
        let version = pages.replace_at(id, Version::NONE, first.to_vec(), &guard).unwrap();
        versions.push((id, pages.link_at(id, version, second.to_vec(), &guard).unwrap()));
    }
    for (id, version) in versions.into_iter().skip(1).step_by(2) {
        pages.free_at(id, version, &pages.pin()).unwrap();
    }
    pages.flush().unwrap();
    pages.checkpoint().unwrap();
    pages
}

fn check(pages: &Pages, at: &str) {
    let guard = pages.pin();
    for page in 0..PAGES {
        let (found, _) = pages.get(PageId(page * 2), &guard).unwrap_or_else(|error| panic!("{at}: {page}: {error}"));
        assert_eq!(*found, content(page), "{at}: {page}");
    }
    drop(guard);
    pages.check_accounts().unwrap_or_else(|what| panic!("{at}: {what}"));
}

#[test]
fn a_turn_that_fails_on_either_thread_loses_nothing() {
    let (mut failed, mut poisoned, mut whole) = (0, 0, 0);
    let faults = [
        (Call::Write, Effect::Enospc),
        (Call::Write, Effect::Eio),
        (Call::Create, Effect::Enospc),
        (Call::Rename, Effect::Eio),
        (Call::Read, Effect::Eio),
        (Call::SyncData, Effect::SyncFails(AfterSync::KeptClean)),
    ];
    for (call, effect) in faults {
        for nth in [0, 1, 2, 5, 13, 34] {
            let at = format!("{call:?} {nth} with {effect:?}");
            let disk = SimDisk::new(nth);
            let pages = scattered(&disk);
            disk.fault(Fault::new(call, When::Once(nth), effect));
            let outcome = pages.clean();
            let (is_whole, is_over) = (outcome.is_ok(), matches!(outcome, Err(Error::Poisoned { .. })));
            match outcome {
                Ok(moved) => {
                    assert!(moved > 0 || !disk.struck().is_empty(), "{at}: nothing was moved");
                    whole += 1;
                }
                Err(Error::NoSpace { .. } | Error::Io { .. }) => failed += 1,
                Err(Error::Poisoned { .. }) => poisoned += 1,
                Err(error) => panic!("{at}: {error}"),
            }
            disk.clear_faults();
            if is_over {
                // What was acknowledged is on disk.
                drop(pages);
                let pages = Pages::start(config(&disk.crash(Survival::DropAll)).build()).unwrap();
                check(&pages, &at);
                continue;
            }
            check(&pages, &at);
            let mut moved = 0;
            for _ in 0..4 {
                moved += pages.clean().unwrap_or_else(|error| panic!("{at}: {error}"));
            }
            assert!(is_whole || moved > 0, "{at}: nothing was moved by the next turns");
            check(&pages, &at);
            pages.close().unwrap();
            let pages = Pages::start(config(&disk).build()).unwrap();
            check(&pages, &at);
        }
    }
    println!("{failed} turns failed, {poisoned} ended their store, {whole} did not meet their fault");
    assert!(failed > 10 && poisoned > 2, "{failed}, {poisoned}");
}
