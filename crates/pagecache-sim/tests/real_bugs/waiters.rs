//! Threads: those who wait are woken, those who were told keep what they were told, and nobody is refused for nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};

use pagecache::{Background, Log, Version};
use pagecache_sim::disk::{SimDisk, Survival};

use crate::harness::{Texts, bytes, config, log, pages, records, text, within_a_minute};

/// sled 386: a thread in `make_stable` went to sleep just after the one it waited for had looked, and slept for ever. Here it waits for a
/// reservation of another thread, which is finished at any moment, and no thread in the background comes to its help.
#[test]
fn a_thread_that_waits_for_a_reservation_is_woken_when_that_is_finished() {
    within_a_minute(|| {
        let disk = SimDisk::new(1);
        let log = log(&disk);
        let (start, turns) = (Barrier::new(3), 400u64);
        let newest = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for waiter in 0..2 {
                let (log, start, newest) = (&log, &start, &newest);
                scope.spawn(move || {
                    for turn in 0..turns {
                        start.wait();
                        let lsn = log.write(&bytes(waiter, 50)).unwrap();
                        newest.fetch_max(lsn.0, Ordering::Relaxed);
                        assert!(log.make_stable(lsn).unwrap() > lsn, "turn {turn}");
                        start.wait();
                    }
                });
            }
            for turn in 0..turns {
                let held = log.reserve(b"held").unwrap();
                start.wait();
                // From at once to long after everyone sleeps.
                (0..turn * turn / 4).for_each(|_| std::hint::spin_loop());
                if turn % 8 == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                if turn % 2 == 0 {
                    held.complete();
                } else {
                    held.abort();
                }
                start.wait();
            }
        });
        assert!(log.stable_lsn().0 > newest.into_inner());
    });
}

/// sled 411 and 414: with ten threads some of what had been acknowledged was gone. Here the machine stops again and again while ten
/// threads write, and everything that any of them had been told by then is there.
#[test]
fn what_ten_threads_were_told_by_the_time_of_a_crash_is_there_after_it() {
    within_a_minute(|| {
        let disk = SimDisk::new(2);
        let config = || config(&disk).background(Background::Threads).flush_every_ms(1).build();
        let log = Log::start(config()).unwrap();
        let (told, writing) = (Mutex::new(Vec::new()), AtomicU64::new(10));
        let mut crashes = 0;
        let lost = std::thread::scope(|scope| {
            for thread in 0..10 {
                let (log, told, writing) = (&log, &told, &writing);
                scope.spawn(move || {
                    for turn in 0..200 {
                        let record = bytes(thread * 1000 + turn, 100 + turn % 700);
                        let lsn = log.write(&record).unwrap();
                        log.make_stable(lsn).unwrap();
                        told.lock().unwrap().push((lsn, record));
                    }
                    writing.fetch_sub(1, Ordering::Relaxed);
                });
            }
            let mut lost = Vec::new();
            loop {
                let last = writing.load(Ordering::Relaxed) == 0;
                let known = told.lock().unwrap().clone();
                let image = disk.crash(if crashes % 2 == 0 { Survival::DropAll } else { Survival::Random(crashes) });
                let found = records(&self::log(&image));
                lost.extend(
                    known
                        .into_iter()
                        .map(|record| record.0)
                        .filter(|lsn| found.binary_search_by_key(lsn, |record| record.0).is_err()),
                );
                crashes += 1;
                if last || !lost.is_empty() {
                    return lost;
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        println!("{crashes} crashes");
        assert!(lost.is_empty(), "acknowledged and lost after {crashes} crashes: {lost:?}");
    });
}

/// Counts the thread that drops it as done, also where it panics.
struct Done<'a>(&'a AtomicU64);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// sled 1420: a weak compare-and-swap, which may fail for nothing, was taken for a strong one. Here each thread updates a page that
/// nobody else does, while others read, fold and evict it: no update is refused, and none that was accepted is missing.
#[test]
fn an_update_of_a_page_that_nobody_else_updates_is_never_refused() {
    within_a_minute(|| {
        let disk = SimDisk::new(3);
        // Less than the pages need, so that they come and go.
        let config = config(&disk).background(Background::Threads).flush_every_ms(1).cache_capacity(64 << 10);
        let pc = Texts::start(config.build()).unwrap();
        let ids: Vec<_> = (0..20).map(|_| pc.try_allocate().unwrap()).collect();
        let over = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for (thread, ids) in ids.chunks(10).enumerate() {
                let (pc, over) = (&pc, &over);
                scope.spawn(move || {
                    let _done = Done(over);
                    let mut at = vec![Version::NONE; ids.len()];
                    for turn in 0..4000 {
                        let page = turn % ids.len();
                        let guard = pc.pin();
                        let frag = format!("{thread}:{turn};");
                        let linked = match turn % 400 < ids.len() {
                            true => pc.replace_at(ids[page], at[page], frag.repeat(400), &guard),
                            false => pc.link_at(ids[page], at[page], frag, &guard),
                        };
                        at[page] = linked.unwrap_or_else(|refused| panic!("turn {turn}: {refused}"));
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    while over.load(Ordering::Relaxed) < 2 {
                        ids.iter().for_each(|id| drop(text(&pc, *id)));
                    }
                });
            }
        });
        pc.close().unwrap();
        let pc = pages(&disk);
        for (thread, ids) in ids.chunks(10).enumerate() {
            for (page, id) in ids.iter().enumerate() {
                let frag = |turn: usize| format!("{thread}:{turn};");
                let (base, links) = (3600 + page, (3610 + page..4000).step_by(10));
                let expected = frag(base).repeat(400) + &links.map(frag).collect::<String>();
                assert!(text(&pc, *id).unwrap() == expected, "an update of {id} is missing");
            }
        }
    });
}
