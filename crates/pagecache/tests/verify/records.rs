//! Records, extents, pads and segments of the log: what is sound, and every kind of damage.

use pagecache::inspect::{Purpose, verify};
use pagecache::storage::MemoryStorage;
use pagecache::{ConfigBuilder, Error, Log, Lsn, PageCache, PageId, PageState, Version};

use crate::harness::{
    BLOCK, Concat, Image, SEGMENT, assert_sound, config, file_of, flip, image, noise, place, report, storage, work,
};

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
