//! What fuzzing has found: each input as a store by hand, with what went wrong before.

use super::forge::{Concat, Forge, SIZE, header};
use super::map::Mapped;
use super::*;
use crate::base::damage::Damage;
use crate::base::error::Error;
use crate::base::ids::{Address, PageId, Sequence, Version};
use crate::format::BLOCK;
use crate::format::piece::Piece;
use crate::format::segment::SUPERBLOCKS;
use crate::format::segment::{Previous, Purpose, Stream};
use crate::storage::{OpenMode, Storage, write_all};
use crate::{LogRead, PageCache};

/// The length went round when it was made a multiple of 8, before it was compared with anything: a panic where overflows are
/// checked, on bytes that no checksum had covered yet.
#[test]
fn a_length_near_2_to_the_64_is_a_hole() {
    for below in 0..40 {
        let mut length = Small::<10>::new();
        length.varint(u64::MAX - below);
        let bytes = [&[0xff, 0xff, 0xff, 0xff, Kind::Raw as u8], length.as_slice(), &[0; 9]].concat();
        assert_eq!(parse(&bytes, Lsn(4096), 1, 1 << 20), Parsed::Hole);
    }
}

/// A record longer than any that is written whole, with a checksum that is right: whoever walked the log believed it, and who asked for it by its LSN
/// was told that it is damaged.
#[test]
fn a_record_longer_than_any_is_none_whoever_asks() {
    for (len, is_sound) in [(SIZE / 4 - 128, true), (3 * SIZE / 4, false)] {
        let mut forge = Forge::new(Purpose::Log);
        let lsn = forge.raw(&vec![2; len as usize]);
        forge.close();
        match forge.log() {
            Ok(log) => {
                let walked: Vec<_> = log.iter_from(Lsn(0)).map(|found| found.map(|(lsn, _)| lsn).ok()).collect();
                assert!(is_sound && matches!(log.read(lsn), Ok(LogRead::Record(_))) && walked == [Some(lsn)], "{len}");
            }
            Err(error) => assert!(!is_sound && error.is_corrupt(), "{len}: {error}"),
        }
    }
}

/// `verify` called a directory sound that `start` refuses: its only segment bears another one's number and was never written
/// to, so it is a leftover, and nothing else is there.
#[test]
fn leftovers_alone_are_no_sound_store() {
    let forge = Forge::new(Purpose::Log);
    forge.storage.rename(&name(Sequence(0)), &name(Sequence(5))).unwrap();
    assert!(forge.log().unwrap_err().is_corrupt());
    let problems = forge.verify().problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!((problems[0].segment, &*problems[0].what), (5, "no segment is what its name says"));
}

/// A header says that the log begins in the middle of a record. Reading from the beginning answered `NotARecord`, as if the
/// caller had asked for that place; and `verify` had not looked.
#[test]
fn a_trim_that_ends_inside_a_record_is_damage() {
    let mut forge = Forge::new(Purpose::Log);
    let whole = forge.raw(&[0; 200]);
    forge.close();
    let inside = Lsn(whole.0 + 40);
    forge.trim(inside.0);
    forge.close();
    let log = forge.log().unwrap();
    let found: Vec<_> = log.iter_from(Lsn(0)).collect();
    assert!(matches!(&found[..], [Err(error)] if error.is_corrupt()), "{found:?}");
    assert!(matches!(log.read(inside), Err(Error::NotARecord { lsn }) if lsn == inside), "who asks is told");
    drop(log);
    let problems = forge.verify().problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!((problems[0].lsn, &*problems[0].what), (Some(inside), "what was trimmed ends inside a record"));
}

/// The piece before lies inside a record: reading the whole answered `NotARecord`, of a place that nobody had asked for; a page
/// cache that asks `recover` did not start with an error that says nothing of damage.
#[test]
fn a_piece_that_starts_inside_a_record_is_damage() {
    let mut forge = Forge::new(Purpose::Log);
    let first = forge.raw(&[0; 200]);
    let last = forge.piece(Lsn(first.0 + 40), b"two");
    let named = forge.extent(first, last, 6, 0);
    forge.close();
    let log = forge.log().unwrap();
    assert!(log.read(named).unwrap_err().is_corrupt());
    assert!(log.iter_from(named).next().unwrap().unwrap_err().is_corrupt());
    drop(log);
    let mut forge = Forge::new(Purpose::Pages);
    let first = forge.page(Kind::Replace, 0, 0);
    let last = forge.piece(Lsn(first.0 + 8), b"two");
    let mut head = PageHead { page: PageId(1), base: Version::NONE }.encode(Kind::Replace);
    ExtentRef { first, last, len: 6, crc: 0 }.push_to(&mut head);
    forge.record(Shape { extent: true, ..Shape::plain(Kind::Replace) }, head, b"");
    forge.close();
    let recovering = PageCache::<Concat<true>>::start(forge.config().build());
    assert!(recovering.unwrap_err().is_corrupt());
}

