//! Errors and damage: told at once, to whoever asked, and never tried again for ever.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pagecache::inspect::verify;
use pagecache::{Error, Log, Lsn};
use pagecache_sim::disk::{Call, Effect, Fault, SimDisk, Survival, When};
use pagecache_sim::rng::Rng;

use crate::harness::{bytes, check, config, failed, fill, log, pages, records, within_a_minute};

/// sled 239: an error inside the loop that reserves was met again and again, and nobody was told. Here every writer is told, with
/// few calls of the disk, and goes on once the disk works.
#[test]
fn a_writer_that_meets_an_error_is_told_and_does_not_try_for_ever() {
    within_a_minute(|| {
        for call in [Call::Create, Call::SetLen, Call::Allocate, Call::Write, Call::Rename] {
            let disk = SimDisk::new(1);
            let log = log(&disk);
            disk.fault(Fault::new(call, When::From(0), Effect::Eio).on("tmp-"));
            let told: u64 = std::thread::scope(|scope| {
                let writers: Vec<_> = (0..4)
                    .map(|writer| {
                        let log = &log;
                        scope.spawn(move || {
                            let tried = (0..200).map(|turn| log.write(&bytes(writer * 200 + turn, 2000)));
                            tried.filter(|written| matches!(written, Err(Error::Io { .. }))).count() as u64
                        })
                    })
                    .collect();
                writers.into_iter().map(|writer| writer.join().unwrap()).sum()
            });
            assert!(told > 600, "{call:?}: only {told} were told");
            let struck = disk.struck().len() as u64;
            assert!(struck <= told, "{call:?}: {struck} calls failed for {told} who were told");
            disk.clear_faults();
            let after = log.write(b"after").unwrap();
            log.close().unwrap();
            let found = records(&self::log(&disk));
            assert_eq!(found.len() as u64, 800 - told + 1, "{call:?}");
            assert_eq!(found.last().unwrap(), &(after, b"after".to_vec()));
        }
    });
}

/// rocksdb 12995: a write failed after a part of it, the store went on by itself, and the file had the part and the whole. Here
/// nobody goes on behind it, and what is found later is what was acknowledged and whole records after.
#[test]
fn a_write_that_failed_half_way_is_never_gone_on_with() {
    let (mut parts, mut seeds) = (0, 0..40u64);
    let all = seeds.all(|seed| {
        let disk = SimDisk::new(seed);
        let open = log(&disk);
        let mut written: Vec<_> = (0..5).map(|at| (open.write(&bytes(at, 3000)).unwrap(), bytes(at, 3000))).collect();
        open.flush().unwrap();
        let acknowledged = written.len();
        written.extend((5..10).map(|at| (open.write(&bytes(at, 3000)).unwrap(), bytes(at, 3000))));
        disk.fault(Fault::new(Call::Write, When::Once(0), Effect::Short).on("seg-"));
        disk.fault(Fault::new(Call::Write, When::Once(1), Effect::Eio).on("seg-"));
        assert!(matches!(open.flush(), Err(Error::Poisoned { .. })));
        parts += disk.pending_count();
        let stable = open.stable_lsn();
        assert!(matches!(open.write(b"x"), Err(Error::Poisoned { .. })) && open.tick().is_err());
        assert!(matches!(open.flush(), Err(Error::Poisoned { .. })) && open.stable_lsn() == stable);
        assert!(matches!(open.close(), Err(Error::Poisoned { .. })));
        let machine = disk.crash(Survival::Random(seed));
        [disk.kill(), machine].iter().all(|next| {
            let found = records(&log(next));
            found.len() >= acknowledged && written.starts_with(&found)
        })
    });
    assert!(all, "a part of a failed write was taken for data");
    assert!(parts > 0, "no part was written");
}

/// photondb 337: a page's address and its file disagreed, and the reader looked the page up again for ever. Here it is told, after a
/// few reads, each time anew, and other pages are as they were.
#[test]
fn a_page_whose_place_holds_another_one_is_told_and_not_looked_for_for_ever() {
    within_a_minute(|| {
        let disk = SimDisk::new(3);
        let pc = pages(&disk);
        let all = fill(&pc, "page", 6, 2000);
        pc.close().unwrap();
        let pc = pages(&disk);
        let guard = pc.pin();
        let name = disk.file_names().into_iter().find(|name| name.starts_with("seg-")).unwrap();
        let mut file = disk.read_file(&name);
        // A record begins ten bytes before its text: checksum, kind, length, page, length of the text.
        let place = |text: &[u8]| file.windows(text.len()).position(|window| window == text).unwrap() - 10;
        let (from, to) = (place(b"page1;page1;"), place(b"page2;page2;"));
        file.copy_within(from..from + 1500, to);
        disk.write_file(&name, &file);
        for _ in 0..3 {
            let before = disk.read_count();
            assert!(
                matches!(pc.get(all[2].id, &guard).map(drop), Err(Error::Corrupt(at)) if at.page == Some(all[2].id))
            );
            assert!(matches!(failed(pc.link_at(all[2].id, all[2].at, "x".into(), &guard)).0, Error::Corrupt(_)));
            assert!(disk.read_count() - before < 20, "{} reads", disk.read_count() - before);
        }
        check(&pc, &all[3..]);
        check(&pc, &all[..2]);
    });
}

