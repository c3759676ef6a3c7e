//! Bugs that were found by thinking rather than by a driver, each with its story.
#![forbid(unsafe_code)]

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use pagecache::storage::{LockGuard, LockMode, MemoryStorage, OpenMode, Storage, StorageFile};
use pagecache::{
    Background, ConfigBuilder, Error, Log, LogRead, Lsn, Materializer, PageCache, PagePtr, PageState, Tailed,
};
use pagecache_sim::disk::{AfterSync, Call, Effect, Fault, SimDisk, Survival, When};

fn config(disk: &SimDisk) -> ConfigBuilder {
    let config = ConfigBuilder::new().storage(disk.clone()).segment_size(64 << 10);
    config.background(Background::Caller).flush_every_ms(None)
}

struct Bytes;

impl Materializer for Bytes {
    type PageFrag = Vec<u8>;
    type Recovery = ();
    fn new(_: &Option<()>) -> Bytes {
        Bytes
    }
    fn merge(&self, frags: &[&Vec<u8>]) -> Vec<u8> {
        frags.iter().flat_map(|frag| frag.iter().copied()).collect()
    }
    fn recover(&self, _: &Vec<u8>) -> Option<()> {
        None
    }
}

/// A log with one stable record whose close could not sync its mark.
fn closed_without_a_sync(disk: &SimDisk, effect: Effect) {
    let log = Log::start(config(disk).build()).unwrap();
    let lsn = log.write(b"first").unwrap();
    log.make_stable(lsn).unwrap();
    disk.fault(Fault::new(Call::SyncData, When::Once(0), effect));
    assert!(matches!(log.close(), Err(Error::Poisoned { .. })));
    disk.clear_faults();
}

/// A close mark was believed though its own round was never synced: it was in the cache of the operating system only, and a
/// later mark called it stable. The next power failure made the store unopenable.
#[test]
fn a_close_mark_that_was_never_synced_is_written_again() {
    let disk = SimDisk::new(1);
    closed_without_a_sync(&disk, Effect::SyncFails(AfterSync::KeptClean));
    let log = Log::start(config(&disk).build()).unwrap();
    let second = log.write(b"second").unwrap();
    log.make_stable(second).unwrap();
    drop(log);
    let log = Log::start(config(&disk.crash(Survival::DropAll)).build()).unwrap();
    assert_eq!(log.read(second).unwrap(), LogRead::Record(b"second".to_vec()));
    let mut images = 0;
    for call in 0..8 {
        let disk = SimDisk::new(1);
        closed_without_a_sync(&disk, Effect::Eio);
        disk.crash_at(disk.io_count() + call);
        drop(Log::start(config(&disk).build()));
        for survival in disk.images(64, 3) {
            images += 1;
            let opened = Log::start(config(&disk.crash(survival)).build());
            opened.unwrap_or_else(|error| panic!("call {call}, {survival:?}: {error}"));
        }
    }
    println!("{images} images");
    assert!(images > 8);
}

/// The flusher slept on a slot that nobody would ever free, and the close waited for the flusher.
#[test]
fn a_close_over_a_forgotten_reservation_and_a_full_ring_returns() {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let disk = SimDisk::new(1);
        let config = ConfigBuilder::new().storage(disk).segment_size(64 << 10).flush_every_ms(5);
        let log = Log::start(config.build()).unwrap();
        std::mem::forget(log.reserve(b"forgotten").unwrap());
        let full = loop {
            if let Err(error) = log.write(&[7; 8]) {
                break error;
            }
        };
        // Ticks meet the full ring meanwhile.
        std::thread::sleep(Duration::from_millis(100));
        tell.send((full, log.close())).unwrap();
    });
    let (full, closed) = told.recv_timeout(Duration::from_secs(60)).expect("the close hangs");
    assert!(matches!(full, Error::WouldDeadlock { .. }), "{full}");
    assert!(matches!(closed, Err(Error::Held { .. })), "{closed:?}");
}

/// A trim in the middle of a record left a first LSN where no record starts, and every iteration began with an error. One
/// beyond everything overflowed.
#[test]
fn a_trim_to_any_number_keeps_whole_records() {
    let disk = SimDisk::new(1);
    let log = Log::start(config(&disk).build()).unwrap();
    let one = log.write(b"a record of more than eight bytes").unwrap();
    let two = log.write(b"b").unwrap();
    log.flush().unwrap();
    assert_eq!(log.trim(Lsn(one.0 + 1)).unwrap(), two);
    let seen: Vec<_> = log.iter_from(Lsn(0)).map(|found| found.unwrap().0).collect();
    assert_eq!(seen, [two]);
    let stable = log.stable_lsn();
    assert_eq!(log.trim(Lsn(u64::MAX)).unwrap(), stable);
    assert_eq!(log.iter_from(Lsn(0)).count(), 0);
}

