//! What no sound writer writes: built record by record, checksums valid, and found all the same.

use crate::base::ids::{Lsn, Sequence};
use crate::format::mark::MarkKind;
use crate::format::record::{ExtentRef, Head, Kind, Shape};
use crate::format::segment::{Previous, Purpose};
use crate::fuzzing::forge::{Forge, SIZE, header};
use crate::storage::write_all;

impl Forge {
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
    assert_eq!((report.bytes.total(), report.live_bytes), (SIZE, Some(18)));
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
    let previous = Previous { salt: header(Purpose::Log, 0).salt, sequence: Sequence(0), end: cut };
    forge.segment(header(Purpose::Log, 1), |next| (next.previous, next.stable) = (Some(previous), cut));
    forge.assert_found(cut, "cut off");
}
