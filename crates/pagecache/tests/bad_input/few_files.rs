//! More segments than the process may have files open.

use std::path::Path;
use std::process::Command;

use pagecache::inspect::verify;
use pagecache::{PageId, PageState, Version};

use crate::harness::{Dir, Texts, config, small, within_a_minute};

const LIMIT: usize = 64;
const PAGES: u64 = 720;

fn content(id: u64, life: u64) -> String {
    format!("{life} of {id}:").repeat(1200)
}

fn start(path: &Path, read_only: bool) -> Texts {
    // Little memory, so that pages are read from their files.
    let builder = small(path).segment_size(64 << 10).cache_capacity(64 << 10).read_only(read_only);
    Texts::start(builder.build()).unwrap()
}

fn check(pc: &Texts, life: u64) {
    check_lives(pc, |_| life);
}

fn check_lives(pc: &Texts, life: impl Fn(u64) -> u64) {
    let guard = pc.pin();
    // In an order that goes to another segment each time.
    for nth in 0..PAGES {
        let id = nth * 77 % PAGES;
        let life = life(id);
        assert!(*pc.get(PageId(id), &guard).unwrap().0 == content(id, life), "page {id} in life {life}");
    }
}

/// As a reader finds it, and who looks from outside.
fn check_closed(path: &Path, life: impl Fn(u64) -> u64) {
    let reader = start(path, true);
    check_lives(&reader, life);
    reader.close().unwrap();
    assert!(verify(config(path)).unwrap().is_sound());
}

/// What the other process does, with its few files.
pub fn work(path: &Path) {
    let mut one_too_many = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        one_too_many.push(file);
        assert!(one_too_many.len() < LIMIT, "there is no limit");
    }
    drop(one_too_many);
    for life in 0..2 {
        let pc = start(path, false);
        if life > 0 {
            check(&pc, life - 1);
        }
        for id in 0..PAGES {
            let guard = pc.pin();
            let id = if life == 0 { pc.allocate(&guard) } else { PageId(id) };
            let at = match pc.state(id, &guard).unwrap() {
                PageState::Live(at) => at,
                _ => Version::NONE,
            };
            pc.replace_at(id, at, content(id.0, life), &guard).unwrap();
            if id.0 % 100 == 99 {
                pc.tick().unwrap();
            }
        }
        pc.flush().unwrap();
        assert!(pc.stats().segments > 2 * LIMIT as u64);
        check(&pc, life);
        let redo = pc.checkpoint().unwrap();
        assert!(redo > pagecache::Lsn(0) && pc.stats().redo == redo);
        check(&pc, life);
        pc.close().unwrap();
        check_closed(path, |_| life);
    }
    clean(path);
    println!("all right");
}

/// Moves pages out of more segments than may be open, into others, and has the first ones go.
fn clean(path: &Path) {
    let life = |id: u64| if id.is_multiple_of(2) { 2 } else { 1 };
    let pc = start(path, false);
    for id in (0..PAGES).filter(|id| life(*id) == 2).map(PageId) {
        let guard = pc.pin();
        let (_, token) = pc.get(id, &guard).unwrap();
        let at = pagecache::version(token);
        pc.replace_at(id, at, content(id.0, 2), &guard).unwrap();
    }
    pc.checkpoint().unwrap();
    let before = pc.stats();
    let mut moved = 0;
    loop {
        match pc.clean().unwrap() {
            0 => break,
            pages => moved += pages,
        }
    }
    let after = pc.stats();
    assert!(
        moved > LIMIT as u64 && after.segments + LIMIT as u64 / 2 < before.segments,
        "{moved}: {before:?}, {after:?}"
    );
    check_lives(&pc, life);
    pc.close().unwrap();
    check_closed(path, life);
}

#[test]
fn a_store_of_more_segments_than_the_process_may_have_files_works() {
    within_a_minute(|| {
        let dir = Dir::new();
        let limited = format!("ulimit -n {LIMIT}; exec \"$0\" \"$@\"");
        let output = Command::new("sh")
            .args(["-c", &limited])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "openers::child_process", "--nocapture", "--test-threads", "1"])
            .env("PAGECACHE_TEST_ROLE", "few files")
            .env("PAGECACHE_TEST_PATH", dir.store())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("all right"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    });
}