/// Where the close mark was the first thing in a new segment, the pad between it and what it called stable made it look unproven,
/// and a clean close was taken for a torn tail.
#[test]
fn a_clean_close_is_clean_wherever_its_mark_falls() {
    let disk = SimDisk::new(1);
    for reopened in 0..40 {
        let pc: PageCache<Bytes> = PageCache::start(config(&disk).build()).unwrap();
        assert!(reopened == 0 || pc.stats().clean_start, "start {reopened}");
        let guard = pc.pin();
        let id = pc.allocate(&guard);
        pc.replace(id, PagePtr::null(), vec![1; 10], &guard).unwrap();
        pc.flush().unwrap();
        drop(guard);
        pc.close().unwrap();
    }
}

/// A damaged page could be neither replaced nor freed, since both read it first: restoring it from a copy was impossible.
#[test]
fn a_damaged_page_can_be_replaced_or_freed() {
    let disk = SimDisk::new(1);
    let pc: PageCache<Bytes> = PageCache::start(config(&disk).build()).unwrap();
    let guard = pc.pin();
    let ids = [pc.allocate(&guard), pc.allocate(&guard)];
    for id in ids {
        pc.replace(id, PagePtr::null(), vec![1; 10], &guard).unwrap();
    }
    drop(guard);
    pc.close().unwrap();
    let pc: PageCache<Bytes> = PageCache::start(config(&disk).build()).unwrap();
    let guard = pc.pin();
    let versions = ids.map(|id| match pc.state(id, &guard).unwrap() {
        PageState::Live(version) => version,
        other => panic!("{other:?}"),
    });
    for version in versions {
        assert!(disk.flip_bit("seg-0000000000000000", (version.0 + 12) * 8));
    }
    for id in ids {
        assert!(matches!(pc.get(id, &guard), Err(Error::Corrupt(at)) if at.page == Some(id)));
    }
    pc.replace_at(ids[0], versions[0], vec![2; 10], &guard).unwrap();
    assert_eq!(*pc.get(ids[0], &guard).unwrap().0, vec![2; 10]);
    pc.free_at(ids[1], versions[1], &guard).unwrap();
}

/// Told to panic in its next syncs, in its next long write only, or where space is set aside.
#[derive(Debug, Default)]
struct Orders {
    syncs: AtomicBool,
    one_write: AtomicBool,
    growth: AtomicBool,
}

/// A storage that panics when it is told to.
#[derive(Clone, Debug)]
struct Panicky(MemoryStorage, Arc<Orders>);

#[derive(Debug)]
struct PanickyFile(Arc<dyn StorageFile>, Arc<Orders>);

impl Storage for Panicky {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(PanickyFile(self.0.open(name, mode)?, Arc::clone(&self.1))))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }
    fn lock(&self, mode: LockMode) -> io::Result<Box<dyn LockGuard>> {
        self.0.lock(mode)
    }
    fn describe(&self) -> String {
        "a storage that panics".to_owned()
    }
}

impl StorageFile for PanickyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        // A header is one block; what is longer comes out of the ring.
        assert!(buf.len() <= 4096 || !self.1.one_write.swap(false, Ordering::SeqCst), "planted");
        self.0.write_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        assert!(!self.1.syncs.load(Ordering::SeqCst), "planted");
        self.0.sync_data()
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let in_background = std::thread::current().name() == Some("pagecache-space");
        assert!(!(in_background && self.1.growth.load(Ordering::SeqCst)), "planted");
        self.0.allocate(offset, len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

/// A user's storage that panicked while its thread led a round left the lead taken, and everyone else waited for ever.
#[test]
fn a_storage_that_panics_ends_the_log_not_those_who_wait() {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let orders = Arc::new(Orders::default());
        let storage = Panicky(MemoryStorage::new(), Arc::clone(&orders));
        let config = || {
            let config = ConfigBuilder::new().storage(storage.clone()).segment_size(64 << 10);
            config.background(Background::Caller).build()
        };
        let log = Log::start(config()).unwrap();
        let kept = log.write(b"kept").unwrap();
        log.flush().unwrap();
        log.write(b"in doubt").unwrap();
        orders.syncs.store(true, Ordering::SeqCst);
        assert!(catch_unwind(AssertUnwindSafe(|| log.flush())).is_err());
        orders.syncs.store(false, Ordering::SeqCst);
        let flushed = log.flush();
        let closed = log.close();
        let read = Log::start(config()).unwrap().read(kept).unwrap();
        tell.send((flushed, closed, read)).unwrap();
    });
    let (flushed, closed, read) = told.recv_timeout(Duration::from_secs(60)).expect("somebody waits for ever");
    assert!(matches!(flushed, Err(Error::Poisoned { .. })), "{flushed:?}");
    assert!(matches!(closed, Err(Error::Poisoned { .. })), "{closed:?}");
    assert_eq!(read, LogRead::Record(b"kept".to_vec()));
}

