//! Makes the seeds: real stores, whole for the targets that open directories, in parts for those that decode. One argument: the
//! folder that gets a folder for each target.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pagecache::inspect::verify;
use pagecache::{
    Background, Config, ConfigBuilder, Fragment, Log, Materializer, PageBytes, PageCache, PageId, Version,
};
use pagecache_fuzz::archive::{pack, unpack};
use pagecache_fuzz::disk::{Disk, Files};
use pagecache_fuzz::sparse::stretches;

const BLOCK: usize = 4096;

fn config(disk: &Disk) -> Config {
    let builder = ConfigBuilder::new().storage(disk.clone()).segment_size(64 << 10).background(Background::Caller);
    builder.flush_every_ms(None).build()
}

/// Mostly zeros, which cost nothing in an input.
fn long(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes[len / 2] = 1;
    bytes[len - 1] = 2;
    bytes
}

/// What a log is at some moments of its life. No file is lost by a kill, so a copy is what it leaves.
fn logs() -> Vec<(&'static str, Files)> {
    let mut stores = Vec::new();
    let disk = Disk::default();
    let log = Log::start(config(&disk)).unwrap();
    stores.push(("log-new", disk.files()));
    for nth in 0..4u8 {
        log.write(&vec![nth; usize::from(nth) * 9]).unwrap();
    }
    log.reserve(b"aborted").unwrap().abort();
    log.flush().unwrap();
    stores.push(("log-crashed", disk.files()));
    log.write(b"one more round").unwrap();
    log.flush().unwrap();
    log.tick().unwrap();
    stores.push(("log-proven", disk.files()));
    log.close().unwrap();
    stores.push(("log-closed", disk.files()));

    // Cut where the last round was torn: the log goes on in a second segment.
    let torn = Disk::of(&stores[1].1);
    let log = Log::start(config(&torn)).unwrap();
    log.write(b"after the cut").unwrap();
    log.close().unwrap();
    stores.push(("log-cut", torn.files()));

    let disk = Disk::default();
    let log = Log::start(config(&disk)).unwrap();
    log.write(&long(30_000)).unwrap();
    let after = log.write(b"after the extent").unwrap();
    log.flush().unwrap();
    stores.push(("log-extent", disk.files()));
    for _ in 0..12 {
        log.write(&long(15_000)).unwrap();
    }
    log.flush().unwrap();
    stores.push(("log-segments", disk.files()));
    log.trim(after).unwrap();
    stores.push(("log-trimmed-a-little", disk.files()));
    let last = log.write(b"kept").unwrap();
    log.flush().unwrap();
    log.trim(last).unwrap();
    log.write(&long(14_000)).unwrap();
    log.close().unwrap();
    stores.push(("log-trimmed", disk.files()));
    assert!(disk.files().keys().any(|name| name.starts_with("tmp-")), "a trim keeps spares");
    assert!(!disk.files().contains_key("seg-0000000000000000"), "a trim gives segments back");
    stores
}

struct Concat;

impl Materializer for Concat {
    type PageFrag = Vec<u8>;
    type Recovery = ();
    fn new(_: &Option<()>) -> Self {
        Concat
    }
    fn merge(&self, frags: &[&Vec<u8>]) -> Vec<u8> {
        frags.iter().flat_map(|frag| frag.iter().copied()).collect()
    }
    fn recover(&self, _: &Vec<u8>) -> Option<()> {
        None
    }
}

/// Bytes that are stored as they lie in memory, so that records are aligned. They begin with their length, as postcard's do.
struct Own(Vec<u8>);

impl Fragment for Own {
    fn as_bytes(&self) -> Option<&[u8]> {
        Some(&self.0)
    }
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend(&self.0);
        Ok(())
    }
    fn decode(bytes: PageBytes) -> Result<Self, String> {
        Ok(Own(bytes.to_vec()))
    }
    fn heap_size(&self) -> usize {
        self.0.capacity()
    }
}

impl Materializer for Own {
    type PageFrag = Own;
    type Recovery = ();
    fn new(_: &Option<()>) -> Self {
        Own(Vec::new())
    }
    fn merge(&self, frags: &[&Own]) -> Own {
        Own(frags.iter().flat_map(|frag| frag.0.clone()).collect())
    }
    fn recover(&self, _: &Own) -> Option<()> {
        None
    }
}

