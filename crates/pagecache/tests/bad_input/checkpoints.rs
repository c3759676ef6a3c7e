//! Checkpoints that are damaged: what they were is told or not needed, and nothing else is lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pagecache::{Background, Corruption, Error, Lsn, PageId, Version};

use crate::harness::{Dir, Expected, Texts, check, copy, fill, small, within_a_minute};

const SEGMENT: u64 = 64 << 10;
const BLOCK: usize = 4096;

/// Ids of a leaf in segments of 64 KiB.
const LEAF: u64 = 4;

/// A closed store of which everything is in a checkpoint, by the second of them.
struct Mapped {
    dir: Dir,
    expected: Expected,
    /// As it was before the second checkpoint, while it was open.
    first: PathBuf,
    /// The redo points of both.
    redo: [Lsn; 2],
}

impl Mapped {
    fn new() -> Mapped {
        let dir = Dir::new();
        let pc = Texts::start(small(&dir.store()).segment_size(SEGMENT).build()).unwrap();
        let mut expected = fill(&pc, "page");
        let earlier = pc.checkpoint().unwrap();
        let first = dir.join("first");
        copy(&dir.store(), &first);
        let guard = pc.pin();
        for (id, content, at) in expected.iter_mut().step_by(7) {
            *at = pc.link_at(*id, *at, "+".into(), &guard).unwrap();
            content.push('+');
        }
        drop(guard);
        pc.flush().unwrap();
        let redo = [earlier, pc.checkpoint().unwrap()];
        pc.close().unwrap();
        Mapped { dir, expected, first, redo }
    }

    /// A fresh copy.
    fn copy(&self) -> PathBuf {
        let to = self.dir.join("spoilt");
        let _ = fs::remove_dir_all(&to);
        copy(&self.dir.store(), &to);
        to
    }
}

/// Where the newest leaf of each number is, and all roots, the newest last: file and offset of the record's body.
#[derive(Debug, Default)]
struct Places {
    leaves: BTreeMap<u64, (PathBuf, u64)>,
    roots: Vec<(PathBuf, u64)>,
}

fn varint(bytes: &[u8]) -> (u64, &[u8]) {
    let len = 1 + bytes.iter().position(|byte| byte & 0x80 == 0).unwrap();
    let value = bytes[..len].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
    (value, &bytes[len..])
}

/// Reads the map's segments as docs/FORMAT.md draws records; what is newest comes last.
fn places(path: &Path) -> Places {
    let mut places = Places::default();
    for file in crate::harness::segments(path) {
        let bytes = fs::read(&file).unwrap();
        if bytes[13] != 3 {
            continue;
        }
        let mut at = BLOCK;
        while at < bytes.len() - BLOCK && bytes[at + 4] > 2 {
            let (len, body) = varint(&bytes[at + 5..]);
            let start = bytes.len() - body.len();
            let (number, _) = varint(body);
            match bytes[at + 4] {
                12 => _ = places.leaves.insert(number, (file.clone(), start as u64)),
                13 => places.roots.push((file.clone(), start as u64)),
                _ => {}
            }
            at += (start - at + len as usize).next_multiple_of(8);
        }
    }
    places
}

