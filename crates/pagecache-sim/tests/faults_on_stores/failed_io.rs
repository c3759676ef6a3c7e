//! A failed write or sync of the log poisons it: nothing is acknowledged any more, and reopening finds what was.

use std::sync::Arc;

use pagecache::{Background, Error, Log, Lsn, PageState, Version};
use pagecache_sim::disk::{AfterSync, Call, Effect, Fault, SimDisk, Survival, When};

use crate::harness::{Texts, bytes, check, config, failed, fill, log, pages, records, text, within_a_minute};

/// Every way in which the log's own I/O fails for good, and what the cause says.
fn failures() -> Vec<(Fault, &'static str)> {
    let sync = |after| Fault::new(Call::SyncData, When::Once(0), Effect::SyncFails(after));
    vec![
        (Fault::new(Call::Write, When::Once(0), Effect::Eio), "write"),
        (Fault::new(Call::Write, When::From(0), Effect::Eio), "write"),
        (Fault::new(Call::SyncData, When::Once(0), Effect::Eio), "sync"),
        // What is not known to be durable is never called full: nobody may try this again.
        (Fault::new(Call::SyncData, When::Once(0), Effect::Enospc), "sync"),
        (sync(AfterSync::KeptClean), "sync"),
        (sync(AfterSync::Dropped), "sync"),
        (sync(AfterSync::LaterSyncLies), "sync"),
    ]
}

/// The first cause behind an error.
fn cause(error: Error) -> Arc<Error> {
    match error {
        Error::Poisoned { cause } => cause,
        other => panic!("not poisoned: {other:?}"),
    }
}

/// Class: retry after failed fsync; one transient EIO, then clean shutdown, then corruption (redb 857).
#[test]
fn a_failed_write_or_sync_poisons_the_store_and_reopening_finds_what_was_acknowledged() {
    within_a_minute(|| {
        for (fault, wanted) in failures() {
            let disk = SimDisk::new(31);
            let pc = pages(&disk);
            let mut acknowledged = fill(&pc, "acknowledged", 60, 2000);
            pc.close().unwrap();
            let pc = pages(&disk);
            acknowledged.extend(fill(&pc, "too", 20, 500));
            pc.flush().unwrap();
            let uncertain = fill(&pc, "uncertain", 20, 500);
            let stable = pc.stable_lsn();
            disk.fault(fault.clone());
            let first = cause(pc.make_stable(uncertain[3].at).unwrap_err());
            match &*first {
                Error::Io { op, path, .. } => assert!(*op == wanted && path.starts_with("seg-"), "{first:?}"),
                other => panic!("{fault:?}: {other:?}"),
            }
            disk.clear_faults();
            // From here on nothing fails any more on the disk, and nothing is believed.
            let guard = pc.pin();
            let same = |error| assert!(Arc::ptr_eq(&cause(error), &first), "another cause");
            same(pc.flush().unwrap_err());
            same(pc.make_stable(uncertain[0].at).unwrap_err());
            same(pc.tick().unwrap_err());
            let page = &acknowledged[0];
            let (error, rejected) = failed(pc.link_at(page.id, page.at, "mine".into(), &guard));
            assert_eq!(rejected, "mine");
            same(error);
            same(failed(pc.replace_at(page.id, page.at, "y".repeat(100_000), &guard)).0);
            same(failed(pc.free_at(page.id, page.at, &guard)).0);
            let new = pc.allocate(&guard);
            same(failed(pc.link_at(new, Version::NONE, "new".into(), &guard)).0);
            assert_eq!(pc.state(new, &guard).unwrap(), PageState::Empty);
            assert_eq!(pc.stable_lsn(), stable, "something was acknowledged after the failure");
            // What is durable already may be said to be.
            assert!(pc.make_stable(page.at).unwrap() > Lsn(page.at.0));
            // Pages are still read: those in the cache, and cold ones from the disk.
            check(&pc, &uncertain);
            check(&pc, &acknowledged);
            drop(guard);
            // The machine stops, or the process goes on and opens it again.
            for survival in [Survival::DropAll, Survival::KeepAll] {
                let image = disk.crash(survival);
                let pc = pages(&image);
                check(&pc, &acknowledged);
                is_prefix(&pc, &uncertain);
            }
            same(pc.close().unwrap_err());
            let pc = pages(&disk);
            check(&pc, &acknowledged);
            is_prefix(&pc, &uncertain);
            let more = fill(&pc, "more", 10, 500);
            pc.close().unwrap();
            let pc = pages(&disk);
            check(&pc, &acknowledged);
            check(&pc, &more);
        }
    });
}

