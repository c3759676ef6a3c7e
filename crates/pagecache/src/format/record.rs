//! One record of the log: header, checksum, kinds and pads.
//!
//! ```text
//!  0      4    5             5+v            5+v+n        multiple of 8
//!  | crc  |kind| n: varint   | body         | zeros      |
//! ```
//!
//! The LSN is implied by the place and covered by the checksum, as is the salt of the segment's life: stale bytes of an
//! earlier life never validate. The checksum runs over the body first and the place last: the long part is done before the
//! place is known, so that nothing long happens between drawing an LSN and completing the record.

use super::bytes::{Cursor, Small, varint, varint_len};
use super::mark::{MARK, Mark, MarkKind};
use super::{BLOCK, GRANULE, granular};
use crate::base::canary::{Canary, planted};
use crate::base::ids::Lsn;

/// What a record is. The numbers are the format's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Fills the rest of a segment.
    PadSegment = 1,
    /// Fills a block after a flush and ends in a mark.
    PadBlock = 2,
    /// A reservation that was given up; its bytes mean nothing.
    Aborted = 3,
    /// Bytes of a user of the bare log.
    Raw = 4,
    /// A piece of a record too long for the ring; names the piece before.
    Extent = 5,
    /// Everything below an LSN may be forgotten.
    Trim = 6,
    /// A page's whole content.
    Replace = 8,
    /// A fragment on top of a version of a page.
    Link = 9,
    /// A page is given up.
    Free = 10,
    /// A page's whole content as of a version, written by the background.
    Image = 11,
    /// A leaf of the map: where the pages of a range of ids are.
    Leaf = 12,
    /// What a checkpoint knows: its leaves, and the segments they are in.
    Root = 13,
    /// Pages have gone to images.
    Moves = 14,
    /// Segments were given back, to which a checkpoint before may lead.
    GivenBack = 15,
}

const ALIGNED: u8 = 0x40;
const EXTENT: u8 = 0x80;
const KIND: u8 = 0x3f;

/// The shortest pad that can end in a mark.
pub(crate) const PAD_MIN: u64 = GRANULE + MARK;

/// The longest pad before an aligned payload; its first byte is its length, the others are 0.
pub(crate) const PAD_MAX: usize = 15;

/// The longest head: kind bytes before the payload (page id, base version, alignment, extent).
pub(crate) const HEAD: usize = 56;

/// What goes before a payload, within the body.
pub(crate) type Head = Small<HEAD>;

/// How a body is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    /// The payload starts at a multiple of 8 bytes from the record's start, a pad before it.
    pub(crate) aligned: bool,
    /// In place of the payload stands a reference to the last piece of an extent.
    pub(crate) extent: bool,
}

impl Shape {
    pub(crate) fn plain(kind: Kind) -> Shape {
        Shape { kind, aligned: false, extent: false }
    }

    fn byte(self) -> u8 {
        self.kind as u8 | if self.aligned { ALIGNED } else { 0 } | if self.extent { EXTENT } else { 0 }
    }

    fn parse(byte: u8) -> Option<Shape> {
        let kind = match byte & KIND {
            3 => Kind::Aborted,
            4 => Kind::Raw,
            5 => Kind::Extent,
            6 => Kind::Trim,
            8 => Kind::Replace,
            9 => Kind::Link,
            10 => Kind::Free,
            11 => Kind::Image,
            12 => Kind::Leaf,
            13 => Kind::Root,
            14 => Kind::Moves,
            15 => Kind::GivenBack,
            _ => return None,
        };
        let shape = Shape { kind, aligned: byte & ALIGNED != 0, extent: byte & EXTENT != 0 };
        // Flags that this build would not write are of a newer one.
        let known = match kind {
            Kind::Replace | Kind::Link | Kind::Image => !(shape.aligned && shape.extent),
            Kind::Raw => !shape.aligned,
            _ => !shape.aligned && !shape.extent,
        };
        known.then_some(shape)
    }
}

/// A record that is ready for a place: everything but its LSN and the payload's bytes.
#[derive(Debug)]
pub(crate) struct Frame<'h> {
    shape: Shape,
    head: &'h [u8],
    body: Body,
}

/// What the checksum of a record knows of its body: head, then payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(super) len: u32,
    pub(super) crc: u32,
}

