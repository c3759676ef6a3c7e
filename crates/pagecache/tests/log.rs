//! What the log promises to someone who uses it alone.
#![cfg(not(loom))]

use std::time::Duration;

use pagecache::storage::MemoryStorage;
use pagecache::{Background, ConfigBuilder, Error, Log, LogRead, Lsn, Tailed};

fn small(storage: &MemoryStorage) -> ConfigBuilder {
    ConfigBuilder::new().storage(storage.clone()).segment_size(64 << 10).background(Background::Caller)
}

fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + seed * 7) as u8).collect()
}

#[test]
fn records_of_every_size_are_read_back_before_and_after_a_reopen() {
    let storage = MemoryStorage::new();
    let lens = [0, 1, 7, 8, 100, 4096, 16_000, 16_384, 40_000, 70_000, 300_000, 5, 64];
    let log = Log::start(small(&storage).build()).unwrap();
    let mut written = Vec::new();
    for round in 0..4 {
        for (at, len) in lens.into_iter().enumerate() {
            let record = bytes(at + round, len);
            let lsn = log.write(&record).unwrap();
            assert_eq!(log.read(lsn).unwrap(), LogRead::Record(record.clone()), "{len} unflushed");
            written.push((lsn, record));
        }
        log.flush().unwrap();
    }
    let all = |log: &Log| log.iter_from(Lsn(0)).map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(all(&log), written);
    log.close().unwrap();
    for read_only in [true, false, false] {
        let log = Log::start(small(&storage).read_only(read_only).build()).unwrap();
        assert_eq!(all(&log), written);
        for (lsn, record) in &written {
            assert_eq!(log.read(*lsn).unwrap(), LogRead::Record(record.clone()));
        }
        log.close().unwrap();
    }
}

#[test]
fn the_answers_of_read_are_told_apart() {
    let storage = MemoryStorage::new();
    let log = Log::start(small(&storage).build()).unwrap();
    let one = log.write(&[1; 200]).unwrap();
    let two = log.reserve(b"two").unwrap();
    let at_two = two.lsn();
    assert!(matches!(log.read(at_two).unwrap(), LogRead::Beyond { .. }));
    two.abort();
    let three = log.reserve(b"three").unwrap();
    let at_three = three.lsn();
    drop(three);
    let four = log.write(b"four").unwrap();
    log.flush().unwrap();
    assert_eq!(log.read(at_two).unwrap(), LogRead::Aborted);
    assert_eq!(log.read(at_three).unwrap(), LogRead::Aborted);
    assert_eq!(log.read(Lsn(0)).unwrap(), LogRead::Padding);
    assert_eq!(log.read(Lsn(four.0 + 16)).unwrap(), LogRead::Padding);
    assert!(matches!(log.read(Lsn(one.0 + 8)), Err(Error::NotARecord { .. })));
    assert!(matches!(log.read(Lsn(one.0 + 3)), Err(Error::NotARecord { .. })));
    assert!(matches!(log.read(log.tail_lsn()).unwrap(), LogRead::Beyond { .. }));
    assert_eq!(log.trim(four).unwrap(), four);
    assert_eq!(log.read(one).unwrap(), LogRead::Trimmed { first: four });
    assert_eq!(log.read(four).unwrap(), LogRead::Record(b"four".to_vec()));
}

#[test]
fn a_trim_gives_back_segments_and_keeps_what_its_records_need() {
    let storage = MemoryStorage::new();
    let log = Log::start(small(&storage).build()).unwrap();
    for at in 0..100 {
        log.write(&bytes(at, 10_000)).unwrap();
    }
    let long = log.write(&bytes(1, 200_000)).unwrap();
    log.flush().unwrap();
    let before = log.disk_bytes();
    assert_eq!(log.trim(long).unwrap(), long);
    assert!(log.disk_bytes() < before / 2, "{} of {before}", log.disk_bytes());
    for at in 0..100 {
        log.write(&bytes(at, 10_000)).unwrap();
    }
    log.close().unwrap();
    let log = Log::start(small(&storage).build()).unwrap();
    assert_eq!(log.first_lsn(), long);
    assert_eq!(log.read(long).unwrap(), LogRead::Record(bytes(1, 200_000)));
    assert_eq!(log.iter_from(Lsn(0)).count(), 101);
}

