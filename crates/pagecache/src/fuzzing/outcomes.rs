//! Every outcome of the pure decoders, and every reason to refuse: an input that is taken, changed in one place, its checksum
//! right again. So it is that place that is refused.

use super::*;
use crate::format::BLOCK;
use crate::format::mark::MarkKind;
use crate::format::segment::Purpose;
use crate::fuzzing::forge::header;

const SALT: u64 = 9;
const ROOM: u64 = 1 << 16;

/// A record at LSN 4096 and what a reader makes of it after a change.
fn changed_record(mut bytes: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Outcome {
    assert_eq!(record(&bytes, BLOCK, SALT, ROOM), Outcome::Decoded, "not changed yet");
    change(&mut bytes);
    repair_record(&mut bytes, BLOCK, SALT);
    record(&bytes, BLOCK, SALT, ROOM)
}

fn raw() -> Vec<u8> {
    Frame::of_body(Shape::plain(Kind::Raw), b"hello").bytes(b"hello", Lsn(BLOCK), SALT)
}

/// A pad to a block's end, its mark's fields as given.
fn pad(given: Mark) -> Vec<u8> {
    let end = Lsn(2 * BLOCK);
    let (head, tail) = pad_block(given, end, SALT);
    let mut bytes = vec![0; BLOCK as usize];
    bytes[..8].copy_from_slice(&head);
    bytes[(BLOCK - MARK) as usize..].copy_from_slice(&tail);
    bytes
}

const ROUND: Mark = Mark { stable: Lsn(BLOCK), own: Lsn(BLOCK), kind: MarkKind::Round };

#[test]
fn every_outcome_of_a_record_is_reached() {
    let inputs: [(Vec<u8>, u64); 7] = [
        (raw(), ROOM),
        (pad_segment(Lsn(BLOCK), SALT).to_vec(), ROOM),
        (pad(ROUND), ROOM),
        (raw()[..8].to_vec(), ROOM),
        (vec![0; 64], ROOM),
        (raw(), 8),
        (Frame::of_body(Shape::plain(Kind::Link), &[5, 0]).bytes(&[5, 0], Lsn(BLOCK), SALT), ROOM),
    ];
    let mut reached = [0; 6];
    let unknown: Vec<u8> = {
        let mut bytes = raw();
        bytes[4] = 7;
        repair_record(&mut bytes, BLOCK, SALT);
        bytes
    };
    for (bytes, room) in inputs.into_iter().chain([(unknown, ROOM)]) {
        // No wildcard: another outcome does not compile before it is reached.
        reached[match parse(&bytes, Lsn(BLOCK), SALT, room) {
            Parsed::Record { .. } => 0,
            Parsed::PadSegment => 1,
            Parsed::PadBlock { .. } => 2,
            Parsed::Short { .. } => 3,
            Parsed::Unknown { .. } => 4,
            Parsed::Hole => 5,
        }] += 1;
    }
    println!("outcomes of a record: {reached:?}");
    assert!(reached.iter().all(|count| *count > 0));
}

#[test]
fn every_kind_and_no_other_is_a_record() {
    let mut counts = [0; 2];
    for byte in 3..=255u8 {
        let mut bytes = raw();
        bytes[4] = byte;
        repair_record(&mut bytes, BLOCK, SALT);
        let Parsed::Record { shape, .. } = parse(&bytes, Lsn(BLOCK), SALT, ROOM) else {
            assert!(matches!(parse(&bytes, Lsn(BLOCK), SALT, ROOM), Parsed::Unknown { kind } if kind == byte & 0x3f));
            counts[1] += 1;
            continue;
        };
        let (aligned, extent) = match shape.kind {
            Kind::Replace | Kind::Link => (true, true),
            Kind::Raw => (false, true),
            Kind::Image => (true, false),
            Kind::Aborted | Kind::Extent | Kind::Trim | Kind::Free | Kind::Leaf | Kind::Root => (false, false),
            Kind::PadSegment | Kind::PadBlock => panic!("a pad is no record"),
        };
        assert!((aligned || !shape.aligned) && (extent || !shape.extent) && !(shape.aligned && shape.extent));
        counts[0] += 1;
    }
    println!("kind bytes: {} known, {} of a later format", counts[0], counts[1]);
    assert_eq!(counts, [10 + 2 * 2 + 2, 253 - 16]);
}

#[test]
fn every_reason_to_refuse_a_record() {
    let reasons: [(&str, Outcome); 10] = [
        (
            "a longer form of the length",
            changed_record(raw(), |bytes| {
                // Six as two bytes, the body as it was behind it.
                bytes.splice(5..6, [0x85, 0]);
            }),
        ),
        ("a length beyond the segment", {
            let long = vec![0; 200];
            let bytes = Frame::of_body(Shape::plain(Kind::Raw), &long).bytes(&long, Lsn(BLOCK), SALT);
            assert_eq!(record(&bytes, BLOCK, SALT, 208), Outcome::Decoded);
            record(&bytes, BLOCK, SALT, 200)
        }),
        (
            "a length above 2^32",
            changed_record(raw(), |bytes| {
                let mut length = Small::<10>::new();
                length.varint(1 << 33);
                bytes.splice(5..6, length.as_slice().iter().copied());
            }),
        ),
        ("zeros that are not", changed_record(raw(), |bytes| bytes[15] = 1)),
        ("a wrong checksum", {
            let mut bytes = raw();
            bytes[7] ^= 1;
            record(&bytes, BLOCK, SALT, ROOM)
        }),
        ("another place", record(&raw(), BLOCK + 8, SALT, ROOM)),
        ("another life", record(&raw(), BLOCK, SALT + 1, ROOM)),
        ("no room", record(&raw(), BLOCK, SALT, 0)),
        ("a segment pad with something in its head", {
            changed_record(pad_segment(Lsn(BLOCK), SALT).to_vec(), |bytes| bytes[6] = 1)
        }),
        ("a segment pad of another place", record(&pad_segment(Lsn(8), SALT), BLOCK, SALT, ROOM)),
    ];
    for (why, outcome) in reasons {
        assert_eq!(outcome, Outcome::Refused, "{why}");
    }
    println!("{} reasons to refuse a record", reasons.len());
}

#[test]
fn every_reason_to_refuse_a_pad() {
    let mark_at = (BLOCK - MARK) as usize;
    let reasons = [
        ("no block", changed_record(pad(ROUND), |bytes| bytes[5] = 0)),
        ("three blocks", changed_record(pad(ROUND), |bytes| bytes[5] = 3)),
        ("something behind the mark's kind", changed_record(pad(ROUND), |bytes| bytes[7] = 1)),
        ("another kind than the mark's", changed_record(pad(ROUND), |bytes| bytes[6] = 1)),
        (
            "a mark of another pad",
            changed_record(pad(ROUND), |bytes| bytes[mark_at + 8..][..8].copy_from_slice(&(BLOCK + 8).to_le_bytes())),
        ),
        ("a mark of an unknown kind", changed_record(pad(ROUND), |bytes| (bytes[6], bytes[mark_at + 16]) = (3, 3))),
        ("no room", record(&pad(ROUND), BLOCK, SALT, BLOCK - 8)),
        ("too short for a mark", {
            let mut bytes = [&[0, 0, 0, 0, 2, 1, 0, 0], &[0u8; 16][..]].concat();
            repair_record(&mut bytes, 2 * BLOCK - 24, SALT);
            record(&bytes, 2 * BLOCK - 24, SALT, ROOM)
        }),
    ];
    for (why, outcome) in reasons {
        assert_eq!(outcome, Outcome::Refused, "{why}");
    }
    println!("{} reasons to refuse a pad", reasons.len());
}

#[test]
fn every_reason_to_refuse_a_mark() {
    let end = 2 * BLOCK;
    let good = |kind| Mark { kind, ..ROUND }.encode(Lsn(end), SALT);
    for kind in [MarkKind::Round, MarkKind::Close, MarkKind::Open] {
        // No wildcard: another kind does not compile before it is here.
        let byte = match kind {
            MarkKind::Round => 0,
            MarkKind::Close => 1,
            MarkKind::Open => 2,
        };
        assert_eq!((good(kind)[16], mark(&good(kind), end, SALT)), (byte, Outcome::Decoded));
    }
    let changed = |at: usize, with: &[u8]| {
        let mut bytes = good(MarkKind::Round);
        bytes[at..at + with.len()].copy_from_slice(with);
        repair_mark(&mut bytes, end, SALT);
        mark(&bytes, end, SALT)
    };
    let far = |stable: u64, own: u64| changed(0, &[stable.to_le_bytes(), own.to_le_bytes()].concat());
    let reasons = [
        ("too short", mark(&good(MarkKind::Round)[..23], end, SALT)),
        ("a wrong checksum", mark(&good(MarkKind::Round), end, SALT + 1)),
        ("an unknown kind", changed(16, &[3])),
        ("something behind the kind", changed(17, &[1])),
        ("stable above itself", far(BLOCK + 8, BLOCK)),
        ("not below its end", far(BLOCK, end)),
        ("two blocks below its end", far(0, 0)),
    ];
    for (why, outcome) in reasons {
        assert_eq!(outcome, Outcome::Refused, "{why}");
    }
    println!("{} reasons to refuse a mark", reasons.len());
}

#[test]
fn every_reason_to_refuse_a_header() {
    let block = |nth| header(Purpose::Log, nth).encode().to_vec();
    let changed = |nth, at: usize, with: &[u8]| {
        let mut block = block(nth);
        assert_eq!(segment_header(&block), Outcome::Decoded);
        block[at..at + with.len()].copy_from_slice(with);
        repair_header(&mut block);
        segment_header(&block)
    };
    let number = |nth, at, number: u64| changed(nth, at, &number.to_le_bytes());
    let reasons = [
        ("too short", segment_header(&block(1)[..103])),
        ("no checksum", segment_header(&block(1)[..104])),
        ("a wrong checksum", {
            let mut block = block(1);
            block[20] ^= 1;
            segment_header(&block)
        }),
        ("another magic", changed(1, 7, &[0])),
        ("format 0", changed(1, 8, &[0])),
        ("an unknown purpose", changed(1, 12, &[3])),
        ("a stream", changed(1, 13, &[1])),
        ("a size that is no power of two", number(1, 32, (64 << 10) + 4096)),
        ("a size below the least", number(1, 32, 32 << 10)),
        ("a size above the largest", number(0, 32, 2 << 30)),
        ("a sequence beyond every address", number(1, 40, (1 << 57) / (64 << 10))),
        ("a start that is no multiple of the size", number(1, 48, (64 << 10) + 8)),
        ("a start beyond every LSN", number(1, 48, 1 << 62)),
        ("a previous sequence that is not lower", number(1, 64, 1)),
        ("a previous salt of no segment", number(0, 72, 1)),
        ("a previous end of no segment", number(0, 80, 8)),
        ("a previous end above the start", number(1, 80, (64 << 10) + 8)),
        ("stable above the start", number(1, 88, (64 << 10) + 8)),
        ("first above the start", number(1, 96, (64 << 10) + 8)),
    ];
    for (why, outcome) in reasons {
        assert_eq!(outcome, Outcome::Refused, "{why}");
    }
    assert_eq!(changed(1, 8, &[2]), Outcome::Newer);
    let found = [SegmentHeader::decode(&block(1)), SegmentHeader::decode(&[])];
    // No wildcard: another outcome does not compile before it is above.
    assert!(found.into_iter().all(|found| match found {
        Found::Valid(_) | Found::Nothing => true,
        Found::Newer(_) => false,
    }));
    println!("{} reasons to refuse a header", reasons.len());
}

#[test]
fn every_reason_to_refuse_a_page_head() {
    let (replace, link, free, aligned, extent) = (0, 1, 2, 0x40, 0x80);
    let reference = |first: u64, last: u64| [&[5][..], &first.to_le_bytes(), &last.to_le_bytes(), &[1; 12]].concat();
    assert_eq!(page_head(&[5, 1], replace, 6), Outcome::Decoded);
    assert_eq!(page_head(&[5, 1, 9], replace | aligned, 6), Outcome::Decoded);
    assert_eq!(page_head(&reference(8, 16), replace | extent, 6), Outcome::Decoded);
    assert_eq!(page_head(&[5], free, 6), Outcome::Decoded);
    let base = {
        let mut base = Small::<10>::new();
        base.varint(1 << 61);
        [&[5], base.as_slice()].concat()
    };
    let reasons = [
        ("no page", page_head(&[], replace, 6)),
        ("a longer form of the page", page_head(&[0x85, 0], replace, 6)),
        ("no base", page_head(&[5], link, 6)),
        ("a base beyond every version", page_head(&base, link, 6)),
        ("no pad", page_head(&[5], replace | aligned, 6)),
        ("a pad of no byte", page_head(&[5, 0, 9], replace | aligned, 6)),
        ("a pad over the end", page_head(&[5, 9], replace | aligned, 6)),
        ("a pad too long", page_head(&[&[5, 17][..], &[0; 20]].concat(), replace | aligned, 6)),
        ("a pad that does not align", page_head(&[5, 2, 0, 9], replace | aligned, 6)),
        ("a pad that is not zero", page_head(&[5, 2, 1, 9], replace | aligned, 5)),
        ("an extent cut off", page_head(&reference(8, 16)[..28], extent, 6)),
        ("an extent and more", page_head(&[&reference(8, 16)[..], &[0]].concat(), extent, 6)),
        ("an extent that ends before it begins", page_head(&reference(16, 8), extent, 6)),
        ("a free with a payload", page_head(&[5, 1], free, 6)),
        ("a free with an extent", page_head(&reference(8, 16), free | extent, 6)),
        ("no page's record", page_head(&[5], 3, 6)),
    ];
    for (why, outcome) in reasons {
        assert_eq!(outcome, Outcome::Refused, "{why}");
    }
    println!("{} reasons to refuse a page's head", reasons.len());
}

#[test]
fn every_reason_to_refuse_a_part() {
    assert_eq!(varint(&[0x80, 1]), Outcome::Decoded);
    assert_eq!(extent_ref(&[0; 28]), Outcome::Decoded);
    assert_eq!(file_name("seg-00000000000000ff"), Outcome::Decoded);
    assert_eq!(file_name("tmp-00000000000000ff"), Outcome::Decoded);
    let reasons = [
        ("no varint", varint(&[])),
        ("a varint cut off", varint(&[0x80])),
        ("a longer form", varint(&[0x80, 0])),
        ("more than 64 bits", varint(&[0xff; 11])),
        ("a little more than 64 bits", varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2])),
        ("an extent cut off", extent_ref(&[0; 27])),
        ("an extent and more", extent_ref(&[0; 29])),
        ("a short name", file_name("seg-ff")),
        ("capitals", file_name("seg-00000000000000FF")),
        ("a sign", file_name("seg-+0000000000000ff")),
        ("no prefix", file_name("00000000000000ff")),
        ("another prefix", file_name("log-00000000000000ff")),
    ];
    for (why, outcome) in reasons {
        assert_eq!(outcome, Outcome::Refused, "{why}");
    }
    println!("{} reasons to refuse a varint, a reference or a name", reasons.len());
}
