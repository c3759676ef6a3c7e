//! The slot of a page: one word that says what the page is (G1), as a value with pure methods and a cell for it.
//!
//! | low bits | word |
//! |---|---|
//! | 0, all zero | absent: never allocated, or never written by an earlier process |
//! | 0 | resident: the head of a chain |
//! | 1 | cold, in one piece: the piece itself |
//! | 2 | cold, in several pieces: a list on the heap |
//! | 3 | free: the version of the free |
//! | 4 | empty: allocated, holds no data; the version of the last free |
//! | 5 | headless: a list of records that go on what a leaf of the map says, which was not read yet (D3) |
//!
//! 6 and 7 are left for batches.

use std::marker::PhantomData;
use std::ptr;

use crossbeam_epoch::Guard;

use super::chain::{Chain, Node, retire};
use super::pieces::{self, Pieces, listed};
use crate::base::ids::Version;
use crate::base::sync::{AtomicPtr, Ordering};
use crate::format::piece::Piece;

const TAG: usize = 7;
const COLD: usize = pieces::ONE;
const SCATTERED: usize = pieces::LIST;
const FREE: usize = 3;
const EMPTY: usize = 4;
const HEADLESS: usize = 5;

/// A slot's word, as loaded: to be compared and swapped as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(*mut ());

/// What a word says.
#[derive(Debug)]
pub(crate) enum Seen<'g, P> {
    Absent,
    Resident(Chain<'g, P>),
    Cold(&'g [Piece]),
    ColdOne(Piece),
    Free(Version),
    Empty(Version),
    Headless(&'g [Piece]),
}

/// A page's slot.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Slot<P> {
    word: AtomicPtr<()>,
    _page: PhantomData<Node<P>>,
}

// SAFETY: the word leads to nodes, which are `Send` and `Sync` where `P` is.
unsafe impl<P: Send + Sync> Send for Slot<P> {}
// SAFETY: as above.
unsafe impl<P: Send + Sync> Sync for Slot<P> {}

impl Word {
    fn number(value: u64, tag: usize) -> Word {
        Word(ptr::without_provenance_mut(value as usize | tag))
    }

    pub(crate) fn free(version: Version) -> Word {
        Word::number(version.0, FREE)
    }

    pub(crate) fn empty(version: Version) -> Word {
        Word::number(version.0, EMPTY)
    }

    /// The head of a chain, which the word owns once it is published.
    pub(crate) fn resident<P>(head: *mut Node<P>) -> Word {
        Word(head.cast())
    }

    /// Places on disk; a list is on the heap, owned by the word once it is published.
    pub(crate) fn cold(pieces: Pieces) -> Word {
        Word(pieces.into_word())
    }

    /// Records that go on what a leaf says; always a list.
    pub(crate) fn headless(pieces: Pieces) -> Word {
        Word(pieces.into_list().map_addr(|address| address & !TAG | HEADLESS))
    }

    /// The places on disk that the word names, taken out of it.
    ///
    /// # Safety
    /// The caller owns the word.
    pub(crate) unsafe fn into_pieces(self) -> Option<Pieces> {
        // SAFETY: a word with these tags came from `Word::cold` or `Word::headless`.
        matches!(self.tag(), COLD | SCATTERED | HEADLESS).then(|| unsafe { Pieces::from_word(self.0) })
    }

    /// Whether it is a page in memory. Nothing behind the word is looked at, so no guard is needed.
    pub(crate) fn is_resident(self) -> bool {
        !self.0.is_null() && self.tag() == 0
    }

    /// Whether it owns memory. Nothing behind the word is looked at, so no guard is needed.
    pub(crate) fn owns(self) -> bool {
        self.is_resident() || matches!(self.tag(), SCATTERED | HEADLESS)
    }

    /// Whether it is a page with data. Nothing behind the word is looked at, so no guard is needed.
    pub(crate) fn holds_data(self) -> bool {
        !self.0.is_null() && matches!(self.tag(), 0 | COLD | SCATTERED)
    }

    /// The version at which a page holds no data and has no owner: that of its free, none where it never had any. Nothing behind
    /// the word is looked at, so no guard is needed.
    pub(crate) fn vacant(self) -> Option<Version> {
        match self.tag() {
            0 if self.0.is_null() => Some(Version::NONE),
            FREE => Some(Version((self.0.addr() & !TAG) as u64)),
            _ => None,
        }
    }

    /// The word as a number that says nothing but whether two words are the same.
    pub(crate) fn bits(self) -> usize {
        self.0.addr()
    }

    fn tag(self) -> usize {
        self.0.addr() & TAG
    }

    fn pointer<T>(self) -> *mut T {
        self.0.map_addr(|address| address & !TAG).cast()
    }

    /// Reads the word.
    ///
    /// # Safety
    /// It was loaded under the guard of `'g` from a slot of a table of `P`, or is owned by the caller for `'g`.
    pub(crate) unsafe fn see<'g, P>(self) -> Seen<'g, P> {
        let number = (self.0.addr() & !TAG) as u64;
        match self.tag() {
            0 if self.0.is_null() => Seen::Absent,
            // SAFETY: a word with tag 0 is a chain's head; the guard keeps it (G2).
            0 => Seen::Resident(unsafe { Chain::from_raw(self.pointer()) }),
            COLD => Seen::ColdOne(Piece::from_word(number)),
            // SAFETY: a word with this tag came from `Word::cold`; the guard keeps the list as it keeps nodes.
            SCATTERED => Seen::Cold(unsafe { listed(self.0) }),
            FREE => Seen::Free(Version(number)),
            // SAFETY: as above, from `Word::headless`.
            HEADLESS => Seen::Headless(unsafe { listed(self.0) }),
            _ => Seen::Empty(Version(number)),
        }
    }

    /// Bytes of the list that the word owns, if it is one.
    ///
    /// # Safety
    /// As [`see`](Self::see).
    pub(crate) unsafe fn list_bytes(self) -> usize {
        match self.tag() {
            // SAFETY: the caller's promise; a list is looked at, and stays the word's.
            SCATTERED | HEADLESS => std::mem::ManuallyDrop::new(unsafe { Pieces::from_word(self.0) }).heap(),
            _ => 0,
        }
    }

    /// Frees what the word owns.
    ///
    /// # Safety
    /// Nobody else can reach it: it was never published, or the table is being dropped.
    pub(crate) unsafe fn discard<P>(self) {
        match self.tag() {
            // SAFETY: the caller's promise.
            0 if !self.0.is_null() => unsafe { super::chain::drop_chain(self.pointer::<Node<P>>()) },
            // SAFETY: as above; the list came with `Word::cold`.
            SCATTERED | HEADLESS => drop(unsafe { Pieces::from_word(self.0) }),
            _ => {}
        }
    }

    /// Hands what the word owns to the epoch.
    ///
    /// # Safety
    /// It was published and no slot names it any more; `guard` is of the store's collector.
    pub(crate) unsafe fn retire<P: Send + 'static>(self, guard: &Guard) {
        match self.tag() {
            // SAFETY: the caller's promise.
            0 if !self.0.is_null() => unsafe { retire(self.pointer::<Node<P>>(), guard) },
            SCATTERED | HEADLESS => {
                let list = SendWord(self);
                // SAFETY: as above.
                unsafe {
                    guard.defer_unchecked(move || {
                        let list = list;
                        list.0.discard::<P>();
                    });
                }
            }
            _ => {}
        }
    }
}

