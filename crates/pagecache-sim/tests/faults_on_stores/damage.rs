//! Decay under a store that is open: the page that is hit says so, all others are as they were.

use pagecache::{Corruption, Error, Log, LogRead, Lsn, PageId, PageState};
use pagecache_sim::disk::SimDisk;

use crate::harness::{Page, Texts, check, config, failed, fill, log, pages};

/// A store whose pages are all cold, page 7 long enough to be in pieces elsewhere.
fn cold() -> (SimDisk, Vec<Page>) {
    let disk = SimDisk::new(51);
    let pc = pages(&disk);
    let mut all = fill(&pc, "page", 7, 3000);
    all.extend(fill(&pc, "long", 1, 100_000));
    all.extend(fill(&pc, "after", 20, 3000));
    pc.close().unwrap();
    (disk, all)
}

/// Where a text stands: file and byte.
fn find(disk: &SimDisk, text: &str) -> (String, usize) {
    let places = disk.file_names().into_iter().filter_map(|name| {
        let file = disk.read_file(&name);
        let at = file.windows(text.len()).position(|window| window == text.as_bytes())?;
        Some((name, at))
    });
    let found: Vec<_> = places.collect();
    assert_eq!(found.len(), 1, "{text}");
    found[0].clone()
}

fn corruption(error: Error) -> Corruption {
    match error {
        Error::Corrupt(at) => *at,
        other => panic!("{other:?}"),
    }
}

fn segment_of(name: &str) -> u64 {
    u64::from_str_radix(name.strip_prefix("seg-").unwrap(), 16).unwrap()
}

#[test]
fn a_flipped_bit_in_a_cold_page_is_that_pages_damage_alone_and_ends_when_it_is_mended() {
    let (disk, mut all) = cold();
    // In the base, in the delta, and in the delta of one that is in pieces.
    for (victim, text) in [(3, "page3;page3;"), (4, "+page4"), (7, "+long0"), (9, "after1;after1;")] {
        let pc = pages(&disk);
        let guard = pc.pin();
        let (file, at) = find_first(&disk, text);
        assert!(disk.flip_bit(&file, at as u64 * 8 + 3));
        let page = &all[victim];
        for _ in 0..2 {
            let found = corruption(pc.get(page.id, &guard).map(drop).unwrap_err());
            assert_eq!((found.page, found.segment), (Some(page.id), segment_of(&file)), "{found:?}");
            assert!(found.offset <= at as u64 && at as u64 - found.offset < 4096, "{found:?} for {at}");
            assert!(found.lsns.start < found.lsns.end && found.lsns.start <= Lsn(page.at.0), "{found:?}");
            assert_eq!(corruption(pc.fragments(page.id, &guard).map(drop).unwrap_err()), found);
            let (error, rejected) = failed(pc.link_at(page.id, page.at, "mine".into(), &guard));
            assert_eq!((corruption(error), &*rejected), (found, "mine"));
        }
        // What it is can be told without reading it.
        assert_eq!(pc.state(page.id, &guard).unwrap(), PageState::Live(page.at));
        check(&pc, &all[..victim]);
        check(&pc, &all[victim + 1..]);
        assert!(disk.flip_bit(&file, at as u64 * 8 + 3));
        check(&pc, &all[victim..=victim]);
        // The store never noticed.
        all[0].at = pc.link_at(all[0].id, all[0].at, "!".into(), &guard).unwrap();
        all[0].text.push('!');
        drop(guard);
        pc.close().unwrap();
    }
    check(&pages(&disk), &all);
}

