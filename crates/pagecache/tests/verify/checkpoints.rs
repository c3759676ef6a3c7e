//! Stores with a checkpoint: the superblock, the root and the leaves besides the log.

use std::collections::BTreeMap;

use pagecache::inspect::verify;
use pagecache::storage::MemoryStorage;
use pagecache::{Background, ConfigBuilder, Error, Lsn, PageCache, PageId};

use crate::harness::{Concat, SEGMENT, assert_sound, config, file_of, image, report, storage, streams, work};

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
