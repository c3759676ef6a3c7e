//! A page's records on disk, oldest first, in one word: a single piece itself, or a list on the heap.
//!
//! - Q1. A word with the tag `LIST` points to cells that came from a `Box<[u64]>`. The first says how many pieces follow and how
//!   many fit: so many cells there are, and the pieces that count are written. Whoever owns the word owns them.

use std::ptr;

use crate::base::canary::{Canary, planted};
use crate::base::ids::Lsn;
use crate::format::piece::Piece;

/// The most records that a page has on disk; the next link writes the folded page.
pub(crate) const PIECES_MAX: usize = 64;

/// The low bits of a word that is a piece.
pub(super) const ONE: usize = 1;

/// The low bits of a word that points to a list.
pub(super) const LIST: usize = 2;

const TAG: usize = 7;

/// The records of a page or of a fragment; never none.
#[derive(Debug)]
pub(crate) struct Pieces {
    word: *mut (),
}

// SAFETY: plain numbers, with one owner (Q1).
unsafe impl Send for Pieces {}
// SAFETY: as above; they change through `&mut` only.
unsafe impl Sync for Pieces {}

/// What the first cell of a list says.
#[derive(Clone, Copy)]
struct Header {
    len: u32,
    room: u32,
}

impl Header {
    fn pack(self) -> u64 {
        u64::from(self.len) | u64::from(self.room) << 32
    }

    fn unpack(cell: u64) -> Header {
        Header { len: cell as u32, room: (cell >> 32) as u32 }
    }
}

impl Pieces {
    pub(crate) fn one(piece: Piece) -> Pieces {
        Pieces { word: ptr::without_provenance_mut(piece.word() as usize | ONE) }
    }

    /// `count` pieces, of which `newest_first` begins with the last.
    pub(crate) fn from_newest_first(count: usize, newest_first: impl Iterator<Item = Piece>) -> Pieces {
        let mut newest_first = newest_first.peekable();
        if count <= 1
            && let Some(piece) = newest_first.peek()
        {
            return Pieces::one(*piece);
        }
        // Zeroed memory would be had from behind an allocator's cache.
        let mut cells = Vec::with_capacity(count + 1);
        cells.push(0);
        cells.extend(newest_first.take(count).map(Piece::word));
        cells.get_mut(1..).unwrap_or_default().reverse();
        let len = cells.len() - 1;
        Pieces::list(cells, len)
    }

    /// A list of the first `len` pieces behind the first cell.
    fn list(mut cells: Vec<u64>, len: usize) -> Pieces {
        let room = cells.len() - 1;
        if let Some(first) = cells.first_mut() {
            *first = Header { len: len as u32, room: room as u32 }.pack();
        }
        let cells = Box::into_raw(cells.into_boxed_slice()).cast::<()>();
        Pieces { word: cells.map_addr(|address| address | LIST) }
    }

    /// Adds the newest piece; a list grows by doubling.
    pub(crate) fn push(&mut self, piece: Piece) {
        let grown = {
            let (one, many) = self.parts();
            let len = one.iter().len() + many.len();
            if len < self.room() {
                None
            } else {
                let mut cells = Vec::with_capacity(2 * len + 3);
                cells.push(0);
                cells.extend(one.iter().chain(many).map(|piece| piece.word()));
                cells.resize(2 * len + 3, 0);
                Some(Pieces::list(cells, len))
            }
        };
        if let Some(grown) = grown {
            *self = grown;
        }
        let cells = self.cells();
        // SAFETY: a list (one piece has no room left), and room for one more.
        unsafe {
            let Header { len, room } = Header::unpack(*cells);
            *cells.add(1 + len as usize) = piece.word();
            *cells = Header { len: len + 1, room }.pack();
        }
    }

