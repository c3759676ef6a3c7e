//! A door for the fuzz targets: each decoder of the format as a function of bytes that holds it to its properties, and the
//! repair of checksums. There in builds for fuzzing and for this crate's own tests only.
//!
//! - Z1. What decodes is encoded to the same bytes again; where a format leaves a choice, to bytes that decode to the same.
//! - Z2. No decoder says a length beyond what it was given.

use crate::base::ids::Lsn;
use crate::format::bytes::{Cursor, Small, varint_len};
use crate::format::leaf::{Entry, LeafHead, LeafWriter, entries};
use crate::format::mark::{MARK, Mark};
use crate::format::moves;
use crate::format::page::{PageHead, Payload};
use crate::format::record::{ExtentRef, Frame, Head, Kind, Parsed, Shape, pad_block, pad_segment, parse, wanted};
use crate::format::root::{PartHead, Root};
use crate::format::segment::{Found, Named, SEGMENT_MAX, SEGMENT_MIN, SegmentHeader, name, parse_name, scratch_name};
use crate::format::superblock::{self, Superblock};
use crate::format::{GRANULE, repair};

#[cfg(all(test, not(loom)))]
pub(crate) mod forge;
#[cfg(all(test, not(loom)))]
mod found;
#[cfg(all(test, not(loom)))]
pub(crate) mod map;
#[cfg(all(test, not(loom)))]
mod outcomes;
#[cfg(all(test, not(loom)))]
mod refusals;
#[cfg(all(test, not(loom)))]
mod tests;

/// What a decoder made of its bytes, for counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// They are what they should be.
    Decoded,
    /// They are refused.
    Refused,
    /// They begin like something longer.
    Short,
    /// They are intact, and of a later format.
    Newer,
}

/// LSNs are multiples of 8 below 2^62: callers of the decoders see to that, as headers are refused otherwise.
fn place(number: u64) -> Lsn {
    Lsn(number % (1 << 62) / GRANULE * GRANULE)
}

/// A varint, shortest form only.
pub fn varint(bytes: &[u8]) -> Outcome {
    let mut cursor = Cursor::new(bytes);
    let Some(value) = cursor.varint() else { return Outcome::Refused };
    let used = bytes.len() - cursor.rest().len();
    let mut again = Small::<10>::new();
    again.varint(value);
    assert_eq!(Some(again.as_slice()), bytes.get(..used), "{value} has another encoding");
    assert_eq!(varint_len(value), used);
    Outcome::Decoded
}

/// The name of a file in the directory.
pub fn file_name(text: &str) -> Outcome {
    match parse_name(text) {
        Named::Segment(sequence) => assert_eq!(name(sequence), text),
        Named::Scratch => {
            let number = text.get(4..).and_then(|digits| u64::from_str_radix(digits, 16).ok());
            assert_eq!(number.map(|number| scratch_name(crate::base::ids::Sequence(number))).as_deref(), Some(text));
        }
        Named::Superblock(copy) => assert_eq!(crate::format::segment::SUPERBLOCKS.get(copy), Some(&text)),
        Named::Foreign => return Outcome::Refused,
    }
    Outcome::Decoded
}

/// A reference to an extent.
pub fn extent_ref(bytes: &[u8]) -> Outcome {
    let Some(extent) = ExtentRef::decode(bytes) else { return Outcome::Refused };
    assert!(extent.first <= extent.last);
    let mut again = Head::new();
    extent.push_to(&mut again);
    assert_eq!(again.as_slice(), bytes);
    Outcome::Decoded
}

/// One copy of a segment's header.
pub fn segment_header(block: &[u8]) -> Outcome {
    match SegmentHeader::decode(block) {
        Found::Valid(header) => {
            assert!(header.is_sound());
            assert_eq!(header.encode().get(..108), block.get(..108));
            Outcome::Decoded
        }
        Found::Newer(version) => {
            assert!(version > 1);
            Outcome::Newer
        }
        Found::Nothing => Outcome::Refused,
    }
}

/// One copy of the superblock.
pub fn superblock(block: &[u8]) -> Outcome {
    match Superblock::decode(block) {
        superblock::Found::Valid(superblock) => {
            assert_eq!(superblock.encode().get(..76), block.get(..76));
            Outcome::Decoded
        }
        superblock::Found::Newer(version) => {
            assert!(version > 1);
            Outcome::Newer
        }
        superblock::Found::Nothing => Outcome::Refused,
    }
}