fn spoil((file, offset): &(PathBuf, u64)) {
    let mut bytes = fs::read(file).unwrap();
    bytes[*offset as usize] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

fn corrupt<T: std::fmt::Debug>(found: Result<T, Error>) -> Corruption {
    match found {
        Err(Error::Corrupt(at)) => *at,
        other => panic!("{other:?}"),
    }
}

#[test]
fn either_copy_of_the_superblock_suffices_and_a_writer_makes_the_other_good() {
    let whole = Mapped::new();
    let good = fs::read(whole.dir.store().join("super-a")).unwrap();
    let other = fs::read(whole.dir.store().join("super-b")).unwrap();
    // Each names a root of its own.
    assert_ne!(good, other);
    let bad: [&dyn Fn(&Path); 5] = [
        &|file| fs::remove_file(file).unwrap(),
        &|file| fs::write(file, []).unwrap(),
        &|file| fs::write(file, &good[..60]).unwrap(),
        &|file| fs::write(file, vec![0xa5; BLOCK]).unwrap(),
        &|file| spoil(&(file.to_owned(), 8)),
    ];
    for (name, spoil) in ["super-a", "super-b"].into_iter().flat_map(|name| bad.iter().map(move |bad| (name, bad))) {
        let path = whole.copy();
        spoil(&path.join(name));
        for read_only in [true, false] {
            let pc = Texts::start(small(&path).read_only(read_only).build()).unwrap();
            check(&pc, &whole.expected);
            assert!(pc.stats().replayed_bytes < 3 * BLOCK as u64, "replayed {}", pc.stats().replayed_bytes);
            pc.close().unwrap();
        }
        let whole = if name == "super-a" { &other } else { &good };
        assert_eq!([fs::read(path.join("super-a")).unwrap(), fs::read(path.join("super-b")).unwrap()], [&whole[..]; 2]);
    }
}

#[test]
fn both_copies_damaged_are_an_error_and_nothing_is_touched() {
    let whole = Mapped::new();
    let path = whole.copy();
    ["super-a", "super-b"].iter().for_each(|name| spoil(&(path.join(name), 40)));
    let before = crate::harness::seen(&path);
    for read_only in [true, false] {
        let at = corrupt(Texts::start(small(&path).read_only(read_only).build()));
        assert_eq!((at.page, at.what), (None, "both copies of the superblock are damaged"));
    }
    assert!(crate::harness::seen(&path) == before, "something was touched");
    // Without them the log says all: it is whole.
    ["super-a", "super-b"].iter().for_each(|name| fs::remove_file(path.join(name)).unwrap());
    check(&Texts::start(small(&path).build()).unwrap(), &whole.expected);
}

/// What was given back of the log's beginning the map alone knew.
#[test]
fn without_both_copies_a_store_that_was_cleaned_is_an_error() {
    let dir = Dir::new();
    let pc = Texts::start(small(&dir.store()).segment_size(SEGMENT).build()).unwrap();
    let mut expected = fill(&pc, "page");
    let oldest = dir.store().join("seg-0000000000000000");
    for round in 0..50 {
        for (id, content, at) in &mut expected {
            *content = format!("{round} ").repeat(200);
            *at = pc.replace_at(*id, *at, content.clone(), &pc.pin()).unwrap();
        }
        pc.flush().unwrap();
        pc.checkpoint().unwrap();
        pc.clean().unwrap();
    }
    pc.close().unwrap();
    assert!(!oldest.exists());
    ["super-a", "super-b"].iter().for_each(|name| fs::remove_file(dir.store().join(name)).unwrap());
    let before = crate::harness::seen(&dir.store());
    for read_only in [true, false] {
        corrupt(Texts::start(small(&dir.store()).read_only(read_only).build()));
    }
    assert!(crate::harness::seen(&dir.store()) == before, "something was touched");
}

/// Class: half-written snapshot makes the store unopenable (sled 1527, 1533).
#[test]
fn a_damaged_newer_root_beside_an_older_superblock_costs_nothing() {
    let whole = Mapped::new();
    for older in ["super-a", "super-b"] {
        for damaged in [true, false] {
            let path = whole.copy();
            // What the older one needs is kept as long as the copies differ.
            for file in fs::read_dir(&whole.first).unwrap().map(|entry| entry.unwrap().path()) {
                let to = path.join(file.file_name().unwrap());
                if file.ends_with(older) || !to.exists() {
                    fs::copy(&file, &to).unwrap();
                }
            }
            if damaged {
                places(&path).roots.iter().rev().take(2).for_each(spoil);
            }
            for read_only in [true, false] {
                let pc = Texts::start(small(&path).read_only(read_only).build()).unwrap();
                check(&pc, &whole.expected);
                assert_eq!(pc.stats().redo, whole.redo[usize::from(!damaged)]);
                pc.close().unwrap();
            }
            assert_eq!(fs::read(path.join("super-a")).unwrap(), fs::read(path.join("super-b")).unwrap());
            check(&Texts::start(small(&path).build()).unwrap(), &whole.expected);
        }
    }
}

#[test]
fn either_root_suffices_and_the_next_checkpoint_writes_both_anew() {
    let whole = Mapped::new();
    for spoilt in [0, 1] {
        let path = whole.copy();
        let newest = |path: &Path| places(path).roots.into_iter().rev().take(2).rev().collect::<Vec<_>>();
        spoil(&newest(&path)[spoilt]);
        for read_only in [true, false] {
            let pc = Texts::start(small(&path).read_only(read_only).build()).unwrap();
            check(&pc, &whole.expected);
            assert_eq!(pc.stats().redo, whole.redo[1]);
            pc.close().unwrap();
        }
        let pc = Texts::start(small(&path).build()).unwrap();
        let guard = pc.pin();
        let (id, content, at) = &whole.expected[0];
        let at = pc.link_at(*id, *at, "more".into(), &guard).unwrap();
        drop(guard);
        pc.flush().unwrap();
        let redo = pc.checkpoint().unwrap();
        pc.close().unwrap();
        let mut expected = whole.expected.clone();
        expected[0] = (*id, format!("{content}more"), at);
        // Now the other one.
        spoil(&newest(&path)[1 - spoilt]);
        let pc = Texts::start(small(&path).build()).unwrap();
        assert_eq!(pc.stats().redo, redo);
        check(&pc, &expected);
    }
}

#[test]
fn two_damaged_roots_are_an_error_that_says_where() {
    let whole = Mapped::new();
    let path = whole.copy();
    let mut roots = places(&path).roots.into_iter().rev().take(2).collect::<Vec<_>>();
    roots.iter().for_each(spoil);
    // That of the first copy is looked at first.
    let root = roots.pop().unwrap();
    for read_only in [true, false] {
        let at = corrupt(Texts::start(small(&path).read_only(read_only).build()));
        assert_eq!((at.page, at.what), (None, "a record does not have its checksum"));
        assert_eq!(root.0.file_name().unwrap().to_string_lossy(), format!("seg-{:016x}", at.segment));
        assert!(at.offset < root.1 && root.1 - at.offset < 8, "{at:?}, spoilt {root:?}");
    }
}

#[test]
fn a_damaged_leaf_is_told_by_its_pages_and_all_others_are_read_and_written() {
    within_a_minute(|| {
        let whole = Mapped::new();
        let count = whole.expected.len() as u64;
        let leaves = places(&whole.dir.store()).leaves;
        assert_eq!(leaves.len() as u64, count.div_ceil(LEAF));
        for spoilt in [0, 17, count / LEAF] {
            let path = whole.copy();
            spoil(&places(&path).leaves[&spoilt]);
            let is_lost = |id: PageId| id.0 / LEAF == spoilt;
            let kept: Expected = whole.expected.iter().filter(|(id, ..)| !is_lost(*id)).cloned().collect();
            for read_only in [true, false] {
                let pc = Texts::start(small(&path).read_only(read_only).build()).unwrap();
                check(&pc, &kept);
                let guard = pc.pin();
                for (id, _, at) in whole.expected.iter().filter(|(id, ..)| is_lost(*id)) {
                    assert_eq!(corrupt(pc.get(*id, &guard).map(drop)).what, "a record does not have its checksum");
                    assert!(pc.state(*id, &guard).unwrap_err().is_corrupt());
                    if !read_only {
                        let linked = pc.link_at(*id, *at, "?".into(), &guard);
                        assert!(Error::from(linked.unwrap_err()).is_corrupt());
                        assert!(Error::from(pc.free_at(*id, *at, &guard).unwrap_err()).is_corrupt());
                    }
                }
                let (ids, lost): (Vec<_>, Vec<_>) = pc.page_ids().partition(|id| id.is_ok());
                assert_eq!(ids.len(), kept.len());
                assert_eq!(lost.len() as u64, count - kept.len() as u64);
                drop(guard);
                pc.close().unwrap();
            }
            // Everything else goes on: writes, new pages, a checkpoint, another start.
            let pc = Texts::start(small(&path).build()).unwrap();
            let guard = pc.pin();
            let mut after = kept;
            for (id, content, at) in &mut after {
                *at = pc.link_at(*id, *at, "more".into(), &guard).unwrap();
                content.push_str("more");
            }
            for _ in 0..10 {
                let id = pc.allocate(&guard);
                assert!(!is_lost(id) && id.0 >= count, "{id} is handed out");
                after.push((id, "new".into(), pc.replace_at(id, Version::NONE, "new".into(), &guard).unwrap()));
            }
            drop(guard);
            pc.flush().unwrap();
            let redo = pc.checkpoint().unwrap();
            assert!(redo > Lsn(0), "it was written without the leaf");
            pc.close().unwrap();
            let pc = Texts::start(small(&path).build()).unwrap();
            assert_eq!(pc.stats().redo, redo);
            check(&pc, &after);
            let guard = pc.pin();
            assert!(pc.get(PageId(spoilt * LEAF), &guard).unwrap_err().is_corrupt());
            drop(guard);
            // All others are written again and again, a leaf at a time: at last it is alone in its segment, which would be cleaned, and stays.
            for round in 0..200 {
                let guard = pc.pin();
                let (id, content, at) = &mut after[round * LEAF as usize % (count - LEAF) as usize];
                *at = pc.replace_at(*id, *at, content.clone(), &guard).unwrap();
                drop(guard);
                pc.flush().unwrap();
                pc.checkpoint().unwrap_or_else(|error| panic!("checkpoint {round}: {error}"));
            }
            pc.close().unwrap();
            // The background cannot clean, which it says, and writes its checkpoints all the same.
            let config = small(&path).background(Background::Caller).log_limit(256 << 10);
            let pc = Texts::start(config.build()).unwrap();
            check(&pc, &after);
            let before = pc.stats();
            while pc.stats().tail.0 < before.redo.0 + (256 << 10) {
                let guard = pc.pin();
                let (id, content, at) = &mut after[0];
                *at = pc.replace_at(*id, *at, content.clone(), &guard).unwrap();
            }
            assert!(pc.tick().unwrap_err().is_corrupt());
            assert!(pc.stats().redo.0 > before.redo.0 + (128 << 10));
            assert!(pc.get(PageId(spoilt * LEAF), &pc.pin()).unwrap_err().is_corrupt());
        }
    });
}