/// Class: an 8-byte pointer becomes an 8 TiB allocation (redb 1331). LSNs may jump between segments, and what lay between two
/// of them was taken for what the log between can hold: the process died of the allocation.
#[test]
fn an_extent_over_a_jump_of_lsns_is_no_longer_than_the_segments() {
    let mut forge = Forge::new(Purpose::Log);
    let first = forge.piece(Lsn(0), b"one");
    forge.close();
    let cut = forge.at;
    let far = 1 << 60;
    forge.segment(header(Purpose::Log, 1), |next| {
        next.start = Lsn(far);
        next.previous = next.previous.map(|previous| Previous { end: cut, ..previous });
        next.stable = cut;
    });
    let last = forge.piece(first, b"two");
    let long = forge.extent(first, last, far - BLOCK, 0);
    let right = forge.extent(first, last, 6, crc32c::crc32c(b"onetwo"));
    forge.close();
    let log = forge.log().unwrap();
    assert!(log.read(long).unwrap_err().is_corrupt());
    assert_eq!(log.read(right).unwrap(), LogRead::Record(b"onetwo".to_vec()));
}

/// The end of the damage was its start and 8, which went round: a panic where overflows are checked.
#[test]
fn an_extent_at_the_end_of_all_lsns_is_damage() {
    let mut forge = Forge::new(Purpose::Log);
    let named = forge.extent(Lsn(8), Lsn(u64::MAX), 6, 0);
    forge.close();
    assert!(forge.log().unwrap().read(named).unwrap_err().is_corrupt());
}

/// An id that no page may have made a start fail with `NoSpace`, which clears by itself.
#[test]
fn an_id_above_the_highest_is_damage() {
    let mut forge = Forge::new(Purpose::Pages);
    let at = forge.page(Kind::Replace, 1 << 36, 0);
    forge.close();
    match forge.pages() {
        Err(Error::Corrupt(found)) => assert_eq!((found.lsns.start, found.what), (at, "a page's record has no page")),
        other => panic!("{other:?}"),
    }
}

/// Each id that was never written below one that was cost 16 bytes at a start.
#[test]
fn ids_that_were_never_written_are_taken_in_order_and_not_kept_one_by_one() {
    let mut forge = Forge::new(Purpose::Pages);
    for page in [3, 4, 70_000] {
        forge.page(Kind::Replace, page, 0);
    }
    forge.page(Kind::Free, 4, 0);
    forge.close();
    let pages = forge.pages().unwrap();
    assert_eq!((pages.page_count().unwrap(), pages.stats().ids_high_water), (2, 70_001));
    let taken: Vec<u64> = (0..69_999).map(|_| pages.try_allocate().unwrap().0).collect();
    let free: Vec<u64> = (0..70_000).filter(|id| *id != 3).collect();
    assert_eq!(taken, free);
    assert_eq!(pages.try_allocate().unwrap(), PageId(70_001));
}

/// An id beyond the highest was handed out though its leaf cannot be read: whoever had it could neither write nor read it.
#[test]
fn no_id_of_a_leaf_that_cannot_be_read_is_handed_out() {
    let mapped = Mapped::new();
    let at = mapped.leaf(2).address().0;
    mapped.flip(&name(Sequence(at / SIZE)), at % SIZE + 9);
    let pages = mapped.start().unwrap();
    let guard = pages.pin();
    for wanted in [12, 13, 14] {
        let id = pages.allocate(&guard);
        assert_eq!(id, PageId(wanted), "8 to 11 are of a leaf that cannot be read");
        pages.replace_at(id, Version::NONE, format!("page {id}"), &guard).unwrap();
    }
    assert_eq!(pages.stats().pages, 13);
    drop(guard);
    pages.close().unwrap();
    let pages = mapped.start().unwrap();
    let guard = pages.pin();
    assert_eq!(*pages.get(PageId(13), &guard).unwrap().0, format!("page {}", PageId(13)));
    assert!(pages.state(PageId(9), &guard).unwrap_err().is_corrupt());
}

/// A root whose leaves have 2^40 ids each: the first page that was read asked for all their entries at once.
#[test]
fn a_root_of_endless_leaves_is_malformed() {
    let mapped = Mapped::new();
    mapped.put_root(|root| (root.leaf_ids, root.high_water) = (1 << 40, 10));
    assert!(mapped.start().unwrap_err().is_corrupt());
    let mapped = Mapped::new();
    mapped.put_root(|root| {
        root.leaves.truncate(1);
        root.leaf_ids = 1 << 40;
    });
    let Err(Error::Corrupt(at)) = mapped.start() else { panic!("it opens") };
    assert_eq!(at.what, Damage::RootMalformed.what());
}

