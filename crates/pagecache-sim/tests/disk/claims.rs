//! Durability, crash images, counting and locks of the simulated disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use pagecache::storage::{LockMode, OpenMode, Storage, StorageFile};
use pagecache_sim::disk::{Call, Effect, Fault, Rest, SimDisk, Survival, When};

fn create(disk: &SimDisk, name: &str) -> Arc<dyn StorageFile> {
    disk.open(name, OpenMode::CreateNew).unwrap()
}

/// A disk with one durable file of 2048 bytes of 1.
fn with_ones() -> (SimDisk, Arc<dyn StorageFile>) {
    let disk = SimDisk::new(1);
    disk.write_file("a", &[1; 2048]);
    let file = disk.open("a", OpenMode::ReadWrite).unwrap();
    (disk, file)
}

fn shared(_: &(impl Send + Sync)) {}

#[test]
fn unsynced_writes_are_read_now_and_lost_at_a_crash() {
    let (disk, file) = with_ones();
    shared(&disk);
    file.write_at(&[2; 10], 5).unwrap();
    let mut buf = [0; 20];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 20);
    assert!(buf[..5] == [1; 5] && buf[5..15] == [2; 10] && buf[15..] == [1; 5]);
    assert_eq!(disk.crash(Survival::DropAll).read_file("a"), [1; 2048]);
    assert_eq!(disk.crash(Survival::KeepAll).read_file("a"), disk.read_file("a"));
}

#[test]
fn sync_data_makes_bytes_and_length_durable_but_not_the_name() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "a");
    file.write_at(b"abc", 100).unwrap();
    file.sync_data().unwrap();
    assert!(disk.crash(Survival::DropAll).file_names().is_empty());
    assert_eq!(disk.crash(Survival::KeepAll).read_file("a").len(), 103);
    disk.sync_dir().unwrap();
    assert_eq!(disk.pending_count(), 0);
    let found = disk.crash(Survival::DropAll).read_file("a");
    assert!(found[..100] == [0; 100] && found[100..] == *b"abc");
}

#[test]
fn sync_dir_makes_the_name_durable_but_not_the_bytes() {
    let disk = SimDisk::new(1);
    create(&disk, "a").write_at(b"abc", 0).unwrap();
    disk.sync_dir().unwrap();
    assert_eq!(disk.crash(Survival::DropAll).read_file("a"), b"");
    assert_eq!(disk.crash(Survival::KeepAll).read_file("a"), b"abc");
}

#[test]
fn a_removal_that_is_not_durable_brings_the_durable_file_back() {
    let (disk, file) = with_ones();
    file.write_at(&[2], 0).unwrap();
    disk.remove("a").unwrap();
    let mut buf = [0; 1];
    assert_eq!((file.read_at(&mut buf, 0).unwrap(), buf), (1, [2]), "open handles stay readable");
    drop(file);
    assert!(disk.open("a", OpenMode::ReadOnly).is_err());
    assert_eq!(disk.crash(Survival::DropAll).read_file("a"), [1; 2048]);
    assert_eq!(disk.crash(Survival::AllBut(1)).read_file("a")[0], 2);
    assert!(disk.crash(Survival::KeepAll).file_names().is_empty());
    disk.sync_dir().unwrap();
    assert!(disk.crash(Survival::DropAll).file_names().is_empty());
    assert_eq!(disk.pending_count(), 0);
}

