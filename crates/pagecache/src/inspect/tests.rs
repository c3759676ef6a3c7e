//! What no sound writer writes: built record by record, checksums valid, and found all the same.

use std::sync::Arc;

use super::{Report, verify};
use crate::base::ids::{Lsn, PageId, Sequence, Version};
use crate::config::{Background, ConfigBuilder};
use crate::format::BLOCK;
use crate::format::mark::{Mark, MarkKind};
use crate::format::page::PageHead;
use crate::format::record::{ExtentRef, Frame, Head, Kind, Shape, pad_block};
use crate::format::segment::{Purpose, SegmentHeader, name};
use crate::storage::{MemoryStorage, OpenMode, Storage, StorageFile, write_all};

const SIZE: u64 = 64 << 10;
const SALT: u64 = 77;

/// A store of one segment, written by hand.
struct Forge {
    storage: MemoryStorage,
    file: Arc<dyn StorageFile>,
    at: Lsn,
}

impl Forge {
    fn new(purpose: Purpose) -> Forge {
        let storage = MemoryStorage::new();
        drop(storage.lock(crate::storage::LockMode::Exclusive).unwrap());
        let file = storage.open(&name(Sequence(0)), OpenMode::CreateNew).unwrap();
        let header = SegmentHeader {
            purpose,
            store: 1,
            segment_size: SIZE,
            sequence: Sequence(0),
            start: Lsn(0),
            salt: SALT,
            previous: None,
            stable: Lsn(0),
            first: Lsn(0),
        };
        for offset in [0, SIZE - BLOCK] {
            write_all(file.as_ref(), &header.encode(), offset).unwrap();
        }
        Forge { storage, file, at: Lsn(BLOCK) }
    }

    fn record(&mut self, shape: Shape, mut head: Head, payload: &[u8]) -> Lsn {
        let (lsn, frame) = (self.at, Frame::new(shape, &mut head, payload));
        write_all(self.file.as_ref(), &frame.bytes(payload, lsn, SALT), lsn.0).unwrap();
        self.at = Lsn(lsn.0 + frame.len());
        lsn
    }

    fn page(&mut self, kind: Kind, page: u64, base: u64) -> Lsn {
        let head = PageHead { page: PageId(page), base: Version(base) }.encode(kind);
        self.record(Shape::plain(kind), head, if kind == Kind::Free { b"" } else { b"fragment" })
    }

    fn mark(&mut self, stable: Lsn, kind: MarkKind) {
        let end = Lsn((self.at.0 / BLOCK + 1) * BLOCK);
        let (head, tail) = pad_block(Mark { stable, own: self.at, kind }, end, SALT);
        write_all(self.file.as_ref(), &head, self.at.0).unwrap();
        write_all(self.file.as_ref(), &tail, end.0 - tail.len() as u64).unwrap();
        self.at = end;
    }

    fn verify(&self) -> Report {
        let builder = ConfigBuilder::new().storage(self.storage.clone()).background(Background::Caller);
        verify(builder.build()).unwrap()
    }

    #[track_caller]
    fn assert_found(&self, at: Lsn, what: &str) {
        let problems = self.verify().problems;
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!((problems[0].offset, problems[0].lsn) == (at.0, Some(at)), "{} is not at {at}", problems[0]);
        assert!(problems[0].what.contains(what), "{}", problems[0]);
    }
}

#[test]
fn a_chain_by_hand_is_sound() {
    let mut forge = Forge::new(Purpose::Pages);
    let one = forge.page(Kind::Replace, 0, 0);
    let two = forge.page(Kind::Link, 0, one.0);
    forge.page(Kind::Link, 1, 0);
    forge.page(Kind::Replace, 0, 0);
    forge.page(Kind::Free, 1, 0);
    forge.mark(Lsn(0), MarkKind::Round);
    forge.page(Kind::Link, 1, 0);
    forge.page(Kind::Free, 5, 0);
    forge.mark(two, MarkKind::Round);
    forge.mark(forge.at, MarkKind::Close);
    let report = forge.verify();
    assert!(report.is_sound() && report.evidence.clean, "{report:#?}");
    assert_eq!((report.pages.live, report.pages.free, report.pages.unused, report.pages.high_water), (2, 1, 3, 6));
    assert_eq!((report.records.replace, report.records.link, report.records.free), (2, 3, 2));
    assert_eq!((report.bytes.total(), report.live_bytes), (SIZE, Some(16)));
}

#[test]
fn a_link_on_another_version_than_the_one_below() {
    let mut forge = Forge::new(Purpose::Pages);
    let one = forge.page(Kind::Replace, 0, 0);
    forge.page(Kind::Link, 0, one.0);
    let lost = forge.page(Kind::Link, 0, one.0);
    forge.assert_found(lost, "but is at");
}

#[test]
fn a_link_on_nothing_where_a_page_is_and_on_something_where_none_is() {
    let mut forge = Forge::new(Purpose::Pages);
    forge.page(Kind::Replace, 0, 0);
    let again = forge.page(Kind::Link, 0, 0);
    forge.assert_found(again, "linked on nothing");
    let mut forge = Forge::new(Purpose::Pages);
    let first = forge.page(Kind::Link, 3, 4096);
    forge.assert_found(first, "where nothing is");
}

