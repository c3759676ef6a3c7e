//! A store that is copied file by file while it is written and checkpoints are: a right prefix, or a typed error.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pagecache::{Error, PageId, PageState, Version};

use crate::harness::{Dir, Texts, small, within_a_minute};

const PAGES: u64 = 40;

/// Update number `nth` gives a page this content.
fn content(nth: u64) -> String {
    format!("{nth}:{}", "x".repeat((nth * 37 % 900) as usize))
}

/// Writes update after update, each to the next page, until told to end. Returns the last.
fn write(pc: &Texts, over: &AtomicBool, acknowledged: &AtomicU64) -> u64 {
    let guard = pc.pin();
    let ids: Vec<PageId> = (0..PAGES).map(|_| pc.allocate(&guard)).collect();
    drop(guard);
    let mut nth = 0;
    while !over.load(Ordering::Relaxed) {
        let (guard, id) = (pc.pin(), ids[(nth % PAGES) as usize]);
        let at = match pc.state(id, &guard).unwrap() {
            PageState::Live(at) => at,
            _ => Version::NONE,
        };
        pc.replace_at(id, at, content(nth), &guard).unwrap();
        drop(guard);
        if nth % 64 == 63 {
            pc.flush().unwrap();
            acknowledged.store(nth + 1, Ordering::Release);
        }
        if nth % 150 == 149 {
            pc.checkpoint().unwrap();
        }
        nth += 1;
    }
    nth
}

/// Copies every file that is there now, in some order.
fn copy_in_order(from: &Path, to: &Path, order: usize) {
    fs::create_dir_all(to).unwrap();
    let mut names: Vec<String> =
        fs::read_dir(from).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let len = names.len().max(1);
    match order {
        0 => {}
        1 => names.reverse(),
        // The copies of the superblock last, which are what is newest then; or apart.
        2 => names.sort_by_key(|name| name.starts_with("super")),
        3 => names.sort_by_key(|name| !name.starts_with("super")),
        4 => names.sort_by_key(|name| (name != "super-a", name == "super-b")),
        _ => names.rotate_left(order * 7 % len),
    }
    for name in names {
        // It may be renamed or removed meanwhile.
        let _ = fs::copy(from.join(&name), to.join(&name));
    }
}

/// Checks that a store is as it was after some update, at least the one that was acknowledged last before. Pages may be damaged.
/// Returns how many are.
fn check_prefix(pc: &Texts, acknowledged: u64, what: &str) -> u64 {
    let guard = pc.pin();
    let (mut found, mut damaged) = (Vec::new(), 0);
    for id in 0..PAGES {
        match pc.get(PageId(id), &guard) {
            Ok((page, _)) => {
                let nth: u64 = page.split(':').next().unwrap().parse().unwrap();
                assert!(*page == content(nth) && nth % PAGES == id, "{what}: page {id} is none that was written");
                found.push(nth);
            }
            Err(error) if error.is_corrupt() => damaged += 1,
            Err(Error::NoPage { .. }) => assert!(id >= acknowledged, "{what}: page {id} is lost"),
            Err(other) => panic!("{what}: page {id}: {other:?}"),
        }
    }
    let last = found.iter().max().copied();
    for nth in &found {
        assert!(last.is_some_and(|last| nth + PAGES > last), "{what}: {nth} is older than {last:?}");
    }
    assert!(damaged > 0 || last.map_or(0, |last| last + 1) >= acknowledged, "{what}: {last:?} of {acknowledged}");
    damaged
}

#[test]
fn a_store_with_checkpoints_copied_in_any_order_while_it_is_open_is_a_right_prefix_or_refused() {
    within_a_minute(|| {
        let dir = Dir::new();
        let pc = Texts::start(small(&dir.store()).segment_size(64 << 10).build()).unwrap();
        let (over, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
        let (mut whole, mut refused, mut damaged) = (0, 0, 0);
        let written = std::thread::scope(|scope| {
            let writer = scope.spawn(|| write(&pc, &over, &acknowledged));
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for turn in 0..36 {
                    let before = acknowledged.load(Ordering::Acquire);
                    let to = dir.join("copy");
                    let _ = fs::remove_dir_all(&to);
                    copy_in_order(&dir.store(), &to, turn % 6);
                    let what = format!("turn {turn}, {before} acknowledged");
                    for read_only in [true, false] {
                        match Texts::start(small(&to).read_only(read_only).build()) {
                            Ok(copied) => {
                                damaged += check_prefix(&copied, before, &what);
                                whole += 1;
                                copied.close().unwrap();
                            }
                            Err(Error::Corrupt(_)) => refused += 1,
                            // Not one segment was there yet.
                            Err(Error::NotFound { .. }) if before == 0 => refused += 1,
                            Err(other) => panic!("{what}: {other:?}"),
                        }
                    }
                }
            }));
            over.store(true, Ordering::Relaxed);
            ended.unwrap();
            writer.join().unwrap()
        });
        println!("{written} updates; {whole} copies opened, {refused} were refused, {damaged} pages damaged");
        assert!(whole > 10 && whole + refused == 72, "{whole} opened");
        pc.flush().unwrap();
        pc.close().unwrap();
        for order in 0..6 {
            let to = dir.join("at rest");
            let _ = fs::remove_dir_all(&to);
            copy_in_order(&dir.store(), &to, order);
            assert_eq!(check_prefix(&Texts::start(small(&to).build()).unwrap(), written, "at rest"), 0);
        }
    });
}
