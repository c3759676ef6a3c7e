//! A store that closes while others still work: its background thread, and those who read behind its log. What was acknowledged is
//! durable, what was complete too, and everyone returns.

use std::sync::Arc;
use std::time::Duration;

use pagecache::{Background, Log, Lsn, PageId, Tailed, Version};
use pagecache_sim::disk::{SimDisk, Survival};
use shuttle::thread::spawn;

use crate::harness::{Store, chosen, join, options, scenarios};

/// Words of a fragment: five of them fill the ring.
const WIDE: usize = 400;

fn with_a_thread(disk: &SimDisk) -> pagecache::ConfigBuilder {
    options(disk).background(Background::Threads).flush_every_ms(1)
}

/// The last of the writers closes the store, whatever its background thread is doing.
fn the_background_meets_writers_and_a_close() {
    let disk = SimDisk::new(0);
    let store = Store::with(with_a_thread(&disk), &disk);
    let pages = [1, 2].map(|word| (store.page(word), word));
    let writers = pages.map(|((id, made), first)| {
        store.spawn(move |store, local| {
            let mut at = made;
            for turn in 0..3 {
                at = store.link_all(id, at, vec![first * 10 + turn; WIDE], local);
                if chosen(3) == 0 {
                    store.pages.make_stable(at).unwrap();
                    assert!(Version(store.pages.stable_lsn().0) > at);
                }
            }
            (id, at, first)
        })
    });
    drop(store);
    let told: Vec<(PageId, Version, u64)> = join(writers);
    let again = Store::start(&disk.crash(Survival::DropAll));
    assert!(again.pages.stats().clean_start);
    for (id, at, first) in told {
        let words =
            [vec![first]].into_iter().chain((0..3).map(|turn| vec![first * 10 + turn; WIDE])).collect::<Vec<_>>();
        assert_eq!(again.read(id, &again.local()), (at, words.concat()));
    }
}

/// What a tail was shown, until it was told of the end.
fn follow(log: &Log) -> shuttle::thread::JoinHandle<Vec<(Lsn, Vec<u8>)>> {
    let mut tail = log.tail_from(Lsn(0));
    spawn(move || {
        let mut seen = Vec::new();
        loop {
            match tail.next(Duration::from_secs(3600)).unwrap() {
                Tailed::Record(lsn, record) => seen.push((lsn, record)),
                Tailed::Closed => return seen,
                other => panic!("{other:?}"),
            }
        }
    })
}

/// Reservations are completed and given up; the log closes under a tail that waits for more.
fn a_log_closes_under_its_tail() {
    let disk = SimDisk::new(0);
    let log = Arc::new(Log::start(with_a_thread(&disk).build()).unwrap());
    let tail = follow(&log);
    let writers = [1u8, 2].map(|name| {
        let log = Arc::clone(&log);
        spawn(move || {
            let mut told = Vec::new();
            for turn in 0..3u8 {
                let record = vec![name * 10 + turn; 2000];
                let reservation = log.reserve(&record).unwrap();
                match chosen(3) {
                    0 => drop(reservation),
                    _ => told.push((reservation.complete(), record)),
                }
                if turn == 1 {
                    log.flush().unwrap();
                }
            }
            told
        })
    });
    drop(log);
    let mut told = join(writers).concat();
    told.sort();
    assert_eq!(tail.join().unwrap(), told);
    let again = Log::start(options(&disk.crash(Survival::DropAll)).build()).unwrap();
    assert_eq!(again.iter_from(Lsn(0)).collect::<Result<Vec<_>, _>>().unwrap(), told);
}

/// Those who wait for the log and those who write it meet at a ring that is too small for them.
fn writers_wait_for_room_and_for_durability() {
    let disk = SimDisk::new(0);
    let log = Arc::new(Log::start(options(&disk).build()).unwrap());
    let writers = [1u8, 2, 3].map(|name| {
        let log = Arc::clone(&log);
        spawn(move || {
            let mut told = Vec::new();
            for turn in 0..3u8 {
                let record = vec![name * 10 + turn; 3000];
                let lsn = log.write(&record).unwrap();
                if chosen(2) == 0 {
                    assert!(log.make_stable(lsn).unwrap() > lsn);
                    told.push((lsn, record));
                }
            }
            told
        })
    });
    let told = join(writers).concat();
    let again = Log::start(options(&disk.crash(Survival::DropAll)).build()).unwrap();
    let found = again.iter_from(Lsn(0)).collect::<Result<Vec<_>, _>>().unwrap();
    for record in told {
        assert!(found.contains(&record), "{} was acknowledged and is lost", record.0);
    }
    let mut log = Arc::into_inner(log);
    log.take().unwrap().close().unwrap();
}

scenarios! {
    the_background_meets_writers_and_a_close,
    a_log_closes_under_its_tail,
    writers_wait_for_room_and_for_durability,
}
