//! What a verification promises: sound stores, crashed ones included, have no problem, and damage is named by its place.
#![cfg(not(loom))]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pagecache::inspect::{Purpose, Report, verify};
use pagecache::storage::{MemoryStorage, OpenMode, Storage, read_full, write_all};
use pagecache::{
    Background, Config, ConfigBuilder, Error, Log, Lsn, Materializer, PageCache, PageId, PageState, Version,
};

const SEGMENT: u64 = 64 << 10;
const BLOCK: u64 = 4096;

struct Concat;

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

type Image = BTreeMap<String, Vec<u8>>;

fn config(storage: &MemoryStorage) -> Config {
    of_fill(storage, 0.8)
}

fn of_fill(storage: &MemoryStorage, fill: f64) -> Config {
    let builder = ConfigBuilder::new().storage(storage.clone()).segment_size(SEGMENT).flush_every_ms(None);
    builder.background(Background::Caller).fill_target(fill).build()
}

fn image(storage: &MemoryStorage) -> Image {
    let read = |name: &String| {
        let file = storage.open(name, OpenMode::ReadOnly).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        read_full(file.as_ref(), &mut bytes, 0).unwrap();
        bytes
    };
    storage.list().unwrap().into_iter().map(|name| (name.clone(), read(&name))).collect()
}

fn storage(image: &Image) -> MemoryStorage {
    let storage = MemoryStorage::new();
    for (name, bytes) in image {
        let file = storage.open(name, OpenMode::CreateNew).unwrap();
        write_all(file.as_ref(), bytes, 0).unwrap();
    }
    storage
}

fn report(image: &Image) -> Report {
    verify(config(&storage(image))).unwrap()
}

#[track_caller]
fn assert_sound(report: &Report) {
    assert!(report.is_sound(), "{:#?}", report.problems);
    assert_eq!(report.bytes.total(), report.segments.len() as u64 * report.segment_size, "{report:#?}");
    assert_eq!(report.bytes.damaged, 0);
    assert!(report.evidence.stable <= report.evidence.end, "{:?}", report.evidence);
}

fn noise(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    *seed >> 33
}