/// "Restore the page from a copy" must be possible: at the version that `state` names, nothing is read.
#[test]
fn a_damaged_page_can_be_replaced_or_freed_at_the_version_that_its_state_names() {
    let (disk, mut all) = cold();
    let pc = pages(&disk);
    let guard = pc.pin();
    for (victim, text) in [(3, "page3;page3;"), (4, "+page4")] {
        let (file, at) = find_first(&disk, text);
        disk.flip_bit(&file, at as u64 * 8 + 3);
        assert_eq!(corruption(pc.get(all[victim].id, &guard).map(drop).unwrap_err()).page, Some(all[victim].id));
    }
    let PageState::Live(at) = pc.state(all[3].id, &guard).unwrap() else { panic!("not live") };
    // At any other version it is as damaged as before, and nothing happens.
    let stale = pagecache::Version(at.0 - 8);
    assert!(failed(pc.replace_at(all[3].id, stale, "x".into(), &guard)).0.is_corrupt());
    assert!(failed(pc.free_at(all[3].id, stale, &guard)).0.is_corrupt());
    all[3].at = pc.replace_at(all[3].id, at, all[3].text.clone(), &guard).unwrap();
    let freed = pc.free_at(all[4].id, all[4].at, &guard).unwrap();
    assert_eq!(pc.state(all[4].id, &guard).unwrap(), PageState::Free(freed));
    check(&pc, &all[..4]);
    check(&pc, &all[5..]);
    drop(guard);
    pc.flush().unwrap();
}

/// Pages among others that are freed, below a checkpoint: what they are in can be cleaned.
fn half_dead(pc: &Texts) -> Vec<Page> {
    let (mut kept, mut dead) = (Vec::new(), Vec::new());
    for nth in 0..120 {
        dead.extend(fill(pc, &format!("dead{nth}x"), 1, 3000));
        kept.extend(fill(pc, &format!("kept{nth}x"), 1, 3000));
    }
    for page in &dead {
        pc.free_at(page.id, page.at, &pc.pin()).unwrap();
    }
    pc.flush().unwrap();
    pc.checkpoint().unwrap();
    kept
}

/// Of an image only its head says the version. It is read without the rest, and believed where it says what the caller expects.
#[test]
fn a_page_whose_image_is_damaged_can_be_replaced_or_freed_at_its_version_alone() {
    let disk = SimDisk::new(52);
    let pc = pages(&disk);
    let kept = half_dead(&pc);
    assert!(pc.clean().unwrap() > 0);
    pc.close().unwrap();
    let pc = pages(&disk);
    let guard = pc.pin();
    // In the page's bytes, or in its version, whose last byte is before the two that say how long the text is.
    let flip = |nth: usize, in_version: bool| {
        let text = format!("kept{nth}x0;kept{nth}x0;kept{nth}x0;");
        let mut hit = 0;
        for name in disk.file_names() {
            // Only the first that stands there: what comes behind it is the page's own.
            let file = disk.read_file(&name);
            if let Some(at) = file.windows(text.len()).position(|window| window == text.as_bytes()) {
                let at = if in_version { at - 3 } else { at };
                hit += u64::from(disk.flip_bit(&name, at as u64 * 8));
            }
        }
        assert!(hit > 0);
    };
    let is_image = |id| pc.state(id, &guard).is_err_and(|error| error.is_corrupt());
    let mut images = 0;
    for (nth, &Page { id, at, .. }) in kept.iter().enumerate().take(30) {
        flip(nth, nth % 3 == 2);
        if !is_image(id) {
            continue;
        }
        images += 1;
        assert_eq!(corruption(pc.get(id, &guard).map(drop).unwrap_err()).page, Some(id));
        let stale = pagecache::Version(at.0 - 8);
        assert!(failed(pc.replace_at(id, stale, "x".into(), &guard)).0.is_corrupt());
        assert!(failed(pc.free_at(id, stale, &guard)).0.is_corrupt());
        match nth % 3 {
            0 => {
                pc.replace_at(id, at, "new".into(), &guard).unwrap();
                assert_eq!(*pc.get(id, &guard).unwrap().0, "new");
            }
            1 => {
                let freed = pc.free_at(id, at, &guard).unwrap();
                assert_eq!(pc.state(id, &guard).unwrap(), PageState::Free(freed));
            }
            // It is as of no version that anyone could expect.
            _ => assert!(failed(pc.replace_at(id, at, "x".into(), &guard)).0.is_corrupt()),
        }
    }
    assert!(images > 10, "{images}");
    check(&pc, &kept[30..]);
    drop(guard);
    pc.check_accounts().unwrap();
}

