//! Online faults of the simulated disk: errors, liars, lost and misplaced bytes, and a full disk.

use std::sync::Arc;

use pagecache::storage::{OpenMode, Storage, StorageFile, read_full, write_all};
use pagecache_sim::disk::{AfterSync, Call, Effect, Fault, SimDisk, Survival, When};

fn with_ones() -> (SimDisk, Arc<dyn StorageFile>) {
    let disk = SimDisk::new(1);
    disk.write_file("a", &[1; 2048]);
    let file = disk.open("a", OpenMode::ReadWrite).unwrap();
    (disk, file)
}

fn raw<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn every_call_fails_on_command() {
    for call in Call::ALL {
        for (effect, code) in [(Effect::Eio, 5), (Effect::Enospc, 28), (Effect::Eintr, 4)] {
            let (disk, file) = with_ones();
            disk.fault(Fault::new(call, When::Once(0), effect));
            // A created file sorts behind both names that the first one may have.
            let results = [
                raw(file.read_at(&mut [0], 0)),
                raw(file.write_at(&[2], 0)),
                raw(file.sync_data()),
                raw(disk.sync_dir()),
                raw(file.allocate(0, 1)),
                raw(file.set_len(2048)),
                raw(disk.open("d", OpenMode::CreateNew)),
                raw(disk.rename("a", "c")),
                raw(disk.remove(&disk.file_names()[0])),
            ];
            let struck: Vec<_> = Call::ALL.iter().zip(results).filter(|(_, code)| code.is_some()).collect();
            assert_eq!(struck, [(&call, Some(code))]);
        }
    }
}

#[test]
fn faults_strike_once_from_then_on_or_by_chance() {
    let (disk, file) = with_ones();
    let pattern = |when| -> String {
        disk.clear_faults();
        disk.fault(Fault::new(Call::Write, when, Effect::Eio));
        (0..6).map(|_| if file.write_at(&[2], 0).is_ok() { '.' } else { 'x' }).collect()
    };
    assert_eq!(pattern(When::Once(2)), "..x...");
    assert_eq!(pattern(When::From(2)), "..xxxx");
    assert_eq!(pattern(When::Chance { one_in: 0, seed: 1 }), "......");
    assert_eq!(pattern(When::Chance { one_in: 1, seed: 1 }), "xxxxxx");
    let half = |seed| pattern(When::Chance { one_in: 2, seed });
    assert_eq!(half(3), half(3));
    assert!((0..9).any(|seed| half(seed) != half(3)));
}

#[test]
fn faults_can_be_kept_to_some_files() {
    let (disk, file) = with_ones();
    disk.fault(Fault::new(Call::Write, When::From(0), Effect::Eio).on("b"));
    let other = disk.open("b.1", OpenMode::CreateNew).unwrap();
    assert!(file.write_at(&[2], 0).is_ok() && other.write_at(&[2], 0).is_err());
}

#[test]
fn short_transfers_and_interruptions_are_survived_by_loops() {
    let (disk, file) = with_ones();
    for call in [Call::Read, Call::Write] {
        disk.fault(Fault::new(call, When::Chance { one_in: 3, seed: 1 }, Effect::Eintr));
        disk.fault(Fault::new(call, When::From(0), Effect::Short));
    }
    let bytes: Vec<u8> = (0..=255).collect();
    write_all(&*file, &bytes, 10).unwrap();
    assert!(disk.io_count() > 8);
    let mut back = [0; 256];
    assert_eq!(read_full(&*file, &mut back, 10).unwrap(), 256);
    assert_eq!(back[..], bytes);
}

#[test]
fn after_a_failed_sync_pages_may_be_kept_clean() {
    let (disk, file) = with_ones();
    disk.fault(Fault::new(Call::SyncData, When::Once(0), Effect::SyncFails(AfterSync::KeptClean)));
    file.write_at(&[2], 0).unwrap();
    assert_eq!(raw(file.sync_data()), Some(5));
    file.write_at(&[3], 1).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.read_file("a")[..3], [2, 3, 1]);
    assert_eq!(disk.crash(Survival::KeepAll).read_file("a")[..3], [1, 3, 1], "the later sync skipped the clean page");
}

#[test]
fn after_a_failed_sync_pages_may_be_dropped() {
    let (disk, file) = with_ones();
    disk.fault(Fault::new(Call::SyncData, When::Once(0), Effect::SyncFails(AfterSync::Dropped)));
    file.write_at(&[2; 9], 2045).unwrap();
    assert_eq!(raw(file.sync_data()), Some(5));
    assert_eq!(disk.read_file("a"), [1; 2048]);
    file.sync_data().unwrap();
    assert_eq!(disk.crash(Survival::KeepAll).read_file("a"), [1; 2048]);
}

#[test]
fn after_a_failed_sync_later_ones_may_lie() {
    let (disk, file) = with_ones();
    disk.fault(Fault::new(Call::SyncData, When::Once(0), Effect::SyncFails(AfterSync::LaterSyncLies)));
    file.write_at(&[2], 0).unwrap();
    assert_eq!(raw(file.sync_data()), Some(5));
    file.sync_data().unwrap();
    assert_eq!(disk.crash(Survival::DropAll).read_file("a")[0], 1);
    disk.clear_faults();
    file.sync_data().unwrap();
    assert_eq!(disk.crash(Survival::DropAll).read_file("a")[0], 2);
}

