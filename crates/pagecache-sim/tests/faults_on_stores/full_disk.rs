//! A full disk: nothing half-done, reads and frees go on, and so does everything once there is room.

use std::sync::Mutex;
use std::time::Duration;

use pagecache::storage::Storage;
use pagecache::{Background, Error, Log, LogRead, Lsn, PageState, Rejected, Tailed, Version};
use pagecache_sim::disk::{Call, Effect, Fault, SimDisk, Survival, When};

use crate::harness::{Page, Texts, bytes, check, config, failed, fill, log, pages, records, text, within_a_minute};

/// Links to own pages until the disk is full; what was accepted.
fn link_until_full(pc: &Texts, thread: usize) -> Vec<Page> {
    let mut made: Vec<Page> = Vec::new();
    loop {
        let guard = pc.pin();
        if made.last().is_none_or(|page| page.text.len() > 3000) {
            made.push(Page { id: pc.allocate(&guard), at: Version::NONE, text: String::new() });
        }
        let page = made.last_mut().unwrap();
        let frag = format!("{thread}:{};", page.text.len()).repeat(20);
        match pc.link_at(page.id, page.at, frag.clone(), &guard) {
            Ok(at) => {
                page.at = at;
                page.text.push_str(&frag);
            }
            Err(Rejected::Failed { error: Error::NoSpace { .. }, rejected }) => {
                assert_eq!(rejected, frag);
                // Before anything happened: the page is as it was.
                match page.at {
                    Version::NONE => assert_eq!(pc.state(page.id, &guard).unwrap(), PageState::Empty),
                    at => assert_eq!(pc.state(page.id, &guard).unwrap(), PageState::Live(at)),
                }
                if page.at == Version::NONE {
                    made.pop();
                }
                return made;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Class: ENOSPC sticky after space was freed (rocksdb 919).
#[test]
fn a_link_storm_that_fills_the_disk_loses_nothing_and_goes_on_when_there_is_room() {
    within_a_minute(|| {
        // With threads longer segments: of the shortest the marks of rounds at rest may take all that is set aside for frees.
        for (background, threads, size) in [(Background::Caller, 1, 64 << 10), (Background::Threads, 3, 256 << 10)] {
            let disk = SimDisk::new(7);
            let config = || {
                let config = config(&disk).segment_size(size).background(background);
                config.flush_every_ms(5).cache_capacity(256 << 10).build()
            };
            let pc = Texts::start(config()).unwrap();
            disk.set_capacity(Some(1 << 20));
            let all = Mutex::new(Vec::new());
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    let (pc, all) = (&pc, &all);
                    scope.spawn(move || all.lock().unwrap().extend(link_until_full(pc, thread)));
                }
            });
            let mut all = all.into_inner().unwrap();
            assert!(all.len() > 100, "{}", all.len());
            // Reads work, of pages in the cache and of others.
            check(&pc, &all);
            // Frees work, in what is set aside for them, of which each round of the background may take a block.
            let guard = pc.pin();
            let mut kept = all.split_off(20);
            let mut freed = 0;
            for page in all {
                match (pc.free_at(page.id, page.at, &guard), background) {
                    (Ok(_), _) => {
                        freed += 1;
                        assert!(matches!(pc.state(page.id, &guard).unwrap(), PageState::Free(_)));
                    }
                    (Err(Rejected::Failed { error: Error::NoSpace { .. }, .. }), Background::Threads) => {
                        kept.push(page)
                    }
                    (Err(other), _) => panic!("{other:?}"),
                }
            }
            assert!(freed > 0);
            let mut all = kept;
            // What was accepted is made stable, or the disk is too full for that too.
            for _ in 0..10 {
                match pc.flush() {
                    Ok(stable) => assert_eq!(stable, pc.stable_lsn()),
                    Err(Error::NoSpace { .. }) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            assert!(failed(pc.link_at(all[0].id, all[0].at, "x".repeat(10_000), &guard)).0.is_no_space());
            check(&pc, &all);
            disk.set_capacity(None);
            let now = pc.link_at(all[0].id, all[0].at, "room!".into(), &guard).unwrap();
            all[0].text.push_str("room!");
            all[0].at = now;
            drop(guard);
            pc.flush().unwrap();
            all.extend(fill(&pc, "more", 50, 500));
            check(&pc, &all);
            pc.close().unwrap();
            let pc = Texts::start(config()).unwrap();
            check(&pc, &all);
            assert_eq!(pc.page_count().unwrap(), all.len() as u64);
        }
    });
}

#[test]
fn a_write_storm_that_fills_the_disk_is_all_or_nothing_record_by_record() {
    within_a_minute(|| {
        let disk = SimDisk::new(8);
        let log = log(&disk);
        disk.set_capacity(Some(1 << 20));
        let mut written = Vec::new();
        let mut refused = 0;
        // Long ones, in pieces, do not fit while short ones still do.
        for (turn, len) in [300, 40_000, 9, 5000, 150_000].into_iter().cycle().take(2000).enumerate() {
            let record = bytes(turn, len);
            match log.write(&record) {
                Ok(lsn) => written.push((lsn, record)),
                Err(Error::NoSpace { .. }) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(refused > 1000 && written.len() > 10, "{refused}, {}", written.len());
        for (lsn, record) in &written {
            assert!(log.read(*lsn).unwrap() == LogRead::Record(record.clone()));
        }
        assert!(matches!(log.reserve(&bytes(1, 30_000)), Err(Error::NoSpace { .. })));
        match log.flush() {
            Ok(_) | Err(Error::NoSpace { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
        disk.set_capacity(None);
        for (turn, len) in [300, 150_000].into_iter().enumerate() {
            let record = bytes(turn, len);
            written.push((log.write(&record).unwrap(), record));
        }
        log.flush().unwrap();
        assert!(records(&log) == written);
        log.close().unwrap();
        assert!(records(&Log::start(config(&disk).build()).unwrap()) == written);
    });
}

#[test]
fn a_trim_makes_room_on_a_full_disk() {
    within_a_minute(|| {
        let disk = SimDisk::new(9);
        let log = log(&disk);
        disk.set_capacity(Some(1 << 20));
        let mut written = Vec::new();
        let mut fill = |log: &Log| {
            let mut count = 0;
            loop {
                let record = bytes(count, 5000);
                match log.write(&record) {
                    Ok(lsn) => written.push((lsn, record)),
                    Err(Error::NoSpace { .. }) => return written.clone(),
                    Err(other) => panic!("{other:?}"),
                }
                count += 1;
            }
        };
        let mut before = fill(&log);
        log.flush().unwrap();
        for _ in 0..5 {
            let keep = before[before.len() - 20].0;
            assert_eq!(log.trim(keep).unwrap(), keep);
            let after = fill(&log);
            assert!(after.len() > before.len() + 50, "{} after {}", after.len(), before.len());
            log.flush().unwrap();
            before = after;
        }
        let first = log.first_lsn();
        before.retain(|(lsn, _)| *lsn >= first);
        assert!(records(&log) == before);
        drop(log);
        disk.set_capacity(None);
        assert!(records(&Log::start(config(&disk).build()).unwrap()) == before);
    });
}

/// Class: partial write error, then auto-resume (rocksdb 12995).
#[test]
fn a_write_that_meets_a_full_disk_half_way_is_repeated_once_there_is_room() {
    for halves in 0..3 {
        let disk = SimDisk::new(10);
        let pc = pages(&disk);
        let mut all = fill(&pc, "before", 10, 500);
        pc.flush().unwrap();
        let stable = pc.stable_lsn();
        all.extend(fill(&pc, "during", 30, 500));
        (0..halves).for_each(|half| disk.fault(Fault::new(Call::Write, When::Once(half), Effect::Short)));
        disk.fault(Fault::new(Call::Write, When::From(halves), Effect::Enospc));
        for _ in 0..3 {
            assert!(matches!(pc.flush(), Err(Error::NoSpace { what: "write" })));
            assert!(matches!(pc.make_stable(all[35].at), Err(Error::NoSpace { what: "write" })));
            assert!(matches!(pc.tick(), Err(Error::NoSpace { what: "write" })));
            assert_eq!(pc.stable_lsn(), stable);
        }
        check(&pc, &all);
        // A crash in this state.
        let image = disk.crash(Survival::KeepAll);
        check(&Texts::start(config(&image).build()).unwrap(), &all[..10]);
        // Updates go on while the ring has room.
        all.extend(fill(&pc, "meanwhile", 5, 500));
        disk.clear_faults();
        assert!(pc.flush().unwrap() > stable);
        let image = disk.crash(Survival::DropAll);
        check(&Texts::start(config(&image).build()).unwrap(), &all);
        pc.close().unwrap();
        check(&pages(&disk), &all);
    }
}

#[test]
fn waiters_of_a_full_disk_are_told_and_may_wait_again() {
    within_a_minute(|| {
        let disk = SimDisk::new(11);
        let log = Log::start(config(&disk).background(Background::Threads).flush_every_ms(1).build()).unwrap();
        let first = log.write(b"first").unwrap();
        log.make_stable(first).unwrap();
        disk.fault(Fault::new(Call::Write, When::From(0), Effect::Enospc));
        let second = log.write(b"second").unwrap();
        let mut tail = log.tail_from(second);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(log.make_stable(second).unwrap_err().is_no_space()));
            }
        });
        // Waiting is not failing: the tail goes on when there is room, by itself.
        assert_eq!(tail.next(Duration::from_millis(20)).unwrap(), Tailed::TimedOut);
        disk.clear_faults();
        assert_eq!(tail.next(Duration::from_secs(60)).unwrap(), Tailed::Record(second, b"second".to_vec()));
        log.close().unwrap();
        assert_eq!(tail.next(Duration::from_secs(60)).unwrap(), Tailed::Closed);
    });
}

#[test]
fn a_close_on_a_full_disk_says_so_frees_the_lock_and_keeps_what_was_acknowledged() {
    within_a_minute(|| {
        for effect in [Effect::Enospc, Effect::Eio] {
            let disk = SimDisk::new(12);
            let pc = pages(&disk);
            let acknowledged = fill(&pc, "acknowledged", 10, 500);
            pc.flush().unwrap();
            let lost = fill(&pc, "not", 10, 500);
            disk.fault(Fault::new(Call::Write, When::From(0), effect));
            match (effect, pc.close()) {
                (Effect::Enospc, Err(Error::NoSpace { what: "write" })) => {}
                (Effect::Eio, Err(Error::Poisoned { .. })) => {}
                other => panic!("{other:?}"),
            }
            disk.clear_faults();
            let pc = pages(&disk);
            check(&pc, &acknowledged);
            assert!(lost.iter().all(|page| text(&pc, page.id).is_none_or(|found| page.text.starts_with(&found))));
        }
    });
}

#[test]
fn a_store_on_a_full_disk_is_read_by_readers_and_opened_by_writers_once_there_is_room() {
    for clean in [true, false] {
        let disk = SimDisk::new(13);
        let pc = pages(&disk);
        let all = fill(&pc, "page", 100, 1000);
        pc.flush().unwrap();
        let disk = match clean {
            true => {
                pc.close().unwrap();
                disk
            }
            false => disk.crash(Survival::DropAll),
        };
        disk.set_capacity(Some(disk.used_bytes()));
        let reader = Texts::start(config(&disk).read_only(true).build()).unwrap();
        check(&reader, &all);
        reader.close().unwrap();
        for _ in 0..3 {
            match Texts::start(config(&disk).build()) {
                Ok(pc) => check(&pc, &all),
                Err(Error::NoSpace { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
            assert!(disk.used_bytes() <= disk.total_len());
        }
        disk.set_capacity(None);
        check(&pages(&disk), &all);
        assert!(disk.list().unwrap().iter().all(|name| name.starts_with("seg-")), "{:?}", disk.file_names());
    }
}

#[test]
fn a_new_store_on_a_full_disk_is_refused_and_leaves_room_for_the_next_try() {
    for capacity in [0, 4096, 16 << 10, 40 << 10] {
        let disk = SimDisk::new(14);
        disk.set_capacity(Some(capacity));
        for _ in 0..3 {
            assert!(matches!(Log::start(config(&disk).build()), Err(Error::NoSpace { .. })), "{capacity}");
        }
        disk.set_capacity(None);
        let log = log(&disk);
        let lsn = log.write(b"there").unwrap();
        assert!(log.make_stable(lsn).unwrap() > Lsn(lsn.0));
    }
}

/// Class: livelock when an error hits inside the reserve loop (sled 239). A segment that was born, and whose zeros met a full
/// disk, was ready in one book and not in the other: the next writer asked for room for ever.
#[test]
fn a_full_disk_between_the_birth_of_a_segment_and_its_use_stops_nobody() {
    within_a_minute(|| {
        let mut struck = 0;
        for call in [Call::Write, Call::Allocate, Call::Create, Call::Rename] {
            for nth in 0..24 {
                let disk = SimDisk::new(nth);
                let log = log(&disk);
                disk.fault(Fault::new(call, When::Once(nth), Effect::Enospc));
                let mut kept = Vec::new();
                // Short rounds: space is filled with zeros ahead of them, over two segments.
                for round in 0..40 {
                    match log.write(&bytes(round, 50)) {
                        Ok(lsn) => kept.push((lsn, bytes(round, 50))),
                        Err(error) => assert!(error.is_no_space(), "{error}"),
                    }
                    assert!(
                        log.flush().or_else(|error| if error.is_no_space() { log.flush() } else { Err(error) }).is_ok()
                    );
                    // Afterwards nobody comes to help: who wants room makes it.
                    if disk.struck().is_empty() {
                        assert!(log.tick().is_ok() || !disk.struck().is_empty());
                    }
                }
                assert!(kept.len() >= 39);
                assert_eq!(records(&log), kept);
                struck += disk.struck().len();
                log.close().unwrap();
            }
        }
        assert!(struck >= 24, "{struck} faults");
    });
}