/// What stands before a record's head: checksum, kind and length, in the order of memory, with zeros behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefix {
    pub(crate) bytes: [u8; 16],
    pub(crate) len: usize,
}

impl Prefix {
    /// Its first or second 8 bytes.
    #[inline]
    pub(crate) fn granule(&self, at: usize) -> [u8; GRANULE as usize] {
        self.bytes.as_chunks().0.get(at).copied().unwrap_or_default()
    }
}

/// The first bytes of every record: its checksum and its kind.
const START: usize = 5;

impl<'h> Frame<'h> {
    /// Lays out a record without a head.
    #[inline]
    pub(crate) fn bare(kind: Kind, payload: &[u8]) -> Frame<'static> {
        let body = Body { len: payload.len() as u32, crc: crc32c::crc32c(payload) };
        Frame { shape: Shape::plain(kind), head: &[], body }
    }

    /// Lays out a record. Where the shape is aligned, a pad is put behind the head until the payload is.
    pub(crate) fn new(shape: Shape, head: &'h mut Head, payload: &[u8]) -> Frame<'h> {
        let head = padded(shape, head, payload.len());
        let crc = crc32c::crc32c_append(crc32c::crc32c(head), payload);
        Frame { shape, head, body: Body { len: (head.len() + payload.len()) as u32, crc } }
    }

    /// Lays out a record whose body is that of another, which was checked when it was read: what becomes of the bytes meanwhile is seen by who reads
    /// them next.
    pub(crate) fn again(shape: Shape, head: &'h mut Head, payload: &[u8], sum: Body) -> Frame<'h> {
        let before = *head;
        let again = padded(shape, head, payload.len());
        // A body of another length is another one: this build would have laid it out otherwise.
        if (again.len() + payload.len()) as u64 == u64::from(sum.len) {
            return Frame { shape, head: head.as_slice(), body: sum };
        }
        *head = before;
        Frame::new(shape, head, payload)
    }

    pub(crate) fn head(&self) -> &[u8] {
        self.head
    }

    pub(crate) fn body(&self) -> Body {
        self.body
    }

    /// Whether its payload is what a user gives.
    pub(crate) fn is_given(&self) -> bool {
        !matches!(self.shape.kind, Kind::Trim | Kind::Moves | Kind::GivenBack)
    }

    pub(crate) fn payload_len(&self) -> u64 {
        u64::from(self.body.len) - self.head.len() as u64
    }

    /// Bytes of the record, a multiple of 8.
    pub(crate) fn len(&self) -> u64 {
        let body = u64::from(self.body.len);
        granular((START + varint_len(body)) as u64 + body)
    }

    /// What the record begins with at `lsn`, in a life `salt`.
    #[inline]
    pub(crate) fn prefix(&self, lsn: Lsn, salt: u64) -> Prefix {
        let start = u64::from_le_bytes(self.body.start(self.shape, lsn, salt));
        let (length, count) = varint(u64::from(self.body.len));
        let bytes = u128::from(start) | u128::from(length) << (8 * START);
        Prefix { bytes: bytes.to_le_bytes(), len: START + count }
    }
}

/// A head, with the pad that the payload behind it needs.
fn padded(shape: Shape, head: &mut Head, payload_len: usize) -> &[u8] {
    if shape.aligned {
        // The pad says how long it is: one that makes the body's length a byte longer needs up to 15 bytes, and a reader
        // could not tell 8 of them from the payload's own zeros.
        let mut pad = 1;
        let before = |pad| START + varint_len((head.len() + pad + payload_len) as u64) + head.len() + pad;
        while !before(pad).is_multiple_of(8) {
            pad += 1;
        }
        head.extend(&[pad as u8]);
        head.extend([0u8; PAD_MAX].get(1..pad).unwrap_or_default());
    }
    head.as_slice()
}

#[cfg(any(test, fuzzing))]
impl Frame<'_> {
    /// A record with this body, of any shape, whatever the body says.
    pub(crate) fn of_body(shape: Shape, body: &[u8]) -> Frame<'static> {
        Frame { shape, head: &[], body: Body::of(body) }
    }

    /// The whole record, as it shall stand at `lsn`.
    pub(crate) fn bytes(&self, payload: &[u8], lsn: Lsn, salt: u64) -> Vec<u8> {
        let prefix = self.prefix(lsn, salt);
        let mut bytes = prefix.bytes.get(..prefix.len).unwrap_or_default().to_vec();
        bytes.extend_from_slice(self.head());
        bytes.extend_from_slice(payload);
        bytes.resize(self.len() as usize, 0);
        bytes
    }
}

