//! A store that is copied file by file while it is written, checkpoints are, and pages are moved: a right prefix, or a typed error.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pagecache::{Background, ConfigBuilder, Error, PageId, PageState, Version};

use crate::harness::{Dir, Texts, small, within, within_a_minute};

const SEGMENT: u64 = 64 << 10;

/// What is written, and what is done besides.
#[derive(Clone, Copy)]
struct Work {
    pages: u64,
    /// The page of an update.
    page: fn(u64) -> u64,
    /// What comes behind an update.
    upkeep: fn(&Texts, u64),
}

impl Work {
    /// The newest update of a page, of those up to this one.
    fn newest(&self, id: u64, last: u64) -> Option<u64> {
        (0..=last).rev().find(|nth| (self.page)(*nth) == id)
    }
}

/// Each page in its turn, with checkpoints.
const ROUND: Work = Work {
    pages: 40,
    page: |nth| nth % 40,
    upkeep: |pc, nth| {
        if nth % 150 == 149 {
            pc.checkpoint().unwrap();
        }
    },
};

/// Most updates are of few pages; the others lie in segments with little else that is in use, until they are moved.
fn mostly_few(nth: u64) -> u64 {
    if nth % 8 == 7 { 40 + nth / 8 % 100 } else { nth % 40 }
}

/// With turns of cleaning between the updates.
const CLEANED: Work = Work {
    pages: 140,
    page: mostly_few,
    upkeep: |pc, nth| match nth % 100 {
        49 => pc.tick().unwrap(),
        99 => _ = pc.clean().unwrap(),
        _ => {}
    },
};

/// The background does all of it.
const BESIDE_THREADS: Work = Work { pages: 140, page: mostly_few, upkeep: |_, _| {} };

/// Update number `nth` gives a page this content.
fn content(nth: u64) -> String {
    format!("{nth}:{}", "x".repeat((nth * 37 % 900) as usize))
}

/// Writes update after update until told to end. Returns how many there were.
fn write(pc: &Texts, work: &Work, over: &AtomicBool, acknowledged: &AtomicU64) -> u64 {
    let guard = pc.pin();
    let ids: Vec<PageId> = (0..work.pages).map(|_| pc.allocate(&guard)).collect();
    drop(guard);
    let mut nth = 0;
    while !over.load(Ordering::Relaxed) {
        let (guard, id) = (pc.pin(), ids[(work.page)(nth) as usize]);
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
        (work.upkeep)(pc, nth);
        nth += 1;
    }
    nth
}

/// Copies every file that is there now, in some order, with something in between.
fn copy_in_order(from: &Path, to: &Path, order: usize, between: impl Fn()) {
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
        between();
    }
}

/// What was found in copies.
#[derive(Debug, Default)]
struct Found {
    whole: u64,
    refused: u64,
    /// Pages that said that they are.
    damaged: u64,
    /// Copies that end before what was acknowledged: the end of the log had been given back before it was copied.
    behind: u64,
}

/// Checks that a store is as it was after some update. Pages may be damaged. Returns how many are, and the last update.
fn check_prefix(pc: &Texts, work: &Work, what: &str) -> (u64, Option<u64>) {
    let guard = pc.pin();
    let (mut found, mut missing, mut damaged) = (Vec::new(), Vec::new(), 0);
    for id in 0..work.pages {
        match pc.get(PageId(id), &guard) {
            Ok((page, _)) => {
                let nth: u64 = page.split(':').next().unwrap().parse().unwrap();
                assert!(*page == content(nth) && (work.page)(nth) == id, "{what}: page {id} is none that was written");
                found.push((id, nth));
            }
            Err(error) if error.is_corrupt() => damaged += 1,
            Err(Error::NoPage { .. }) => missing.push(id),
            Err(other) => panic!("{what}: page {id}: {other:?}"),
        }
    }
    let last = found.iter().map(|(_, nth)| *nth).max();
    for (id, nth) in &found {
        let newest = last.and_then(|last| work.newest(*id, last));
        assert_eq!(newest, Some(*nth), "{what}: page {id} is older than {last:?}");
    }
    for id in missing {
        assert_eq!(last.and_then(|last| work.newest(id, last)), None, "{what}: page {id} is lost behind {last:?}");
    }
    (damaged, last)
}