#[test]
fn a_rename_is_atomic_in_every_image() {
    let (disk, _) = with_ones();
    let file = create(&disk, "a.new");
    file.write_at(b"new", 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir().unwrap();
    disk.rename("a.new", "a").unwrap();
    disk.rename("a", "b").unwrap();
    create(&disk, "a");
    let mut found = BTreeSet::new();
    for survival in disk.images(100, 0) {
        let image = disk.crash(survival);
        let news = image.file_names().into_iter().filter(|name| image.read_file(name) == b"new");
        assert_eq!(news.count(), 1, "{survival:?}: {:?}", image.file_names());
        found.insert(image.file_names());
    }
    assert!(found.len() >= 4, "{found:?}");
}

#[test]
fn any_subset_of_pending_writes_survives() {
    let (disk, file) = with_ones();
    for (value, offset) in [(2, 0), (3, 600), (4, 1200)] {
        file.write_at(&[value], offset).unwrap();
    }
    let read = |survival| {
        let bytes = disk.crash(survival).read_file("a");
        [bytes[0], bytes[600], bytes[1200]]
    };
    assert_eq!(read(Survival::Prefix(2)), [2, 3, 1]);
    assert_eq!(read(Survival::OnlyOne(1)), [1, 3, 1]);
    assert_eq!(read(Survival::AllBut(1)), [2, 1, 4]);
    assert_eq!(read(Survival::Subset(0b101)), [2, 1, 4]);
    let all: BTreeSet<_> = disk.images(64, 0).into_iter().map(read).collect();
    assert_eq!(all.len(), 8);
    let random: BTreeSet<_> = (0..64).map(|seed| read(Survival::Random(seed))).collect();
    assert_eq!(random.len(), 8);
}

#[test]
fn a_kept_write_past_the_durable_end_covers_the_gap() {
    let (disk, file) = with_ones();
    file.write_at(&[2; 1000], 2048).unwrap();
    file.write_at(&[3; 1000], 3048).unwrap();
    let found = disk.crash(Survival::OnlyOne(1)).read_file("a");
    assert!(found[2048..3048] == [0; 1000] && found[3048..] == [3; 1000]);
    let found = disk.crash(Survival::LengthsOnly(5)).read_file("a");
    assert_eq!(found.len(), 4048);
    assert!(found[..2048] == [1; 2048] && found[2048..].iter().collect::<BTreeSet<_>>().len() > 100, "garbage");
    let garbage = |seed| disk.crash(Survival::Random(seed)).read_file("a").iter().any(|byte| *byte > 3);
    assert!((0..64).any(garbage) && !(0..64).all(garbage));
}

#[test]
fn a_lost_truncation_leaves_the_old_tail() {
    let (disk, file) = with_ones();
    file.set_len(0).unwrap();
    file.write_at(&[2; 100], 0).unwrap();
    let found = disk.crash(Survival::AllBut(0)).read_file("a");
    assert!(found.len() == 2048 && found[..100] == [2; 100] && found[100..] == [1; 1948]);
    assert_eq!(disk.crash(Survival::KeepAll).read_file("a"), [2; 100]);
    assert!(disk.crash(Survival::OnlyOne(0)).read_file("a").is_empty());
}

#[test]
fn writes_tear_at_sectors_and_inside_them() {
    let (disk, file) = with_ones();
    file.write_at(&[2; 100], 0).unwrap();
    file.write_at(&[3; 2000], 1000).unwrap();
    file.write_at(&[4; 100], 100).unwrap();
    let torn = |bytes, rest| disk.crash(Survival::Torn { event: 1, bytes, rest }).read_file("a");
    let found = torn(24, Rest::Absent);
    assert!(found[..100] == [2; 100] && found[100..1000] == [1; 900], "all before is kept, nothing after");
    assert!(found[1000..1024] == [3; 24] && found[1024..] == [1; 1024]);
    assert_eq!(torn(1501, Rest::Absent).len(), 2501);
    let zeros = torn(1501, Rest::Zeros);
    assert!(zeros[1000..2501] == [3; 1501] && zeros[2501..] == [0; 499]);
    let garbage = torn(1501, Rest::Garbage(1));
    assert!(garbage.len() == 3000 && garbage[..2501] == zeros[..2501] && garbage[2501..] != zeros[2501..]);
    let is_torn = |survival: &Survival| match survival {
        Survival::Torn { event: 1, bytes, .. } => Some((1000 + bytes) % 512 == 0),
        _ => None,
    };
    let kinds: BTreeSet<bool> = disk.images(64, 0).iter().filter_map(is_torn).collect();
    assert_eq!(kinds.len(), 2);
}

#[test]
fn random_images_lose_sectors_of_one_write() {
    let (disk, file) = with_ones();
    file.write_at(&[2; 1024], 512).unwrap();
    let sectors = |seed| {
        let bytes = disk.crash(Survival::Random(seed)).read_file("a");
        (bytes[512], bytes[1024])
    };
    let found: BTreeSet<_> = (0..64).map(sectors).collect();
    assert_eq!(found, BTreeSet::from([(1, 1), (1, 2), (2, 1), (2, 2)]));
}

#[test]
fn images_are_distinct_repeatable_and_within_the_limit() {
    for count in 0..40_u64 {
        let disk = SimDisk::new(count);
        let file = create(&disk, "a");
        for at in 1..count {
            file.write_at(&[at as u8; 700], at * 300).unwrap();
        }
        for limit in [8, 32, 200] {
            let images = disk.images(limit, count);
            assert_eq!(images, disk.images(limit, count));
            assert!(
                images.len() <= limit && images.contains(&Survival::DropAll) && images.contains(&Survival::KeepAll)
            );
            assert_eq!(images.iter().collect::<BTreeSet<_>>().len(), images.len());
            assert!(count < 8 || images.len() == limit, "{count} {limit} {}", images.len());
        }
    }
    assert_eq!(SimDisk::new(1).images(32, 0), [Survival::DropAll]);
}

#[test]
fn an_image_is_a_fresh_disk_and_drawing_it_changes_nothing() {
    let (disk, file) = with_ones();
    let _lock = disk.lock(LockMode::Exclusive).unwrap();
    file.write_at(&[2], 0).unwrap();
    let image = disk.crash(Survival::KeepAll);
    assert!(image.lock(LockMode::Exclusive).is_ok());
    assert_eq!((image.io_count(), image.pending_count(), image.crashed()), (0, 0, false));
    image.open("a", OpenMode::ReadWrite).unwrap().write_at(&[9], 1).unwrap();
    assert_eq!((disk.read_file("a")[1], disk.pending_count(), image.pending_count()), (1, 1, 1));
    assert_eq!(disk.crash(Survival::DropAll).read_file("a")[0], 1);
}

#[test]
fn from_the_crash_point_on_nothing_takes_effect() {
    let run = |disk: &SimDisk| -> std::io::Result<()> {
        let file = disk.open("a", OpenMode::CreateNew)?;
        file.allocate(0, 100)?;
        file.write_at(&[1], 0)?;
        file.read_at(&mut [0], 0)?;
        file.set_len(10)?;
        file.sync_data()?;
        disk.rename("a", "b")?;
        disk.sync_dir()?;
        disk.remove("b")
    };
    let whole = SimDisk::new(1);
    run(&whole).unwrap();
    assert_eq!(whole.io_count(), 8);
    for nth in 0..8 {
        let disk = SimDisk::new(1);
        disk.crash_at(nth);
        let error = run(&disk).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (std::io::ErrorKind::Other, "crashed".to_owned()));
        assert!(disk.crashed() && disk.io_count() == nth);
        assert!(disk.sync_dir().is_err() && disk.list().is_err() && disk.open("a", OpenMode::ReadOnly).is_err());
    }
    let disk = SimDisk::new(1);
    disk.crash_at(8);
    assert!(run(&disk).is_ok() && !disk.crashed());
}

