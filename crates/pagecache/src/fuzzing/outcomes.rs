//! Every outcome of the pure decoders, and every reason to refuse: an input that is taken, changed in one place, its checksum
//! right again. So it is that place that is refused.

use super::*;
use crate::base::ids::Address;
use crate::format::BLOCK;
use crate::format::bytes::push_varint;
use crate::format::mark::MarkKind;
use crate::format::piece::Piece;
use crate::format::segment::Purpose;
use crate::fuzzing::forge::{SIZE, header};

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
            Kind::Replace | Kind::Link | Kind::Image => (true, true),
            Kind::Raw => (false, true),
            Kind::Aborted | Kind::Extent | Kind::Trim | Kind::Free | Kind::Leaf | Kind::Root => (false, false),
            Kind::Moves | Kind::GivenBack => (false, false),
            Kind::PadSegment | Kind::PadBlock => panic!("a pad is no record"),
        };
        assert!((aligned || !shape.aligned) && (extent || !shape.extent) && !(shape.aligned && shape.extent));
        counts[0] += 1;
    }
    println!("kind bytes: {} known, {} of a later format", counts[0], counts[1]);
    assert_eq!(counts, [12 + 3 * 2 + 1, 253 - 19]);
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
    let bare = |first: u64, last: u64| [&[5][..], &first.to_le_bytes(), &last.to_le_bytes(), &[1; 12]].concat();
    // Two granules in segment 7, one in the next.
    let reference = |first: u64, last: u64| [&bare(first, last)[..], &[7, 2, 0, 1]].concat();
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
        ("an extent without parts", page_head(&bare(8, 16), extent, 6)),
        ("a part without bytes", page_head(&[&bare(8, 16)[..], &[7]].concat(), extent, 6)),
        ("a part of nothing", page_head(&[&bare(8, 16)[..], &[7, 0]].concat(), extent, 6)),
        ("a longer form of a part", page_head(&[&bare(8, 16)[..], &[0x87, 0, 1]].concat(), extent, 6)),
        ("parts near 2^64", page_head(&[&bare(8, 16)[..], &varints(&[u64::MAX, 1])].concat(), extent, 6)),
        ("bytes near 2^64", page_head(&[&bare(8, 16)[..], &varints(&[7, 1 << 61])].concat(), extent, 6)),
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
    assert_eq!(file_name("super-a"), Outcome::Decoded);
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
        ("a third copy of the superblock", file_name("super-c")),
        ("no prefix", file_name("00000000000000ff")),
        ("another prefix", file_name("log-00000000000000ff")),
    ];
    for (why, outcome) in reasons {
        assert_eq!(outcome, Outcome::Refused, "{why}");
    }
    println!("{} reasons to refuse a varint, a reference or a name", reasons.len());
}

/// The varints of some numbers, one behind the other.
fn varints(numbers: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    numbers.iter().for_each(|number| push_varint(&mut bytes, *number));
    bytes
}

#[test]
fn every_reason_to_refuse_a_superblock() {
    let good = Superblock {
        store: 1,
        segment_size: SIZE,
        number: 7,
        redo: Lsn(8192),
        stable: Lsn(12288),
        root: Piece::new(Address(5 * SIZE + BLOCK), 400),
    };
    let block = good.encode().to_vec();
    assert_eq!(superblock(&block), Outcome::Decoded);
    let changed = |at: usize, with: &[u8]| {
        let mut block = block.clone();
        block[at..at + with.len()].copy_from_slice(with);
        repair_superblock(&mut block);
        superblock(&block)
    };
    let number = |at, number: u64| changed(at, &number.to_le_bytes());
    let root = |address: u64| number(64, Piece::new(Address(address), 400).word());
    assert_eq!(changed(8, &[2]), Outcome::Newer);
    assert_eq!(root(6 * SIZE - BLOCK - 8), Outcome::Decoded);
    let reasons = [
        ("too short", superblock(&block[..71])),
        ("no checksum", superblock(&block[..72])),
        ("a wrong checksum", {
            let mut block = block.clone();
            block[20] ^= 1;
            superblock(&block)
        }),
        ("another magic", changed(7, &[0])),
        ("the magic of a segment", changed(0, b"PGCACHE\x1a")),
        ("format 0", changed(8, &[0])),
        ("a later format without its checksum", {
            let mut block = block.clone();
            block[8] = 2;
            superblock(&block)
        }),
        ("something behind the format", changed(15, &[1])),
        ("a size that is no power of two", number(32, SIZE + BLOCK)),
        ("a size below the least", number(32, SIZE / 2)),
        ("a size above the largest", number(32, 2 << 30)),
        ("no size", number(32, 0)),
        ("no number", number(40, 0)),
        ("a redo point that is no LSN", number(48, 8193)),
        ("a redo point above stable", number(48, 12296)),
        ("stable beyond every LSN", number(56, (1 << 62) + 8)),
        ("something in the free bits of the root's piece", changed(64, &[block[64] | 1])),
        ("a root in a header", root(5 * SIZE)),
        ("a root in the last header", root(6 * SIZE - BLOCK)),
    ];
    for (why, outcome) in reasons {
        assert_eq!(outcome, Outcome::Refused, "{why}");
    }
    println!("{} reasons to refuse a superblock", reasons.len());
}