/// What nobody needs any more keeps nobody from giving its segment back, unless it hides what stands behind it.
#[test]
fn a_dead_record_that_is_damaged_is_passed_by_and_one_without_its_length_loses_nothing() {
    for in_length in [false, true] {
        let disk = SimDisk::new(53);
        let pc = pages(&disk);
        let kept = half_dead(&pc);
        pc.close().unwrap();
        // Cold pages are looked for in the segments.
        let pc = pages(&disk);
        let log =
            |disk: &SimDisk| disk.file_names().into_iter().filter(|name| name.starts_with("seg-")).collect::<Vec<_>>();
        let first = log(&disk).into_iter().next().unwrap();
        let (file, at) = find_first(&disk, "dead0x0;dead0x0;dead0x0;");
        assert_eq!(file, first);
        // In its bytes, or in its length: two bytes, behind which are the page's and the two that say how long the text is.
        assert!(disk.flip_bit(&file, (at as u64 - if in_length { 5 } else { 0 }) * 8 + 3));
        for _ in 0..20 {
            pc.clean().unwrap();
        }
        assert_eq!(log(&disk).contains(&first), in_length, "{:?}", log(&disk));
        check(&pc, &kept);
        pc.check_accounts().unwrap();
        pc.close().unwrap();
        check(&pages(&disk), &kept);
    }
}

/// The first place of a text that is there more than once.
fn find_first(disk: &SimDisk, text: &str) -> (String, usize) {
    disk.file_names()
        .into_iter()
        .find_map(|name| {
            let file = disk.read_file(&name);
            let at = file.windows(text.len()).position(|window| window == text.as_bytes())?;
            Some((name, at))
        })
        .unwrap()
}

#[test]
fn a_flipped_bit_in_a_piece_of_a_long_page_is_that_pages_damage() {
    let (disk, all) = cold();
    let pc = pages(&disk);
    let guard = pc.pin();
    let page = &all[7];
    let mut hit = 0;
    for name in disk.file_names() {
        let file = disk.read_file(&name);
        let places: Vec<_> = file.windows(6).enumerate().filter(|(_, window)| *window == b"long0;").collect();
        for (at, _) in places.iter().step_by(997) {
            disk.flip_bit(&name, *at as u64 * 8);
            let found = corruption(pc.get(page.id, &guard).map(drop).unwrap_err());
            assert_eq!((found.page, found.segment), (Some(page.id), segment_of(&name)), "{found:?}");
            disk.flip_bit(&name, *at as u64 * 8);
            hit += 1;
        }
    }
    assert!(hit > 10, "{hit}");
    check(&pc, &all);
}

/// Class: silently skipped undecodable records; misdirected writes: well-formed data where it should not be.
#[test]
fn a_record_of_another_page_or_of_the_past_in_a_pages_place_is_damage() {
    let (disk, all) = cold();
    let pc = pages(&disk);
    let guard = pc.pin();
    let (from, at) = find_first(&disk, "page1;page1;");
    let (to, there) = find_first(&disk, "page2;page2;");
    assert_eq!(from, to);
    let mut file = disk.read_file(&from);
    let before = file.clone();
    let (start, len) = (at - 16, 2200);
    file.copy_within(start..start + len, there - 16);
    disk.write_file(&from, &file);
    let found = corruption(pc.get(all[2].id, &guard).map(drop).unwrap_err());
    assert_eq!(found.page, Some(all[2].id));
    check(&pc, &all[3..]);
    disk.write_file(&from, &before);
    check(&pc, &all);
}