/// A storage that panicked while the ring was written out, by a thread that led nothing, left that stretch in flight for ever.
#[test]
fn a_storage_that_panics_under_a_writer_without_room_ends_the_log_too() {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let orders = Arc::new(Orders::default());
        let storage = Panicky(MemoryStorage::new(), Arc::clone(&orders));
        let config = ConfigBuilder::new().storage(storage).segment_size(64 << 10).background(Background::Caller);
        let log = Log::start(config.build()).unwrap();
        orders.one_write.store(true, Ordering::SeqCst);
        // The ring of 64 KiB is full before long, and whoever fills it writes.
        let panicked = (0..100).any(|_| catch_unwind(AssertUnwindSafe(|| log.write(&[1; 4000]))).is_err());
        tell.send((panicked, log.flush(), log.close())).unwrap();
    });
    let (panicked, flushed, closed) = told.recv_timeout(Duration::from_secs(60)).expect("somebody waits for ever");
    assert!(panicked);
    assert!(matches!(flushed, Err(Error::Poisoned { .. })), "{flushed:?}");
    assert!(matches!(closed, Err(Error::Poisoned { .. })), "{closed:?}");
}

/// A storage that panicked in a turn of cleaning by hand ended nothing. What it was to sync was forgotten: who caught the panic and went on had pages go to images that were not synced.
#[test]
fn a_storage_that_panics_in_a_turn_of_cleaning_ends_the_store_and_no_page_is_lost() {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for (background, panics_at_syncs) in
            [Background::Caller, Background::Threads].into_iter().flat_map(|of| [(of, true), (of, false)])
        {
            let orders = Arc::new(Orders::default());
            let storage = Panicky(MemoryStorage::new(), Arc::clone(&orders));
            let start = || {
                let config = ConfigBuilder::new().storage(storage.clone()).segment_size(64 << 10);
                let config = config.background(background).flush_every_ms(None).cache_capacity(1 << 20);
                PageCache::<Bytes>::start(config.log_limit(16 << 20).build()).unwrap()
            };
            let pc = start();
            let content = |nth: u64| nth.to_le_bytes().repeat(250);
            let mut pages = Vec::new();
            for nth in 0..2000 {
                let guard = pc.pin();
                let id = pc.allocate(&guard);
                pages.push((id, pc.replace_at(id, pagecache::Version::NONE, content(nth), &guard).unwrap()));
            }
            for (id, at) in pages.iter().skip(1).step_by(2) {
                pc.free_at(*id, *at, &pc.pin()).unwrap();
            }
            pc.flush().unwrap();
            pc.checkpoint().unwrap();
            let order = if panics_at_syncs { &orders.syncs } else { &orders.one_write };
            order.store(true, Ordering::SeqCst);
            let turns = [pc.clean(), {
                order.store(false, Ordering::SeqCst);
                pc.clean()
            }];
            let check = |pc: &PageCache<Bytes>| {
                let guard = pc.pin();
                (0..)
                    .step_by(2)
                    .zip(pages.iter().step_by(2))
                    .all(|(nth, (id, _))| *pc.get(*id, &guard).unwrap().0 == content(nth))
            };
            let here = check(&pc);
            drop(pc);
            let pc = start();
            let moved = pc.clean().unwrap();
            tell.send((turns, here && check(&pc), moved)).unwrap();
        }
    });
    for _ in 0..4 {
        let (turns, is_whole, moved) = told.recv_timeout(Duration::from_secs(60)).expect("somebody waits for ever");
        for turn in turns {
            assert!(matches!(turn, Err(Error::Poisoned { .. })), "{turn:?}");
        }
        assert!(is_whole && moved > 0, "{moved}");
    }
}

