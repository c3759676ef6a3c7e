//! Reading pages of which an eighth fits the cache, past the system's, against plain reads of the blocks that hold the same records.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use pagecache::storage::FileStorage;
use pagecache::{ConfigBuilder, PageCache, PageId, Version};
use rustix::fs::OFlags;

use super::Bench;
use crate::files::{fresh, reads};
use crate::measure::{Figures, entrant, in_turn, seconds};
use crate::ours::OURS;
use crate::report::Target;
use crate::workload::{Blob, Bytes, sum, uniform};

/// Bytes of a page.
const LEN: usize = 4096;

/// Pages: 512 MiB of them.
const PAGES: usize = 128 << 10;

/// Bytes of pages for each byte of cache.
const TIMES: u64 = 8;

/// Reads of a run.
const COUNT: usize = 5_000;

/// What a direct read is aligned to.
const BLOCK: usize = 4096;

/// The head of a record is no longer.
const HEAD: u64 = 16;

/// The first bytes of every page, by which it is found in the files; its id follows.
const MAGIC: u64 = 0x7369_6874_7369_6170;

/// The name in tables of the peer.
const READING: &str = "plain reading";

pub(super) fn rows(bench: &mut Bench) {
    let pages = bench.count(PAGES) as u64;
    let path = fresh(&bench.dir, "cold");
    let storage = FileStorage::create(&path).expect("a directory").direct_reads(true);
    let cache_capacity = (pages * LEN as u64 / TIMES).max(64 << 10);
    let config = ConfigBuilder::new().storage(storage).cache_capacity(cache_capacity).build();
    let cache = PageCache::<Bytes>::start(config).expect("a store");
    for page in 0..pages {
        let guard = cache.pin();
        let id = cache.allocate(&guard);
        assert_eq!(id.0, page, "ids are counted from 0");
        cache.replace_at(id, Version::NONE, Blob(content(page)), &guard).expect("room");
    }
    cache.flush().expect("a sync");
    // Nothing is left to do behind the scenes.
    cache.checkpoint().expect("a checkpoint");
    let records = Records::find(&path, pages);
    let get = |id: u64| sum(&cache.get(PageId(id), &cache.pin()).expect("a page").0.0);
    assert_eq!(get(0), records.read(0, &mut Blocks::new()), "both read the same page");
    // Others in each run: what was read in the one before is in the cache.
    let draw = |run: &Cell<u64>| uniform(run.replace(run.get() + 1), pages, bench.count(COUNT));
    let (of_ours, of_plain) = (Cell::new(0), Cell::new(0));
    // Until the cache is as it will be.
    uniform(u64::MAX, pages, pages as usize / 4).into_iter().for_each(|id| assert!(get(id) > 0));
    let ours = || figures(&draw(&of_ours), get);
    let plain = || {
        let mut blocks = Blocks::new();
        figures(&draw(&of_plain), |id| records.read(id, &mut blocks))
    };
    let series = in_turn(bench.report.runs, vec![entrant(OURS, ours), entrant(READING, plain)]);
    // The peer has no cache: beside it, what the reads alone make.
    let targets = [(OURS, "pages/s", Target::TimesPeer(READING, 0.9)), (OURS, "reads/s", Target::Beside(READING))];
    let row = "get, cold 4 KiB, 8x the cache, direct reads, 1 thr";
    if records.are_cached {
        println!("  the system reads no files past its cache here: the row does not count");
    }
    bench.report.take(("cold", row), &series, &targets, !records.are_cached);
}

/// Reads the pages of these ids.
fn figures(ids: &[u64], mut read: impl FnMut(u64) -> u64) -> Figures {
    let before = reads();
    let mut all = 0u64;
    let took = seconds(|| all = ids.iter().fold(0, |all, id| all.wrapping_add(read(*id))));
    std::hint::black_box(all);
    vec![("pages/s", ids.len() as f64 / took), ("reads/s", (reads() - before) as f64 / took)]
}

/// A page that can be told from any other.
fn content(id: u64) -> Vec<u8> {
    let mut page = vec![id as u8 | 1; LEN];
    page[..8].copy_from_slice(&MAGIC.to_le_bytes());
    page[8..16].copy_from_slice(&id.to_le_bytes());
    page
}

/// Where the records of pages are in the files of a store, by the content of the pages.
struct Records {
    files: Vec<File>,
    /// A page's file, and where in it the page begins.
    places: Vec<(usize, u64)>,
    are_cached: bool,
}

impl Records {
    fn find(path: &Path, pages: u64) -> Records {
        let mut found = HashMap::new();
        let (mut files, mut are_cached) = (Vec::new(), false);
        let entries = fs::read_dir(path).expect("the store's directory").map(|entry| entry.expect("an entry"));
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("seg-")) {
            let bytes = fs::read(entry.path()).expect("a segment");
            let (words, _) = bytes.as_chunks::<8>();
            for (at, pair) in words.windows(2).enumerate() {
                if pair[0] == MAGIC.to_le_bytes() {
                    found.insert(u64::from_le_bytes(pair[1]), (files.len(), 8 * at as u64));
                }
            }
            let direct = File::options().read(true).custom_flags(OFlags::DIRECT.bits() as i32).open(entry.path());
            are_cached |= direct.is_err();
            files.push(direct.or_else(|_| File::open(entry.path())).expect("a segment"));
        }
        let places = (0..pages).map(|page| found[&page]).collect();
        Records { files, places, are_cached }
    }

    /// Reads the blocks that cover a record, and sums its page.
    fn read(&self, id: u64, blocks: &mut Blocks) -> u64 {
        let (file, at) = self.places[id as usize];
        let from = (at - HEAD) / BLOCK as u64 * BLOCK as u64;
        let skip = (at - from) as usize;
        let buf = blocks.of((skip + LEN).next_multiple_of(BLOCK));
        let count = self.files[file].read_at(buf, from).expect("the disk reads");
        assert!(count >= skip + LEN, "a whole record");
        sum(&buf[skip..skip + LEN])
    }
}

/// A buffer for direct reads, of three blocks.
struct Blocks {
    bytes: Vec<u8>,
}

impl Blocks {
    fn new() -> Blocks {
        Blocks { bytes: vec![0; 4 * BLOCK] }
    }

    fn of(&mut self, len: usize) -> &mut [u8] {
        let start = self.bytes.as_ptr().align_offset(BLOCK);
        &mut self.bytes[start..start + len]
    }
}