#[test]
fn every_reason_to_refuse_a_leaf() {
    // Two ids without anything; a page of two pieces; a free: four ids.
    let good = varints(&[0, 2, 3, 2000, 8, 5, 6, 1, 77]);
    assert_eq!(leaf(&good, 2), Outcome::Decoded);
    assert_eq!(leaf(&varints(&[0, 512]), 9), Outcome::Decoded);
    // No wildcard: another entry does not compile before it is here.
    let mut reached = [0; 3];
    for entry in entries(&good, 4).unwrap() {
        reached[match entry {
            Entry::Absent => 0,
            Entry::Free(_) => 1,
            Entry::Data(_) => 2,
        }] += 1;
    }
    assert_eq!(reached, [2, 1, 1]);
    let reasons = [
        ("nothing", leaf(&[], 2)),
        ("cut off", leaf(&good[..good.len() - 1], 2)),
        ("more ids than it has", leaf(&good, 3)),
        ("fewer ids than it has", leaf(&good, 1)),
        ("something behind it", leaf(&[&good[..], &[0]].concat(), 2)),
        ("a longer form of a number", leaf(&[0x80, 0, 4], 2)),
        ("a run of nothing", leaf(&varints(&[0, 0, 0, 4]), 2)),
        ("two runs where one does", leaf(&varints(&[0, 2, 0, 2]), 2)),
        ("a run over the end", leaf(&varints(&[0, 5]), 2)),
        ("a run near 2^64", leaf(&varints(&[0, u64::MAX]), 2)),
        ("a free beyond every version", leaf(&varints(&[1, 1 << 61]), 0)),
        ("more pieces than there are bytes", leaf(&varints(&[4, 0, 8, 0, 8]), 0)),
        ("pieces near 2^64", leaf(&varints(&[u64::MAX, 0, 8]), 0)),
        ("a piece below every address", leaf(&varints(&[2, 1, 8]), 0)),
        ("a piece beyond every address", leaf(&varints(&[2, 2 << 50, 8]), 0)),
        ("a piece of no length class", leaf(&varints(&[2, 0, 2 << 10]), 0)),
        ("a piece without a length class", leaf(&varints(&[2, 300]), 0)),
    ];
    for (why, outcome) in reasons {
        assert_eq!(outcome, Outcome::Refused, "{why}");
    }
    println!("{} reasons to refuse a leaf", reasons.len());
}