/// Some operations of every kind. Returns where their records are: LSN, and bytes from there that only they can mean.
fn work(pc: &PageCache<Concat>, seed: &mut u64, steps: u64) -> Vec<(Lsn, u64)> {
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

fn place(report: &Report, lsn: Lsn) -> (u64, u64) {
    let segment = report.segments.iter().rev().find(|segment| segment.start <= lsn).unwrap();
    (segment.sequence, lsn.0 - segment.start.0)
}

fn file_of(segment: u64) -> String {
    format!("seg-{segment:016x}")
}

fn flip(image: &Image, segment: u64, offset: u64, bit: u8) -> Image {
    let mut flipped = image.clone();
    flipped.get_mut(&file_of(segment)).unwrap()[offset as usize] ^= 1 << bit;
    flipped
}

#[test]
fn a_closed_store_of_pages_is_sound_and_every_byte_is_counted() {
    let storage = MemoryStorage::new();
    let (mut seed, mut written) = (1, 0);
    for life in 0..4 {
        let pc = PageCache::<Concat>::start(config(&storage)).unwrap();
        written += work(&pc, &mut seed, 150).len() as u64;
        let (live, count) = (pc.page_ids().map(Result::unwrap).count() as u64, pc.page_count().unwrap());
        pc.close().unwrap();
        let report = verify(config(&storage)).unwrap();
        assert_sound(&report);
        assert!(report.evidence.clean && report.purpose == Some(Purpose::Pages));
        assert_eq!((report.pages.live, live), (count, count), "life {life}");
        assert!(life < 2 || report.records.free > 0 && report.records.extent > 0 && report.segments.len() > 4);
        assert!(report.live_bytes.unwrap() < report.bytes.payload);
        // A link to a page with too many pieces is one record too, a replace.
        assert_eq!(report.records.replace + report.records.link + report.records.free, written);
        assert!(serde_json::to_string(&report).unwrap().contains("\"problems\":[]"));
    }
}

#[test]
fn a_bare_log_is_sound_with_extents_aborts_and_trims() {
    let storage = MemoryStorage::new();
    let mut payload = 0;
    for life in 0..3u8 {
        let log = Log::start(config(&storage)).unwrap();
        let mut lsns = Vec::new();
        for at in 0..60 {
            let record = vec![life; (at * 797) % 30_000];
            payload += record.len() as u64;
            lsns.push(log.write(&record).unwrap());
            drop(log.reserve(&[7; 100]).unwrap());
        }
        if life == 1 {
            log.close().unwrap();
            let report = verify(config(&storage)).unwrap();
            assert_sound(&report);
            assert_eq!((report.records.raw, report.records.aborted, report.bytes.payload), (120, 120, payload));
            assert_eq!(report.purpose, Some(Purpose::Log));
            assert_eq!(report.live_bytes, None);
            continue;
        }
        if life == 2 {
            // In the middle of a long record's pieces, and of the store.
            log.flush().unwrap();
            log.trim(lsns[40]).unwrap();
        }
        log.close().unwrap();
    }
    let report = verify(config(&storage)).unwrap();
    assert_sound(&report);
    assert_eq!(report.records.trim, 1);
    assert!(report.evidence.first > report.segments[0].start, "{report:#?}");
    assert!(report.segments[0].sequence > 0, "nothing was trimmed");
}

#[test]
fn every_flip_in_a_record_is_reported_in_its_segment_at_or_before_it() {
    let storage = MemoryStorage::new();
    let pc = PageCache::<Concat>::start(config(&storage)).unwrap();
    let mut seed = 3;
    let written = work(&pc, &mut seed, 400);
    pc.close().unwrap();
    let (whole, sound) = (image(&storage), verify(config(&storage)).unwrap());
    assert_sound(&sound);
    let mut flips = 0;
    for (nth, (lsn, covered)) in written.iter().enumerate() {
        let (segment, offset) = place(&sound, *lsn);
        for turn in 0..4 {
            let at = offset + (nth as u64 * 7 + turn * 1013) % covered;
            let found = report(&flip(&whole, segment, at, (nth % 8) as u8));
            let [problem] = &found.problems[..] else { panic!("{lsn} +{}: {:#?}", at - offset, found.problems) };
            assert_eq!(problem.segment, segment, "{problem}");
            assert!(problem.offset <= at && at - problem.offset < 2 * BLOCK + covered, "{problem}, flipped {at}");
            assert!(found.bytes.damaged > 0);
            assert_eq!(found.bytes.total(), sound.bytes.total());
            flips += 1;
        }
    }
    assert!(flips > 1000, "{flips}");
    println!("{flips} flips, each found");
}

#[test]
fn a_flip_anywhere_is_told_from_a_sound_store_or_means_nothing_and_start_agrees() {
    let storage = MemoryStorage::new();
    let pc = PageCache::<Concat>::start(config(&storage)).unwrap();
    let mut seed = 5;
    work(&pc, &mut seed, 120);
    pc.close().unwrap();
    let whole = image(&storage);
    let (mut reported, mut meaningless) = (0, 0);
    for (name, bytes) in &whole {
        let segment = u64::from_str_radix(name.strip_prefix("seg-").unwrap(), 16).unwrap();
        for at in (0..bytes.len() as u64).step_by(61) {
            let flipped = flip(&whole, segment, at, (at % 8) as u8);
            let found = report(&flipped);
            assert!(
                found.problems.iter().all(|problem| problem.segment == segment && problem.offset <= at),
                "{found:?}"
            );
            let started = PageCache::<Concat>::start(config(&self::storage(&flipped)));
            if let Err(Error::Corrupt(corruption)) = &started {
                let problem = found.problems.first().expect("start knows of damage");
                assert_eq!((problem.segment, problem.offset), (corruption.segment, corruption.offset), "{problem}");
            } else if let Err(error) = started {
                panic!("{error}");
            }
            if found.is_sound() { meaningless += 1 } else { reported += 1 }
        }
    }
    assert!(reported > 500 && meaningless > 100, "{reported} reported, {meaningless} meaningless");
    println!("{reported} flips reported, {meaningless} meant nothing");
}

#[test]
fn damage_in_several_segments_and_headers_is_reported_in_one_go() {
    let storage = MemoryStorage::new();
    let pc = PageCache::<Concat>::start(config(&storage)).unwrap();
    let mut seed = 7;
    let written = work(&pc, &mut seed, 500);
    pc.close().unwrap();
    let (mut hurt, sound) = (image(&storage), verify(config(&storage)).unwrap());
    let mut expected = Vec::new();
    for segment in &sound.segments[..4] {
        let (lsn, _) = written.iter().find(|(lsn, _)| segment.start <= *lsn).unwrap();
        hurt = flip(&hurt, segment.sequence, lsn.0 - segment.start.0 + 5, 0);
        expected.push((segment.sequence, lsn.0 - segment.start.0));
    }
    hurt = flip(&hurt, sound.segments[4].sequence, 20, 1);
    expected.push((sound.segments[4].sequence, 0));
    hurt = flip(&hurt, sound.segments[5].sequence, SEGMENT - 1, 1);
    expected.push((sound.segments[5].sequence, SEGMENT - BLOCK));
    let found = report(&hurt);
    let places: Vec<_> = found.problems.iter().map(|problem| (problem.segment, problem.offset)).collect();
    assert_eq!(places, expected, "{:#?}", found.problems);
    let mut short = image(&storage);
    short.get_mut(&file_of(2)).unwrap().truncate(30_000);
    let places: Vec<_> = report(&short).problems.iter().map(|problem| problem.segment).collect();
    assert!(!places.is_empty() && places.iter().all(|segment| *segment == 2), "{places:?}");
    // One bad copy of a header is a problem, and no reason not to open.
    let header_only = flip(&image(&storage), sound.segments[4].sequence, 20, 1);
    assert!(!report(&header_only).is_sound());
    PageCache::<Concat>::start(config(&self::storage(&header_only))).unwrap();
}

#[test]
fn a_lost_segment_is_named_and_the_others_are_checked_all_the_same() {
    let storage = MemoryStorage::new();
    let pc = PageCache::<Concat>::start(config(&storage)).unwrap();
    let mut seed = 9;
    work(&pc, &mut seed, 500);
    pc.close().unwrap();
    let (whole, sound) = (image(&storage), verify(config(&storage)).unwrap());
    let count = sound.segments.len();
    for lost in [0, 1, count / 2] {
        let mut image = whole.clone();
        image.remove(&file_of(lost as u64)).unwrap();
        let found = report(&image);
        assert_eq!(found.segments.len(), count - 1);
        assert_eq!(
            found.problems.iter().map(|problem| problem.segment).collect::<Vec<_>>(),
            [lost as u64],
            "{found:#?}"
        );
        let mut image = whole.clone();
        image.get_mut(&file_of(lost as u64)).unwrap().fill(0xa5);
        let found = report(&image);
        assert_eq!(
            found.problems.iter().map(|problem| problem.segment).collect::<Vec<_>>(),
            [lost as u64],
            "{found:#?}"
        );
        // And damage below the lost one is still seen.
        if lost > 0 {
            let hurt = flip(&image, 0, BLOCK, 0);
            assert!(report(&hurt).problems.iter().any(|problem| (problem.segment, problem.offset) == (0, BLOCK)));
        }
    }
}

#[test]
fn a_crashed_store_is_sound_wherever_above_the_last_stable_lsn_it_was_cut() {
    let (mut seed, mut cuts) = (11, 0);
    let mut storage = MemoryStorage::new();
    for life in 0..12 {
        let pc = PageCache::<Concat>::start(config(&storage)).unwrap();
        work(&pc, &mut seed, 60);
        let stable = pc.flush().unwrap();
        let guard = pc.pin();
        // One more round, which nothing has proven yet.
        for _ in 0..noise(&mut seed) % 40 + 1 {
            pc.link_at(pc.allocate(&guard), Version::NONE, "unproven ".repeat(30), &guard).unwrap();
        }
        pc.flush().unwrap();
        let crashed = image(&storage);
        let newest = report(&crashed);
        assert_sound(&newest);
        assert!(!newest.evidence.clean);
        drop(guard);
        drop(pc);
        let mut next = crashed.clone();
        for cut in (stable.0..newest.evidence.end.0).step_by(264) {
            let mut torn = crashed.clone();
            for segment in &newest.segments {
                let bytes = torn.get_mut(&file_of(segment.sequence)).unwrap();
                let from = cut.saturating_sub(segment.start.0).clamp(BLOCK, SEGMENT - BLOCK) as usize;
                bytes[from..(SEGMENT - BLOCK) as usize].fill(0);
            }
            let found = report(&torn);
            assert_sound(&found);
            assert!(found.evidence.end <= Lsn(cut));
            cuts += 1;
            if noise(&mut seed).is_multiple_of(8) || life % 2 == 0 {
                next = torn;
            }
        }
        storage = self::storage(&next);
    }
    assert!(cuts > 200, "{cuts}");
    println!("{cuts} cuts, each sound");
}

#[test]
fn what_is_no_store_is_an_error_and_a_writer_keeps_the_door_shut() {
    let storage = MemoryStorage::new();
    assert!(matches!(verify(config(&storage)), Err(Error::NotFound { .. })));
    let pc = PageCache::<Concat>::start(config(&storage)).unwrap();
    assert!(matches!(verify(config(&storage)), Err(Error::Locked { .. })));
    pc.close().unwrap();
    let before = image(&storage);
    assert_sound(&verify(config(&storage)).unwrap());
    assert!(before == image(&storage), "a verification wrote");
    let foreign = self::storage(&Image::from([("readme".to_owned(), b"hello".to_vec())]));
    assert!(matches!(verify(config(&foreign)), Err(Error::Incompatible { .. })));
    for garbage in [vec![], vec![0xff; 100], vec![1; SEGMENT as usize]] {
        let found = report(&Image::from([(file_of(3), garbage)]));
        assert_eq!(found.problems.iter().map(|problem| problem.segment).collect::<Vec<_>>(), [3]);
        assert_eq!(found.purpose, None);
    }
}

#[test]
fn what_many_threads_wrote_at_once_is_sound_chains_frees_and_reuse_included() {
    let storage = MemoryStorage::new();
    for life in 0..3u64 {
        let config = ConfigBuilder::new().storage(storage.clone()).segment_size(1 << 20).flush_every_ms(1);
        let pc = PageCache::<Concat>::start(config.build()).unwrap();
        let shared: Vec<PageId> = {
            let guard = pc.pin();
            (0..8).map(|_| pc.allocate(&guard)).collect()
        };
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (pc, shared) = (&pc, &shared);
                scope.spawn(move || {
                    let mut seed = life * 100 + thread;
                    for _ in 0..4000 {
                        let guard = pc.pin();
                        let id = match noise(&mut seed) % 4 {
                            0 => pc.allocate(&guard),
                            _ => shared[noise(&mut seed) as usize % shared.len()],
                        };
                        let at = match pc.state(id, &guard).unwrap() {
                            PageState::Live(at) => at,
                            _ => Version::NONE,
                        };
                        // Others may come first, or free the page: that is what is wanted here.
                        let _ = match noise(&mut seed) % 8 {
                            0 => pc.free_at(id, at, &guard).map_err(Error::from),
                            1 => pc.replace_at(id, at, "whole".into(), &guard).map_err(Error::from),
                            _ => pc.link_at(id, at, "part".into(), &guard).map_err(Error::from),
                        };
                    }
                });
            }
        });
        pc.close().unwrap();
        let report = verify(ConfigBuilder::new().storage(storage.clone()).build()).unwrap();
        assert_sound(&report);
        assert!(report.evidence.clean && report.records.free > 0 && report.records.total() > 1000 * (life + 1));
    }
}