fn pages() -> Vec<(&'static str, Files)> {
    let mut stores = Vec::new();
    let disk = Disk::default();
    let pages = PageCache::<Concat>::start(config(&disk)).unwrap();
    let guard = pages.pin();
    let mut versions = BTreeMap::new();
    for nth in 0..6u8 {
        let id = pages.allocate(&guard);
        let mut at = pages.replace_at(id, Version::NONE, vec![nth; 5], &guard).unwrap();
        for link in 0..nth {
            at = pages.link_at(id, at, vec![link], &guard).unwrap();
        }
        versions.insert(id, at);
    }
    pages.flush().unwrap();
    stores.push(("pages-crashed", disk.files()));
    for (id, at) in versions.iter().step_by(2) {
        pages.free_at(*id, *at, &guard).unwrap();
    }
    pages.flush().unwrap();
    pages.flush().unwrap();
    // Ids that were freed, and one that begins with a link.
    let id = pages.allocate(&guard);
    let at = match pages.state(id, &guard).unwrap() {
        pagecache::PageState::Free(at) => at,
        _ => Version::NONE,
    };
    let _ = pages.link_at(id, at, b"again".to_vec(), &guard);
    let fresh = pages.allocate(&guard);
    let _ = pages.link_at(fresh, Version::NONE, b"linked on nothing".to_vec(), &guard);
    drop(guard);
    pages.close().unwrap();
    stores.push(("pages-closed", disk.files()));

    let disk = Disk::default();
    let pages = PageCache::<Concat>::start(config(&disk)).unwrap();
    let guard = pages.pin();
    let extent = pages.allocate(&guard);
    let at = pages.replace_at(extent, Version::NONE, long(30_000), &guard).unwrap();
    let at = pages.link_at(extent, at, long(20_000), &guard).unwrap();
    pages.flush().unwrap();
    stores.push(("pages-extents", disk.files()));
    for _ in 0..8 {
        let id = pages.allocate(&guard);
        pages.replace_at(id, Version::NONE, long(14_000), &guard).unwrap();
    }
    pages.link_at(extent, at, b"far away".to_vec(), &guard).unwrap();
    drop(guard);
    pages.close().unwrap();
    stores.push(("pages-segments", disk.files()));

    let disk = Disk::default();
    let pages = PageCache::<Own>::start(config(&disk)).unwrap();
    let guard = pages.pin();
    for nth in 0..4u8 {
        let id = pages.allocate(&guard);
        let mut bytes = vec![nth; 8 * usize::from(nth) + 1];
        bytes[0] = bytes.len() as u8 - 1;
        let at = pages.replace_at(id, Version::NONE, Own(bytes), &guard).unwrap();
        pages.link_at(id, at, Own(vec![1, 9]), &guard).unwrap();
    }
    drop(guard);
    pages.close().unwrap();
    stores.push(("pages-aligned", disk.files()));
    stores
}

/// Pages with checkpoints: see what each seed is named.
fn mapped() -> Vec<(&'static str, Files)> {
    let mut stores = Vec::new();
    let disk = Disk::default();
    let pages = PageCache::<Concat>::start(config(&disk)).unwrap();
    let guard = pages.pin();
    let mut versions = BTreeMap::new();
    for nth in 0..9u8 {
        let id = pages.allocate(&guard);
        let mut at = pages.replace_at(id, Version::NONE, vec![nth; 5], &guard).unwrap();
        for link in 0..nth % 4 {
            at = pages.link_at(id, at, vec![link], &guard).unwrap();
        }
        versions.insert(id, at);
    }
    pages.flush().unwrap();
    pages.checkpoint().unwrap();
    stores.push(("map-crashed", disk.files()));
    drop(guard);
    pages.close().unwrap();
    stores.push(("map-closed", disk.files()));

    // Changes of every kind behind the checkpoint, on pages of leaves that are not read.
    let pages = PageCache::<Concat>::start(config(&disk)).unwrap();
    let guard = pages.pin();
    for (nth, (id, at)) in versions.iter_mut().enumerate() {
        match nth % 4 {
            0 => *at = pages.link_at(*id, *at, b"linked".to_vec(), &guard).unwrap(),
            1 => *at = pages.replace_at(*id, *at, b"replaced".to_vec(), &guard).unwrap(),
            2 => *at = pages.free_at(*id, *at, &guard).unwrap(),
            _ => {}
        }
    }
    pages.flush().unwrap();
    stores.push(("map-and-log", disk.files()));
    pages.checkpoint().unwrap();
    let second = disk.files();
    stores.push(("map-second", second.clone()));
    // As a crash leaves it between the two copies.
    let mut differ = second.clone();
    differ.insert("super-b".to_owned(), stores[1].1["super-b"].clone());
    differ.extend(
        stores[1]
            .1
            .iter()
            .filter(|(name, _)| !second.contains_key(*name))
            .map(|(name, bytes)| (name.clone(), bytes.clone())),
    );
    stores.push(("map-copies-differ", differ));
    let far = pages.allocate(&guard);
    let at = match pages.state(far, &guard).unwrap() {
        pagecache::PageState::Free(at) => at,
        _ => Version::NONE,
    };
    pages.replace_at(far, at, long(30_000), &guard).unwrap();
    for _ in 0..8 {
        let id = pages.allocate(&guard);
        let at = match pages.state(id, &guard).unwrap() {
            pagecache::PageState::Free(at) => at,
            _ => Version::NONE,
        };
        pages.replace_at(id, at, long(14_000), &guard).unwrap();
    }
    pages.flush().unwrap();
    pages.checkpoint().unwrap();
    drop(guard);
    pages.close().unwrap();
    stores.push(("map-segments", disk.files()));
    stores
}