struct SendWord(Word);

// SAFETY: used for lists of pieces only, which are plain numbers.
unsafe impl Send for SendWord {}

impl<P> Slot<P> {
    #[cfg(any(loom, shuttle))]
    pub(crate) fn new() -> Slot<P> {
        Slot { word: AtomicPtr::new(ptr::null_mut()), _page: PhantomData }
    }

    pub(crate) fn load(&self) -> Word {
        // Acquire pairs with the release of `swap`: a node is seen as it was made.
        Word(self.word.load(Ordering::Acquire))
    }

    /// Publishes `new` where the slot still says `old`; strong, so a failure means that it says something else.
    #[must_use]
    pub(crate) fn swap(&self, old: Word, new: Word) -> bool {
        // Release publishes the nodes behind `new`. No acquire: `old` was acquired when it was loaded, or is the caller's own;
        // and what came first instead is not shown here, but loaded by whoever wants to know.
        self.word.compare_exchange(old.0, new.0, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Sets the word where nobody else changes it: while the store opens, and for the reader of a leaf that was not read yet (D3).
    pub(crate) fn set(&self, new: Word) {
        // Relaxed: the thread that opens hands the table over with its own synchronization, and who reads a leaf says so with a
        // release in the leaf's word.
        self.word.store(new.0, Ordering::Relaxed);
    }
}