/// sled 954: recovery panicked; redb 1333: so did the repair. Here garbage, zeros, and bytes from elsewhere stand anywhere in a
/// store: a start and a verification say something, and a start that succeeds shows whole records only.
#[test]
fn no_garbage_in_a_store_makes_a_start_or_a_verification_panic() {
    let disk = SimDisk::new(4);
    let open = log(&disk);
    let written: Vec<_> = (0..40).map(|at| (open.write(&bytes(at, 4000)).unwrap(), bytes(at, 4000))).collect();
    open.write(&bytes(99, 100_000)).unwrap();
    open.close().unwrap();
    let (mut opened, mut refused) = (0, 0);
    for seed in 0..400 {
        let (image, mut rng) = (disk.crash(Survival::KeepAll), Rng::new(seed));
        let names: Vec<_> = image.file_names().into_iter().filter(|name| name.starts_with("seg-")).collect();
        let name = rng.pick(&names).clone();
        let mut file = image.read_file(&name);
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(file.len() as u64 - 1) as usize;
            let bits = 1 + rng.below(14);
            let len = (1 + rng.below(1 << bits) as usize).min(file.len() - at);
            let from = rng.below((file.len() - len) as u64 + 1) as usize;
            match rng.below(3) {
                0 => file[at..at + len].fill(0),
                1 => file[at..at + len].iter_mut().for_each(|byte| *byte = rng.next_u64() as u8),
                _ => file.copy_within(from..from + len, at),
            }
        }
        image.write_file(&name, &file);
        let looked = catch_unwind(AssertUnwindSafe(|| verify(config(&image).build()).map(drop)));
        assert!(looked.is_ok(), "seed {seed}: the verification panics");
        let start = || {
            let log = Log::start(config(&image).build())?;
            let found: Result<Vec<_>, Error> = log.iter_from(Lsn(0)).collect();
            found
        };
        match catch_unwind(AssertUnwindSafe(start)) {
            Ok(Ok(found)) => {
                opened += 1;
                let known = |record| written.contains(record) || record.1 == bytes(99, 100_000);
                assert!(found.iter().all(known), "seed {seed}: a record that nobody wrote");
            }
            Ok(Err(_)) => refused += 1,
            Err(_) => panic!("seed {seed}: the start panics"),
        }
    }
    println!("{opened} opened, {refused} were refused");
    assert!(opened > 0 && refused > 100);
}

/// fjall 311: damage in the middle of a log was taken for its torn end, and all that came after was dropped without a word. Here a bit
/// in any of several acknowledged records, with rounds after it, fails the start, which changes nothing.
#[test]
fn damage_below_what_a_later_mark_proves_is_never_taken_for_the_end() {
    let disk = SimDisk::new(5);
    let open = log(&disk);
    let written: Vec<_> = (0..6)
        .map(|at| {
            let lsn = open.write(&bytes(at, 900)).unwrap();
            open.flush().unwrap();
            (lsn, bytes(at, 900))
        })
        .collect();
    // Not closed: this is what a crash leaves.
    let name = disk.file_names().into_iter().find(|name| name.starts_with("seg-")).unwrap();
    for (lsn, _) in &written[..5] {
        for byte in (0..900).step_by(37) {
            let image = disk.crash(Survival::KeepAll);
            assert!(image.flip_bit(&name, (lsn.0 + byte) * 8 + 1));
            match Log::start(config(&image).build()) {
                Err(Error::Corrupt(at)) => assert!(at.lsns.contains(lsn), "{at:?} for {lsn}"),
                Ok(log) => panic!("{} of {} records, and no word", records(&log).len(), written.len()),
                Err(other) => panic!("{other:?}"),
            }
            assert!(image.flip_bit(&name, (lsn.0 + byte) * 8 + 1));
            assert!(records(&log(&image)) == written);
        }
    }
}