#[test]
fn an_unreadable_range_fails_the_pages_in_it_alone() {
    let (disk, all) = cold();
    let pc = pages(&disk);
    let guard = pc.pin();
    let (file, at) = find(&disk, "+page4");
    disk.unreadable(&file, at as u64..at as u64 + 1);
    match pc.get(all[4].id, &guard) {
        Err(Error::Io { op: "read", path, .. }) => assert_eq!(path, file),
        other => panic!("{:?}", other.map(drop)),
    }
    check(&pc, &all[..3]);
    check(&pc, &all[6..]);
    disk.clear_faults();
    check(&pc, &all);
}

#[test]
fn a_flipped_bit_in_a_record_of_a_log_is_that_records_damage_alone() {
    let disk = SimDisk::new(52);
    let log = log(&disk);
    let written: Vec<_> =
        (0..20).map(|at| log.write(format!("record {at:04}").repeat(100).as_bytes()).unwrap()).collect();
    log.flush().unwrap();
    let (file, at) = find_first(&disk, "record 0011record 0011");
    disk.flip_bit(&file, at as u64 * 8);
    let found = corruption(log.read(written[11]).unwrap_err());
    assert_eq!((found.page, found.segment), (None, segment_of(&file)));
    assert!(found.lsns.contains(&written[11]));
    for (at, lsn) in written.iter().enumerate().filter(|(at, _)| *at != 11) {
        assert!(log.read(*lsn).unwrap() == LogRead::Record(format!("record {at:04}").repeat(100).into_bytes()));
    }
    let seen: Vec<_> = log.iter_from(Lsn(0)).collect();
    assert_eq!(seen.len(), 12, "it ends at the damage: nothing is skipped silently");
    assert_eq!(corruption(seen[11].clone().unwrap_err()).segment, segment_of(&file));
    assert!(seen[..11].iter().all(Result::is_ok));
    // Behind it one can go on, knowingly.
    assert_eq!(log.iter_from(written[12]).filter(Result::is_ok).count(), 8);
    log.close().unwrap();
    // And a start does not take it for the end.
    let found = corruption(Log::start(config(&disk).build()).unwrap_err());
    assert_eq!((found.page, found.segment), (None, segment_of(&file)));
    assert!(found.lsns.contains(&written[11]), "{found:?}");
    disk.flip_bit(&file, at as u64 * 8);
    assert_eq!(log_len(&disk), 20);
}

fn log_len(disk: &SimDisk) -> usize {
    Log::start(config(disk).build()).unwrap().iter_from(Lsn(0)).filter(Result::is_ok).count()
}

/// Class: reads that log or fsync.
#[test]
fn reads_write_nothing_and_sync_nothing_even_where_they_evict() {
    // Unstable ones that fill most of the cache and cannot be let go: few large ones, many small ones, nearly all.
    for (count, len) in [(60, 1000), (400, 100), (75, 1000)] {
        let disk = SimDisk::new(53);
        let pc = pages(&disk);
        let all = fill(&pc, "page", 400, 1000);
        pc.close().unwrap();
        let pc = Texts::start(config(&disk).cache_capacity(448 << 10).build()).unwrap();
        let unstable = fill(&pc, "unstable", count, len);
        assert!(pc.stable_lsn() < Lsn(unstable[0].at.0), "they are stable");
        let before = disk.io_count();
        for _ in 0..3 {
            check(&pc, &all);
            check(&pc, &unstable);
            let guard = pc.pin();
            assert!(all.iter().all(|page| pc.state(page.id, &guard).is_ok()));
            assert!(pc.page_ids().map(Result::unwrap).count() == all.len() + unstable.len());
            assert!(matches!(pc.get(PageId(u64::MAX), &guard), Err(Error::NoPage { .. })));
        }
        assert_eq!(disk.io_count(), before, "a read wrote or synced");
    }
}
