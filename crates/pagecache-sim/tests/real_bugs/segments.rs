//! Segments: handed out once, given back in time, and never taken for what they were.

use std::collections::BTreeSet;

use pagecache::inspect::{Report, verify};
use pagecache::{Error, Log, LogRead, Lsn};
use pagecache_sim::disk::{Call, Effect, Fault, SimDisk, Survival, When};
use pagecache_sim::driver::Step;
use pagecache_sim::log_driver::{LogOp, Which};

use crate::harness::{bytes, config, log, records};
use crate::torn::stop_everywhere;

/// What is on the disk once the log is closed: sound, and every file of it is named by the log.
fn whole(disk: &SimDisk) -> Report {
    let report = verify(config(disk).build()).unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    let named = |name: &String| {
        name == "LOCK" || report.segments.iter().any(|segment| *name == format!("seg-{:016x}", segment.sequence))
    };
    let strange: Vec<_> = disk.file_names().into_iter().filter(|name| !named(name)).collect();
    assert!(strange.is_empty() && report.leftovers.is_empty(), "{strange:?}, {:?}", report.leftovers);
    report
}

/// sled 183: a segment was handed out for writing while the last user of it was not done. Here a crash at any call of a trim, and
/// of what is written into the files it gives back, finds all that the log still promises.
#[test]
fn a_segment_is_not_used_again_before_its_trim_is_durable() {
    let prelude = [LogOp::Write(70_000), LogOp::Write(70_000), LogOp::Flush].map(Step::Do);
    let alphabet = [LogOp::Trim(Which::Stable), LogOp::Write(70_000)].map(Step::Do);
    stop_everywhere(&prelude, &alphabet, 2, 16);
}

/// photondb 239 and 348: a file was reclaimed while pages lived in it. Here what a trim keeps may have its pieces far below.
#[test]
fn a_trim_keeps_every_segment_that_a_kept_record_needs() {
    let disk = SimDisk::new(2);
    let log = log(&disk);
    let long = bytes(1, 150_000);
    let kept = log.write(&long).unwrap();
    for turn in 0..30 {
        for at in 0..8 {
            log.write(&bytes(turn * 8 + at, 5000)).unwrap();
        }
        log.flush().unwrap();
        assert_eq!(log.trim(kept).unwrap(), kept);
        assert!(log.read(kept).unwrap() == LogRead::Record(long.clone()), "turn {turn}");
        if turn % 10 == 9 {
            let after = Log::start(config(&disk.crash(Survival::DropAll)).build()).unwrap();
            assert!(after.read(kept).unwrap() == LogRead::Record(long.clone()), "turn {turn}, after a crash");
        }
    }
    // It is not kept for ever either.
    let before = log.disk_bytes();
    log.trim(log.stable_lsn()).unwrap();
    assert!(log.disk_bytes() < before / 4, "{} of {before}", log.disk_bytes());
    log.close().unwrap();
    whole_but_spares(&disk);
}

/// Spare files stay behind until the next writer.
fn whole_but_spares(disk: &SimDisk) -> Report {
    log(disk).close().unwrap();
    whole(disk)
}

/// The LSN at which each segment on the disk begins, as its header says: no two are the same, discarded ones included.
fn no_two_begin_alike(disk: &SimDisk) {
    let segments = disk.file_names().into_iter().filter(|name| name.starts_with("seg-"));
    let starts: Vec<_> =
        segments.map(|name| disk.read_file(&name)[48..56].try_into().map(u64::from_le_bytes).unwrap()).collect();
    let distinct: BTreeSet<_> = starts.iter().collect();
    assert_eq!(distinct.len(), starts.len(), "{starts:?}");
}

/// What a start leaves that dies at any call.
fn no_two_begin_alike_wherever_a_start_dies(disk: &SimDisk) {
    for call in 0.. {
        let dying = disk.kill();
        dying.crash_at(call);
        drop(Log::start(config(&dying).build()));
        for survival in dying.images(16, call) {
            no_two_begin_alike(&dying.crash(survival));
        }
        if !dying.crashed() {
            return;
        }
    }
}

