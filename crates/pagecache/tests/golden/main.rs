//! Golden files of the format: what an older build wrote opens with the same contents, and what is written today is the same
//! bytes. `PAGECACHE_GOLDEN=write cargo test -p pagecache --test golden` writes them anew, for a new number of the format.

mod disk;

use std::path::PathBuf;

use disk::{Disk, Files};
use pagecache::inspect::verify;
use pagecache::{
    Background, Config, ConfigBuilder, Error, Fragment, Log, LogRead, Lsn, Materializer, PageBytes, PageCache, PageId,
    PageState, Version, version,
};

/// Bytes: in a layout of their own where their number is even, encoded where it is odd. Both shapes are in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Blob(Vec<u8>);

impl Fragment for Blob {
    fn as_bytes(&self) -> Option<&[u8]> {
        self.0.len().is_multiple_of(2).then_some(&self.0)
    }
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend(&self.0);
        Ok(())
    }
    fn decode(bytes: PageBytes) -> Result<Self, String> {
        Ok(Blob(bytes.to_vec()))
    }
    fn heap_size(&self) -> usize {
        self.0.capacity()
    }
}

struct Concat;

impl Materializer for Concat {
    type PageFrag = Blob;
    type Recovery = usize;
    fn new(_: &Option<usize>) -> Self {
        Concat
    }
    fn merge(&self, frags: &[&Blob]) -> Blob {
        Blob(frags.iter().flat_map(|frag| frag.0.iter().copied()).collect())
    }
    fn recover(&self, frag: &Blob) -> Option<usize> {
        Some(frag.0.len())
    }
}

type Pages = PageCache<Concat>;

fn config(disk: &Disk, read_only: bool) -> Config {
    let builder = ConfigBuilder::new().storage(disk.clone()).background(Background::Caller).read_only(read_only);
    if read_only { builder.build() } else { builder.segment_size(64 << 10).build() }
}

fn blob(text: &str) -> Blob {
    Blob(text.as_bytes().to_vec())
}

/// A page that is mostly zeros, so that the file stays short: an extent of two pieces.
fn long() -> Vec<u8> {
    let mut bytes = vec![0; 17_001];
    (bytes[0], bytes[17_000]) = (b'<', b'>');
    bytes
}

/// Every kind of page record; closed, opened again, and left as a kill leaves it.
fn write_pages() -> Files {
    let disk = Disk::default();
    let pc = Pages::start(config(&disk, false)).unwrap();
    let guard = pc.pin();
    let ids: Vec<PageId> = (0..4).map(|_| pc.allocate(&guard)).collect();
    let at = pc.replace_at(ids[0], Version::NONE, blob("even"), &guard).unwrap();
    let at = pc.link_at(ids[0], at, blob("odd"), &guard).unwrap();
    pc.flush().unwrap();
    pc.link_at(ids[0], at, blob("linked, aligned!"), &guard).unwrap();
    let at = pc.link_at(ids[1], Version::NONE, blob("soon to be freed"), &guard).unwrap();
    pc.free_at(ids[1], at, &guard).unwrap();
    let at = pc.link_at(ids[2], Version::NONE, blob("freed for good"), &guard).unwrap();
    pc.free_at(ids[2], at, &guard).unwrap();
    pc.replace_at(ids[3], Version::NONE, Blob(long()), &guard).unwrap();
    drop(guard);
    pc.close().unwrap();

    let pc = Pages::start(config(&disk, false)).unwrap();
    let guard = pc.pin();
    let again = pc.allocate(&guard);
    assert_eq!(again, ids[1]);
    pc.replace_at(again, Version::NONE, blob("used again"), &guard).unwrap();
    pc.flush().unwrap();
    disk.files()
}

