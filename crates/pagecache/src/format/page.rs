//! The heads of page records: which page, on top of which version, and where the fragment's bytes start.

use super::bytes::Cursor;
use super::record::{ExtentRef, Head, Kind, Shape};
use crate::base::ids::{PageId, Version};

/// The head of a page record. Only a link names the version it goes on top of; [`Version::NONE`] where there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageHead {
    pub(crate) page: PageId,
    pub(crate) base: Version,
}

/// Where the fragment of a page record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// From this offset in the body to its end.
    Inline(usize),
    /// In pieces elsewhere in the log.
    Extent(ExtentRef),
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
        let mut at = body.len() - cursor.rest().len();
        if shape.aligned {
            let aligned = (body_at + at).next_multiple_of(8) - body_at;
            if body.get(at..aligned)?.iter().any(|byte| *byte != 0) {
                return None;
            }
            at = aligned;
        }
        let payload = match shape.extent {
            true => Payload::Extent(ExtentRef::decode(body.get(at..)?)?),
            false => Payload::Inline(at),
        };
        if shape.kind == Kind::Free && (shape.extent || at != body.len()) {
            return None;
        }
        Some((PageHead { page, base }, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Lsn;

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
    fn an_extent_is_told_from_a_payload() {
        let reference = ExtentRef { first: Lsn(8), last: Lsn(4096), len: 1 << 20, crc: 5 };
        let mut head = PageHead { page: PageId(3), base: Version::NONE }.encode(Kind::Replace);
        reference.push_to(&mut head);
        let shape = Shape { extent: true, ..Shape::plain(Kind::Replace) };
        let (_, payload) = PageHead::decode(shape, head.as_slice(), 6).unwrap();
        assert_eq!(payload, Payload::Extent(reference));
    }
}