/// Pages of which some have moved to images, and some of these were linked to since; most of the log was given back.
fn cleaned() -> Vec<(&'static str, Files)> {
    let mut stores = Vec::new();
    let disk = Disk::default();
    let pages = PageCache::<Concat>::start(config(&disk)).unwrap();
    let guard = pages.pin();
    let mut versions = BTreeMap::new();
    for round in 0..12u8 {
        for nth in 0..120 {
            let id = if round == 0 { pages.allocate(&guard) } else { PageId(nth) };
            if round == 0 || nth % 20 > 0 {
                let at = versions.get(&id).copied().unwrap_or(Version::NONE);
                versions.insert(id, pages.replace_at(id, at, long(1200), &guard).unwrap());
            }
        }
        pages.flush().unwrap();
        pages.checkpoint().unwrap();
        pages.clean().unwrap();
    }
    stores.push(("clean-images", disk.files()));
    for nth in 0..4 {
        let (id, at) = (PageId(20 * nth), versions[&PageId(20 * nth)]);
        let at = pages.link_at(id, at, b"behind".to_vec(), &guard).unwrap();
        pages.link_at(id, at, b"an image".to_vec(), &guard).unwrap();
    }
    pages.flush().unwrap();
    stores.push(("clean-crashed", disk.files()));
    pages.checkpoint().unwrap();
    drop(guard);
    pages.close().unwrap();
    stores.push(("clean-links", disk.files()));
    let images =
        |files: &Files| files.iter().any(|(name, bytes)| name.starts_with("seg-") && matches!(bytes[13], 1 | 2));
    assert!(stores.iter().all(|(_, files)| images(files)), "pages have moved");
    stores
}

/// Writes the seeds of one target.
struct Folder(PathBuf);

impl Folder {
    fn new(corpus: &Path, target: &str) -> Folder {
        let path = corpus.join(target);
        std::fs::create_dir_all(&path).expect("the corpus can be written");
        Folder(path)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.join(format!("seed-{name}")), bytes).expect("the corpus can be written");
    }
}

/// The segments of a store in parts: headers, records and marks, each with the place that its checksum covers.
fn parts(corpus: &Path, name: &str, files: &Files) {
    let [headers, records, marks] = ["segment_header", "record", "mark"].map(|target| Folder::new(corpus, target));
    for (file, bytes) in files.iter().filter(|(file, _)| file.starts_with("seg-")) {
        let name = format!("{name}-{}", &file[16..]);
        headers.put(&name, &bytes[..128]);
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let (start, salt) = (number(48), number(56));
        let data = &bytes[..bytes.len() - BLOCK];
        for (at, piece) in stretches(data).into_iter().filter(|(at, _)| *at >= BLOCK && at % BLOCK == 0) {
            // The block, and what goes on behind it.
            let len = piece.len().clamp(BLOCK, 20_000).min(data.len() - at);
            let place = [(start + at as u64).to_le_bytes(), salt.to_le_bytes()].concat();
            let room = ((data.len() - at) as u32).to_le_bytes();
            records.put(&format!("{name}-{at:x}"), &[&place[..], &room, &data[at..at + len]].concat());
        }
        for end in (2 * BLOCK..=data.len()).step_by(BLOCK) {
            let mark = &data[end - 24..end];
            if mark.iter().any(|byte| *byte != 0) {
                let place = [(start + end as u64).to_le_bytes(), salt.to_le_bytes()].concat();
                marks.put(&format!("{name}-{end:x}"), &[&place[..], mark].concat());
            }
        }
    }
}

/// A varint at the beginning of some bytes, and what is behind it.
fn varint(bytes: &[u8]) -> (u64, &[u8]) {
    let len = 1 + bytes.iter().position(|byte| byte & 0x80 == 0).expect("a varint ends");
    let value = bytes[..len].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
    (value, &bytes[len..])
}