/// Pages that were moved, those that were not, a freed one, a checkpoint, and a log behind it; left as a kill leaves it.
fn write_cleaned() -> Files {
    let disk = Disk::default();
    let pc = Pages::start(config(&disk, false)).unwrap();
    let guard = pc.pin();
    let replace = |id, at, bytes| pc.replace_at(id, at, bytes, &guard).unwrap();
    let large = pc.allocate(&guard);
    let mut at = replace(large, Version::NONE, Blob(vec![0; 12_000]));
    for round in 1..5 {
        // Segments that each hold one small page in the end.
        let id = pc.allocate(&guard);
        let small = replace(id, Version::NONE, blob("small"));
        if round == 2 {
            pc.link_at(id, small, blob(", linked"), &guard).unwrap();
        }
        if round == 3 {
            pc.free_at(id, small, &guard).unwrap();
        }
        for _ in 0..5 {
            at = replace(large, at, Blob(vec![0; 12_000]));
        }
    }
    pc.flush().unwrap();
    pc.checkpoint().unwrap();
    assert_eq!(pc.clean().unwrap(), 3);
    pc.link_at(PageId(1), Version(at_of(&pc, 1)), blob(", later"), &guard).unwrap();
    pc.flush().unwrap();
    disk.files()
}

fn at_of(pc: &Pages, id: u64) -> u64 {
    match pc.state(PageId(id), &pc.pin()).unwrap() {
        PageState::Live(version) => version.0,
        state => panic!("{state:?}"),
    }
}

/// Records of a bare log over several segments, with one given up, an extent, a trim, and a recovery between.
fn write_log() -> Files {
    let disk = Disk::default();
    let log = Log::start(config(&disk, false)).unwrap();
    for nth in 0..10 {
        log.write(&record(nth)).unwrap();
    }
    log.reserve(b"given up").unwrap().abort();
    let kept = log.write(b"kept").unwrap();
    log.write(&long()).unwrap();
    log.flush().unwrap();
    log.tick().unwrap();
    let killed = Disk::of(&disk.files());
    let log = Log::start(config(&killed, false)).unwrap();
    log.write(b"after the kill").unwrap();
    log.trim(kept).unwrap();
    log.close().unwrap();
    killed.files()
}

/// A record that is mostly zeros.
fn record(nth: usize) -> Vec<u8> {
    let mut bytes = vec![0; nth * 800];
    bytes.push(nth as u8 + 1);
    bytes
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.hex"))
}

fn golden(name: &str) -> Files {
    disk::files(&std::fs::read_to_string(path(name)).unwrap())
}

fn is_as_written(name: &str, files: &Files) {
    if std::env::var_os("PAGECACHE_GOLDEN").is_some() {
        std::fs::write(path(name), disk::text(files)).unwrap();
        panic!("{name}: written anew; look at the difference, and run without PAGECACHE_GOLDEN");
    }
    let golden = golden(name);
    assert!(golden.keys().eq(files.keys()), "{name}: {:?} became {:?}", golden.keys(), files.keys());
    for (file, bytes) in files {
        let differs = bytes.iter().zip(&golden[file]).position(|(now, then)| now != then);
        assert_eq!((differs, bytes.len()), (None, golden[file].len()), "{name}: {file} is written otherwise");
    }
}

#[test]
fn pages_are_written_as_they_were() {
    is_as_written("pages", &write_pages());
}

#[test]
fn a_cleaned_store_is_written_as_it_was() {
    is_as_written("moved", &write_cleaned());
}

#[test]
fn a_log_is_written_as_it_was() {
    is_as_written("log", &write_log());
}