#[test]
fn a_link_on_a_freed_page_and_an_id_used_again_too_early() {
    let mut forge = Forge::new(Purpose::Pages);
    let one = forge.page(Kind::Replace, 0, 0);
    forge.page(Kind::Free, 0, 0);
    forge.mark(Lsn(0), MarkKind::Round);
    let after = forge.page(Kind::Link, 0, one.0);
    forge.assert_found(after, "was freed");
    for kind in [Kind::Link, Kind::Replace, Kind::Free] {
        let mut forge = Forge::new(Purpose::Pages);
        forge.mark(Lsn(0), MarkKind::Open);
        forge.page(Kind::Free, 0, 0);
        let early = forge.page(kind, 0, 0);
        forge.assert_found(early, "used again before");
    }
}

#[test]
fn a_mark_that_knows_less_than_the_one_before() {
    let mut forge = Forge::new(Purpose::Log);
    forge.mark(Lsn(0), MarkKind::Open);
    forge.mark(Lsn(8192), MarkKind::Round);
    let back = forge.at;
    forge.mark(Lsn(4096), MarkKind::Round);
    forge.assert_found(back, "a mark says");
}

#[test]
fn extents_without_their_pieces_or_with_others() {
    let extent = |forge: &mut Forge, crc: u32, cut: bool| {
        let mut head = Head::new();
        head.extend(&0u64.to_le_bytes());
        let first = forge.record(Shape::plain(Kind::Extent), head, b"one");
        let mut head = Head::new();
        head.extend(&(if cut { first.0 + 8 } else { first.0 }).to_le_bytes());
        let last = forge.record(Shape::plain(Kind::Extent), head, b"two");
        let mut head = Head::new();
        ExtentRef { first, last, len: 6, crc }.push_to(&mut head);
        forge.record(Shape { extent: true, ..Shape::plain(Kind::Raw) }, head, b"")
    };
    let sum = crc32c::crc32c(b"onetwo");
    let mut forge = Forge::new(Purpose::Log);
    extent(&mut forge, sum, false);
    assert!(forge.verify().is_sound(), "{:#?}", forge.verify());
    let mut forge = Forge::new(Purpose::Log);
    let named = extent(&mut forge, sum + 1, false);
    forge.assert_found(named, "add up");
    let mut forge = Forge::new(Purpose::Log);
    let named = extent(&mut forge, sum, true);
    forge.assert_found(named, "missing");
}

#[test]
fn a_page_in_a_bare_log_and_a_trim_into_the_future() {
    let mut forge = Forge::new(Purpose::Log);
    let page = forge.page(Kind::Replace, 0, 0);
    forge.assert_found(page, "bare log");
    let mut forge = Forge::new(Purpose::Log);
    let mut head = Head::new();
    head.extend(&(1u64 << 40).to_le_bytes());
    let trim = forge.record(Shape::plain(Kind::Trim), head, b"");
    forge.assert_found(trim, "trim");
}

#[test]
fn something_valid_behind_the_end_of_a_closed_log() {
    let mut forge = Forge::new(Purpose::Log);
    forge.mark(forge.at, MarkKind::Close);
    // The pad of an opening of which only the mark arrived is no problem; one further up is.
    let torn = [0; 8];
    let at = forge.at;
    forge.mark(at, MarkKind::Open);
    write_all(forge.file.as_ref(), &torn, at.0).unwrap();
    assert!(forge.verify().is_sound() && forge.verify().evidence.clean, "{:#?}", forge.verify());
    let behind = forge.at;
    forge.mark(at, MarkKind::Round);
    write_all(forge.file.as_ref(), &torn, behind.0).unwrap();
    forge.assert_found(Lsn(forge.at.0 - crate::format::mark::MARK), "behind the end");
}

#[test]
fn a_cut_below_what_a_mark_behind_it_proves() {
    let mut forge = Forge::new(Purpose::Log);
    forge.record(Shape::plain(Kind::Raw), Head::new(), b"kept");
    let cut = forge.at;
    forge.record(Shape::plain(Kind::Raw), Head::new(), b"cut off");
    let stable = forge.at;
    forge.mark(stable, MarkKind::Round);
    let header = SegmentHeader {
        purpose: Purpose::Log,
        store: 1,
        segment_size: SIZE,
        sequence: Sequence(1),
        start: Lsn(SIZE),
        salt: SALT + 1,
        previous: Some(crate::format::segment::Previous { sequence: Sequence(0), salt: SALT, end: cut }),
        stable: cut,
        first: Lsn(0),
    };
    let file = forge.storage.open(&name(Sequence(1)), OpenMode::CreateNew).unwrap();
    for offset in [0, SIZE - BLOCK] {
        write_all(file.as_ref(), &header.encode(), offset).unwrap();
    }
    forge.assert_found(cut, "cut off");
}