/// The entries of a leaf of 2 to the `power` ids, as many as a root may say.
pub fn leaf(bytes: &[u8], power: u8) -> Outcome {
    let ids = 1 << (power % 10);
    let Some(found) = entries(bytes, ids) else { return Outcome::Refused };
    assert_eq!(found.len() as u64, ids);
    let mut again = LeafWriter::default();
    for entry in &found {
        match entry {
            Entry::Absent => again.absent(),
            Entry::Free(version) => again.free(*version),
            Entry::Data(pieces) => {
                assert!(!pieces.is_empty() && pieces.capacity() <= bytes.len());
                again.data(pieces.len(), pieces.iter().copied());
            }
        }
    }
    let vacant = found.iter().filter(|entry| !matches!(entry, Entry::Data(_))).count() as u64;
    assert_eq!(again.finish(), (bytes.to_vec(), vacant));
    Outcome::Decoded
}

/// The body of a leaf's record, up to its entries.
pub fn leaf_head(body: &[u8]) -> Outcome {
    let Some((head, rest)) = LeafHead::decode(body) else { return Outcome::Refused };
    assert_eq!([head.encode().as_slice(), rest].concat(), body);
    Outcome::Decoded
}

/// A root of a store whose segments have 2 to the `power` bytes, as small or as large as they may be.
pub fn root(bytes: &[u8], power: u8) -> Outcome {
    let powers = u64::from(SEGMENT_MAX.ilog2() - SEGMENT_MIN.ilog2() + 1);
    let size = SEGMENT_MIN << (u64::from(power) % powers);
    let Some(root) = Root::decode(bytes, size) else { return Outcome::Refused };
    let lens = [root.segments.len(), root.leaves.len(), root.state.as_ref().map_or(0, Vec::len)];
    assert!(lens.into_iter().all(|len| len <= bytes.len()), "{lens:?} of {} bytes", bytes.len());
    assert_eq!(root.encode(size), bytes);
    Outcome::Decoded
}

/// The body of the record of a part of a root, up to that part.
pub fn part_head(body: &[u8]) -> Outcome {
    let Some((head, rest)) = PartHead::decode(body) else { return Outcome::Refused };
    assert!((head.index == 0) == head.previous.is_none());
    assert_eq!([head.encode().as_slice(), rest].concat(), body);
    Outcome::Decoded
}

/// The mark that ends at an LSN, in a life.
pub fn mark(bytes: &[u8], end: u64, salt: u64) -> Outcome {
    let end = place(end);
    let Some(mark) = Mark::decode(bytes, end, salt) else { return Outcome::Refused };
    assert!(mark.stable <= mark.own && mark.own < end);
    assert_eq!(Some(&mark.encode(end, salt)[..]), bytes.get(..MARK as usize));
    Outcome::Decoded
}

/// What stands at an LSN, in a life, with so many bytes left in the segment.
pub fn record(bytes: &[u8], lsn: u64, salt: u64, room: u64) -> Outcome {
    let (lsn, room) = (place(lsn), room % (1 << 40) / GRANULE * GRANULE);
    let have = bytes.len() as u64;
    let guess = wanted(bytes, lsn);
    match parse(bytes, lsn, salt, room) {
        Parsed::Record { shape, body, body_at, len, .. } => {
            assert!(len <= room && len <= have && len.is_multiple_of(GRANULE));
            assert_eq!(guess, len, "a reader would have read too little");
            let again = Frame::of_body(shape, body).bytes(body, lsn, salt);
            assert_eq!(bytes.get(..len as usize), Some(&*again));
            match shape.kind {
                Kind::Leaf => leaf_head(body),
                Kind::Root => part_head(body),
                Kind::Moves => moved(body),
                Kind::GivenBack => given_back(body),
                _ => page_head_of(shape, body, body_at),
            };
            Outcome::Decoded
        }
        Parsed::PadSegment => {
            assert_eq!(bytes.get(..8), Some(&pad_segment(lsn, salt)[..]));
            Outcome::Decoded
        }
        Parsed::PadBlock { len, mark } => {
            assert!(len <= room && len <= have && mark.own == lsn);
            assert_eq!(guess, len, "a reader would have read too little");
            let (head, tail) = pad_block(mark, Lsn(lsn.0 + len), salt);
            assert!(bytes.starts_with(&head));
            assert_eq!(bytes.get((len - MARK) as usize..len as usize), Some(&tail[..]));
            Outcome::Decoded
        }
        Parsed::Short { need } => {
            assert!(need > have && need <= room, "{need} bytes wanted, {have} there, room for {room}");
            Outcome::Short
        }
        Parsed::Unknown { .. } => Outcome::Newer,
        Parsed::Hole => Outcome::Refused,
    }
}

