//! Every waiter is woken when the log fails: for stability, for room in the ring, for the next record.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use pagecache::{Error, Log, LogTail, Lsn, Tailed};
use pagecache_sim::disk::{AfterSync, Call, Effect, Fault, SimDisk, When};

use crate::harness::{bytes, config, log, records, within_a_minute};

/// Class: lost wake-up in make_stable (sled 386); retry after failed fsync, spinning for ever after an error.
#[test]
fn every_waiter_is_woken_by_a_failure_and_told_the_first_cause() {
    within_a_minute(|| {
        let sync = Effect::SyncFails(AfterSync::KeptClean);
        for (call, effect) in [(Call::Write, Effect::Eio), (Call::SyncData, sync), (Call::SyncData, Effect::Eio)] {
            for round in 0..10 {
                let disk = SimDisk::new(round);
                let log = log(&disk);
                let acknowledged = log.write(b"acknowledged").unwrap();
                log.make_stable(acknowledged).unwrap();
                fail_with_everyone_waiting(&disk, &log, call, effect);
                assert!(matches!(log.close(), Err(Error::Poisoned { .. })));
                disk.clear_faults();
                let found = records(&Log::start(config(&disk).build()).unwrap());
                assert_eq!(found[0], (acknowledged, b"acknowledged".to_vec()));
            }
        }
    });
}

fn fail_with_everyone_waiting(disk: &SimDisk, log: &Log, call: Call, effect: Effect) {
    let held = log.reserve(b"held").unwrap();
    let after = log.write(b"after").unwrap();
    let waiting = AtomicU64::new(0);
    let causes = std::sync::Mutex::new(Vec::new());
    let poisoned = |error| match error {
        Error::Poisoned { cause } => causes.lock().unwrap().push(cause),
        other => panic!("{other:?}"),
    };
    let (poisoned, waiting) = (&poisoned, &waiting);
    std::thread::scope(|scope| {
        // For room in the ring.
        for writer in 0..3 {
            scope.spawn(move || {
                // The ring takes 21 of these; where only the sync fails, it moves on a little once the reservation is complete.
                let error = (0..20_000).find_map(|_| log.write(&bytes(writer, 3000)).err());
                poisoned(error.expect("never told"));
            });
        }
        // For stability: one leads, the others follow.
        for _ in 0..3 {
            scope.spawn(move || {
                waiting.fetch_add(1, Ordering::Relaxed);
                poisoned(log.make_stable(after).unwrap_err());
            });
        }
        scope.spawn(move || {
            waiting.fetch_add(1, Ordering::Relaxed);
            poisoned(log.flush().unwrap_err());
        });
        // For the next record.
        let mut tail = log.tail_from(after);
        scope.spawn(move || {
            waiting.fetch_add(1, Ordering::Relaxed);
            assert_eq!(tail.next(Duration::from_secs(60)).unwrap(), Tailed::Closed);
        });
        // Until all are under way and the ring is full; then a moment for the last ones to fall asleep.
        while waiting.load(Ordering::Relaxed) < 5 || log.tail_lsn().0 < 64 << 10 {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(20));
        disk.fault(Fault::new(call, When::From(0), effect).on("seg-"));
        held.complete();
    });
    let causes = causes.into_inner().unwrap();
    assert_eq!(causes.len(), 7);
    assert!(causes.iter().all(|cause| Arc::ptr_eq(cause, &causes[0])), "{causes:?}");
    assert!(matches!(&*causes[0], Error::Io { .. }));
    assert!(log.stable_lsn() <= after, "something was acknowledged after the failure");
}

/// Class: data loss at 10 threads (sled 411/414): whatever a thread was told is there.
#[test]
fn what_threads_were_told_before_a_failure_is_there_after_it() {
    within_a_minute(|| {
        for nth in [3, 10, 31, 100] {
            let disk = SimDisk::new(nth);
            let log = log(&disk);
            disk.fault(Fault::new(Call::SyncData, When::From(nth), Effect::SyncFails(AfterSync::Dropped)).on("seg-"));
            let start = Barrier::new(10);
            let told: Vec<Vec<(Lsn, Vec<u8>)>> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..10)
                    .map(|thread| {
                        let (log, start) = (&log, &start);
                        scope.spawn(move || {
                            start.wait();
                            let mut told = Vec::new();
                            for turn in 0.. {
                                let record = bytes(thread * 100_000 + turn, 100 + turn % 500);
                                match log.write(&record).and_then(|lsn| log.make_stable(lsn).map(|_| lsn)) {
                                    Ok(lsn) => told.push((lsn, record)),
                                    Err(Error::Poisoned { .. }) => break,
                                    Err(other) => panic!("{other:?}"),
                                }
                            }
                            told
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(matches!(log.close(), Err(Error::Poisoned { .. })));
            disk.clear_faults();
            let found = records(&Log::start(config(&disk).build()).unwrap());
            let mut told: Vec<_> = told.into_iter().flatten().collect();
            told.sort();
            assert!(!told.is_empty());
            for record in &told {
                assert!(found.binary_search(record).is_ok(), "{} was acknowledged and is lost", record.0);
            }
        }
    });
}

#[test]
fn a_tail_outlives_its_log_and_ends() {
    within_a_minute(|| {
        let disk = SimDisk::new(1);
        let log = log(&disk);
        let lsn = log.write(b"x").unwrap();
        let mut tail: LogTail = log.tail_from(Lsn(0));
        let waiting = std::thread::spawn(move || {
            assert_eq!(tail.next(Duration::from_secs(60)).unwrap(), Tailed::Record(lsn, b"x".to_vec()));
            assert_eq!(tail.next(Duration::from_secs(60)).unwrap(), Tailed::Closed);
            tail
        });
        log.close().unwrap();
        let mut tail = waiting.join().unwrap();
        assert_eq!(tail.next(Duration::from_secs(60)).unwrap(), Tailed::Closed);
        // It holds no lock.
        crate::harness::log(&disk).close().unwrap();
    });
}
