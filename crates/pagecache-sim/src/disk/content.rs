//! The bytes of one file: copy-on-write pages, so that a crash image shares whatever it does not change.
//!
//! Invariant C1: no page lies at or past the length, and the bytes of the last page past the length are zero.

use std::io;
use std::sync::{Arc, LazyLock};

use crate::rng::Rng;

/// Bytes of a page: the unit of sharing and of space.
pub(super) const PAGE: u64 = 4096;

/// Bytes that the medium writes as one.
pub(super) const SECTOR: u64 = 512;

/// Longer files are refused, lest a wild offset take the machine's memory.
const LEN_MAX: u64 = 16 << 30;

type Page = Arc<[u8; PAGE as usize]>;

/// What allocated but unwritten pages share.
static ZERO: LazyLock<Page> = LazyLock::new(|| Arc::new([0; PAGE as usize]));

/// What a range that grew without data holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gap {
    Zeros,
    Garbage(u64),
}

/// A file's length and bytes. Cloning costs one reference count.
#[derive(Clone, Default)]
pub(super) struct Content {
    len: u64,
    /// `None` is a hole: it reads as zero and occupies nothing.
    pages: Arc<Vec<Option<Page>>>,
}

impl Content {
    pub(super) fn from_bytes(bytes: &[u8]) -> Content {
        let mut content = Content::default();
        content.write(bytes, 0);
        content
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes of disk that the file occupies.
    pub(super) fn allocated(&self) -> u64 {
        self.pages.iter().flatten().count() as u64 * PAGE
    }

    /// Bytes of disk that a write to the range would newly occupy.
    pub(super) fn unallocated(&self, offset: u64, len: u64) -> u64 {
        let pages = offset / PAGE..(offset + len).div_ceil(PAGE);
        let present = self.pages.iter().take(pages.end as usize).skip(pages.start as usize).flatten().count();
        (pages.end - pages.start - present as u64) * PAGE
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let count = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        for (at, range) in by_page(offset, count) {
            match self.pages.get(at.0) {
                Some(Some(page)) => buf[range.clone()].copy_from_slice(&page[at.1..at.1 + range.len()]),
                _ => buf[range].fill(0),
            }
        }
        count
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(&mut bytes, 0);
        bytes
    }

    /// Writes; what lies between the length and `offset` becomes zero.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        self.len = self.len.max(offset + bytes.len() as u64);
        for (at, range) in by_page(offset, bytes.len()) {
            let target = Arc::make_mut(self.page_mut(at.0));
            target[at.1..at.1 + range.len()].copy_from_slice(&bytes[range]);
        }
    }

    /// Makes the file at least `len` long; the new bytes are the gap's.
    pub(super) fn grow(&mut self, len: u64, gap: Gap) {
        let old = self.len;
        self.len = old.max(len);
        let Gap::Garbage(seed) = gap else { return };
        let mut at = old;
        while at < len {
            let sector = at / SECTOR;
            let end = len.min((sector + 1) * SECTOR);
            let mut rng = Rng::new(seed ^ sector.wrapping_mul(0x2545_f491_4f6c_dd1d));
            if !rng.one_in(3) {
                let mut bytes = [0; SECTOR as usize];
                rng.fill(&mut bytes);
                self.write(&bytes[..(end - at) as usize], at);
            }
            at = end;
        }
    }

    /// Sets the length; what a longer one adds is the gap's.
    pub(super) fn set_len(&mut self, len: u64, gap: Gap) {
        if len >= self.len {
            return self.grow(len, gap);
        }
        self.len = len;
        let pages = len.div_ceil(PAGE) as usize;
        if self.pages.len() > pages {
            Arc::make_mut(&mut self.pages).truncate(pages);
        }
        let within = (len % PAGE) as usize;
        if within > 0 && matches!(self.pages.get(pages - 1), Some(Some(_))) {
            Arc::make_mut(self.page_mut(pages - 1))[within..].fill(0);
        }
    }

    /// Occupies the range, growing the file over it.
    pub(super) fn allocate(&mut self, offset: u64, len: u64, gap: Gap) {
        self.grow(offset + len, gap);
        for index in offset / PAGE..(offset + len).div_ceil(PAGE) {
            self.page_mut(index as usize);
        }
    }

    /// Turns a bit over; false where the file is shorter.
    pub(super) fn flip(&mut self, bit: u64) -> bool {
        let at = bit / 8;
        if at >= self.len {
            return false;
        }
        let page = Arc::make_mut(self.page_mut((at / PAGE) as usize));
        page[(at % PAGE) as usize] ^= 1 << (bit % 8);
        true
    }

    fn page_mut(&mut self, index: usize) -> &mut Page {
        let pages = Arc::make_mut(&mut self.pages);
        if pages.len() <= index {
            pages.resize(index + 1, None);
        }
        pages[index].get_or_insert_with(|| Arc::clone(&ZERO))
    }
}

/// The end of a range.
///
/// # Errors
/// `FileTooLarge` past the longest file that the disk takes.
pub(super) fn end_of(offset: u64, len: u64) -> io::Result<u64> {
    offset.checked_add(len).filter(|end| *end <= LEN_MAX).ok_or_else(|| io::ErrorKind::FileTooLarge.into())
}

/// Cuts a range of a file at page boundaries: (page, position within it) and the part of the caller's buffer.
fn by_page(offset: u64, len: usize) -> impl Iterator<Item = ((usize, usize), std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % PAGE) as usize;
        let start = done;
        done += (PAGE as usize - within).min(len - done);
        Some((((at / PAGE) as usize, within), start..done))
    })
}