/// The superblock's copies, and the leaves and roots in the segments of the map.
fn map_parts(corpus: &Path, name: &str, files: &Files) -> usize {
    let [superblocks, leaves, roots] = ["superblock", "leaf", "root"].map(|target| Folder::new(corpus, target));
    let mut found = 0;
    for (file, bytes) in files {
        if file.starts_with("super-") {
            superblocks.put(&format!("{name}-{file}"), &bytes[..128]);
        }
        // The purpose, then the stream.
        if !file.starts_with("seg-") || bytes[13] != 3 {
            continue;
        }
        let mut at = BLOCK;
        while at < bytes.len() - BLOCK && bytes[at + 4] > 2 {
            let (len, body) = varint(&bytes[at + 5..]);
            let head = bytes.len() - at - body.len();
            let (first, rest) = varint(&body[..len as usize]);
            let (second, rest) = varint(rest);
            match bytes[at + 4] {
                12 => leaves.put(&format!("{name}-{first}"), &[&[2], rest].concat()),
                13 if second == 0 => roots.put(&format!("{name}-{first}"), &[&[0], rest].concat()),
                _ => {}
            }
            found += usize::from(matches!(bytes[at + 4], 12 | 13));
            at += (head + len as usize).next_multiple_of(8);
        }
    }
    found
}

fn small_seeds(corpus: &Path) {
    let heads = Folder::new(corpus, "page_head");
    // Kind and flags, place of the body, then as docs/FORMAT.md draws them.
    heads.put("replace", &[0, 6, 5, 1, b'b']);
    heads.put("link", &[1, 6, 5, 0x80, 8, 1, b'b']);
    heads.put("free", &[2, 6, 0xff, 1]);
    heads.put("aligned", &[0x40, 6, 5, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
    let mut extent = vec![0x80, 6, 5];
    extent.extend([4096u64, 8192, 5000].into_iter().flat_map(u64::to_le_bytes));
    extent.extend([1, 2, 3, 4]);
    heads.put("extent", &extent);
    let decoders = Folder::new(corpus, "parts");
    decoders.put("varint", &[0, 0xff, 0xff, 0xff, 1]);
    decoders.put("extent", &[&[1], &extent[3..]].concat());
    decoders.put("segment", b"\x02seg-00000000000000ff");
    decoders.put("scratch", b"\x02tmp-0123456789abcdef");
    decoders.put("super", b"\x02super-b");
    decoders.put("leaf-head", &[3, 0x80, 8, 7]);
    decoders.put("part-head", &[4, 7, 1, 0x80, 8, 60]);
    let fragments = Folder::new(corpus, "fragment");
    fragments.put("text", b"\x00\x05hello");
    fragments.put("bytes", &[1, 3, 1, 2, 3]);
    fragments.put("numbers", &[2, 2, 0x80, 1, 7]);
    fragments.put("leaf", &[4, 0, 1, 2, 8, 9, 2, 0, 1, 7]);
    fragments.put("inner", &[4, 1, 1, 1, b'k', 3, 4, 1, 3]);
    fragments.put("words", &[5, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
    fragments.put("map", &[6, 1, 5, 1, 1, b'v']);
}

fn main() {
    let corpus = PathBuf::from(std::env::args_os().nth(1).expect("the folder of the corpus"));
    small_seeds(&corpus);
    let [log, page, all] =
        ["log_directory", "page_directory", "verify_directory"].map(|target| Folder::new(&corpus, target));
    let mut stores = 0;
    let mut in_maps = 0;
    for (name, files) in logs().into_iter().chain(pages()).chain(mapped()).chain(cleaned()) {
        let packed = pack(&files);
        assert!(unpack(&packed) == files, "{name} does not come back");
        let report = verify(ConfigBuilder::new().storage(Disk::of(&files)).build()).expect("it is a store");
        assert!(report.is_sound(), "{name}: {:?}", report.problems);
        if name.starts_with("log") { &log } else { &page }.put(name, &packed);
        all.put(name, &packed);
        parts(&corpus, name, &files);
        in_maps += map_parts(&corpus, name, &files);
        println!("seed {name}: {} files, {} bytes", files.len(), packed.len());
        stores += 1;
    }
    // A bare log where pages are wanted, and the other way round.
    log.put("pages", &pack(&pages()[0].1));
    page.put("log", &pack(&logs()[0].1));
    assert!(stores >= 22 && in_maps >= 20, "{stores} stores, {in_maps} leaves and roots");
}
