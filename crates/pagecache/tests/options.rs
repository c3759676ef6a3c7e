//! Every option has an effect, and every value that cannot work is named when a store starts, not before.
#![cfg(all(not(loom), target_os = "linux"))]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pagecache::crossbeam_epoch::Collector;
use pagecache::storage::MemoryStorage;
use pagecache::{
    Background, Config, ConfigBuilder, Create, Error, Fragment, Log, LogRead, Lsn, Materializer, PageBytes, PageCache,
    PageState, Rejected, Version,
};

/// Bytes that are stored as they are, so that lengths are exact.
#[derive(Clone)]
struct Bytes(PageBytes);

impl Fragment for Bytes {
    fn as_bytes(&self) -> Option<&[u8]> {
        Some(&self.0)
    }
    fn encode(&self, _: &mut Vec<u8>) -> Result<(), String> {
        Err("never asked".into())
    }
    fn decode(bytes: PageBytes) -> Result<Self, String> {
        Ok(Bytes(bytes))
    }
    fn heap_size(&self) -> usize {
        self.0.heap_size()
    }
}

struct Newest;

impl Materializer for Newest {
    type PageFrag = Bytes;
    type Recovery = ();
    const RECOVERS: bool = false;
    fn new(_: &Option<()>) -> Self {
        Newest
    }
    fn merge(&self, frags: &[&Bytes]) -> Bytes {
        (*frags.last().unwrap()).clone()
    }
    fn recover(&self, _: &Bytes) -> Option<()> {
        None
    }
}

type Pages = PageCache<Newest>;

fn bytes(len: usize) -> Bytes {
    let mut bytes = PageBytes::zeroed(len);
    bytes.as_mut_slice().iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 31 + at / 256 + len) as u8);
    Bytes(bytes)
}

struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pagecache-options-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    fn store(&self) -> PathBuf {
        self.0.join("store")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn at(path: &Path) -> ConfigBuilder {
    ConfigBuilder::new().path(path)
}

fn memory() -> ConfigBuilder {
    ConfigBuilder::new().storage(MemoryStorage::new())
}

/// Puts one page there; its version.
fn put(pc: &Pages, len: usize) -> Version {
    let guard = pc.pin();
    pc.replace_at(pc.allocate(&guard), Version::NONE, bytes(len), &guard).unwrap()
}

#[test]
fn build_touches_nothing_and_start_names_the_option_that_cannot_work() {
    let dir = Dir::new();
    let told = |builder: ConfigBuilder| match (Pages::start(builder.clone().build()), Log::start(builder.build())) {
        (
            Err(Error::Config { option, found, allowed }),
            Err(Error::Config { option: of_log, found: found_of_log, allowed: allowed_of_log }),
        ) => {
            assert_eq!((option, &found, &allowed), (of_log, &found_of_log, &allowed_of_log));
            (option, found, allowed)
        }
        other => panic!("{other:?}"),
    };
    let new = || at(&dir.store());
    for size in [0, 1, 65535, 65537, 3 << 16, 32 << 10, 2 << 30, u64::MAX] {
        let allowed = "a power of two from 65536 to 1073741824";
        assert_eq!(told(new().segment_size(size)), ("segment_size", size.to_string(), allowed.to_owned()));
    }
    for max in [0, 1023, (1 << 30) + 1, u64::MAX] {
        assert_eq!(told(new().max_record(max)), ("max_record", max.to_string(), "1024 to 1073741824".to_owned()));
    }
    for capacity in [0, 65535] {
        let wanted = ("cache_capacity", capacity.to_string(), "65536 and up".to_owned());
        assert_eq!(told(new().cache_capacity(capacity)), wanted);
    }
    for fill in [f64::NAN, -1.0, 0.0, 0.09, 0.96, 80.0, f64::INFINITY] {
        let wanted = ("fill_target", fill.to_string(), "0.10 to 0.95".to_owned());
        assert_eq!(told(new().fill_target(fill)), wanted);
    }
    for reserve in [0, 3, 65_537, u64::MAX] {
        let wanted = ("reserve", reserve.to_string(), "4 to 65536".to_owned());
        assert_eq!(told(new().reserve(reserve).max_disk_bytes(1 << 40)), wanted);
    }
    let wanted = ("max_disk_bytes", "0".to_owned(), format!("{} and up, or None", (112 << 16) + 8192));
    assert_eq!(told(new().reserve(100).segment_size(64 << 10).max_disk_bytes(0)), wanted);
    for limit in [0, (256 << 10) - 1, (1 << 40) + 1, u64::MAX] {
        let wanted = ("log_limit", limit.to_string(), "262144 to 1099511627776".to_owned());
        assert_eq!(told(new().log_limit(limit)), wanted);
    }
    for (cap, size, least) in [
        (0, 64 << 10, 1_056_768u64),
        (1_056_767, 64 << 10, 1_056_768),
        (1 << 20, 8 << 20, (128 << 20) + 8192),
        (1 << 27, 8 << 20, (128 << 20) + 8192),
    ] {
        let wanted = ("max_disk_bytes", cap.to_string(), format!("{least} and up, or None"));
        assert_eq!(told(new().segment_size(size).max_disk_bytes(cap)), wanted);
        // The default size is as good as one that was named.
        if cap == 1 << 27 {
            assert_eq!(told(new().max_disk_bytes(cap)), wanted);
        }
    }
    let wanted = ("flush_every_ms", "0".to_owned(), "1 and up, or None".to_owned());
    assert_eq!(told(new().flush_every_ms(0)), wanted);
    assert_eq!(told(ConfigBuilder::new()).0, "path");
    assert_eq!(told(new().storage(MemoryStorage::new())).0, "storage");
    assert_eq!(told(new().temporary(true).read_only(true)).0, "read_only");
    assert_eq!(told(new().temporary(true).create(Create::Existing)).0, "create");
    assert_eq!(told(new().read_only(true).create(Create::New)).0, "create");
    assert!(!dir.store().exists(), "a refused start made something");
}

#[test]
fn the_largest_and_the_smallest_values_work() {
    let smallest = || memory().segment_size(64 << 10).max_record(1024).cache_capacity(64 << 10).flush_every_ms(1);
    let smallest = || smallest().log_limit(256 << 10).fill_target(0.10).reserve(4);
    let largest = || memory().segment_size(1 << 30).max_record(1 << 30).cache_capacity(u64::MAX);
    let largest = || largest().log_limit(1 << 40).fill_target(0.95).reserve(65_536);
    for config in [smallest(), largest().flush_every_ms(u64::MAX), largest().flush_every_ms(None)] {
        let pc = Pages::start(config.build()).unwrap();
        for len in [0, 1, 1000, 1024] {
            let at = put(&pc, len);
            assert!(pc.make_stable(at).unwrap() > Lsn(at.0));
        }
        pc.close().unwrap();
    }
}

#[test]
fn path_says_where_and_storage_says_instead_of_what() {
    let dir = Dir::new();
    let deep = dir.store().join("a").join("b");
    Pages::start(at(&deep).build()).unwrap().close().unwrap();
    assert!(deep.join("LOCK").exists());
    let storage = MemoryStorage::new();
    let config = || ConfigBuilder::new().storage(storage.clone()).create(Create::Either).build();
    let pc = Pages::start(config()).unwrap();
    put(&pc, 100);
    pc.close().unwrap();
    assert_eq!(Pages::start(config()).unwrap().page_count().unwrap(), 1);
}

#[test]
fn create_says_whether_a_store_may_must_or_must_not_be_there() {
    let dir = Dir::new();
    let start = |create| Pages::start(at(&dir.store()).create(create).build());
    let shown = dir.store().display().to_string();
    assert!(matches!(start(Create::Existing), Err(Error::NotFound { path }) if path == shown));
    assert!(!dir.store().exists());
    let pc = start(Create::New).unwrap();
    put(&pc, 100);
    pc.close().unwrap();
    assert!(matches!(start(Create::New), Err(Error::Exists { path }) if path == shown));
    for create in [Create::Existing, Create::Either, Create::default()] {
        let pc = start(create).unwrap();
        assert_eq!(pc.page_count().unwrap(), 1, "{create:?}");
        pc.close().unwrap();
    }
    let other = dir.0.join("other");
    Pages::start(at(&other).create(Create::Either).build()).unwrap().close().unwrap();
    assert!(other.join("LOCK").exists());
}

#[test]
fn a_temporary_store_at_a_path_is_gone_after_close_and_after_drop() {
    let dir = Dir::new();
    for close in [true, false] {
        let pc = Pages::start(at(&dir.store()).temporary(true).build()).unwrap();
        put(&pc, 100);
        assert!(dir.store().exists());
        match close {
            true => pc.close().unwrap(),
            false => drop(pc),
        }
        assert!(!dir.store().exists(), "close: {close}");
    }
    // One that is there already is none of its business.
    let pc = Pages::start(at(&dir.store()).build()).unwrap();
    put(&pc, 100);
    pc.close().unwrap();
    assert!(matches!(Pages::start(at(&dir.store()).temporary(true).build()), Err(Error::Exists { .. })));
    assert_eq!(Pages::start(at(&dir.store()).build()).unwrap().page_count().unwrap(), 1);
}

#[test]
fn cache_capacity_bounds_what_is_resident() {
    let resident = |capacity: u64| {
        let pc = Pages::start(memory().cache_capacity(capacity).segment_size(1 << 20).build()).unwrap();
        for _ in 0..400 {
            put(&pc, 4096);
        }
        assert_eq!(pc.stats().cache_capacity, capacity);
        assert!(pc.stats().resident_bytes <= capacity, "{} of {capacity}", pc.stats().resident_bytes);
        pc.stats().resident_bytes
    };
    assert!(resident(128 << 10) < resident(512 << 10));
    assert!(resident(64 << 20) > 400 * 4096);
}

#[test]
fn flush_every_ms_makes_updates_stable_by_itself_and_none_does_not() {
    let pc = Pages::start(memory().flush_every_ms(20).build()).unwrap();
    for _ in 0..3 {
        let at = put(&pc, 100);
        let until = Instant::now() + Duration::from_secs(60);
        while pc.stable_lsn() <= Lsn(at.0) {
            assert!(Instant::now() < until, "nothing in a minute");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let pc = Pages::start(memory().flush_every_ms(None).build()).unwrap();
    let at = put(&pc, 100);
    // More than a chunk: it is written by itself, and not synced.
    for _ in 0..40 {
        put(&pc, 64 << 10);
    }
    std::thread::sleep(Duration::from_millis(600));
    assert!(pc.stable_lsn() <= Lsn(at.0));
    assert_eq!(pc.stats().rounds, 1, "only the start's own");
    assert!(pc.flush().unwrap() > Lsn(at.0));
    // And the tick of those who have no thread.
    let pc = Pages::start(memory().background(Background::Caller).flush_every_ms(1).build()).unwrap();
    let at = put(&pc, 100);
    std::thread::sleep(Duration::from_millis(50));
    assert!(pc.stable_lsn() <= Lsn(at.0));
    pc.tick().unwrap();
    assert!(pc.stable_lsn() > Lsn(at.0));
}

#[test]
fn segment_size_is_decided_once() {
    let dir = Dir::new();
    for (size, name) in [(64 << 10, "small"), (1 << 20, "middle"), (1 << 30, "large")] {
        let path = dir.0.join(name);
        let pc = Pages::start(at(&path).segment_size(size).build()).unwrap();
        assert_eq!(pc.stats().segment_size, size);
        put(&pc, 100);
        let file = fs::metadata(path.join("seg-0000000000000000")).unwrap();
        assert_eq!(file.len(), size);
        assert!(file.blocks() * 512 <= 1 << 20, "a new store of {size} takes {} of disk", file.blocks() * 512);
        pc.close().unwrap();
        match Pages::start(at(&path).segment_size(2 << 20).build()) {
            Err(Error::Config { option: "segment_size", found, allowed }) => {
                assert_eq!(found, (2 << 20).to_string());
                assert!(allowed.starts_with(&size.to_string()), "{allowed}");
            }
            other => panic!("{other:?}"),
        }
        for same in [at(&path), at(&path).segment_size(size)] {
            let pc = Pages::start(same.build()).unwrap();
            assert_eq!((pc.stats().segment_size, pc.page_count().unwrap()), (size, 1));
            pc.close().unwrap();
        }
    }
    let pc = Pages::start(memory().build()).unwrap();
    assert_eq!(pc.stats().segment_size, 8 << 20);
}

/// Whether records that are longer than the ring go through it piece by piece, up to the last byte that is allowed.
#[test]
fn max_record_is_the_longest_record_to_the_byte() {
    for (max, segment) in
        [(1024, 64 << 10), (16_384, 64 << 10), (100_000, 64 << 10), (1 << 20, 64 << 10), (20 << 20, 8 << 20)]
    {
        let max: usize = max;
        let storage = MemoryStorage::new();
        let config = |max: usize| -> Config {
            ConfigBuilder::new().storage(storage.clone()).segment_size(segment).max_record(max as u64).build()
        };
        let pc = Pages::start(config(max)).unwrap();
        let guard = pc.pin();
        let id = pc.allocate(&guard);
        let too_large = |result: Result<Version, Rejected<'_, Bytes>>| match result {
            Err(Rejected::Failed { error: Error::TooLarge { len, max: told }, rejected }) => {
                assert_eq!((len, told, rejected.0.len()), (max as u64 + 1, max as u64, max + 1));
            }
            other => panic!("{other:?}"),
        };
        too_large(pc.replace_at(id, Version::NONE, bytes(max + 1), &guard));
        too_large(pc.link_at(id, Version::NONE, bytes(max + 1), &guard));
        assert_eq!(pc.state(id, &guard).unwrap(), PageState::Empty);
        let at = pc.replace_at(id, Version::NONE, bytes(max), &guard).unwrap();
        too_large(pc.link_at(id, at, bytes(max + 1), &guard));
        let at = pc.link_at(id, at, bytes(max), &guard).unwrap();
        assert_eq!(pc.state(id, &guard).unwrap(), PageState::Live(at));
        drop(guard);
        pc.close().unwrap();
        // A lower limit is for new records: what is there is read.
        let pc = Pages::start(config(1024)).unwrap();
        let guard = pc.pin();
        assert!(pc.get(id, &guard).unwrap().0.0[..] == bytes(max).0[..], "{max}");
        assert_eq!(pc.link_at(id, at, bytes(1025), &guard).unwrap_err().into_rejected().0.len(), 1025);
    }
}

#[test]
fn a_log_takes_records_of_64_mebibytes_and_not_a_byte_more() {
    let dir = Dir::new();
    let log = Log::start(at(&dir.store()).build()).unwrap();
    let mut record = vec![7; (64 << 20) + 1];
    match log.write(&record) {
        Err(Error::TooLarge { len, max }) => assert_eq!((len, max), ((64 << 20) + 1, 64 << 20)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(log.reserve(&record), Err(Error::TooLarge { .. })));
    record.pop();
    record.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 31 + at / 256) as u8);
    let lsn = log.write(&record).unwrap();
    let after = log.write(b"after").unwrap();
    log.close().unwrap();
    let log = Log::start(at(&dir.store()).build()).unwrap();
    assert!(log.read(lsn).unwrap() == LogRead::Record(record));
    assert_eq!(log.read(after).unwrap(), LogRead::Record(b"after".to_vec()));
}

#[test]
fn collector_says_whose_guards_are_taken() {
    let own = Collector::new();
    let pc = Pages::start(memory().collector(own.clone()).build()).unwrap();
    let (right, wrong) = (own.register().pin(), pagecache::crossbeam_epoch::pin());
    let id = pc.allocate(&right);
    pc.link_at(id, Version::NONE, bytes(10), &right).unwrap();
    assert!(pc.get(id, &right).is_ok());
    assert!(matches!(pc.get(id, &wrong), Err(Error::ForeignGuard)));
    let at = pc.pin();
    assert_eq!(at.collector(), Some(&own));
}

/// Does nothing unless it is started as another process by the test below, with a place for temporary files and threads of
/// its own.
#[test]
fn child_process() {
    if std::env::var_os("PAGECACHE_TEST_OPTIONS").is_none() {
        return;
    }
    let place = std::env::temp_dir();
    let names = || -> Vec<PathBuf> { fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let threads = || -> Vec<String> {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        // A thread may end between the listing and the reading.
        let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("pagecache-")).collect();
        names.sort();
        names
    };
    // A thread names itself once it runs, and its entry goes a moment after it was joined.
    let threads_become = |wanted: &[&str]| {
        let until = Instant::now() + Duration::from_secs(60);
        while threads() != wanted {
            assert!(Instant::now() < until, "{:?}, not {wanted:?}", threads());
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    assert!(names().is_empty() && threads().is_empty());
    let temporary = |background| Pages::start(ConfigBuilder::new().temporary(true).background(background).build());
    let (one, two) = (temporary(Background::Caller).unwrap(), temporary(Background::Caller).unwrap());
    let made = names();
    assert_eq!(made.len(), 2);
    for name in &made {
        assert_eq!(fs::metadata(name).unwrap().permissions().mode() & 0o7777, 0o700);
        assert!(name.file_name().unwrap().len() >= 32, "guessable: {name:?}");
    }
    put(&one, 5 << 20);
    one.flush().unwrap();
    assert!(threads().is_empty(), "a thread nobody asked for: {:?}", threads());
    one.close().unwrap();
    assert_eq!(names().len(), 1);
    drop(two);
    assert!(names().is_empty());
    let panicked = std::panic::catch_unwind(|| {
        let pc = temporary(Background::Threads).unwrap();
        put(&pc, 100);
        assert_eq!(names().len(), 1);
        threads_become(&["pagecache-ckpt\n", "pagecache-flush\n", "pagecache-space\n"]);
        std::panic::resume_unwind(Box::new("planted"));
    });
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"planted"));
    assert!(names().is_empty());
    threads_become(&[]);
    let pc = temporary(Background::Threads).unwrap();
    threads_become(&["pagecache-ckpt\n", "pagecache-flush\n", "pagecache-space\n"]);
    pc.close().unwrap();
    assert!(names().is_empty());
    threads_become(&[]);
}

#[test]
fn a_temporary_store_has_a_place_of_its_own_and_background_says_whether_there_are_threads() {
    let dir = Dir::new();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_process"])
        .env("TMPDIR", &dir.0)
        .env("PAGECACHE_TEST_OPTIONS", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