#[test]
fn waiting_for_ones_own_reservation_is_refused_not_a_hang() {
    let storage = MemoryStorage::new();
    let log = Log::start(small(&storage).build()).unwrap();
    let held = log.reserve(b"held").unwrap();
    let after = log.write(b"after").unwrap();
    assert!(matches!(log.make_stable(after), Err(Error::WouldDeadlock { .. })));
    assert!(matches!(log.flush(), Err(Error::WouldDeadlock { .. })));
    held.complete();
    assert!(log.make_stable(after).unwrap() > after);
}

#[test]
fn a_forgotten_reservation_is_named_by_close_and_what_came_before_is_kept() {
    let storage = MemoryStorage::new();
    let log = Log::start(small(&storage).build()).unwrap();
    let before = log.write(b"before").unwrap();
    log.flush().unwrap();
    // Not flushed: whole blocks and a part of one.
    let unflushed = log.write(&bytes(3, 9000)).unwrap();
    let held = log.reserve(b"held").unwrap();
    let lsn = held.lsn();
    std::mem::forget(held);
    match log.close() {
        Err(Error::Held { lsn: named, age }) => assert!(named == lsn && age < Duration::from_secs(60)),
        other => panic!("{other:?}"),
    }
    let log = Log::start(small(&storage).build()).unwrap();
    assert_eq!(log.read(before).unwrap(), LogRead::Record(b"before".to_vec()));
    assert_eq!(log.read(unflushed).unwrap(), LogRead::Record(bytes(3, 9000)));
    assert_eq!(log.iter_from(Lsn(0)).count(), 2);
}

#[test]
fn make_stable_never_waits_for_what_nobody_wrote() {
    let storage = MemoryStorage::new();
    let log = Log::start(small(&storage).build()).unwrap();
    log.make_stable(Lsn(u64::MAX)).unwrap();
    let lsn = log.write(b"x").unwrap();
    assert!(log.make_stable(Lsn(u64::MAX)).unwrap() > lsn);
}

#[test]
fn a_tail_sees_records_as_they_become_durable_and_ends_at_close() {
    let log = Log::start(ConfigBuilder::new().temporary(true).flush_every_ms(1).build()).unwrap();
    let mut tail = log.tail_from(Lsn(0));
    assert_eq!(tail.next(Duration::from_millis(1)).unwrap(), Tailed::TimedOut);
    let reader = std::thread::spawn(move || {
        let mut seen = Vec::new();
        loop {
            match tail.next(Duration::from_secs(60)).unwrap() {
                Tailed::Record(_, record) => seen.push(record),
                Tailed::Closed => return seen,
                Tailed::TimedOut => panic!("nothing in a minute"),
            }
        }
    });
    let written: Vec<_> = (0..2000).map(|at| bytes(at, at % 700)).collect();
    for record in &written {
        log.write(record).unwrap();
    }
    log.close().unwrap();
    assert!(reader.join().unwrap() == written);
}

#[test]
fn many_threads_append_and_every_record_is_there_in_its_threads_order() {
    let storage = MemoryStorage::new();
    let config = || ConfigBuilder::new().storage(storage.clone()).segment_size(1 << 20);
    let log = Log::start(config().build()).unwrap();
    const EACH: u64 = 20_000;
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let log = &log;
            scope.spawn(move || {
                for at in 0..EACH {
                    let mut record = vec![0; 16 + (at as usize * 7 + thread as usize) % 90];
                    record[..8].copy_from_slice(&thread.to_le_bytes());
                    record[8..16].copy_from_slice(&at.to_le_bytes());
                    let lsn = log.write(&record).unwrap();
                    if at % 1000 == 0 {
                        assert!(log.make_stable(lsn).unwrap() > lsn);
                    }
                }
            });
        }
    });
    log.close().unwrap();
    let log = Log::start(config().build()).unwrap();
    let mut next = [0u64; 8];
    for found in log.iter_from(Lsn(0)) {
        let (_, record) = found.unwrap();
        let thread = u64::from_le_bytes(record[..8].try_into().unwrap()) as usize;
        assert_eq!(u64::from_le_bytes(record[8..16].try_into().unwrap()), next[thread]);
        next[thread] += 1;
    }
    assert_eq!(next, [EACH; 8]);
}

