//! The heads of page records and of images: which page, on top of or as of which version, and where the fragment's bytes start.

use super::bytes::Cursor;
use super::parts::Parts;
use super::record::{ExtentRef, Head, Kind, PAD_MAX, Shape};
use crate::base::ids::{PageId, Version};

/// The head of a page record. Only a link names the version it goes on top of; [`Version::NONE`] where there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageHead {
    pub(crate) page: PageId,
    pub(crate) base: Version,
}

/// Where the fragment of a page record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// From this offset in the body to its end.
    Inline(usize),
    /// In pieces elsewhere in the same stream, and how much of them is in each segment.
    Extent(ExtentRef, Parts),
}

impl Payload {
    /// Of a body whose head ends at `at`.
    fn decode(shape: Shape, body: &[u8], body_at: usize, at: usize) -> Option<Payload> {
        let at = payload_at(shape, body, body_at, at)?;
        if !shape.extent {
            return Some(Payload::Inline(at));
        }
        let (extent, parts) = ExtentRef::decode_front(body.get(at..)?)?;
        Some(Payload::Extent(extent, Parts::decode(parts)?))
    }
}

impl PageHead {
    /// The base is written whole, not as a distance: it is known before the record's place is.
    pub(crate) fn encode(&self, kind: Kind) -> Head {
        let mut head = Head::new();
        head.varint(self.page.0);
        if kind == Kind::Link {
            head.varint(self.base.0 / 8);
        }
        head
    }

    /// Reads the head of a body that starts `body_at` bytes into its record.
    pub(crate) fn decode(shape: Shape, body: &[u8], body_at: usize) -> Option<(PageHead, Payload)> {
        let mut cursor = Cursor::new(body);
        let page = PageId(cursor.varint()?);
        let base = match shape.kind {
            Kind::Link => Version(cursor.varint()?.checked_mul(8)?),
            Kind::Replace | Kind::Free => Version::NONE,
            _ => return None,
        };
        let payload = Payload::decode(shape, body, body_at, body.len() - cursor.rest().len())?;
        if shape.kind == Kind::Free && payload != Payload::Inline(body.len()) {
            return None;
        }
        Some((PageHead { page, base }, payload))
    }
}

/// Where the payload starts behind a head that ends at `at`.
fn payload_at(shape: Shape, body: &[u8], body_at: usize, at: usize) -> Option<usize> {
    if !shape.aligned {
        return Some(at);
    }
    let pad = usize::from(*body.get(at)?);
    let zeros = body.get(at + 1..at + pad)?;
    let is_pad = pad <= PAD_MAX && (body_at + at + pad).is_multiple_of(8) && zeros.iter().all(|byte| *byte == 0);
    is_pad.then_some(at + pad)
}

/// The head of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageHead {
    pub(crate) page: PageId,
    /// It holds everything up to this version.
    pub(crate) version: Version,
}

impl ImageHead {
    pub(crate) fn encode(self) -> Head {
        let mut head = Head::new();
        head.varint(self.page.0);
        head.varint(self.version.0 / 8);
        head
    }

    /// Reads the head of a body that starts `body_at` bytes into its record, and where the page's bytes are.
    pub(crate) fn decode(shape: Shape, body: &[u8], body_at: usize) -> Option<(ImageHead, Payload)> {
        let (head, at) = ImageHead::decode_front(shape, body)?;
        Some((head, Payload::decode(shape, body, body_at, at)?))
    }

