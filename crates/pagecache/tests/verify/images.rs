//! Stores that were cleaned: segments of images besides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pagecache::inspect::verify;
use pagecache::storage::MemoryStorage;
use pagecache::{Error, Lsn, PageCache, PageId, PageState, Version};

use crate::harness::{
    Concat, Image, SEGMENT, assert_sound, config, file_of, flip, image, noise, of_fill, report, storage, streams,
};

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
    let (storage, mut given_back, mut moved) = (MemoryStorage::new(), 0, 0);
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
                // Some change seldom: where all that is in a segment changes all the time nothing has to be moved.
                let id = PageId(noise(&mut seed) % if step % 64 == 0 { 80 } else { 60 });
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
        // At the end of a life there may be none that is still in use.
        let stats = pc.stats();
        moved += stats.fold_bytes + stats.survivor_bytes;
        pc.close().unwrap();
        let found = verify(config(&storage)).unwrap();
        assert_sound(&found);
        assert_eq!(found.pages.live, 80);
        let left = found.segments.len() as u64 + found.images.segments;
        given_back = found.segments.last().unwrap().sequence.saturating_sub(left);
    }
    assert!(given_back > 10 && moved > 0, "{given_back} segments were given back, {moved} bytes were moved");
}
