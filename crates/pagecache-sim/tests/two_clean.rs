//! A turn of cleaning on two threads, one that copies and one that writes, on a disk that fails at each call of either, and on one that stops at each: the
//! turn says what happened, the next one goes on, and nothing is lost.
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

const SEGMENT: u64 = 256 << 10;

/// Nothing is cleaned by itself, and the cache is so small that a batch has 1 MiB.
fn config(disk: &SimDisk) -> ConfigBuilder {
    let builder = ConfigBuilder::new().storage(disk.clone()).segment_size(SEGMENT).log_limit(1 << 30);
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
            // What was on its way is given up, and takes no room. Of the log, the map and two streams of images the newest may occupy less than its length.
            let files = disk.file_names().iter().filter(|name| !name.starts_with("super-")).count() as u64;
            let counted = pages.stats().disk_bytes.div_ceil(SEGMENT);
            assert!(counted <= files && files <= counted + 4, "{at}: {counted} counted, {files} files");
            pages.close().unwrap();
            let pages = Pages::start(config(&disk).build()).unwrap();
            check(&pages, &at);
        }
    }
    println!("{failed} turns failed, {poisoned} ended their store, {whole} did not meet their fault");
    assert!(failed > 10 && poisoned > 2, "{failed}, {poisoned}");
}

/// What a crash leaves of a turn, at each of its calls: all of the pages, by either place of each.
#[test]
fn a_turn_that_is_cut_short_at_any_call_loses_nothing() {
    let before = SimDisk::new(1);
    scattered(&before).close().unwrap();
    let (mut points, mut images, mut clean) = (0, 0, 0);
    for call in 0.. {
        let disk = before.kill();
        let pages = Pages::start(config(&disk).build()).unwrap();
        disk.crash_at(disk.io_count() + call);
        let turn = pages.clean();
        drop(pages);
        let is_over = !disk.crashed();
        assert!(is_over || turn.is_err() || turn.is_ok_and(|moved| moved > 0), "call {call}");
        points += 1;
        for survival in disk.images(4, call) {
            let at = format!("call {call}, {survival:?}");
            let image = disk.crash(survival);
            let pages = Pages::start(config(&image).build()).unwrap_or_else(|error| panic!("{at}: {error}"));
            check(&pages, &at);
            images += 1;
            // The next turn moves what this one has not.
            if call.is_multiple_of(8) {
                clean += u64::from(pages.clean().unwrap_or_else(|error| panic!("{at}: {error}")) > 0);
                check(&pages, &at);
            }
        }
        if is_over {
            break;
        }
    }
    println!("{points} points, {images} images, {clean} turns behind them that moved pages");
    assert!(points > 50 && images > 2 * points && clean > 10, "{points}, {images}, {clean}");
}