#[test]
fn every_reason_to_refuse_a_root() {
    // Layout, redo, stable, next sequence, high water, ids of a leaf, no state.
    let start = [1, 1024, 1536, 9, 9, 4, 0];
    // A segment of the log and one of the map, with gaps before them.
    let segments = |cut_off: u64| {
        let salt = 7u64.to_le_bytes();
        [&varints(&[2, 3, 0, 2])[..], &salt, &varints(&[cut_off, 4, 3]), &salt, &[0]].concat()
    };
    let leaves = [3, 0, 60, 4096, 1, 60, 8192, 4];
    let of = |start: &[u64], segments: &[u8], leaves: &[u64]| [&varints(start), segments, &varints(leaves)].concat();
    let with = |at: usize, number: u64| {
        let mut start = start;
        start[at] = number;
        root(&of(&start, &segments(0), &leaves), 0)
    };
    let good = of(&start, &segments(1), &leaves);
    assert_eq!(root(&good, 0), Outcome::Decoded);
    assert_eq!(with(3, 100), Outcome::Decoded);
    let state = [&varints(&start[..6])[..], &varints(&[4]), b"any", &segments(0), &varints(&leaves)].concat();
    assert_eq!(root(&state, 0), Outcome::Decoded);
    let with_segments = |segments: &[u8]| root(&of(&start, segments, &leaves), 0);
    let with_leaves = |leaves: &[u64]| root(&of(&start, &segments(0), leaves), 0);
    let salt = 7u64.to_le_bytes();
    let one = |numbers: &[u64], behind: u64| [&varints(numbers)[..], &salt, &varints(&[behind])].concat();
    assert_eq!(with_segments(&one(&[1, 3, 0, 2], 0)), Outcome::Decoded);
    assert!((1..4).all(|stream| with_segments(&one(&[1, 3, stream], 0)) == Outcome::Decoded));
    let two_of_the_log = |first: u64, second: u64| {
        let next = [&varints(&[0, 0, second])[..], &salt, &[0]].concat();
        with_segments(&[&one(&[2, 3, 0, first], 0)[..], &next].concat())
    };
    assert_eq!(two_of_the_log(2, 3), Outcome::Decoded);
    let reasons = [
        ("nothing", root(&[], 0)),
        ("cut off", root(&good[..good.len() - 1], 0)),
        ("something behind it", root(&[&good[..], &[0]].concat(), 0)),
        ("another layout", with(0, 2)),
        ("a redo point that no LSN is", with(1, 1 << 61)),
        ("a redo point above stable", with(1, 1537)),
        ("stable that no LSN is", with(2, 1 << 61)),
        ("stable beyond every LSN", with(2, (1 << 59) + 1)),
        ("a sequence that is not given out", with(3, 8)),
        ("more ids than leaves", with(4, 13)),
        ("fewer ids than leaves", with(4, 8)),
        ("ids near 2^64", with(4, u64::MAX)),
        ("leaves without ids", with(5, 0)),
        ("leaves of three ids", with(5, 3)),
        ("leaves with more ids than they may have", {
            root(&of(&[1, 1024, 1536, 9, 9, 1024, 0], &segments(0), &[1, 0]), 0)
        }),
        ("a state that is not there", with(6, 1 << 40)),
        ("a state near 2^64", with(6, u64::MAX)),
        ("segments near 2^64", with_segments(&varints(&[u64::MAX]))),
        ("a segment cut off", with_segments(&varints(&[1, 3, 0, 2]))),
        ("an unknown stream", with_segments(&one(&[1, 3, 4], 0))),
        ("a stream with a flag", with_segments(&one(&[1, 3, 16, 2], 0))),
        ("a stream beyond a byte", with_segments(&one(&[1, 3, 256, 2], 0))),
        ("a sequence near 2^64", with_segments(&one(&[1, u64::MAX, 0, 2], 0))),
        ("a sequence beyond every address", {
            let many = [1, 1024, 1536, u64::MAX, 9, 4, 0];
            root(&of(&many, &one(&[1, (8 << 50) / SIZE, 0, 2], 0), &leaves), 0)
        }),
        ("a start that goes round", with_segments(&one(&[1, 3, 0, 1 << 60], 0))),
        ("a start beyond every LSN", with_segments(&one(&[1, 3, 0, (1 << 62) / SIZE], 0))),
        ("more cut off than there is", root(&of(&start, &segments((SIZE - 2 * BLOCK) / 8 + 1), &leaves), 0)),
        ("cut off beyond every length", root(&of(&start, &segments(1 << 61), &leaves), 0)),
        ("a segment of the map cut off", with_segments(&one(&[1, 3, 3], 1))),
        ("a log that does not rise", two_of_the_log(2, 2)),
        ("leaves near 2^64", with_leaves(&[u64::MAX])),
        ("a leaf that is not there", with_leaves(&[3, 0, 60, 4096, 1])),
        ("a leaf without a place", with_leaves(&[3, 0, 60, 4096, 1, 60])),
        ("a leaf beyond every address", with_leaves(&[3, 0, 60, 1 << 50, 1, 60, 8192, 4])),
        ("a leaf in parts", with_leaves(&[3, 0, 1025, 4096, 1, 60, 8192, 4])),
        ("a leaf of no length class", with_leaves(&[3, 0, 2049, 4096, 1, 60, 8192, 4])),
        ("more ids without data than ids", with_leaves(&[3, 0, 60, 4096, 5, 60, 8192, 4])),
    ];
    for (why, outcome) in reasons {
        assert_eq!(outcome, Outcome::Refused, "{why}");
    }
    println!("{} reasons to refuse a root", reasons.len());
}

#[test]
fn every_reason_to_refuse_a_head_of_the_map() {
    assert_eq!(leaf_head(&varints(&[300, 7])), Outcome::Decoded);
    assert_eq!(part_head(&varints(&[7, 0])), Outcome::Decoded);
    assert_eq!(part_head(&varints(&[7, 1, 4096, 60])), Outcome::Decoded);
    let reasons = [
        ("a leaf without a number", leaf_head(&[])),
        ("a leaf of no checkpoint", leaf_head(&[5])),
        ("a longer form of a leaf's number", leaf_head(&[0x85, 0, 1])),
        ("a part of no checkpoint", part_head(&[])),
        ("a part without an index", part_head(&[7])),
        ("a part that does not say what is before it", part_head(&[7, 1])),
        ("a part before it without a length class", part_head(&[7, 1, 5])),
        ("a part before it beyond every address", part_head(&varints(&[7, 1, 1 << 50, 60]))),
        ("a part before it in parts", part_head(&varints(&[7, 1, 4096, 1024]))),
        ("a part before it of no length class", part_head(&varints(&[7, 1, 4096, 2048]))),
    ];
    for (why, outcome) in reasons {
        assert_eq!(outcome, Outcome::Refused, "{why}");
    }
    println!("{} reasons to refuse a head of the map", reasons.len());
}