/// Flushes when it is dropped, as many a user's type does.
struct FlushedAtEnd(Arc<Log>);

impl Drop for FlushedAtEnd {
    fn drop(&mut self) {
        drop(self.0.flush());
    }
}

/// A round led by a thread that was panicking for a reason of its own was taken for a storage that panics, and ended the log for
/// everybody.
#[test]
fn a_flush_by_a_thread_that_panics_is_a_flush_like_any_other() {
    let disk = SimDisk::new(1);
    let log = Arc::new(Log::start(config(&disk).build()).unwrap());
    let lsn = log.write(b"first").unwrap();
    let at_end = FlushedAtEnd(Arc::clone(&log));
    let panicked = std::thread::spawn(move || {
        let _at_end = at_end;
        std::panic::resume_unwind(Box::new("planted"));
    });
    assert!(panicked.join().is_err());
    assert!(log.stable_lsn() > lsn, "it flushed nothing");
    let second = log.write(b"second").unwrap();
    assert!(log.make_stable(second).unwrap() > second);
    assert!(log.tick().is_ok());
}

/// A store that was dropped by a thread that was panicking gave up half way: what was not written yet was lost, and the close was not
/// clean.
#[test]
fn a_store_that_is_dropped_by_a_thread_that_panics_is_closed_cleanly() {
    let disk = SimDisk::new(2);
    let log = Log::start(config(&disk).build()).unwrap();
    let written: Vec<_> = (0..9).map(|_| log.write(&[7; 6000]).unwrap()).collect();
    let panicked = std::thread::spawn(move || {
        let _log = log;
        std::panic::resume_unwind(Box::new("planted"));
    });
    assert!(panicked.join().is_err());
    let disk = disk.crash(Survival::DropAll);
    let pc = Log::start(config(&disk).build()).unwrap();
    assert_eq!(pc.iter_from(Lsn(0)).map(|found| found.unwrap().0).collect::<Vec<_>>(), written);
    drop(pc);
    assert!(pagecache::inspect::verify(config(&disk).build()).unwrap().evidence.clean);
}

/// A storage that panicked under the background thread ended that thread alone: nobody was told, nothing was flushed any more, and
/// the close panicked in debug builds.
#[test]
fn a_storage_that_panics_in_the_background_ends_the_log() {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let orders = Arc::new(Orders::default());
        let storage = Panicky(MemoryStorage::new(), Arc::clone(&orders));
        let config = || ConfigBuilder::new().storage(storage.clone()).segment_size(64 << 10);
        let log = Log::start(config().flush_every_ms(1).build()).unwrap();
        let kept = log.write(b"kept").unwrap();
        log.flush().unwrap();
        let mut tail = log.tail_from(kept);
        assert_eq!(tail.next(Duration::ZERO).unwrap(), Tailed::Record(kept, b"kept".to_vec()));
        orders.growth.store(true, Ordering::SeqCst);
        // How far it is ready already depends on the threads; it looks for more before long.
        while log.tail_lsn() < Lsn(4 << 20) {
            let written = log.write(b"x").and_then(|lsn| log.make_stable(lsn));
            assert!(matches!(written, Ok(_) | Err(Error::Poisoned { .. })), "{written:?}");
            if written.is_err() {
                break;
            }
        }
        let ended = (0..40_000).any(|_| tail.next(Duration::from_millis(1)).unwrap() == Tailed::Closed);
        let failed = log.write(b"x").unwrap_err();
        assert!(ended);
        orders.growth.store(false, Ordering::SeqCst);
        let closed = catch_unwind(AssertUnwindSafe(|| log.close()));
        let read = Log::start(config().background(Background::Caller).build()).unwrap().read(kept).unwrap();
        tell.send((failed, closed.ok(), read)).unwrap();
    });
    let (failed, closed, read) = told.recv_timeout(Duration::from_secs(60)).expect("somebody waits for ever");
    assert!(matches!(failed, Error::Poisoned { .. }), "{failed:?}");
    assert!(matches!(closed, Some(Err(Error::Poisoned { .. }))), "{closed:?}");
    assert_eq!(read, LogRead::Record(b"kept".to_vec()));
}