/// A closed store with a checkpoint, log behind it, and segments of the log before it. Its pages as they must be, and its redo point.
fn mapped(seed: &mut u64) -> (MemoryStorage, BTreeMap<PageId, String>, Lsn) {
    let storage = MemoryStorage::new();
    let pc = PageCache::<Concat>::start(config(&storage)).unwrap();
    work(&pc, seed, 150);
    pc.flush().unwrap();
    let redo = pc.checkpoint().unwrap();
    work(&pc, seed, 40);
    let guard = pc.pin();
    let read = |id: PageId| (id, pc.get(id, &guard).unwrap().0.to_string());
    let pages = pc.page_ids().map(|id| read(id.unwrap())).collect();
    drop(guard);
    pc.close().unwrap();
    (storage, pages, redo)
}

/// Segments by what their headers say of the stream: the log's, then the map's.
fn streams(image: &Image) -> [Vec<u64>; 2] {
    let of = |stream: u8| {
        let segments = image.iter().filter(|(name, bytes)| name.starts_with("seg-") && bytes[13] == stream);
        segments.map(|(name, _)| u64::from_str_radix(&name[4..], 16).unwrap()).collect()
    };
    [of(0), of(3)]
}

#[test]
fn a_store_is_sound_before_and_after_every_checkpoint_and_its_report_is_right() {
    let (storage, mut seed) = (MemoryStorage::new(), 21);
    let (mut number, mut crashes) = (0, 0);
    for life in 0..6 {
        let pc = PageCache::<Concat>::start(config(&storage)).unwrap();
        for _ in 0..4 {
            work(&pc, &mut seed, 40);
            pc.flush().unwrap();
            let before = pc.stats().redo;
            let redo = pc.checkpoint().unwrap();
            number += u64::from(redo > before);
            // As a kill leaves it.
            let image = image(&storage);
            let found = report(&image);
            assert_sound(&found);
            let of = found.checkpoint.unwrap();
            assert_eq!((of.number, of.redo, of.copies_differ), (number, redo, false), "life {life}");
            let [log, map] = streams(&image);
            assert_eq!((found.segments.len(), of.segments as usize), (log.len(), map.len()));
            assert!(of.allocated > 0 && of.allocated <= of.segments * SEGMENT);
            assert_eq!(of.leaves, found.pages.high_water.div_ceil(4), "four ids a leaf");
            assert!(found.leftovers.iter().all(|file| file.starts_with("tmp-")), "{:?}", found.leftovers);
            crashes += 1;
        }
        pc.close().unwrap();
    }
    assert!(crashes == 24 && number > 20, "{number} checkpoints");
}

