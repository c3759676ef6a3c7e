//! Stores of small segments whose bytes are looked at and changed.

use std::collections::BTreeMap;

use pagecache::inspect::{Report, verify};
use pagecache::storage::{MemoryStorage, OpenMode, Storage, read_full, write_all};
use pagecache::{Background, Config, ConfigBuilder, Lsn, Materializer, PageCache, PageId, PageState, Version};

pub const SEGMENT: u64 = 64 << 10;
pub const BLOCK: u64 = 4096;

pub struct Concat;

impl Materializer for Concat {
    type PageFrag = String;
    type Recovery = ();
    const RECOVERS: bool = false;
    fn new(_: &Option<()>) -> Self {
        Concat
    }
    fn merge(&self, frags: &[&String]) -> String {
        frags.iter().map(|frag| frag.as_str()).collect()
    }
    fn recover(&self, _: &String) -> Option<()> {
        None
    }
}

pub type Image = BTreeMap<String, Vec<u8>>;

pub fn config(storage: &MemoryStorage) -> Config {
    of_fill(storage, 0.8)
}

pub fn of_fill(storage: &MemoryStorage, fill: f64) -> Config {
    let builder = ConfigBuilder::new().storage(storage.clone()).segment_size(SEGMENT).flush_every_ms(None);
    builder.background(Background::Caller).fill_target(fill).build()
}

pub fn image(storage: &MemoryStorage) -> Image {
    let read = |name: &String| {
        let file = storage.open(name, OpenMode::ReadOnly).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        read_full(file.as_ref(), &mut bytes, 0).unwrap();
        bytes
    };
    storage.list().unwrap().into_iter().map(|name| (name.clone(), read(&name))).collect()
}

pub fn storage(image: &Image) -> MemoryStorage {
    let storage = MemoryStorage::new();
    for (name, bytes) in image {
        let file = storage.open(name, OpenMode::CreateNew).unwrap();
        write_all(file.as_ref(), bytes, 0).unwrap();
    }
    storage
}

pub fn report(image: &Image) -> Report {
    verify(config(&storage(image))).unwrap()
}

#[track_caller]
pub fn assert_sound(report: &Report) {
    assert!(report.is_sound(), "{:#?}", report.problems);
    assert_eq!(report.bytes.total(), report.segments.len() as u64 * report.segment_size, "{report:#?}");
    assert_eq!(report.bytes.damaged, 0);
    assert!(report.evidence.stable <= report.evidence.end, "{:?}", report.evidence);
}

pub fn noise(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    *seed >> 33
}

/// Some operations of every kind. Returns where their records are: LSN, and bytes from there that only they can mean.
pub fn work(pc: &PageCache<Concat>, seed: &mut u64, steps: u64) -> Vec<(Lsn, u64)> {
    let guard = pc.pin();
    let mut written = Vec::new();
    for _ in 0..steps {
        let live: Vec<PageId> = pc.page_ids().map(Result::unwrap).collect();
        let picked = live.get(noise(seed) as usize % live.len().max(1)).copied();
        let at = |id| match pc.state(id, &guard).unwrap() {
            PageState::Live(at) => at,
            other => panic!("{other:?}"),
        };
        let text = "x".repeat(match noise(seed) % 40 {
            0 => 40_000,
            1..4 => 3000,
            len => len as usize,
        });
        let covered = if text.len() < 16_000 { text.len() as u64 + 6 } else { 6 };
        let (version, covered) = match (noise(seed) % 10, picked) {
            (0..2, _) | (_, None) => (pc.link_at(pc.allocate(&guard), Version::NONE, text, &guard).unwrap(), covered),
            (2, Some(id)) => (pc.free_at(id, at(id), &guard).unwrap(), 6),
            (3, Some(id)) => (pc.replace_at(id, at(id), text, &guard).unwrap(), covered),
            (4, _) => {
                pc.flush().unwrap();
                continue;
            }
            (_, Some(id)) => (pc.link_at(id, at(id), text, &guard).unwrap(), covered),
        };
        written.push((Lsn(version.0), covered));
    }
    written
}

pub fn place(report: &Report, lsn: Lsn) -> (u64, u64) {
    let segment = report.segments.iter().rev().find(|segment| segment.start <= lsn).unwrap();
    (segment.sequence, lsn.0 - segment.start.0)
}

pub fn file_of(segment: u64) -> String {
    format!("seg-{segment:016x}")
}

pub fn flip(image: &Image, segment: u64, offset: u64, bit: u8) -> Image {
    let mut flipped = image.clone();
    flipped.get_mut(&file_of(segment)).unwrap()[offset as usize] ^= 1 << bit;
    flipped
}

/// Segments by what their headers say of the stream: the log's, then the map's.
pub fn streams(image: &Image) -> [Vec<u64>; 2] {
    let of = |stream: u8| {
        let segments = image.iter().filter(|(name, bytes)| name.starts_with("seg-") && bytes[13] == stream);
        segments.map(|(name, _)| u64::from_str_radix(&name[4..], 16).unwrap()).collect()
    };
    [of(0), of(3)]
}