#[test]
fn a_failed_directory_sync_has_the_same_three_ends() {
    let run = |after| {
        let disk = SimDisk::new(1);
        disk.fault(Fault::new(Call::SyncDir, When::Once(0), Effect::SyncFails(after)));
        let file = disk.open("a", OpenMode::CreateNew).unwrap();
        assert_eq!(raw(disk.sync_dir()), Some(5));
        disk.sync_dir().unwrap();
        file.write_at(&[1], 0).unwrap();
        (disk.file_names().len(), disk.crash(Survival::DropAll).file_names().len(), disk.pending_count())
    };
    assert_eq!(run(AfterSync::KeptClean), (1, 0, 1));
    assert_eq!(run(AfterSync::Dropped), (0, 0, 1));
    assert_eq!(run(AfterSync::LaterSyncLies), (1, 0, 2));
}

#[test]
fn a_plain_sync_error_leaves_everything_pending() {
    let (disk, file) = with_ones();
    disk.fault(Fault::new(Call::SyncData, When::Once(0), Effect::Eio));
    file.write_at(&[2], 0).unwrap();
    assert_eq!(raw(file.sync_data()), Some(5));
    assert_eq!(disk.crash(Survival::KeepAll).read_file("a")[0], 2);
    file.sync_data().unwrap();
    assert_eq!(disk.crash(Survival::DropAll).read_file("a")[0], 2);
}

#[test]
fn a_lying_sync_makes_nothing_durable() {
    let (disk, file) = with_ones();
    disk.fault(Fault::new(Call::SyncData, When::From(0), Effect::LyingSync));
    disk.fault(Fault::new(Call::SyncDir, When::From(0), Effect::LyingSync));
    file.write_at(&[2], 0).unwrap();
    disk.rename("a", "b").unwrap();
    file.sync_data().unwrap();
    disk.sync_dir().unwrap();
    assert_eq!(disk.crash(Survival::DropAll).read_file("a")[0], 1);
    assert_eq!(disk.pending_count(), 2);
}

#[test]
fn lost_and_misdirected_writes_say_ok() {
    let (disk, file) = with_ones();
    disk.fault(Fault::new(Call::Write, When::Once(0), Effect::LostWrite));
    disk.fault(Fault::new(Call::Write, When::Once(1), Effect::MisdirectedWrite { delta: -512 }));
    assert_eq!(file.write_at(&[2; 100], 2000).unwrap(), 100);
    let found = disk.read_file("a");
    assert!(found.len() == 2100 && found[..2048] == [1; 2048] && found[2048..] == [0; 52]);
    assert_eq!(file.write_at(&[3; 4], 1024).unwrap(), 4);
    let found = disk.read_file("a");
    assert!(found[512..516] == [3; 4] && found[1024..1028] == [1; 4]);
    file.sync_data().unwrap();
    assert_eq!(disk.crash(Survival::DropAll).read_file("a"), found);
}

#[test]
fn flipped_bits_and_unreadable_ranges_are_met_by_reads() {
    let (disk, file) = with_ones();
    assert!(disk.flip_bit("a", 8 * 700 + 1) && !disk.flip_bit("a", 8 * 2048));
    assert_eq!(disk.read_file("a")[700], 3);
    assert_eq!(disk.crash(Survival::DropAll).read_file("a")[700], 3);
    disk.unreadable("a", 512..1024);
    let mut buf = [0; 512];
    assert_eq!(raw(file.read_at(&mut buf, 1)), Some(5));
    assert!(file.read_at(&mut buf, 0).is_ok() && file.read_at(&mut buf, 1024).is_ok());
    disk.clear_faults();
    assert!(file.read_at(&mut buf, 600).is_ok());
}

#[test]
fn a_full_disk_refuses_growth_until_there_is_room() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(4 * 4096));
    let file = disk.open("a", OpenMode::CreateNew).unwrap();
    file.allocate(0, 3 * 4096).unwrap();
    file.set_len(1 << 20).unwrap();
    assert_eq!((disk.used_bytes(), file.allocated().unwrap()), (3 * 4096, 3 * 4096), "holes occupy nothing");
    file.write_at(&[1], 4096).unwrap();
    file.write_at(&[1], 5 * 4096).unwrap();
    assert_eq!(raw(file.write_at(&[1], 6 * 4096)), Some(28));
    assert_eq!(raw(file.allocate(0, 4 * 4096)), Some(28));
    let other = disk.open("b", OpenMode::CreateNew).unwrap();
    assert_eq!(raw(other.write_at(&[1], 0)), Some(28));
    disk.remove("a").unwrap();
    assert_eq!(raw(other.write_at(&[1], 0)), Some(28), "an open handle holds the space");
    drop(file);
    other.write_at(&[1], 0).unwrap();
    assert_eq!(disk.used_bytes(), 4096);
    disk.set_capacity(Some(4096));
    assert_eq!(raw(other.write_at(&[1], 4096)), Some(28));
    disk.set_capacity(None);
    other.write_at(&[1], 4096).unwrap();
}

#[test]
#[should_panic(expected = "means nothing")]
fn a_fault_that_means_nothing_is_refused() {
    let _ = Fault::new(Call::Read, When::Once(0), Effect::LyingSync);
}