    /// As long as it has to be, and no longer.
    pub(crate) fn shrunk(self) -> Pieces {
        match self.len() == self.room() {
            true => self,
            false => Pieces::from_newest_first(self.len(), self.iter().rev()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        let (one, many) = self.parts();
        one.iter().len() + many.len()
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = Piece> {
        let (one, many) = self.parts();
        one.into_iter().chain(many.iter().copied())
    }

    /// Bytes of heap behind it.
    pub(crate) fn heap(&self) -> usize {
        if self.is_list() { (self.room() + 1) * 8 } else { 0 }
    }

    fn is_list(&self) -> bool {
        self.word.addr() & TAG != ONE
    }

    fn room(&self) -> usize {
        // SAFETY: a list's first cell (Q1).
        if self.is_list() { Header::unpack(unsafe { *self.cells() }).room as usize } else { 1 }
    }

    fn parts(&self) -> (Option<Piece>, &[Piece]) {
        match self.is_list() {
            // SAFETY: this is its owner.
            true => (None, unsafe { listed(self.word) }),
            false => (Some(Piece::from_word(self.word.addr() as u64)), &[]),
        }
    }

    fn cells(&self) -> *mut u64 {
        cells(self.word)
    }

    /// The word, which owns the list now.
    pub(super) fn into_word(self) -> *mut () {
        std::mem::ManuallyDrop::new(self).word
    }

    /// As [`into_word`](Self::into_word), with a list also for one piece.
    pub(super) fn into_list(self) -> *mut () {
        match self.is_list() {
            true => self.into_word(),
            false => Pieces::list(std::iter::once(0).chain(self.iter().map(Piece::word)).collect(), 1).into_word(),
        }
    }

    /// # Safety
    /// The word came from [`into_word`](Self::into_word) or [`into_list`](Self::into_list), whatever its low bits have become that
    /// are not [`ONE`], and its owner gives it up.
    pub(super) unsafe fn from_word(word: *mut ()) -> Pieces {
        match word.addr() & TAG {
            ONE => Pieces { word },
            _ => Pieces { word: word.map_addr(|address| address & !TAG | LIST) },
        }
    }
}

fn cells(word: *mut ()) -> *mut u64 {
    word.map_addr(|address| address & !TAG).cast()
}

/// The pieces of a word with the tag `LIST`.
///
/// # Safety
/// It came from [`Pieces::into_word`], and lives as long as `'a`.
pub(super) unsafe fn listed<'a>(word: *mut ()) -> &'a [Piece] {
    let cells = cells(word);
    // SAFETY: the first cell, then as many as it says; a piece is its word and nothing else (Q1).
    unsafe {
        let Header { len, .. } = Header::unpack(*cells);
        std::slice::from_raw_parts(cells.add(1).cast::<Piece>(), len as usize)
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if self.is_list() {
            let count = self.room() + 1;
            // SAFETY: the cells came from a box of so many (Q1), and this is their owner.
            drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(self.cells(), count)) });
        }
    }
}

/// A page's records, oldest first: those that a leaf names, and those that the replayed log has on top of them, but for what the leaf has seen already. `lsn` is that of a
/// record in the log, and nothing of one elsewhere.
pub(crate) fn joined(mut leaf: Vec<Piece>, newer: &[Piece], lsn: impl Fn(Piece) -> Option<Lsn>) -> Vec<Piece> {
    let known = leaf.last().and_then(|newest| lsn(*newest));
    let is_new = |piece: &&Piece| planted(Canary::ReplayAppliedTwice) || known.is_none() || lsn(**piece) > known;
    leaf.extend(newer.iter().filter(is_new));
    leaf
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::base::ids::Address;

    #[test]
    fn a_list_keeps_what_it_is_given_in_order_however_it_grows() {
        let piece = |at: u64| Piece::new(Address(at * 4096), 100 + at);
        let mut pushed = Pieces::one(piece(0));
        for len in 1..70u64 {
            let expected: Vec<Piece> = (0..len).map(piece).collect();
            let made = Pieces::from_newest_first(len as usize, expected.iter().rev().copied());
            assert_eq!(made.iter().collect::<Vec<_>>(), expected);
            assert_eq!(pushed.iter().collect::<Vec<_>>(), expected);
            assert_eq!((made.len(), pushed.len()), (len as usize, len as usize));
            assert_eq!(made.heap(), if len == 1 { 0 } else { (len as usize + 1) * 8 });
            let word = Pieces::from_newest_first(len as usize, pushed.iter().rev()).into_word();
            // SAFETY: from the line above.
            let back = unsafe { Pieces::from_word(word) }.shrunk();
            assert!(back.iter().eq(expected.iter().copied()) && back.iter().rev().eq(expected.into_iter().rev()));
            pushed.push(piece(len));
            assert!(pushed.heap() <= (2 * len as usize + 4) * 8);
        }
        assert_eq!(pushed.shrunk().heap(), 71 * 8);
    }
}