impl Body {
    #[cfg(any(test, fuzzing))]
    pub(super) fn of(bytes: &[u8]) -> Body {
        Body { len: bytes.len() as u32, crc: crc32c::crc32c(bytes) }
    }

    /// The first bytes of the same record where it was given up; what follows them stays.
    pub(crate) fn aborted(self, lsn: Lsn, salt: u64) -> [u8; START] {
        let [a, b, c, d, kind, ..] = self.start(Shape::plain(Kind::Aborted), lsn, salt);
        [a, b, c, d, kind]
    }

    fn start(self, shape: Shape, lsn: Lsn, salt: u64) -> [u8; 8] {
        let kind = [shape.byte(), 0, 0, 0];
        join(checksum(self, kind, lsn, salt), kind)
    }
}

/// The first bytes of a pad that runs to the end of its segment's data.
pub(crate) fn pad_segment(lsn: Lsn, salt: u64) -> [u8; 8] {
    let kind = [Kind::PadSegment as u8, 0, 0, 0];
    join(checksum(NO_BODY, kind, lsn, salt), kind)
}

/// The first bytes of a pad from `mark.own` to `end`, and the mark it ends in.
pub(crate) fn pad_block(mark: Mark, end: Lsn, salt: u64) -> ([u8; 8], [u8; MARK as usize]) {
    let tail = mark.encode(end, salt);
    let kind = [Kind::PadBlock as u8, blocks(mark.own, end), mark.kind as u8, 0];
    (join(checksum(Body { len: 0, crc: crc32c::crc32c(&tail) }, kind, mark.own, salt), kind), tail)
}

/// Block ends within `(own, end]`: one or two.
fn blocks(own: Lsn, end: Lsn) -> u8 {
    ((end.0 / BLOCK).saturating_sub(own.0 / BLOCK)) as u8
}

fn join(sum: u32, kind: [u8; 4]) -> [u8; 8] {
    let [a, b, c, d] = sum.to_le_bytes();
    let [e, f, g, h] = kind;
    [a, b, c, d, e, f, g, h]
}

pub(super) const NO_BODY: Body = Body { len: 0, crc: 0 };

/// The checksum of the body goes on over where the record is and what it is.
#[inline]
pub(super) fn checksum(body: Body, kind: [u8; 4], lsn: Lsn, salt: u64) -> u32 {
    let (salt, place) = if planted(Canary::WrongCrcSeed) { (0, 0) } else { (salt, lsn.0) };
    let what = u64::from(u32::from_le_bytes(kind)) | u64::from(body.len) << 32;
    let mut block = [0u8; 24];
    for (part, word) in block.as_chunks_mut().0.iter_mut().zip([salt, place, what]) {
        *part = word.to_le_bytes();
    }
    crc32c::crc32c_append(body.crc, &block)
}

/// What stands at a place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// A record of `len` bytes with this body, and what the checksum knows of it.
    Record { shape: Shape, body: &'a [u8], body_at: usize, len: u64, sum: Body },
    /// The rest of the segment is nothing.
    PadSegment,
    /// A pad of `len` bytes that ends in a mark.
    PadBlock { len: u64, mark: Mark },
    /// At least `need` bytes from the record's start are wanted to say more.
    Short { need: u64 },
    /// Intact, but of a kind this build does not know.
    Unknown { kind: u8 },
    /// Nothing valid.
    Hole,
}

/// Reads what stands at `lsn`, given the bytes from there on and the `room` up to the end of the segment's data.
///
/// Nothing is allocated, and no length is believed before it is checked against `room`.
pub(crate) fn parse(bytes: &[u8], lsn: Lsn, salt: u64, room: u64) -> Parsed<'_> {
    try_parse(bytes, lsn, salt, room).unwrap_or(Parsed::Hole)
}

/// Bytes from a record's start that [`parse`] wants to see, judged by its first few: nothing here is checked yet.
pub(crate) fn wanted(bytes: &[u8], lsn: Lsn) -> u64 {
    let mut cursor = Cursor::new(bytes.get(4..).unwrap_or_default());
    match cursor.u8() {
        Some(1) | None => GRANULE,
        Some(2) => {
            let count = u64::from(cursor.u8().unwrap_or_default()).clamp(1, 2);
            (lsn.0 / BLOCK + count) * BLOCK - lsn.0
        }
        Some(_) => match cursor.varint() {
            Some(body) => granular(body.saturating_add(5 + varint_len(body) as u64).min(u64::MAX - GRANULE)),
            None => 16,
        },
    }
}