    /// Reads it from the first bytes of a body, and says where it ends.
    pub(crate) fn decode_front(shape: Shape, body: &[u8]) -> Option<(ImageHead, usize)> {
        if shape.kind != Kind::Image {
            return None;
        }
        let mut cursor = Cursor::new(body);
        let (page, version) = (PageId(cursor.varint()?), Version(cursor.varint()?.checked_mul(8)?));
        Some((ImageHead { page, version }, body.len() - cursor.rest().len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{Lsn, Sequence};
    use crate::format::record::{Frame, Parsed, parse};

    #[test]
    fn heads_come_back_in_every_shape() {
        let pages = [0, 127, 128, 1 << 36];
        let bases = [0, 8, 4096, !7];
        for (page, base) in pages.into_iter().flat_map(|page| bases.map(|base| (page, base))) {
            for kind in [Kind::Replace, Kind::Link, Kind::Free] {
                let base = if kind == Kind::Link { base } else { 0 };
                let given = PageHead { page: PageId(page), base: Version(base) };
                let head = given.encode(kind);
                let body = head.as_slice();
                let (found, payload) = PageHead::decode(Shape::plain(kind), body, 6).unwrap();
                assert_eq!((found, payload), (given, Payload::Inline(body.len())));
                assert!(PageHead::decode(Shape::plain(kind), &body[..body.len() - 1], 6).is_none());
            }
        }
    }

    #[test]
    fn an_aligned_payload_of_any_length_is_told_from_its_pad() {
        for (page, len) in [0, 127, 128, 1 << 36]
            .into_iter()
            .flat_map(|page| (0..300).chain(16_300..16_400).map(move |len| (page, len)))
        {
            // The worst payload: it looks like more of the pad.
            let payload = vec![0; len];
            let given = PageHead { page: PageId(page), base: Version(8) };
            let shape = Shape { aligned: true, ..Shape::plain(Kind::Link) };
            let mut head = given.encode(Kind::Link);
            let frame = Frame::new(shape, &mut head, &payload);
            let bytes = frame.bytes(&payload, Lsn(8), 1);
            let Parsed::Record { body, body_at, .. } = parse(&bytes, Lsn(8), 1, 1 << 20) else { panic!("{len}") };
            assert!((body_at + body.len() - len).is_multiple_of(8));
            let found = PageHead::decode(shape, body, body_at);
            assert_eq!(found, Some((given, Payload::Inline(body.len() - len))), "{page} {len}");
            let at = body_at + given.encode(Kind::Link).len();
            for wrong in [0, bytes[at] ^ 8, 0xff] {
                let mut body = body.to_vec();
                body[at - body_at] = wrong;
                let found = PageHead::decode(shape, &body, body_at);
                assert!(found.is_none() || wrong == bytes[at] ^ 8 && wrong <= 15, "{page} {len} {wrong}: {found:?}");
            }
        }
    }

    #[test]
    fn an_image_says_of_which_version_it_is() {
        for aligned in [false, true] {
            let given = ImageHead { page: PageId(1 << 36), version: Version(1 << 50) };
            let (shape, mut head) = (Shape { aligned, ..Shape::plain(Kind::Image) }, given.encode());
            let bytes = Frame::new(shape, &mut head, b"the page").bytes(b"the page", Lsn(8), 1);
            let Parsed::Record { shape, body, body_at, .. } = parse(&bytes, Lsn(8), 1, 1 << 20) else { panic!() };
            let (found, Payload::Inline(at)) = ImageHead::decode(shape, body, body_at).unwrap() else { panic!() };
            assert_eq!((found, &body[at..]), (given, &b"the page"[..]));
            assert!(!aligned || (body_at + at).is_multiple_of(8));
            assert_eq!(ImageHead::decode(Shape::plain(Kind::Replace), body, body_at), None);
        }
    }

    #[test]
    fn an_extent_is_told_from_a_payload() {
        let reference = ExtentRef { first: Lsn(8), last: Lsn(4096), len: 1 << 20, crc: 5 };
        let mut parts = Parts::default();
        [3, 4].into_iter().for_each(|sequence| parts.add(Sequence(sequence), 1 << 19));
        let mut head = PageHead { page: PageId(3), base: Version::NONE }.encode(Kind::Replace);
        reference.push_to(&mut head);
        let (kind, expected) = (Kind::Replace, Payload::Extent(reference, parts.clone()));
        let shape = Shape { extent: true, ..Shape::plain(kind) };
        let body = [head.as_slice(), &parts.encode()].concat();
        assert_eq!(PageHead::decode(shape, &body, 6).unwrap().1, expected);
        // Without the parts nobody knows which segments it needs.
        assert_eq!(PageHead::decode(shape, head.as_slice(), 6), None);
        let mut head = ImageHead { page: PageId(3), version: Version(80) }.encode();
        reference.push_to(&mut head);
        let body = [head.as_slice(), &parts.encode()].concat();
        let shape = Shape { extent: true, ..Shape::plain(Kind::Image) };
        assert_eq!(ImageHead::decode(shape, &body, 6).unwrap().1, expected);
    }
}