#[test]
fn a_flip_anywhere_in_a_store_with_a_checkpoint_is_told_or_means_nothing_and_start_agrees() {
    let mut seed = 23;
    let (storage, pages, _) = mapped(&mut seed);
    let whole = image(&storage);
    let [log, map] = streams(&whole);
    assert!(log.len() > 4 && !map.is_empty());
    let (mut counts, mut lost) = (BTreeMap::<&str, u64>::new(), 0);
    for (name, bytes) in &whole {
        let segment = name.strip_prefix("seg-").map(|digits| u64::from_str_radix(digits, 16).unwrap());
        let is_map = segment.is_some_and(|segment| map.contains(&segment));
        // Most of a map's segment is not written yet.
        let step = if segment.is_none() || is_map { 5 } else { 211 };
        let len = if is_map { bytes.iter().rposition(|byte| *byte != 0).unwrap().min(3 * 4096) } else { bytes.len() };
        for at in (0..len as u64).step_by(step) {
            let mut flipped = whole.clone();
            flipped.get_mut(name).unwrap()[at as usize] ^= 1 << (at % 8);
            let found = report(&flipped);
            let Some(segment) = segment else {
                assert_sound(&found);
                assert_eq!(found.checkpoint.unwrap().copies_differ, at < 76, "{name} +{at}");
                *counts.entry("superblock").or_default() += 1;
                continue;
            };
            assert!(found.problems.iter().all(|found| found.segment == segment && found.offset <= at), "{found:#?}");
            *counts.entry(if found.is_sound() { "nothing" } else { "told" }).or_default() += 1;
            let pc = match PageCache::<Concat>::start(config(&self::storage(&flipped))) {
                Ok(pc) => pc,
                Err(Error::Corrupt(at)) => {
                    let problem = found.problems.first().expect("start knows of damage");
                    assert_eq!((problem.segment, problem.offset), (at.segment, at.offset), "{problem}");
                    *counts.entry("refused").or_default() += 1;
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            let guard = pc.pin();
            for (id, content) in &pages {
                match pc.get(*id, &guard) {
                    Ok((page, _)) => assert!(*page == *content, "{name} +{at}: {id} is another"),
                    Err(error) => {
                        assert!(error.is_corrupt() && !found.is_sound(), "{name} +{at}: {id}: {error}");
                        lost += 1;
                    }
                }
            }
        }
    }
    assert!(counts["told"] > 500 && counts["refused"] > 50 && lost > 100, "{counts:?}, {lost} pages lost");
    println!("{counts:?}, {lost} pages lost, each by an error");
}

#[test]
fn a_segment_that_a_checkpoint_needs_is_missed_at_its_place_and_nothing_else_is() {
    let mut seed = 25;
    let (storage, _, redo) = mapped(&mut seed);
    let whole = image(&storage);
    let sound = report(&whole);
    assert_sound(&sound);
    let [_, map] = streams(&whole);
    assert!(!map.is_empty());
    let below = sound.segments.iter().filter(|segment| segment.start.0 + SEGMENT <= redo.0);
    let below: Vec<u64> = below.map(|segment| segment.sequence).collect();
    assert!(below.len() >= 2, "{sound:#?}");
    for missing in below.iter().chain(&map) {
        let mut image = whole.clone();
        image.remove(&file_of(*missing)).unwrap();
        let found = report(&image);
        let segments: Vec<u64> = found.problems.iter().map(|problem| problem.segment).collect();
        assert_eq!(segments, [*missing], "{:#?}", found.problems);
        assert!(found.problems[0].what.contains("missing"), "{}", found.problems[0]);
        for read_only in [true, false] {
            let again = self::storage(&image);
            let config = ConfigBuilder::new().storage(again.clone()).read_only(read_only);
            match PageCache::<Concat>::start(config.background(Background::Caller).build()) {
                Err(Error::Corrupt(at)) => assert_eq!((at.segment, at.what), (*missing, "a segment is missing")),
                other => panic!("{missing} is missing: {other:?}"),
            }
            assert!(self::image(&again) == image, "something was written");
        }
    }
}

#[test]
fn a_verification_of_a_store_with_a_checkpoint_writes_nothing_whatever_is_damaged() {
    let mut seed = 27;
    let (storage, ..) = mapped(&mut seed);
    let whole = image(&storage);
    for name in whole.keys() {
        let mut hurt = whole.clone();
        let bytes = hurt.get_mut(name).unwrap();
        for at in (4200..4204).chain(8..12) {
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 0x10);
        }
        let hurt_storage = self::storage(&hurt);
        let found = verify(config(&hurt_storage));
        assert!(
            found.is_ok_and(|found| !found.is_sound() || found.checkpoint.is_some_and(|it| it.copies_differ)),
            "{name}"
        );
        assert!(image(&hurt_storage) == hurt, "a verification wrote");
    }
}

/// Pages that are overwritten again and again, but for some that stay, cleaned after every round: what is left of the log has holes,
/// since there is no hurry to move it. Some are too long for one record. Some have links on top, of which some came after the last checkpoint. The pages as they must be.
fn cleaned(storage: &MemoryStorage, mut each: impl FnMut(&PageCache<Concat>)) -> BTreeMap<PageId, String> {
    let (mut pages, mut long) = (BTreeMap::new(), BTreeSet::new());
    for life in 0..3 {
        let pc = PageCache::<Concat>::start(of_fill(storage, 0.4)).unwrap();
        for round in 0..12 {
            {
                let guard = pc.pin();
                if life < 2 && round == 6 {
                    let id = pc.allocate(&guard);
                    pc.replace_at(id, Version::NONE, "w".repeat(40_000), &guard).unwrap();
                    pages.insert(id, "w".repeat(40_000));
                    long.insert(id);
                }
                let fill = |tag: u64| format!("{life} {round} {tag} {}", "y".repeat(900 + tag as usize * 7));
                for _ in 0..if pages.len() < 100 { 10 } else { 0 } {
                    let id = pc.allocate(&guard);
                    pc.replace_at(id, Version::NONE, fill(id.0), &guard).unwrap();
                    pages.insert(id, fill(id.0));
                }
                // Every fifth stays as it is, and every fifth is linked to at times.
                for (id, content) in pages.iter_mut().filter(|(id, _)| id.0 % 5 != 0 && !long.contains(id)) {
                    let PageState::Live(at) = pc.state(*id, &guard).unwrap() else { panic!("{id} holds data") };
                    match id.0 % 5 {
                        1 if (id.0 + round) % 4 > 0 => continue,
                        1 => {
                            pc.link_at(*id, at, format!("+{round}"), &guard).unwrap();
                            content.push_str(&format!("+{round}"));
                        }
                        _ => {
                            pc.replace_at(*id, at, fill(id.0), &guard).unwrap();
                            *content = fill(id.0);
                        }
                    }
                }
            }
            pc.flush().unwrap();
            if round % 6 != 5 {
                pc.checkpoint().unwrap();
                pc.clean().unwrap();
            }
            each(&pc);
        }
        // An id that is free, and nothing in the log that says so but what a checkpoint has seen.
        let guard = pc.pin();
        let id = pc.allocate(&guard);
        let at = pc.replace_at(id, Version::NONE, "not for long".to_owned(), &guard).unwrap();
        pc.free_at(id, at, &guard).unwrap();
        drop(guard);
        pc.close().unwrap();
    }
    pages
}

/// Segments of images, by their headers.
fn of_images(image: &Image) -> Vec<u64> {
    let of = image.iter().filter(|(name, bytes)| name.starts_with("seg-") && matches!(bytes[13], 1 | 2));
    of.map(|(name, _)| u64::from_str_radix(&name[4..], 16).unwrap()).collect()
}

#[test]
fn a_cleaned_store_is_sound_after_every_turn_and_its_report_is_right() {
    let (storage, mut turns, mut holes) = (MemoryStorage::new(), 0, 0);
    let pages = cleaned(&storage, |pc| {
        let (image, stats) = (image(&storage), pc.stats());
        let found = report(&image);
        assert_sound(&found);
        assert_eq!(found.checkpoint.map(|found| found.redo), (stats.redo > Lsn(0)).then_some(stats.redo));
        assert_eq!(found.pages.live, pc.page_count().unwrap());
        assert_eq!(found.pages.high_water, stats.ids_high_water);
        let [log, map] = streams(&image);
        assert_eq!(found.segments.len(), log.len());
        assert_eq!(found.checkpoint.map_or(0, |found| found.segments), map.len() as u64);
        assert_eq!(found.images.segments, of_images(&image).len() as u64);
        assert_eq!(found.images.bytes.total(), found.images.segments * SEGMENT);
        assert!(found.images.bytes.payload > 0 || found.images.segments == 0);
        assert!(found.images.allocated <= found.images.segments * SEGMENT);
        let starts: Vec<u64> = found.segments.iter().map(|segment| segment.start.0 / SEGMENT).collect();
        holes += u64::from(starts.windows(2).any(|pair| pair[1] > pair[0] + 1));
        turns += u64::from(found.images.records > 0);
    });
    let found = report(&image(&storage));
    assert_sound(&found);
    assert!(found.evidence.clean && found.pages.free > 0, "{found:#?}");
    let pc = PageCache::<Concat>::start(config(&self::storage(&image(&storage)))).unwrap();
    let guard = pc.pin();
    // A fragment is stored with its length in front.
    let stored = |fragment: &String| fragment.len() as u64 + 1 + fragment.len().ilog2() as u64 / 7;
    let of_page = |id: &PageId| pc.fragments(*id, &guard).unwrap().0.iter().map(stored).sum::<u64>();
    assert_eq!(found.live_bytes, Some(pages.keys().map(of_page).sum()));
    assert!(pages.keys().any(|id| pc.fragments(*id, &guard).unwrap().0.iter().count() > 1));
    let (left, ever) = (found.segments.len() as u64 + found.images.segments, found.segments.last().unwrap().sequence);
    assert!(found.images.records > 20 && left * 3 < ever, "{left} of {ever} segments");
    assert!(turns > 10 && holes > 10, "{turns} with images, {holes} with holes");
}

#[test]
fn a_segment_that_a_cleaned_store_needs_is_missed_at_its_place_and_nothing_else_is() {
    let storage = MemoryStorage::new();
    cleaned(&storage, |_| {});
    let whole = image(&storage);
    let sound = report(&whole);
    let redo = sound.checkpoint.unwrap().redo;
    let below = sound.segments.iter().filter(|segment| segment.start.0 + SEGMENT <= redo.0);
    let below: Vec<u64> = below.map(|segment| segment.sequence).collect();
    let images = of_images(&whole);
    assert!(!below.is_empty() && images.len() > 1, "{sound:#?}");
    for missing in below.iter().chain(&images) {
        let mut image = whole.clone();
        image.remove(&file_of(*missing)).unwrap();
        let found = report(&image);
        let places: Vec<_> = found.problems.iter().map(|problem| (problem.segment, problem.offset)).collect();
        assert_eq!(places, [(*missing, 0)], "{:#?}", found.problems);
        assert!(found.problems[0].what.contains("missing"), "{}", found.problems[0]);
        match PageCache::<Concat>::start(config(&self::storage(&image))) {
            Err(Error::Corrupt(at)) => assert_eq!((at.segment, at.what), (*missing, "a segment is missing")),
            other => panic!("{missing} is missing: {other:?}"),
        }
    }
}

#[test]
fn segments_that_were_given_back_and_are_still_there_are_leftovers() {
    let (storage, mut before) = (MemoryStorage::new(), Image::new());
    cleaned(&storage, |_| before.extend(image(&storage)));
    let mut whole = image(&storage);
    let sound = report(&whole);
    before.retain(|name, _| name.starts_with("seg-") && !whole.contains_key(name));
    let back: Vec<String> = before.keys().cloned().collect();
    assert!(!of_images(&before).is_empty() && streams(&before)[0].len() > 10, "{back:?}");
    whole.extend(before);
    let mut found = report(&whole);
    assert_sound(&found);
    assert!(back.iter().all(|name| found.leftovers.contains(name)), "{:?}", found.leftovers);
    found.leftovers.clone_from(&sound.leftovers);
    assert_eq!(found, sound);
}

#[test]
fn a_flip_anywhere_in_a_segment_of_images_is_told_or_means_nothing() {
    let storage = MemoryStorage::new();
    let pages = cleaned(&storage, |_| {});
    let whole = image(&storage);
    let (mut told, mut nothing, mut lost) = (0, 0, 0);
    for segment in of_images(&whole) {
        for at in (0..SEGMENT).step_by(307) {
            let flipped = flip(&whole, segment, at, (at % 8) as u8);
            let found = report(&flipped);
            assert!(found.problems.iter().all(|found| found.segment == segment && found.offset <= at), "{found:#?}");
            assert!(found.problems.len() <= 1, "{:#?}", found.problems);
            assert_eq!(found.images.bytes.total(), found.images.segments * SEGMENT);
            *if found.is_sound() { &mut nothing } else { &mut told } += 1;
            let pc = PageCache::<Concat>::start(config(&self::storage(&flipped))).unwrap();
            let guard = pc.pin();
            for (id, content) in &pages {
                match pc.get(*id, &guard) {
                    Ok((page, _)) => assert!(*page == *content, "{segment} +{at}: {id} is another"),
                    Err(Error::Corrupt(at)) => {
                        let problem = found.problems.first().expect("a get knows of damage");
                        assert_eq!((problem.segment, problem.offset), (at.segment, at.offset), "{problem}");
                        lost += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    assert!(told > 100 && nothing > 10 && lost > 50, "{told} told, {nothing} that mean nothing, {lost} pages lost");
}

#[test]
fn stores_that_are_cleaned_while_they_are_written_are_sound_ever_after() {
    let (storage, mut given_back, mut images) = (MemoryStorage::new(), 0, 0);
    for life in 0..6 {
        let pc = PageCache::<Concat>::start(config(&storage)).unwrap();
        if life == 0 {
            let guard = pc.pin();
            for _ in 0..80 {
                pc.replace_at(pc.allocate(&guard), Version::NONE, "first".into(), &guard).unwrap();
            }
        }
        let (turns, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    pc.clean().unwrap();
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            });
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    pc.checkpoint().unwrap();
                }
            });
            let (mut seed, mut step) = (life, 0);
            while step < 3000 || turns.load(Ordering::Relaxed) < 20 {
                step += 1;
                let guard = pc.pin();
                let id = PageId(noise(&mut seed) % 80);
                let PageState::Live(at) = pc.state(id, &guard).unwrap() else { panic!("{id} holds data") };
                match step % 4 {
                    0 => pc.replace_at(id, at, "z".repeat(700), &guard).unwrap(),
                    _ => pc.link_at(id, at, "on top".into(), &guard).unwrap(),
                };
                drop(guard);
                if step % 50 == 0 {
                    pc.flush().unwrap();
                }
            }
            is_over.store(true, Ordering::Relaxed);
        });
        pc.close().unwrap();
        let found = verify(config(&storage)).unwrap();
        assert_sound(&found);
        assert_eq!(found.pages.live, 80);
        let left = found.segments.len() as u64 + found.images.segments;
        given_back = found.segments.last().unwrap().sequence.saturating_sub(left);
        images += found.images.records;
    }
    assert!(given_back > 10 && images > 0, "{given_back} segments were given back, there were {images} images");
}