/// What a record's first bytes say that it is, and as much of its body as is among them. Nothing is checked: for who can do without.
pub(crate) fn peek(bytes: &[u8]) -> Option<(Shape, &[u8])> {
    let mut cursor = Cursor::new(bytes.get(4..)?);
    let shape = Shape::parse(cursor.u8()?)?;
    cursor.varint()?;
    Some((shape, cursor.rest()))
}

fn try_parse(bytes: &[u8], lsn: Lsn, salt: u64, room: u64) -> Option<Parsed<'_>> {
    if room < GRANULE {
        return None;
    }
    if (bytes.len() as u64) < GRANULE {
        return Some(Parsed::Short { need: GRANULE });
    }
    let mut cursor = Cursor::new(bytes);
    let (sum, kind) = (cursor.u32()?, cursor.u8()?);
    match kind {
        1 => {
            let kind = [kind, cursor.u8()?, cursor.u8()?, cursor.u8()?];
            return (kind == [1, 0, 0, 0] && sum == checksum(NO_BODY, kind, lsn, salt)).then_some(Parsed::PadSegment);
        }
        2 => return parse_pad_block(bytes, lsn, salt, room),
        _ => {}
    }
    // A varint cut off by the end of `bytes` only ever means that more is wanted: at most 5 bytes are allowed.
    if bytes.len() < 10 && room >= 10 && bytes.get(5..).is_some_and(|rest| rest.iter().all(|byte| byte & 0x80 != 0)) {
        return Some(Parsed::Short { need: 16.min(room) });
    }
    // Before anything is added to it: a length near 2^64 would go round.
    let body_len = cursor.varint().filter(|len| *len <= u64::from(u32::MAX))?;
    let body_at = 5 + varint_len(body_len);
    let end = body_len + body_at as u64;
    let len = granular(end);
    if len > room {
        return None;
    }
    if (bytes.len() as u64) < len {
        return Some(Parsed::Short { need: len });
    }
    let body = cursor.take(body_len as usize)?;
    let sums = Body { len: body_len as u32, crc: crc32c::crc32c(body) };
    if sum != checksum(sums, [kind, 0, 0, 0], lsn, salt) {
        return None;
    }
    if bytes.get(end as usize..len as usize)?.iter().any(|byte| *byte != 0) {
        return None;
    }
    Some(match Shape::parse(kind) {
        Some(shape) => Parsed::Record { shape, body, body_at, len, sum: sums },
        None => Parsed::Unknown { kind: kind & KIND },
    })
}

fn parse_pad_block(bytes: &[u8], lsn: Lsn, salt: u64, room: u64) -> Option<Parsed<'_>> {
    let [a, b, c, d, kind, count, mark_kind, zero] = Cursor::new(bytes).array::<8>()?;
    if zero != 0 || !(1..=2).contains(&count) {
        return None;
    }
    let end = Lsn((lsn.0 / BLOCK + u64::from(count)) * BLOCK);
    let len = end.0 - lsn.0;
    if len < PAD_MIN || len > room {
        return None;
    }
    if (bytes.len() as u64) < len {
        return Some(Parsed::Short { need: len });
    }
    let tail = bytes.get((len - MARK) as usize..len as usize)?;
    let sums = Body { len: 0, crc: crc32c::crc32c(tail) };
    let sum = checksum(sums, [kind, count, mark_kind, 0], lsn, salt);
    let mark = Mark::decode(tail, end, salt)?;
    let agrees = sum == u32::from_le_bytes([a, b, c, d]) && mark.own == lsn && mark.kind as u8 == mark_kind;
    agrees.then_some(Parsed::PadBlock { len, mark })
}

/// The longest payload that a store may be told to take, in bytes.
pub(crate) const PAYLOAD_MAX: u64 = 1 << 30;

/// Where a payload too long for one record lies: the last of its pieces, each naming the one before. The places are LSNs in the log, and
/// addresses elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExtentRef {
    pub(crate) first: Lsn,
    pub(crate) last: Lsn,
    pub(crate) len: u64,
    pub(crate) crc: u32,
}

