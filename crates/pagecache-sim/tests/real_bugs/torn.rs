//! Torn ends: what a crash leaves of a file's bytes, length and name, and what a second crash leaves of a recovery.

use pagecache::{Log, LogRead};
use pagecache_sim::disk::{Rest, SimDisk, Survival};
use pagecache_sim::driver::aftermath::Explore;
use pagecache_sim::driver::{Step, Tally, exhaustive};
use pagecache_sim::log_driver::{LogOp, LogWorld};

use crate::harness::{bytes, check, config, fill, log, pages, records};

/// All sequences of so many steps, stopped at every call of the last one; every image recovered, one in `nested_every` crashed at
/// every call of its recovery too, and recovered again.
pub fn stop_everywhere(prelude: &[Step<LogOp>], alphabet: &[Step<LogOp>], length: u32, nested_every: u64) {
    let limits = Explore { images: 32, nested_every, deep_every: 0, nested_images: 8 };
    let mut tally = Tally::default();
    if let Err(broken) = exhaustive::run::<LogWorld>(prelude, alphabet, length, &limits, &mut tally) {
        panic!("{broken}");
    }
    println!("{tally}");
    assert!(tally.images > 0 && tally.nested > 0);
}

/// sled 851: a batch was whole before a crash and half there after one that came while it was recovered. Here a record is in
/// pieces over several segments, and is there wholly or not at all however often the recovery dies.
#[test]
fn a_record_in_pieces_is_whole_or_absent_also_when_recoveries_crash() {
    let prelude = [LogOp::Write(300), LogOp::Flush, LogOp::Write(130_000)].map(Step::Do);
    stop_everywhere(&prelude, &[Step::Do(LogOp::Flush)], 1, 2);
}

/// sled 1077 and 1229: the name and the length of a file were not made durable with its bytes. redb had a header that lasted
/// longer than the growth of its file. Here a crash at any call keeps what it likes of names, lengths and bytes.
#[test]
fn what_was_acknowledged_needs_no_name_nor_length_that_is_not_durable() {
    let (mut images, mut most) = (0, 0);
    for call in 0..400 {
        let disk = SimDisk::new(call);
        disk.crash_at(call);
        let mut kept = Vec::new();
        if let Ok(log) = Log::start(config(&disk).build()) {
            // Over the ends of three segments.
            for at in 0..12 {
                let Ok(lsn) = log.write(&bytes(at, 14_000)) else { break };
                if log.make_stable(lsn).is_err() {
                    break;
                }
                kept.push((lsn, bytes(at, 14_000)));
            }
        }
        let grown = (0..4).map(|seed| Survival::LengthsOnly(seed * 1000 + call));
        for survival in disk.images(24, call).into_iter().chain(grown) {
            images += 1;
            let opened = Log::start(config(&disk.crash(survival)).build());
            let found = records(&opened.unwrap_or_else(|error| panic!("call {call}, {survival:?}: {error}")));
            assert!(found.starts_with(&kept), "call {call}, {survival:?}: {} of {}", found.len(), kept.len());
        }
        most = most.max(kept.len());
        if !disk.crashed() {
            break;
        }
    }
    println!("{images} images");
    assert_eq!(most, 12, "the last run was stopped too");
}

/// redb 1290: recovery took a slot that was torn for good, since it made the checksum itself; the next crash rolled back behind what
/// it had shown. Here what a recovery has shown is there after the next crash, whatever of it the first one had left in the
/// cache alone.
#[test]
fn what_one_recovery_has_shown_no_crash_takes_back() {
    let disk = SimDisk::new(3);
    let open = log(&disk);
    open.write(b"durable").unwrap();
    open.flush().unwrap();
    (0..4).for_each(|at| _ = open.write(&bytes(at, 3000)).unwrap());
    disk.crash_at_sync(0);
    drop(open.flush());
    // The process is killed: its writes are in the cache of the operating system, and nothing has synced them.
    let cached = disk.kill();
    assert!(cached.pending_count() > 0);
    let open = log(&cached);
    let shown = records(&open);
    assert_eq!(shown.len(), 5);
    for survival in cached.images(64, 3) {
        let found = records(&log(&cached.crash(survival)));
        assert!(found == shown, "{} of {} under {survival:?}", found.len(), shown.len());
    }
    drop(open);
}

/// sled 1527 and 1533: a snapshot that was half written made the store unopenable. Snapshots are not built yet; what a start reads
/// first here are the headers of segments, and a segment torn at any place of its making stops nobody.
#[test]
fn a_segment_that_was_half_made_keeps_no_store_from_opening() {
    let mut images = 0;
    for call in 0.. {
        let disk = SimDisk::new(4);
        let pc = pages(&disk);
        let acknowledged = fill(&pc, "page", 4, 3000);
        pc.flush().unwrap();
        disk.crash_at(disk.io_count() + call);
        let guard = pc.pin();
        let page = &acknowledged[0];
        // Into the next segment, but for the round that would make it durable.
        let mut at = page.at;
        while !disk.crashed() && pc.stats().segments < 3 {
            match pc.replace_at(page.id, at, page.text.clone(), &guard) {
                Ok(now) => at = now,
                Err(_) => break,
            }
        }
        let torn = disk.pending_writes().into_iter().flat_map(|(event, len)| {
            let tears = (0..=len).step_by(509);
            tears.flat_map(move |bytes| {
                [Rest::Absent, Rest::Zeros, Rest::Garbage(7)].map(|rest| Survival::Torn { event, bytes, rest })
            })
        });
        for survival in torn.take(400).chain(disk.images(32, call)) {
            images += 1;
            let next = pages(&disk.crash(survival));
            check(&next, &acknowledged[1..]);
            assert!(next.get(page.id, &next.pin()).is_ok(), "call {call}, {survival:?}");
        }
        if !disk.crashed() {
            break;
        }
    }
    println!("{images} images");
    assert!(images > 500);
}

/// fjall 68 and 112: a journal with a torn end could not be opened, or was cut before good writes. Here the last of several records is
/// torn at every byte, and all the others are there.
#[test]
fn a_torn_end_takes_nothing_with_it_that_came_before() {
    let disk = SimDisk::new(5);
    let open = log(&disk);
    let kept: Vec<_> = (0..5).map(|at| (open.write(&bytes(at, 900)).unwrap(), bytes(at, 900))).collect();
    open.flush().unwrap();
    let last = open.write(&bytes(9, 2000)).unwrap();
    disk.crash_at_sync(0);
    drop(open.flush());
    let pending = disk.pending_writes();
    let (event, len) = *pending.last().unwrap();
    let (mut with, mut without) = (0, 0);
    for torn in 0..=len {
        let rest = [Rest::Absent, Rest::Zeros, Rest::Garbage(torn as u64)][torn % 3];
        let open = log(&disk.crash(Survival::Torn { event, bytes: torn, rest }));
        let found = records(&open);
        assert!(found.starts_with(&kept), "torn at {torn}: {} of {}", found.len(), kept.len());
        match open.read(last).unwrap() {
            LogRead::Record(record) => {
                assert!(record == bytes(9, 2000));
                with += 1;
            }
            _ => without += 1,
        }
        assert!(found.len() <= kept.len() + 1);
    }
    println!("{with} with the last record, {without} without");
    assert!(with > 0 && without > 2000);
}