/// Pages that were made in order and not acknowledged: some first ones are there, whole but for the last.
fn is_prefix(pc: &Texts, pages: &[crate::harness::Page]) {
    let found: Vec<_> = pages.iter().map(|page| text(pc, page.id)).collect();
    let there = found.iter().take_while(|found| found.is_some()).count();
    assert!(found[there..].iter().all(Option::is_none), "a hole");
    for (at, (page, found)) in pages.iter().zip(&found).take(there).enumerate() {
        let found = found.as_deref().unwrap_or_default();
        assert!(found == page.text || at + 1 == there && page.text.starts_with(found));
    }
}

#[test]
fn a_failed_write_or_sync_poisons_a_log_and_reopening_finds_what_was_acknowledged() {
    within_a_minute(|| {
        for (fault, wanted) in failures() {
            let disk = SimDisk::new(32);
            let log = log(&disk);
            let mut written: Vec<_> = (0..30).map(|at| (log.write(&bytes(at, 700)).unwrap(), bytes(at, 700))).collect();
            log.flush().unwrap();
            let acknowledged = written.len();
            written.extend((0..30).map(|at| (log.write(&bytes(at, 900)).unwrap(), bytes(at, 900))));
            let held = log.reserve(b"held").unwrap();
            let last = log.write(b"last").unwrap();
            disk.fault(fault.clone());
            // Up to the reservation, which this thread holds itself.
            let failed = log.make_stable(written[40].0);
            let first = match failed {
                Err(Error::WouldDeadlock { .. }) => {
                    held.complete();
                    written.push((Lsn(last.0 - 16), b"held".to_vec()));
                    cause(log.flush().unwrap_err())
                }
                other => panic!("{other:?}"),
            };
            written.push((last, b"last".to_vec()));
            assert!(matches!(&*first, Error::Io { op, .. } if *op == wanted));
            disk.clear_faults();
            let same = |error| assert!(Arc::ptr_eq(&cause(error), &first), "another cause");
            same(log.write(b"x").unwrap_err());
            same(log.write(&bytes(1, 200_000)).unwrap_err());
            same(log.reserve(b"x").unwrap_err());
            same(log.flush().unwrap_err());
            same(log.make_stable(last).unwrap_err());
            same(log.trim(written[20].0).unwrap_err());
            same(log.tick().unwrap_err());
            assert!(records(&log)[..] == written[..acknowledged]);
            same(log.close().unwrap_err());
            let log = Log::start(config(&disk).build()).unwrap();
            let found = records(&log);
            assert!(found.len() >= acknowledged && found[..] == written[..found.len()], "{}", found.len());
        }
    });
}

/// A segment that cannot be made: a failed write says so to whoever needed it, a failed sync poisons.
#[test]
fn a_failure_while_a_segment_is_made_is_told_and_nothing_is_lost() {
    within_a_minute(|| {
        let calls = [
            (Call::Create, "create"),
            (Call::SetLen, "set_len"),
            (Call::Allocate, "allocate"),
            (Call::Write, "write"),
            (Call::SyncData, "sync"),
            (Call::Rename, "rename"),
            (Call::SyncDir, "sync_dir"),
        ];
        // A sync that a full disk fails is a failed sync: what it left unwritten is not tried again.
        let full = [(Call::SyncData, "sync", Effect::Enospc), (Call::SyncDir, "sync_dir", Effect::Enospc)];
        for (call, wanted, effect) in calls.map(|(call, wanted)| (call, wanted, Effect::Eio)).into_iter().chain(full) {
            let disk = SimDisk::new(33);
            let log = log(&disk);
            let mut written = Vec::new();
            // The log's own segments are `seg-`; those being made are not yet, and a directory has no name.
            let name = match call {
                Call::SyncDir => "",
                _ => "tmp-",
            };
            disk.fault(Fault::new(call, When::Once(0), effect).on(name));
            let failed = loop {
                let record = bytes(written.len(), 3000);
                match log.write(&record) {
                    Ok(lsn) => written.push((lsn, record)),
                    Err(error) => break error,
                }
            };
            let poisons = matches!(call, Call::SyncData | Call::SyncDir);
            match (&failed, poisons) {
                (Error::Io { op, .. }, false) => assert_eq!(*op, wanted),
                (Error::Poisoned { cause }, true) => {
                    assert!(matches!(&**cause, Error::Io { op, .. } if *op == wanted), "{cause:?}");
                }
                other => panic!("{call:?}: {other:?}"),
            }
            let acknowledged = match poisons {
                true => {
                    assert!(matches!(log.flush(), Err(Error::Poisoned { .. })));
                    assert!(matches!(log.close(), Err(Error::Poisoned { .. })));
                    0
                }
                // It was once: the next write makes the segment.
                false => {
                    written.push((log.write(b"next").unwrap(), b"next".to_vec()));
                    log.close().unwrap();
                    written.len()
                }
            };
            let found = records(&Log::start(config(&disk).build()).unwrap());
            assert!(found.len() >= acknowledged && found[..] == written[..found.len()], "{call:?}");
        }
    });
}