/// The body of a record that says which pages were moved.
pub fn moved(body: &[u8]) -> Outcome {
    let Some(found) = moves::decode(body) else { return Outcome::Refused };
    assert!(3 * found.len() <= body.len());
    assert_eq!(moves::encode(found, usize::MAX), [body]);
    Outcome::Decoded
}

/// The body of a record that says which segments were given back.
pub fn given_back(body: &[u8]) -> Outcome {
    let Some(found) = moves::decode_given_back(body) else { return Outcome::Refused };
    assert_eq!(moves::encode_given_back(found, usize::MAX), [body]);
    Outcome::Decoded
}

/// The head of a page record: `flags` picks kind, alignment and extent, `body_at` is where the body starts in its record.
pub fn page_head(body: &[u8], flags: u8, body_at: u8) -> Outcome {
    let kind = match flags % 4 {
        0 => Kind::Replace,
        1 => Kind::Link,
        2 => Kind::Free,
        _ => Kind::Raw,
    };
    let shape = Shape { kind, aligned: flags & 0x40 != 0, extent: flags & 0x80 != 0 };
    page_head_of(shape, body, usize::from(body_at % 11))
}

fn page_head_of(shape: Shape, body: &[u8], body_at: usize) -> Outcome {
    let Some((given, payload)) = PageHead::decode(shape, body, body_at) else { return Outcome::Refused };
    let mut head = given.encode(shape.kind);
    let encoded;
    let bytes = match payload {
        Payload::Inline(at) => {
            assert!(at <= body.len());
            assert!(!shape.aligned || (body_at + at).is_multiple_of(8));
            body.get(at..).unwrap_or_default()
        }
        Payload::Extent(extent, parts) => {
            extent.push_to(&mut head);
            encoded = parts.encode();
            &encoded[..]
        }
    };
    if !shape.aligned {
        assert_eq!([head.as_slice(), bytes].concat(), body);
        return Outcome::Decoded;
    }
    if shape.extent {
        // No writer makes both; a record of this shape is refused before its head is looked at.
        return Outcome::Decoded;
    }
    // The pad may have been longer than it has to be.
    let record = Frame::new(shape, &mut head, bytes).bytes(bytes, Lsn(8), 1);
    let again = parse(&record, Lsn(8), 1, record.len() as u64);
    let Parsed::Record { body, body_at, .. } = again else {
        assert!(shape.kind == Kind::Free, "not a record: {again:?}");
        return Outcome::Decoded;
    };
    let again = PageHead::decode(shape, body, body_at);
    let same = matches!(again, Some((found, Payload::Inline(at))) if found == given && body.get(at..) == Some(bytes));
    assert!(same, "{given:?} came back as {again:?}");
    Outcome::Decoded
}

/// Makes the checksum of a segment's header right.
pub fn repair_header(block: &mut [u8]) {
    repair::header(block);
}

/// Makes the checksum of a copy of the superblock right.
pub fn repair_superblock(block: &mut [u8]) {
    repair::superblock(block);
}

/// Makes the checksum of a mark right.
pub fn repair_mark(bytes: &mut [u8], end: u64, salt: u64) {
    repair::mark(bytes, place(end), salt);
}

/// Makes the checksums of a record or pad right.
pub fn repair_record(bytes: &mut [u8], lsn: u64, salt: u64) {
    let room = bytes.len() as u64;
    repair::record(bytes, place(lsn), salt, room);
}

/// Makes the checksums of a segment's file right, as far as its records can be told.
pub fn repair_segment(file: &mut [u8]) {
    repair::segment(file);
}