/// sled 259: zeroing a segment failed, it went back to the free ones, and two segments had the same LSN.
#[test]
fn no_two_segments_begin_at_the_same_lsn_whatever_failed_when_they_were_made() {
    let calls = [Call::Create, Call::SetLen, Call::Allocate, Call::Write, Call::SyncData, Call::Rename, Call::SyncDir];
    let mut failed = 0;
    for call in calls {
        for nth in 0..4 {
            let disk = SimDisk::new(nth);
            let mut open = log(&disk);
            let on = if call == Call::SyncDir { "" } else { "tmp-" };
            disk.fault(Fault::new(call, When::Once(nth), Effect::Eio).on(on));
            let mut kept = Vec::new();
            for turn in 0..120 {
                let record = bytes(turn, 3000);
                match open.write(&record).and_then(|lsn| open.make_stable(lsn).map(|_| lsn)) {
                    Ok(lsn) => kept.push((lsn, record)),
                    Err(Error::Poisoned { .. }) => {
                        failed += 1;
                        drop(open);
                        no_two_begin_alike_wherever_a_start_dies(&disk);
                        open = log(&disk);
                    }
                    Err(Error::Io { .. }) => failed += 1,
                    Err(other) => panic!("{call:?}, {nth}: {other:?}"),
                }
                if turn % 50 == 20 {
                    open.trim(kept[kept.len() - 5].0).map(drop).unwrap_or_default();
                }
            }
            // A crash that takes back what is not durable, and one more start.
            let image = disk.crash(Survival::Random(nth));
            log(&image).close().unwrap();
            let report = whole(&image);
            let rises = report.segments.windows(2).all(|two| {
                two[0].sequence < two[1].sequence && two[0].start < two[1].start && two[0].end <= two[1].start
            });
            assert!(rises, "{call:?}, {nth}: {:?}", report.segments);
            let found = records(&log(&image));
            let first = found.first().map_or(Lsn(u64::MAX), |record| record.0);
            for record in kept.iter().filter(|record| record.0 >= first) {
                assert!(found.binary_search(record).is_ok(), "{call:?}, {nth}: {} is lost", record.0);
            }
        }
    }
    assert!(failed >= 15, "{failed} failures");
}

/// sled 786: what readers held kept segments from being used again until the disk was full. Here a reader holds up one file at
/// the most, however long it stands still.
#[test]
fn readers_that_stand_still_do_not_keep_trimmed_segments_from_being_used_again() {
    let disk = SimDisk::new(4);
    let log = log(&disk);
    let mut readers = Vec::new();
    disk.set_capacity(Some(12 * (64 << 10)));
    for turn in 0..200 {
        let lsn = match log.write(&bytes(turn, 5000)) {
            Ok(lsn) => lsn,
            Err(error) => panic!("turn {turn}: {error}"),
        };
        log.make_stable(lsn).unwrap();
        if turn % 100 == 0 {
            let mut reader = log.iter_from(lsn);
            assert_eq!(reader.next().unwrap().unwrap().0, lsn);
            readers.push((reader, log.tail_from(lsn)));
        }
        log.trim(lsn).unwrap();
    }
    // They go on with what there is now.
    for (mut reader, _) in readers {
        assert!(reader.all(|found| found.is_ok()));
    }
}

/// sled 860 and photondb 263: recovery left segments that nobody used again, and fell over what it had removed already. Here one
/// that dies at any call, the machine with it or not, is finished by the next.
#[test]
fn a_recovery_that_dies_while_it_discards_segments_is_finished_by_the_next() {
    let disk = SimDisk::new(5);
    let open = log(&disk);
    let kept = open.write(b"kept").unwrap();
    open.make_stable(kept).unwrap();
    // The ring is one segment long, so the first of three segments is written, and nothing of it is synced.
    (0..40).for_each(|at| _ = open.write(&bytes(at, 4000)).unwrap());
    let pending = disk.pending_writes();
    let torn = Survival::AllBut(pending[0].0);
    let (mut images, mut discarded) = (0, 0);
    for call in 0.. {
        let dying = disk.crash(torn);
        let before = dying.file_names().len();
        dying.crash_at(call);
        let done = Log::start(config(&dying).build()).map(drop).is_ok() && !dying.crashed();
        let machine = dying.images(16, call).into_iter().map(|survival| dying.crash(survival));
        for next in machine.chain([dying.kill()]) {
            images += 1;
            let open = log(&next);
            assert_eq!(records(&open)[0], (kept, b"kept".to_vec()), "call {call}");
            open.close().unwrap();
            let segments = whole(&next).segments.len();
            discarded += usize::from(segments + 1 < before);
        }
        if done {
            break;
        }
    }
    println!("{images} images, {discarded} with fewer segments than before");
    assert!(images > 30 && discarded > 0);
}