/// A segment that starts at the end of all LSNs: where it ends went round.
#[test]
fn a_root_with_a_segment_at_the_end_of_all_lsns_is_malformed() {
    let mapped = Mapped::new();
    mapped.put_root(|root| {
        let last = root.segments.last_mut().unwrap();
        (last.stream, last.start) = (Stream::Log, Lsn(u64::MAX / SIZE * SIZE));
        // So that it is no longer than the one before.
        root.leaves.truncate(1);
        root.high_water = 4;
    });
    let Err(Error::Corrupt(at)) = mapped.start() else { panic!("it opens") };
    assert_eq!(at.what, Damage::RootMalformed.what());
    assert_eq!(mapped.verify().problems.len(), 1);
}

/// A leaf of checkpoint 0, which no writer makes, ended a build that checks its assertions.
#[test]
fn a_leaf_of_checkpoint_0_is_a_leaf() {
    let mapped = Mapped::new();
    mapped.put(mapped.leaf(2), Kind::Leaf, LeafHead { number: 2, checkpoint: 0 }.encode(), &[0, 4]);
    assert!(matches!(mapped.get(8), Error::NoPage { .. }));
}

/// Parts that lie inside each other: together they would be longer than their segment, by as much as there are parts.
#[test]
fn parts_of_a_root_that_lie_inside_each_other_are_refused() {
    let mapped = Mapped::new();
    let outer = mapped.checkpoint.superblock.root;
    let (start, salt) = (outer.address().0, mapped.checkpoint.holds_root[0].header.salt);
    let inner = Piece::new(Address(start + 16), 8);
    let first = PartHead { checkpoint: 1, index: 0, previous: None }.encode();
    let part = Frame::of_body(Shape::plain(Kind::Root), first.as_slice());
    // Behind the outer record's start and head there are some zeros, then the inner record.
    let head = PartHead { checkpoint: 1, index: 1, previous: Some(inner) }.encode();
    let zeros = 16 - 6 - head.len();
    let payload = [&[0; 8][..zeros], &part.bytes(first.as_slice(), Lsn(start + 16), salt), &[0; 8]].concat();
    mapped.put(outer, Kind::Root, head, &payload);
    let Err(Error::Corrupt(at)) = mapped.start() else { panic!("it opens") };
    assert_eq!((at.what, at.offset), (Damage::RootElse.what(), start % SIZE + 16));
}

/// A superblock and a header that say a segment is 1 GiB long, of a file that is not: so much was asked for to read the root.
#[test]
fn a_root_in_a_file_that_is_shorter_than_its_segment_is_damage() {
    let mapped = Mapped::new();
    let mut header = mapped.checkpoint.holds_root[0].header;
    header.segment_size = 1 << 30;
    header.start = Lsn(header.sequence.0 << 30);
    let file = mapped.storage.open(&name(header.sequence), OpenMode::ReadWrite).unwrap();
    write_all(file.as_ref(), &header.encode(), 0).unwrap();
    let root = Piece::new(Address(header.start.0 + BLOCK), 1 << 30);
    mapped.put_superblock(|superblock| (superblock.segment_size, superblock.root) = (1 << 30, root));
    let Err(Error::Corrupt(at)) = mapped.start() else { panic!("it opens") };
    assert_eq!((at.what, at.offset), (Damage::FileTooShort.what(), SIZE));
}

/// `verify` called segments of the map alone a sound store, and `start` refuses them.
#[test]
fn a_map_without_a_log_is_no_sound_store() {
    let mapped = Mapped::new();
    mapped.storage.remove(&name(Sequence(0))).unwrap();
    assert!(mapped.start().unwrap_err().is_corrupt());
    assert!(!mapped.verify().is_sound());
    SUPERBLOCKS.iter().for_each(|copy| mapped.storage.remove(copy).unwrap());
    assert!(mapped.start().unwrap_err().is_corrupt());
    let problems = mapped.verify().problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].what, "no segment is what its name says");
}

/// A leaf names a place in no segment: the page was at version 0, as one that holds nothing, and whoever linked to it there made a
/// page of its link alone, at the next start.
#[test]
fn a_page_whose_newest_record_has_no_segment_is_at_no_version() {
    let mapped = Mapped::new();
    let mut writer = LeafWriter::default();
    (0..4).for_each(|_| writer.data(1, std::iter::once(Piece::new(Address(9 * SIZE), 8))));
    mapped.put_leaf(2, 2, &writer.finish().0);
    let pages = mapped.start().unwrap();
    let guard = pages.pin();
    let is_gone = |error: Error| matches!(error, Error::Corrupt(at) if at.what == Damage::SegmentGone.what());
    assert!(is_gone(pages.state(PageId(9), &guard).unwrap_err()));
    assert!(is_gone(pages.link_at(PageId(9), Version::NONE, "alone".into(), &guard).unwrap_err().into()));
    assert!(is_gone(pages.get(PageId(9), &guard).unwrap_err()));
    drop(guard);
    pages.close().unwrap();
    assert!(!mapped.verify().is_sound());
}