#[test]
fn a_new_log_takes_at_most_a_mebibyte_of_disk() {
    let log = Log::start(ConfigBuilder::new().temporary(true).build()).unwrap();
    assert!(log.disk_bytes() <= 1 << 20, "{}", log.disk_bytes());
    log.close().unwrap();
    let log = Log::start(ConfigBuilder::new().temporary(true).flush_every_ms(1).build()).unwrap();
    log.write(b"a few bytes, so that there is something to flush").unwrap();
    let until = std::time::Instant::now() + Duration::from_millis(100);
    while std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(log.disk_bytes() <= 1 << 20, "after a hundred ticks: {}", log.disk_bytes());
}

#[test]
fn a_record_over_the_limit_is_refused() {
    let storage = MemoryStorage::new();
    let log = Log::start(small(&storage).max_record(1 << 20).build()).unwrap();
    assert!(matches!(log.write(&vec![0; (1 << 20) + 1]), Err(Error::TooLarge { len: 1_048_577, max: 1_048_576 })));
    log.write(&vec![1; 1 << 20]).unwrap();
}

/// The first tick at rest once waited for a lock that it held itself: a guard in a `match` head lives to its end.
#[test]
fn a_tick_at_rest_proves_the_last_round_once_and_then_writes_nothing() {
    let storage = MemoryStorage::new();
    let log = Log::start(small(&storage).build()).unwrap();
    log.write(b"x").unwrap();
    log.tick().unwrap();
    let flushed = log.tail_lsn();
    log.tick().unwrap();
    let proven = log.tail_lsn();
    assert!(proven > flushed);
    log.tick().unwrap();
    log.tick().unwrap();
    assert_eq!(log.tail_lsn(), proven);
}

/// Space that was never written makes a sync dearer; space that is written twice makes a bulk load dearer.
#[test]
fn short_rounds_find_zeros_ahead_of_them_and_long_rounds_write_nothing_twice() {
    let ahead = |record: usize, rounds: usize| {
        let storage = MemoryStorage::new();
        let log = Log::start(
            ConfigBuilder::new().storage(storage).segment_size(1 << 20).background(Background::Caller).build(),
        )
        .unwrap();
        for round in 0..rounds {
            log.write(&bytes(round, record)).unwrap();
            log.flush().unwrap();
            log.tick().unwrap();
        }
        let (tail, disk) = (log.tail_lsn().0, log.disk_bytes());
        let all: Vec<_> = log.iter_from(Lsn(0)).map(|record| record.unwrap().1).collect();
        assert!(all.iter().enumerate().all(|(round, found)| *found == bytes(round, record)) && all.len() == rounds);
        log.close().unwrap();
        disk.saturating_sub(tail)
    };
    // Memory counts what was written, in pieces of 64 KiB; the header's copy at the end of a segment is one.
    assert!(ahead(100, 250) >= 192 << 10, "zeros: {}", ahead(100, 250));
    assert!(ahead(200_000, 20) <= 192 << 10, "no zeros: {}", ahead(200_000, 20));
}

/// A follower keeps a position, not the last record: it goes on behind it, whatever was closed, cut or trimmed meanwhile.
#[test]
fn a_position_goes_on_behind_the_last_record_seen() {
    let storage = MemoryStorage::new();
    let (mut position, mut seen, mut written) = (Lsn(0), Vec::new(), Vec::new());
    for round in 0..40 {
        let log = Log::start(small(&storage).build()).unwrap();
        for at in 0..7 {
            let record = bytes(round * 7 + at, [3, 20_000, 0, 4090, 30_000, 8, 500][at]);
            written.push((log.write(&record).unwrap(), record));
        }
        log.flush().unwrap();
        // All but the last three at a time, by either way.
        let left = written.len() - seen.len() - 3;
        if round % 2 == 0 {
            let mut records = log.iter_from(position);
            seen.extend(records.by_ref().take(left).map(Result::unwrap));
            position = records.position();
        } else {
            let mut tail = log.tail_from(position);
            for _ in 0..left {
                let Tailed::Record(lsn, record) = tail.next(Duration::ZERO).unwrap() else { panic!("it is durable") };
                seen.push((lsn, record));
            }
            position = tail.position();
        }
        assert_eq!(seen, written[..seen.len()]);
        if round % 5 == 4 {
            log.trim(position).unwrap();
        }
        log.close().unwrap();
    }
    assert_eq!(seen.len(), 40 * 7 - 3);
}