/// sled 1202: a long value that was replaced left its blob behind. Here a long record that was given up, or that did not fit, keeps
/// no segment from being given back.
#[test]
fn a_long_record_that_was_given_up_keeps_no_segment() {
    let disk = SimDisk::new(6);
    let log = log(&disk);
    for turn in 0..5 {
        log.reserve(&bytes(turn, 100_000)).unwrap().abort();
        drop(log.reserve(&bytes(turn, 100_000)).unwrap());
    }
    disk.set_capacity(Some(disk.used_bytes() + (128 << 10)));
    assert!(matches!(log.write(&bytes(9, 500_000)), Err(Error::NoSpace { .. })));
    disk.set_capacity(None);
    let last = log.write(b"last").unwrap();
    log.flush().unwrap();
    assert_eq!(log.trim(last).unwrap(), last);
    assert_eq!(records(&log), [(last, b"last".to_vec())]);
    log.close().unwrap();
    let segments = whole_but_spares(&disk).segments.len();
    assert!(segments <= 2, "{segments} segments for one record");
}

/// rocksdb 12918: behind the end of a recycled log stood records of its earlier life, and they were taken for data. Here each
/// record begins a block, in both lives, so that an old one stands right behind the newest.
#[test]
fn a_segment_that_is_used_again_shows_nothing_of_its_earlier_life() {
    let disk = SimDisk::new(7);
    let log = log(&disk);
    let write = |turn: usize| {
        let record = format!("life {:2} record {turn:4};", turn / 60).repeat(100).into_bytes();
        let lsn = log.write(&record).unwrap();
        log.flush().unwrap();
        (lsn, record)
    };
    (0..60).for_each(|turn| _ = write(turn));
    log.trim(log.stable_lsn()).unwrap();
    let kept: Vec<_> = (60..90).map(write).collect();
    let behind = disk.file_names().into_iter().filter(|name| {
        let file = disk.read_file(name);
        let at = |what: &[u8]| file.windows(what.len()).rposition(|window| window == what);
        at(b"life  1").is_some_and(|newest| at(b"life  0").is_some_and(|old| old > newest))
    });
    assert!(behind.count() > 0, "no old record stands behind a new one");
    for survival in [Survival::DropAll, Survival::KeepAll] {
        let found = records(&Log::start(config(&disk.crash(survival)).build()).unwrap());
        assert!(found == kept, "{} of {}", found.len(), kept.len());
    }
}

/// rocksdb 12489: the newer of two logs was synced and the older was not, so a crash left a hole in the middle. Here a round over
/// two segments syncs both; and where the crash comes before it, what is there has no hole.
#[test]
fn a_round_over_two_segments_makes_the_older_one_durable_too() {
    for before in [0, 40_000, 50_000] {
        let disk = SimDisk::new(8);
        let log = log(&disk);
        log.write(&bytes(1, 10_000)).unwrap();
        (0..before / 10_000).for_each(|at| _ = log.write(&bytes(at, 10_000)).unwrap());
        log.flush().unwrap();
        let synced = records(&log).len();
        (0..6).for_each(|at| _ = log.write(&bytes(at, 9000)).unwrap());
        for survival in disk.images(40, 3) {
            let found = records(&Log::start(config(&disk.crash(survival)).build()).unwrap());
            assert!(found.len() >= synced, "{survival:?}");
            let rest = found[synced..].iter().enumerate();
            rest.for_each(|(at, record)| assert!(record.1 == bytes(at, 9000), "a hole under {survival:?}"));
        }
        log.flush().unwrap();
        let found = records(&Log::start(config(&disk.crash(Survival::DropAll)).build()).unwrap());
        assert_eq!(found.len(), synced + 6, "after {before} bytes");
    }
}
