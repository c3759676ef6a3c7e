//! One writer or many readers, in this process and in others; and who comes next.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pagecache::crossbeam_epoch::{self as epoch, Collector};
use pagecache::{Create, Error, Log, Version};

use crate::directories::without_permission;
use crate::harness::{Dir, Texts, check, child, config, copy, fill, filled, small, within_a_minute};

/// Does nothing unless it is started as another process by one of the tests.
#[test]
fn child_process() {
    let (Ok(role), Some(path)) = (std::env::var("PAGECACHE_TEST_ROLE"), std::env::var_os("PAGECACHE_TEST_PATH")) else {
        return;
    };
    let path = Path::new(&path);
    match &*role {
        "without permission" => without_permission(path),
        "few files" => crate::few_files::work(path),
        "hold" | "hold for reading" => {
            let pc = Texts::start(small(path).read_only(role != "hold").build()).unwrap();
            println!("\nheld");
            // Held until the parent closes the pipe, or kills.
            std::io::stdin().read_line(&mut String::new()).unwrap();
            pc.close().unwrap();
        }
        _ => panic!("no such role"),
    }
}

fn is_locked<T>(result: Result<T, Error>, path: &Path) -> bool {
    matches!(result, Err(Error::Locked { path: named }) if named == path.display().to_string())
}

/// Class: two processes in one store (sled 407); here two stores in one process.
#[test]
fn a_second_opener_in_this_process_is_locked_out() {
    let dir = Dir::new();
    let expected = filled(&dir.store());
    let start = |read_only| Texts::start(small(&dir.store()).read_only(read_only).build());
    let writer = start(false).unwrap();
    assert!(is_locked(start(false), &dir.store()));
    assert!(is_locked(start(true), &dir.store()));
    assert!(is_locked(Log::start(config(&dir.store())), &dir.store()));
    assert!(is_locked(Texts::start(small(&dir.store()).create(Create::New).build()), &dir.store()));
    check(&writer, &expected);
    writer.close().unwrap();
    let readers = [start(true).unwrap(), start(true).unwrap()];
    assert!(is_locked(start(false), &dir.store()));
    let [one, two] = readers;
    drop(one);
    assert!(is_locked(start(false), &dir.store()));
    two.close().unwrap();
    check(&start(false).unwrap(), &expected);
}

/// Class: two processes in one store (sled 407).
#[test]
fn a_second_opener_in_another_process_is_locked_out_until_the_first_ends_however_it_ends() {
    within_a_minute(|| {
        let dir = Dir::new();
        let expected = filled(&dir.store());
        for (role, kill) in [("hold", false), ("hold", true), ("hold for reading", true)] {
            let mut other = child(role, &dir.store()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap() == "held"));
            assert!(is_locked(Texts::start(config(&dir.store())), &dir.store()), "{role}");
            let read = Texts::start(small(&dir.store()).read_only(true).build());
            match role {
                "hold" => assert!(is_locked(read, &dir.store())),
                _ => check(&read.unwrap(), &expected),
            }
            if kill {
                other.kill().unwrap();
            } else {
                other.stdin.take().unwrap().write_all(b"\n").unwrap();
            }
            assert_eq!(other.wait().unwrap().success(), !kill);
            check(&Texts::start(config(&dir.store())).unwrap(), &expected);
        }
    });
}

#[test]
fn the_next_start_succeeds_at_once_after_close_and_after_drop() {
    within_a_minute(|| {
        let dir = Dir::new();
        let expected = filled(&dir.store());
        for turn in 0..60 {
            let builder = pagecache::ConfigBuilder::new().path(dir.store());
            let pc = Texts::start(builder.build()).unwrap();
            check(&pc, &expected);
            match turn % 2 {
                0 => pc.close().unwrap(),
                _ => drop(pc),
            }
        }
    });
}

/// A process that is being started has a copy of every open file for a moment, and with it of the lock.
#[test]
fn the_next_start_succeeds_at_once_while_the_program_starts_other_processes() {
    within_a_minute(|| {
        let dir = Dir::new();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        Command::new("true").status().unwrap();
                    }
                });
            }
            let mut failed = None;
            for turn in 0..300 {
                match Texts::start(config(&dir.store())) {
                    Ok(pc) => pc.close().unwrap(),
                    Err(error) => failed = failed.or(Some((turn, error))),
                }
            }
            over.store(true, Ordering::Relaxed);
            assert!(failed.is_none(), "{failed:?}");
        });
    });
}

#[test]
fn a_live_guard_holds_up_neither_close_nor_drop_nor_the_next_start() {
    within_a_minute(|| {
        for own in [false, true] {
            let dir = Dir::new();
            let collector = if own { Collector::new() } else { epoch::default_collector().clone() };
            let start = || {
                let builder = pagecache::ConfigBuilder::new().path(dir.store()).collector(collector.clone());
                Texts::start(builder.build()).unwrap()
            };
            let here = collector.register().pin();
            let (pinned, waiting) = std::sync::mpsc::channel();
            let (end, ending) = std::sync::mpsc::channel::<()>();
            let handle = collector.clone();
            let other = std::thread::spawn(move || {
                let _guard = handle.register().pin();
                pinned.send(()).unwrap();
                let _ = ending.recv();
            });
            waiting.recv().unwrap();
            let pc = start();
            let expected = fill(&pc, "page");
            // Garbage that cannot be reclaimed while the guards live.
            for (id, content, at) in &expected {
                pc.replace_at(*id, *at, content.clone(), &here).unwrap();
            }
            pc.close().unwrap();
            let pc = start();
            let guard = collector.register().pin();
            assert!(pc.get(expected[3].0, &guard).unwrap().0 == expected[3].1);
            drop(pc);
            drop(start());
            drop((guard, here));
            drop(end);
            other.join().unwrap();
            drop(start());
        }
    });
}

/// A copy of a moving store is no backup, but it is never taken for a whole store that it is not.
#[test]
fn a_store_copied_while_it_is_written_opens_with_all_that_was_stable_or_says_what_is_missing() {
    within_a_minute(|| {
        let dir = Dir::new();
        let pc =
            Texts::start(pagecache::ConfigBuilder::new().path(dir.store()).segment_size(64 << 10).build()).unwrap();
        let expected = fill(&pc, "stable before");
        let over = AtomicBool::new(false);
        let (mut whole, mut refused) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let guard = pc.pin();
                    let id = pc.allocate(&guard);
                    let at = pc.replace_at(id, Version::NONE, "moving".repeat(50), &guard).unwrap();
                    if id.0.is_multiple_of(16) {
                        pc.make_stable(at).unwrap();
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            });
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for turn in 0..12 {
                    let to = dir.join(&format!("copy{turn}"));
                    copy(&dir.store(), &to);
                    match Texts::start(config(&to)) {
                        Ok(copied) => {
                            check(&copied, &expected);
                            whole += 1;
                        }
                        Err(Error::Corrupt(_)) => refused += 1,
                        Err(other) => panic!("{other:?}"),
                    }
                }
            }));
            over.store(true, Ordering::Relaxed);
            ended.unwrap();
        });
        assert_eq!(whole + refused, 12);
        pc.close().unwrap();
        copy(&dir.store(), &dir.join("at rest"));
        check(&Texts::start(config(&dir.join("at rest"))).unwrap(), &expected);
    });
}