/// Copies a store again and again while it is at work, in six orders, and opens each copy. How many updates there were, and what was found.
fn copy_while_at_work(dir: &Dir, config: fn(ConfigBuilder) -> ConfigBuilder, work: Work, turns: usize) -> (u64, Found) {
    let pc = Texts::start(config(small(&dir.store())).build()).unwrap();
    let (over, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut found = Found::default();
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&pc, &work, &over, &acknowledged));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for turn in 0..turns {
                // So that there is always something at work, however little the machine has left for the writer.
                while work.pages > ROUND.pages && acknowledged.load(Ordering::Acquire) < turn as u64 * 64 {
                    assert!(!writer.is_finished(), "the writer has ended");
                    std::thread::sleep(Duration::from_millis(1));
                }
                let before = acknowledged.load(Ordering::Acquire);
                let to = dir.join("copy");
                let _ = fs::remove_dir_all(&to);
                // Behind a file in a few, so that a copy is not behind by more than it has to be.
                let nth = AtomicU64::new(turn as u64);
                copy_in_order(&dir.store(), &to, turn % 6, || {
                    if nth.fetch_add(1, Ordering::Relaxed) % 4 == 3 {
                        (work.upkeep)(&pc, 49);
                        (work.upkeep)(&pc, 99);
                    }
                });
                let what = format!("turn {turn}, {before} acknowledged");
                for read_only in [true, false] {
                    match Texts::start(small(&to).read_only(read_only).build()) {
                        Ok(copied) => {
                            let (damaged, last) = check_prefix(&copied, &work, &what);
                            if damaged == 0 {
                                copied.check_accounts().unwrap_or_else(|differ| panic!("{what}: {differ}"));
                            }
                            let is_behind = damaged == 0 && last.map_or(0, |last| last + 1) < before;
                            found.damaged += damaged;
                            found.behind += u64::from(is_behind);
                            found.whole += 1;
                            copied.close().unwrap();
                        }
                        Err(Error::Corrupt(_)) => found.refused += 1,
                        // Not one segment was there yet.
                        Err(Error::NotFound { .. }) if before == 0 => found.refused += 1,
                        Err(other) => panic!("{what}: {other:?}"),
                    }
                }
            }
        }));
        over.store(true, Ordering::Relaxed);
        ended.unwrap();
        writer.join().unwrap()
    });
    println!("{written} updates; {found:?}");
    pc.flush().unwrap();
    let stats = pc.stats();
    let (born, moved) = (stats.tail.0 / SEGMENT, stats.fold_bytes + stats.survivor_bytes);
    println!("{moved} bytes of pages moved; {born} segments of log were born, of {} that are there", stats.segments);
    if work.pages > ROUND.pages {
        assert!(moved > 0 && born > 2 * stats.segments, "{stats:?}");
    }
    pc.close().unwrap();
    for order in 0..6 {
        let to = dir.join("at rest");
        let _ = fs::remove_dir_all(&to);
        copy_in_order(&dir.store(), &to, order, || {});
        let at_rest = check_prefix(&Texts::start(small(&to).build()).unwrap(), &work, "at rest");
        assert_eq!(at_rest, (0, written.checked_sub(1)));
    }
    (written, found)
}

#[test]
fn a_store_with_checkpoints_copied_in_any_order_while_it_is_open_is_a_right_prefix_or_refused() {
    within_a_minute(|| {
        let (_, found) = copy_while_at_work(&Dir::new(), |config| config.segment_size(SEGMENT), ROUND, 36);
        assert!(found.whole > 10 && found.whole + found.refused == 72 && found.behind == 0, "{found:?}");
    });
}

#[test]
fn a_store_that_is_cleaned_while_it_is_copied_in_any_order_is_a_right_prefix_or_refused() {
    within(Duration::from_secs(300), || {
        let config = |config: ConfigBuilder| config.segment_size(SEGMENT).log_limit(256 << 10);
        let (_, found) = copy_while_at_work(&Dir::new(), config, CLEANED, 60);
        assert!(found.whole > 0 && found.whole + found.refused == 120, "{found:?}");
    });
}

#[test]
fn a_store_whose_background_cleans_while_it_is_copied_in_any_order_is_a_right_prefix_or_refused() {
    within(Duration::from_secs(300), || {
        let config = |config: ConfigBuilder| {
            config.segment_size(SEGMENT).log_limit(256 << 10).background(Background::Threads).flush_every_ms(1)
        };
        let (_, found) = copy_while_at_work(&Dir::new(), config, BESIDE_THREADS, 60);
        assert!(found.whole > 0 && found.whole + found.refused == 120, "{found:?}");
    });
}
