//! Births, roots and turns that fail, and what is as it was after that.
#![forbid(unsafe_code)]

use pagecache::storage::Storage;
use pagecache::{Background, ConfigBuilder, Error, Log, PageCache, PageId, Version};
use pagecache_sim::disk::{Call, Effect, Fault, SimDisk, When};
use pagecache_sim::linear::player::{Joined, Words};

const SEGMENT: u64 = 64 << 10;

fn config(disk: &SimDisk) -> ConfigBuilder {
    ConfigBuilder::new().storage(disk.clone()).segment_size(SEGMENT).background(Background::Caller)
}

fn names(disk: &SimDisk, prefix: &str) -> Vec<String> {
    let mut names: Vec<String> = disk.list().unwrap().into_iter().filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

/// Every birth that failed took a number with it. They end, and a store that asked a full disk for long enough had none left.
#[test]
fn a_disk_that_is_full_for_long_uses_up_no_numbers() {
    for fails in [Call::Create, Call::Allocate, Call::SetLen] {
        let disk = SimDisk::new(1);
        let log = Log::start(config(&disk).build()).unwrap();
        disk.fault(Fault::new(fails, When::From(0), Effect::Enospc));
        let mut refused = 0;
        while refused < 100 {
            match log.write(&[7; 1000]) {
                Ok(_) => {}
                Err(Error::NoSpace { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        disk.clear_faults();
        for _ in 0..100 {
            log.write(&[7; 1000]).unwrap();
        }
        let segments = names(&disk, "seg-");
        let last = segments.len() as u64 - 1;
        assert!(segments.len() > 1 && segments.last() == Some(&format!("seg-{last:016x}")), "{fails:?}: {segments:?}");
        log.close().unwrap();
    }
}

#[test]
fn a_birth_that_cannot_be_named_leaves_no_file() {
    let disk = SimDisk::new(1);
    let log = Log::start(config(&disk).build()).unwrap();
    disk.fault(Fault::new(Call::Rename, When::From(0), Effect::Enospc));
    let refused = (0..300).filter(|_| log.write(&[7; 1000]).is_err()).count();
    assert!(refused > 100, "{refused}");
    assert_eq!((names(&disk, "tmp-").len(), names(&disk, "seg-").len()), (0, 1));
    disk.clear_faults();
    log.write(&[7; 1000]).unwrap();
    log.close().unwrap();
}

fn page(word: u64) -> Words {
    Words(vec![word; 100])
}

fn fill(pages: &PageCache<Joined>, count: u64) -> Vec<(PageId, Version)> {
    let one = |word| {
        let guard = pages.pin();
        let id = pages.allocate(&guard);
        (id, pages.replace_at(id, Version::NONE, page(word), &guard).unwrap())
    };
    let made = (0..count).map(one).collect();
    pages.flush().unwrap();
    made
}

fn check(pages: &PageCache<Joined>, made: &[(PageId, Version)]) {
    let guard = pages.pin();
    for (id, _) in made {
        assert_eq!(*pages.get(*id, &guard).unwrap().0, page(id.0), "{id}");
    }
}

/// Both roots are behind one header, of which there is another at the end.
#[test]
fn a_header_before_the_roots_that_cannot_be_read_costs_nothing() {
    let disk = SimDisk::new(1);
    let pages = PageCache::<Joined>::start(config(&disk).build()).unwrap();
    let made = fill(&pages, 20);
    let before = names(&disk, "seg-");
    let redo = pages.checkpoint().unwrap();
    pages.close().unwrap();
    let map: Vec<String> = names(&disk, "seg-").into_iter().filter(|name| !before.contains(name)).collect();
    assert_eq!(map.len(), 1, "{map:?}");
    for (nth, read_only) in [true, false].into_iter().enumerate() {
        // The first read of it is of its header.
        disk.fault(Fault::new(Call::Read, When::Once(0), Effect::Eio).on(&map[0]));
        let pages = PageCache::<Joined>::start(config(&disk).read_only(read_only).build()).unwrap();
        assert_eq!(disk.struck().len(), nth + 1);
        disk.clear_faults();
        assert_eq!(pages.stats().redo, redo);
        check(&pages, &made);
        pages.close().unwrap();
    }
}

/// A turn found no room once, and nothing died after it: no other was tried.
#[test]
fn a_turn_that_has_failed_after_a_mass_of_frees_is_tried_again() {
    let disk = SimDisk::new(1);
    let pages = PageCache::<Joined>::start(config(&disk).log_limit(1 << 20).build()).unwrap();
    let mut made = fill(&pages, 3000);
    pages.tick().unwrap();
    let kept = made.split_off(2990);
    for (id, at) in &made {
        pages.free_at(*id, *at, &pages.pin()).unwrap();
    }
    let before = pages.stats().segments;
    disk.fault(Fault::new(Call::SetLen, When::Once(0), Effect::Enospc));
    assert!(matches!(pages.tick(), Err(Error::NoSpace { .. })));
    assert_eq!(disk.struck().len(), 1);
    disk.clear_faults();
    pages.tick().unwrap();
    let after = pages.stats().segments;
    assert!(before > 40 && after < 24, "{before} segments before, {after} after");
    check(&pages, &kept);
}

/// The segments that the copies of the superblock name roots in, as docs/FORMAT.md draws them.
fn roots(disk: &SimDisk) -> [u64; 2] {
    ["super-a", "super-b"].map(|name| {
        let piece = u64::from_le_bytes(disk.read_file(name)[64..72].try_into().unwrap());
        (piece >> 14) * 8 / SEGMENT
    })
}

/// The second root is alone in a segment that the root does not know, and may be the newest of all: with no header left it was damage of the log.
#[test]
fn a_segment_of_the_second_root_alone_that_is_damaged_costs_nothing() {
    let disk = SimDisk::new(1);
    let pages = PageCache::<Joined>::start(config(&disk).build()).unwrap();
    let mut made = fill(&pages, 20);
    while roots_of_no_checkpoint(&disk) || roots(&disk)[0] == roots(&disk)[1] {
        let (id, at) = &mut made[0];
        *at = pages.replace_at(*id, *at, page(id.0), &pages.pin()).unwrap();
        pages.flush().unwrap();
        pages.checkpoint().unwrap();
    }
    let redo = pages.stats().redo;
    pages.close().unwrap();
    let [_, second] = roots(&disk).map(|sequence| format!("seg-{sequence:016x}"));
    let mut bytes = disk.read_file(&second);
    let end = bytes.len() - 4096;
    bytes[..4096].fill(0);
    bytes[end..].fill(0);
    disk.write_file(&second, &bytes);
    for read_only in [true, false] {
        let pages = PageCache::<Joined>::start(config(&disk).read_only(read_only).build()).unwrap();
        assert_eq!(pages.stats().redo, redo);
        check(&pages, &made);
        pages.close().unwrap();
    }
    assert!(!disk.file_names().contains(&second), "it is of no use");
    let pages = PageCache::<Joined>::start(config(&disk).build()).unwrap();
    pages.replace_at(made[0].0, made[0].1, page(made[0].0.0), &pages.pin()).unwrap();
    pages.flush().unwrap();
    pages.checkpoint().unwrap();
    check(&pages, &made);
}

fn roots_of_no_checkpoint(disk: &SimDisk) -> bool {
    !disk.file_names().iter().any(|name| name == "super-b")
}
