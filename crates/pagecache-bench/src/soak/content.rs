//! What pages hold: a stripe for each change since the last whole one, each a function of the page, the change and its length.

use pagecache::Materializer;

use crate::workload::Blob;

/// Bytes of a stripe's head: slot, change, length, mark.
const HEAD: usize = 16;

/// The first stripe of a page has one mark, those that were linked to it another.
const BASE: u32 = 0x6261_7365;
const LINK: u32 = 0x6c69_6e6b;

/// Pages of stripes, oldest first.
pub struct Stripes;

impl Materializer for Stripes {
    type PageFrag = Blob;
    type Recovery = ();
    const RECOVERS: bool = false;

    fn new(_: &Option<()>) -> Self {
        Stripes
    }

    fn merge(&self, frags: &[&Blob]) -> Blob {
        let mut page = Vec::with_capacity(frags.iter().map(|frag| frag.0.len()).sum());
        for frag in frags {
            page.extend_from_slice(&frag.0);
        }
        Blob(page)
    }

    fn recover(&self, _: &Blob) -> Option<()> {
        None
    }
}

/// What a page turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose page it is.
    pub slot: u32,
    /// The newest change in it.
    pub change: u32,
    /// Changes in it.
    pub stripes: u32,
}

/// A whole page.
pub fn base(slot: u32, change: u32, len: usize) -> Blob {
    stripe(slot, change, len, BASE)
}

/// A change on top of a page.
pub fn link(slot: u32, change: u32, len: usize) -> Blob {
    stripe(slot, change, len, LINK)
}

fn stripe(slot: u32, change: u32, len: usize, mark: u32) -> Blob {
    let len = len.max(HEAD);
    let mut bytes = Vec::with_capacity(len);
    for word in [slot, change, len as u32, mark] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    let mut body = Body::of(slot, change);
    while bytes.len() + 8 <= len {
        bytes.extend_from_slice(&body.next().to_le_bytes());
    }
    let rest = len - bytes.len();
    bytes.extend_from_slice(&body.next().to_le_bytes()[..rest]);
    Blob(bytes)
}

/// The words of a stripe, one after the other.
struct Body(u64);

impl Body {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    fn of(slot: u32, change: u32) -> Body {
        Body((u64::from(slot) << 32 | u64::from(change)).wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(32))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Body::STEP);
        self.0
    }

    fn is(mut self, bytes: &[u8]) -> bool {
        let (words, rest) = bytes.as_chunks::<8>();
        let same = words.iter().fold(true, |same, word| same & (u64::from_le_bytes(*word) == self.next()));
        same && rest == &self.next().to_le_bytes()[..rest.len()]
    }
}

/// Looks at every byte of a page.
///
/// # Errors
/// Says where it is not what was written.
pub fn check(page: &[u8]) -> Result<Found, String> {
    let mut found: Option<Found> = None;
    let mut rest = page;
    while !rest.is_empty() {
        let at = page.len() - rest.len();
        let wrong = |what: &str| Err(format!("{what} at {at} of {}, behind {found:?}", page.len()));
        let Some((head, _)) = rest.split_first_chunk::<HEAD>() else { return wrong("half a head") };
        let word = |of: usize| u32::from_le_bytes([head[of], head[of + 1], head[of + 2], head[of + 3]]);
        let (slot, change, len, mark) = (word(0), word(4), word(8) as usize, word(12));
        let expected = if found.is_none() { BASE } else { LINK };
        if mark != expected || len < HEAD || len > rest.len() {
            return wrong("no stripe");
        }
        let (stripe, behind) = rest.split_at(len);
        if !Body::of(slot, change).is(&stripe[HEAD..]) {
            return wrong("other bytes than were written");
        }
        let stripes = match found {
            Some(last) if (last.slot, last.change + 1) != (slot, change) => {
                return wrong(&format!("change {change} of {slot}"));
            }
            Some(last) => last.stripes + 1,
            None => 1,
        };
        found = Some(Found { slot, change, stripes });
        rest = behind;
    }
    found.ok_or_else(|| "an empty page".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_the_changes_since_its_last_whole_one() {
        let page = Stripes.merge(&[&base(7, 3, 100), &link(7, 4, 117), &link(7, 5, 16)]);
        assert_eq!(page.0.len(), 233);
        assert_eq!(check(&page.0), Ok(Found { slot: 7, change: 5, stripes: 3 }));
    }

    #[test]
    fn any_other_byte_and_any_missing_change_is_found() {
        let page = Stripes.merge(&[&base(7, 3, 100), &link(7, 4, 117)]);
        for at in 0..page.0.len() {
            let mut other = page.0.clone();
            other[at] ^= 1;
            let found = check(&other);
            assert!(found.is_err(), "byte {at}: {found:?}");
        }
        for lost in
            [&[&base(7, 3, 100), &link(7, 5, 100)][..], &[&link(7, 4, 100)], &[&base(7, 3, 100), &base(7, 4, 100)]]
        {
            assert!(check(&Stripes.merge(lost).0).is_err());
        }
        assert!(check(&[]).is_err());
    }
}