#[test]
fn equal_runs_have_equal_traces_and_equal_entropy() {
    let run = |value: u8, seed| {
        let disk = SimDisk::new(seed);
        create(&disk, "a").write_at(&[value; 9], 3).unwrap();
        let first = disk.entropy();
        let image = disk.crash(Survival::DropAll);
        let second = image.entropy();
        assert!(second != first && second == disk.entropy(), "the sequence goes on after a crash: no salt comes twice");
        (disk.trace_hash(), first)
    };
    assert_eq!(run(1, 1), run(1, 1));
    assert_ne!(run(1, 1).0, run(2, 1).0);
    assert_ne!(run(1, 1).1, run(1, 2).1);
}

#[test]
fn one_writer_or_many_readers() {
    let disk = SimDisk::new(1);
    let writer = disk.lock(LockMode::Exclusive).unwrap();
    assert_eq!(disk.clone().lock(LockMode::Shared).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(writer);
    let _reader = disk.lock(LockMode::Shared).unwrap();
    assert!(disk.lock(LockMode::Shared).is_ok() && disk.lock(LockMode::Exclusive).is_err());
}

#[test]
fn read_only_handles_do_not_write_and_names_must_be_right() {
    let (disk, _) = with_ones();
    let file = disk.open("a", OpenMode::ReadOnly).unwrap();
    assert!(file.write_at(&[1], 0).is_err() && file.set_len(0).is_err() && file.allocate(0, 1).is_err());
    assert!(disk.open("a", OpenMode::CreateNew).is_err() && disk.rename("b", "c").is_err());
    assert_eq!((disk.total_len(), disk.list().unwrap()), (2048, vec!["a".to_owned()]));
}

#[test]
fn content_equals_a_plain_vector() {
    let mut rng = pagecache_sim::rng::Rng::new(7);
    let disk = SimDisk::new(1);
    let file = create(&disk, "a");
    let mut model: Vec<u8> = Vec::new();
    for _ in 0..2000 {
        let (offset, len) = (rng.index(20_000), rng.index(6000) + 1);
        match rng.below(8) {
            0 => {
                file.set_len(offset as u64).unwrap();
                model.resize(offset, 0);
            }
            1 => {
                file.allocate(offset as u64, len as u64).unwrap();
                model.resize(model.len().max(offset + len), 0);
            }
            2 => file.sync_data().unwrap(),
            _ => {
                let mut bytes = vec![0; len];
                rng.fill(&mut bytes);
                file.write_at(&bytes, offset as u64).unwrap();
                model.resize(model.len().max(offset + len), 0);
                model[offset..offset + len].copy_from_slice(&bytes);
            }
        }
        assert!(disk.read_file("a") == model && file.len().unwrap() == model.len() as u64);
        assert!(disk.crash(Survival::KeepAll).read_file("a") == model, "pending events lead to what is read");
    }
}

#[test]
fn a_killed_process_loses_nothing_and_leaves_its_unsynced_bytes_unsynced() {
    let (disk, file) = with_ones();
    file.write_at(&[2; 10], 5).unwrap();
    create(&disk, "b").write_at(b"new", 0).unwrap();
    disk.rename("b", "c").unwrap();
    let lock = disk.lock(LockMode::Exclusive).unwrap();
    disk.fault(Fault::new(Call::Read, When::From(0), Effect::Eio));
    disk.crash_at(0);
    assert!(disk.sync_dir().is_err());
    let next = disk.kill();
    assert_eq!((next.file_names(), next.io_count(), next.crashed()), (vec!["a".into(), "c".into()], 0, false));
    assert_eq!(next.pending_count(), disk.pending_count());
    assert_eq!((next.read_file("a"), next.read_file("c")), (disk.read_file("a"), b"new".to_vec()));
    let _lock = next.lock(LockMode::Exclusive).unwrap();
    assert_eq!(next.open("c", OpenMode::ReadWrite).unwrap().read_at(&mut [0; 3], 0).unwrap(), 3);
    assert_eq!(next.crash(Survival::DropAll).file_names(), ["a"]);
    assert_eq!(next.crash(Survival::DropAll).read_file("a"), [1; 2048]);
    next.open("a", OpenMode::ReadWrite).unwrap().sync_data().unwrap();
    assert_eq!(next.crash(Survival::DropAll).read_file("a"), disk.read_file("a"));
    drop(lock);
}