impl ExtentRef {
    pub(crate) fn push_to(&self, head: &mut Head) {
        for number in [self.first.0, self.last.0, self.len] {
            head.extend(&number.to_le_bytes());
        }
        head.extend(&self.crc.to_le_bytes());
    }

    /// Reads the whole of `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Option<ExtentRef> {
        ExtentRef::decode_front(bytes).filter(|(_, rest)| rest.is_empty()).map(|(extent, _)| extent)
    }

    /// Reads the front of `bytes`, and what is behind it.
    pub(crate) fn decode_front(bytes: &[u8]) -> Option<(ExtentRef, &[u8])> {
        let mut cursor = Cursor::new(bytes);
        let (first, last, len) = (Lsn(cursor.u64()?), Lsn(cursor.u64()?), cursor.u64()?);
        let crc = cursor.u32()?;
        (first <= last).then_some((ExtentRef { first, last, len, crc }, cursor.rest()))
    }
}

const _: () = assert!(MarkKind::Open as u8 == 2 && Kind::Root as u8 <= KIND);

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(frame: &Frame, payload: &[u8], lsn: Lsn, salt: u64) -> Vec<u8> {
        frame.bytes(payload, lsn, salt)
    }

    #[test]
    fn a_raw_record_of_128_bytes_costs_at_most_16_more() {
        assert!(Frame::bare(Kind::Raw, &[1; 128]).len() <= 144);
    }

    #[test]
    fn records_of_every_length_come_back() {
        for len in (0..300).chain([4096, 20_000, 70_000]) {
            for aligned in [false, true] {
                let payload: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
                let mut head = Head::new();
                head.varint(len as u64 * 77);
                let shape = Shape { aligned, ..Shape::plain(Kind::Link) };
                let frame = Frame::new(shape, &mut head, &payload);
                let bytes = bytes_of(&frame, &payload, Lsn(4096), 9);
                assert_eq!(bytes.len() as u64, frame.len());
                match parse(&bytes, Lsn(4096), 9, bytes.len() as u64) {
                    Parsed::Record { shape: found, body, body_at, len, .. } => {
                        assert_eq!((found, len), (shape, frame.len()));
                        assert!(body.ends_with(&payload));
                        let at = body_at + body.len() - payload.len();
                        assert!(!aligned || at.is_multiple_of(8));
                    }
                    other => panic!("{len}: {other:?}"),
                }
                assert_eq!(parse(&bytes, Lsn(4104), 9, 1 << 20), Parsed::Hole, "another place");
                assert_eq!(parse(&bytes, Lsn(4096), 8, 1 << 20), Parsed::Hole, "another life");
            }
        }
    }

    #[test]
    fn a_record_that_was_read_is_laid_out_again_as_it_was_and_a_longer_one_anew() {
        for aligned in [false, true] {
            let shape = Shape { aligned, ..Shape::plain(Kind::Image) };
            let head = || {
                let mut head = Head::new();
                head.varint(300);
                head
            };
            let payload = [7; 1000];
            let mut first = head();
            let frame = Frame::new(shape, &mut first, &payload);
            let bytes = bytes_of(&frame, &payload, Lsn(8), 1);
            let Parsed::Record { sum, .. } = parse(&bytes, Lsn(8), 1, 1 << 20) else { panic!() };
            let mut second = head();
            let again = Frame::again(shape, &mut second, &payload, sum);
            assert_eq!(bytes_of(&again, &payload, Lsn(4096), 2), bytes_of(&frame, &payload, Lsn(4096), 2));
            // What has become of the bytes is seen.
            let mut third = head();
            let again = Frame::again(shape, &mut third, &[8; 1000], sum);
            assert_eq!(parse(&bytes_of(&again, &[8; 1000], Lsn(8), 1), Lsn(8), 1, 1 << 20), Parsed::Hole);
            // With a pad that this build would not have made, it is another body.
            let mut fourth = head();
            let other = Frame::again(shape, &mut fourth, &payload, Body { len: sum.len + 8, ..sum });
            assert_eq!(bytes_of(&other, &payload, Lsn(8), 1), bytes);
        }
    }

    #[test]
    fn the_first_bytes_say_what_a_record_is_and_any_bytes_do_no_harm() {
        let mut head = Head::new();
        head.varint(300);
        let frame = Frame::new(Shape::plain(Kind::Link), &mut head, &[7; 100]);
        let bytes = bytes_of(&frame, &[7; 100], Lsn(8), 1);
        let (shape, body) = peek(&bytes[..16]).unwrap();
        assert_eq!((shape.kind, body), (Kind::Link, &bytes[6..16]));
        for len in 0..6 {
            assert_eq!(peek(&bytes[..len]), None);
        }
        assert_eq!(peek(&[0xff; 20]), None);
    }

    #[test]
    fn a_record_seen_in_part_asks_for_the_rest_and_never_for_more_than_there_is() {
        let frame = Frame::bare(Kind::Raw, &[5; 300]);
        let bytes = bytes_of(&frame, &[5; 300], Lsn(8), 1);
        let mut have = 0;
        loop {
            match parse(&bytes[..have], Lsn(8), 1, bytes.len() as u64) {
                Parsed::Short { need } => {
                    assert!(need > have as u64 && need <= bytes.len() as u64);
                    have = need as usize;
                }
                Parsed::Record { len, .. } => break assert_eq!(len, bytes.len() as u64),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(parse(&bytes, Lsn(8), 1, 64), Parsed::Hole, "longer than its segment");
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_a_hole() {
        let frame = Frame::bare(Kind::Raw, &[5; 51]);
        let bytes = bytes_of(&frame, &[5; 51], Lsn(8), 1);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let parsed = parse(&flipped, Lsn(8), 1, bytes.len() as u64);
            assert!(matches!(parsed, Parsed::Hole), "bit {bit}: {parsed:?}");
        }
    }

    // Its places are those of blocks of 4096 bytes.
    #[cfg(not(loom))]
    #[test]
    fn pads_come_back_with_their_mark() {
        let salt = 3;
        for own in [4096u64, 5000, 8192 - 32, 8192 - 24, 8192 - 8] {
            let end = if 8192 - own < PAD_MIN { 12288 } else { 8192 };
            let mark = Mark { stable: Lsn(4096), own: Lsn(own), kind: MarkKind::Round };
            let (head, tail) = pad_block(mark, Lsn(end), salt);
            let mut bytes = vec![0; (end - own) as usize];
            bytes[..8].copy_from_slice(&head);
            let at = bytes.len() - MARK as usize;
            bytes[at..].copy_from_slice(&tail);
            assert_eq!(parse(&bytes, Lsn(own), salt, 1 << 16), Parsed::PadBlock { len: end - own, mark });
            assert_eq!(parse(&bytes, Lsn(own), salt, end - own - 8), Parsed::Hole);
        }
        assert_eq!(parse(&pad_segment(Lsn(8), salt), Lsn(8), salt, 8), Parsed::PadSegment);
        assert_eq!(parse(&pad_segment(Lsn(8), salt), Lsn(16), salt, 8), Parsed::Hole);
    }

    /// The example of docs/FORMAT.md, so that the page stays true.
    #[test]
    fn the_worked_example_is_what_is_written() {
        let salt = 0x0123_4567_89ab_cdef;
        let hello = Frame::bare(Kind::Raw, b"hello").bytes(b"hello", Lsn(8192), salt);
        let mut head = Head::new();
        head.varint(5);
        head.varint(1024);
        let link = Frame::new(Shape::plain(Kind::Link), &mut head, b"\x01b").bytes(b"\x01b", Lsn(8208), salt);
        let mark = Mark { stable: Lsn(8192), own: Lsn(8208), kind: MarkKind::Round };
        let (pad, tail) = pad_block(mark, Lsn(12288), salt);
        let page = include_str!("../../../../docs/FORMAT.md");
        let words: String = page.split_whitespace().collect();
        for bytes in [hello, link, pad.to_vec(), tail.to_vec()] {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(words.contains(&hex), "{hex}");
        }
    }

    #[test]
    fn a_kind_from_the_future_is_named_not_guessed() {
        let mut shape = [0u8; 4];
        shape[0] = 16;
        let sum = checksum(Body { len: 2, crc: crc32c::crc32c(b"hi") }, shape, Lsn(8), 1);
        let mut bytes = sum.to_le_bytes().to_vec();
        bytes.extend([16, 2, b'h', b'i']);
        assert_eq!(parse(&bytes, Lsn(8), 1, 8), Parsed::Unknown { kind: 16 });
    }
}