#[test]
fn pages_of_an_older_build_open_with_their_contents() {
    let files = golden("pages");
    assert!(files.len() == 1 && verify(config(&Disk::of(&files), true)).unwrap().is_sound());
    for read_only in [true, false] {
        let pc = Pages::start(config(&Disk::of(&files), read_only)).unwrap();
        let guard = pc.pin();
        let page = |id| pc.get(PageId(id), &guard).map(|(page, token)| (page.0.clone(), version(token)));
        assert_eq!(page(0).unwrap(), (b"evenoddlinked, aligned!".to_vec(), Version(12288)));
        assert_eq!(page(1).unwrap(), (b"used again".to_vec(), Version(40960)));
        assert!(matches!(page(2), Err(Error::NoPage { state: PageState::Free(Version(12392)), .. })), "{:?}", page(2));
        let (bytes, at) = page(3).unwrap();
        assert!(bytes == long() && at == Version(29432), "{at}");
        assert!(matches!(page(4), Err(Error::NoPage { state: PageState::Unallocated, .. })));
        assert_eq!(pc.recovered_state(), Some(&"used again".len()));
    }
}

#[test]
fn a_cleaned_store_of_an_older_build_opens_with_its_contents() {
    // The first is of a build that gave back by checkpoints alone.
    for (name, read_only) in [("cleaned", true), ("cleaned", false), ("moved", true), ("moved", false)] {
        let files = golden(name);
        for superblock in ["super-a", "super-b"] {
            assert!(files.contains_key(superblock));
        }
        let report = verify(config(&Disk::of(&files), true)).unwrap();
        assert!(report.is_sound(), "{report:#?}");
        let said = u64::from(name == "moved");
        assert_eq!((report.records.moves, report.records.given_back), (said, said), "{name}");
        let pc = Pages::start(config(&Disk::of(&files), read_only)).unwrap();
        let guard = pc.pin();
        let page = |id| pc.get(PageId(id), &guard).map(|(page, _)| String::from_utf8(page.0.clone()).unwrap());
        assert_eq!(page(0).unwrap().len(), 12_000);
        assert_eq!(page(1).unwrap(), "small, later");
        assert_eq!(page(2).unwrap(), "small, linked");
        assert!(matches!(page(3), Err(Error::NoPage { state: PageState::Free(_), .. })), "{:?}", page(3));
        assert_eq!(page(4).unwrap(), "small");
        assert!(pc.stats().redo > Lsn(0) && pc.stats().replayed_bytes < 64 << 10);
        assert_eq!(pc.recovered_state(), Some(&", later".len()));
        pc.check_accounts().unwrap();
    }
}

#[test]
fn a_log_of_an_older_build_opens_with_its_records() {
    let files = golden("log");
    let report = verify(config(&Disk::of(&files), true)).unwrap();
    assert!(report.is_sound() && report.evidence.clean, "{report:?}");
    let records = report.records;
    assert_eq!((records.raw, records.extent, records.trim, records.aborted), (13, 2, 1, 1), "{report:?}");
    for read_only in [true, false] {
        let log = Log::start(config(&Disk::of(&files), read_only)).unwrap();
        let records: Vec<(Lsn, Vec<u8>)> = log.iter_from(Lsn(0)).map(Result::unwrap).collect();
        let expected = [(44288, b"kept".to_vec()), (61336, long()), (204_800, b"after the kill".to_vec())];
        let lsns: Vec<Lsn> = records.iter().map(|(lsn, _)| *lsn).collect();
        assert!(records == expected.map(|(lsn, bytes)| (Lsn(lsn), bytes)), "{lsns:?}");
        assert_eq!(log.first_lsn(), records[0].0);
        assert_eq!(log.read(Lsn(8192)).unwrap(), LogRead::Trimmed { first: records[0].0 });
    }
}

#[test]
fn a_store_of_a_later_format_is_refused_and_left_alone() {
    let files = golden("later");
    for read_only in [true, false] {
        let disk = Disk::of(&files);
        for error in [
            Pages::start(config(&disk, read_only)).unwrap_err(),
            Log::start(config(&disk, read_only)).unwrap_err(),
            verify(config(&disk, true)).unwrap_err(),
        ] {
            let said = error.to_string();
            assert!(matches!(error, Error::Incompatible { .. }), "{error:?}");
            assert!(said.contains("format 2") && said.contains("expected format 1"), "{said}");
        }
        assert!(disk.files() == files, "something was changed");
    }
}