/// A turn of cleaning that cannot read what it is to move fails, and says so to who asked for it. The next one comes a step of the log later, not with every tick: each reads and
/// writes a checkpoint, and would fail in the same way.
#[test]
fn a_turn_of_cleaning_that_failed_is_tried_again_a_step_of_the_log_later() {
    const STEP: u64 = 64 << 10;
    within_a_minute(|| {
        let disk = SimDisk::new(3);
        // Cold pages are found where they lie: each turn has to read.
        let pc = Texts::start(config(&disk).log_limit(4 * STEP).cache_capacity(64 << 10).build()).unwrap();
        let mut all = fill(&pc, "page", 2000, 300);
        let mut nth = 0;
        let mut overwrite = |all: &mut Vec<crate::harness::Page>| {
            nth = (nth + 7) % all.len();
            let page = &mut all[nth];
            page.text = format!("{nth};").repeat(60);
            page.at = pc.replace_at(page.id, page.at, page.text.clone(), &pc.pin()).unwrap();
        };
        for _ in 0..6000 {
            overwrite(&mut all);
            pc.tick().unwrap();
        }
        let before = pc.stats();
        assert!(before.survivor_bytes + before.fold_bytes > 0, "it is cleaned");
        disk.fault(Fault::new(Call::Read, When::From(0), Effect::Eio));
        let (mut failed, mut ticks) = (0u64, 0);
        while pc.stats().tail.0 < before.tail.0 + 6 * STEP {
            // New ones: nothing is read for them.
            all.extend(fill(&pc, "new", 1, 300));
            ticks += 1;
            match pc.tick() {
                Ok(()) => {}
                Err(Error::Io { op: "read", .. }) => failed += 1,
                Err(other) => panic!("{other}"),
            }
        }
        println!("{failed} of {ticks} ticks failed");
        // A checkpoint that has failed is due again by a clock of its own.
        assert!(2 <= failed && failed <= ticks / 4, "{failed} of {ticks} ticks failed");
        disk.clear_faults();
        let moved = pc.stats();
        for _ in 0..3000 {
            overwrite(&mut all);
            pc.tick().unwrap();
        }
        let now = pc.stats();
        assert!(now.survivor_bytes + now.fold_bytes > moved.survivor_bytes + moved.fold_bytes, "it is cleaned again");
        check(&pc, &all);
        pc.check_accounts().unwrap();
        pc.close().unwrap();
        check(&pages(&disk), &all);
    });
}

/// Of many leaves two threads take the marks. What a checkpoint has not made durable is in the next one, whichever of them has captured it.
#[test]
fn a_checkpoint_of_many_leaves_that_fails_leaves_all_of_them_to_the_next() {
    within_a_minute(|| {
        let mut failed = 0;
        for nth in 0..8 {
            let disk = SimDisk::new(37);
            let start = || {
                let config = config(&disk).background(Background::Threads).flush_every_ms(None).log_limit(16 << 20);
                Texts::start(config.build()).unwrap()
            };
            let pc = start();
            // 3,000 leaves of four pages each: there is time for a second thread to begin.
            let mut all = fill(&pc, "page", 12_000, 8);
            pc.flush().unwrap();
            pc.checkpoint().unwrap();
            for page in &mut all {
                page.text = format!("after {nth}: {}", page.text);
                page.at = pc.replace_at(page.id, page.at, page.text.clone(), &pc.pin()).unwrap();
            }
            pc.flush().unwrap();
            // A write of the map, a root's, or one of a superblock.
            let fault = |at| Fault::new(Call::Write, When::Once(at), Effect::Enospc);
            disk.fault(if nth % 2 == 0 { fault(nth / 2 % 2).on("super-") } else { fault(nth / 2 % 4) });
            match pc.checkpoint() {
                Ok(_) => {}
                Err(Error::NoSpace { .. }) => failed += 1,
                Err(error) => panic!("{error}"),
            }
            disk.clear_faults();
            pc.checkpoint().unwrap();
            check(&pc, &all);
            pc.check_accounts().unwrap();
            pc.close().unwrap();
            check(&start(), &all);
        }
        println!("{failed} checkpoints failed");
        assert!(failed > 5, "{failed}");
    });
}
