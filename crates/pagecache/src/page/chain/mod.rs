//! Chains: a page as its fragments, newest first, each in a node of its own.

mod fresh;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam_epoch::Guard;

pub(crate) use self::fresh::{Fresh, Unpublished};
use super::pieces::{PIECES_MAX, Pieces};
use super::queues::Tag;
use crate::base::canary::{Canary, planted};
use crate::base::ids::Version;
use crate::base::sync::{AtomicBool, Ordering};
use crate::format::piece::Piece;

/// Deltas on a base before a writer folds what is below its own.
const DEPTH_MAX: u8 = 4;

/// Bytes of memory, rounded up to what four bytes can count of any page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weight(u32);

impl Weight {
    const UNIT: usize = 16;
    /// This much, or more.
    const MOST: Weight = Weight(u32::MAX);

    fn of(bytes: usize) -> Weight {
        // A user's size is believed, but for numbers that no memory holds.
        Weight(u32::try_from(bytes.div_ceil(Weight::UNIT)).unwrap_or(Weight::MOST.0))
    }

    fn bytes(self) -> usize {
        self.0 as usize * Weight::UNIT
    }

    fn and(self, other: Weight) -> Weight {
        Weight(self.0.saturating_add(other.0))
    }
}

/// One fragment of a page (G2).
///
/// What a read touches comes last, next to the fragment: fewer nodes lie across two lines of cache there.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Node<P> {
    /// The records of this fragment (G5); those of the page, where this is a marker (G6).
    pieces: Pieces,
    /// What this node owns on the heap; a marker's own bytes are in it.
    own: Weight,
    /// What all nodes but the base own, this one included where it is a delta, and what the base owns: who looks at the head
    /// knows the chain.
    deltas: Weight,
    base: Weight,
    /// Pieces of this node and all below, as far as a byte counts.
    count: u8,
    /// The page's since it became resident (E2).
    tag: Tag,
    /// Fragments below this one's; a marker's are one fewer than the nodes below it.
    depth: u8,
    /// Set by who finds the page in memory, cleared by who looks for room: a hint, relaxed.
    used: AtomicBool,
    pub(crate) version: Version,
    /// The next older node; null at the base. Valid as long as this node is (G2), and with the provenance of its box, since
    /// the chain is freed from its head down.
    next: *mut Node<P>,
    /// None: a marker (G6).
    frag: Option<P>,
}

#[cfg(not(any(loom, shuttle)))]
const _: () = assert!(size_of::<Node<Vec<u8>>>() == 64);

/// Borrowed nodes of a published chain, alive as long as the guard is.
#[derive(Debug)]
pub(crate) struct Chain<'g, P> {
    /// Never null; valid for `'g`.
    head: *mut Node<P>,
    _guard: PhantomData<&'g Node<P>>,
}

impl<P> Clone for Chain<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Chain<'_, P> {}

// SAFETY: `next` is a shared borrow in all but name: it is followed only while the epoch keeps the chain alive (G2), and
// nodes are immutable but for an atomic.
unsafe impl<P: Send + Sync> Send for Node<P> {}
// SAFETY: as above.
unsafe impl<P: Send + Sync> Sync for Node<P> {}

/// As far as a byte counts.
fn count(pieces: &Pieces) -> u8 {
    u8::try_from(pieces.len()).unwrap_or(u8::MAX)
}

impl<P> Node<P> {
    /// A marker on top of a chain: where the page is since it was moved (G6). Dropped, it leaves what is below it.
    pub(crate) fn marker(on: Chain<'_, P>, pieces: Pieces) -> Box<Node<P>> {
        let below = on.head();
        let own = Weight::of(size_of::<Node<P>>().saturating_add(pieces.heap()));
        Box::new(Node {
            version: below.version,
            next: on.head,
            count: count(&pieces),
            pieces,
            own,
            deltas: below.deltas.and(own),
            base: below.base,
            depth: below.depth,
            tag: below.tag,
            used: AtomicBool::new(below.is_used()),
            frag: None,
        })
    }

    /// Bytes of memory of this node with everything it owns.
    pub(crate) fn weight(&self) -> usize {
        let node = if self.is_marker() { 0 } else { size_of::<Node<P>>() };
        node + self.own.bytes()
    }

    fn is_marker(&self) -> bool {
        self.frag.is_none()
    }

    /// The page, where it is one fragment.
    pub(crate) fn whole(&self) -> Option<&P> {
        if self.next.is_null() { self.frag.as_ref() } else { None }
    }

    /// Notes a use: at most one relaxed store.
    pub(crate) fn touch(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn tag(&self) -> Tag {
        self.tag
    }

    /// Whether the page was used since it became resident, or since its mark was taken last.
    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes the use mark: whether there was one.
    pub(crate) fn take_mark(&self) -> bool {
        let used = self.used.load(Ordering::Relaxed);
        if used {
            self.used.store(false, Ordering::Relaxed);
        }
        used
    }
}

impl<'g, P> Chain<'g, P> {
    /// # Safety
    /// `head` is not null. It was loaded from a slot under the guard of `'g`, or is not published and outlives `'g` with all
    /// nodes below.
    pub(crate) unsafe fn from_raw(head: *mut Node<P>) -> Chain<'g, P> {
        Chain { head, _guard: PhantomData }
    }

    pub(crate) fn head(self) -> &'g Node<P> {
        // SAFETY: valid for `'g` (the promise of `from_raw`, G2).
        unsafe { &*self.head }
    }

    /// Nodes, newest first.
    fn nodes(self) -> Nodes<'g, P> {
        Nodes { next: self.head, _guard: PhantomData }
    }

    /// Fragments, newest first.
    pub(crate) fn frags(self) -> impl Iterator<Item = &'g P> + use<'g, P> {
        self.nodes().filter_map(|node| node.frag.as_ref())
    }

    /// The version of the oldest fragment.
    pub(crate) fn base_version(self) -> Version {
        self.nodes().last().map_or(Version::NONE, |base| base.version)
    }

    /// Whether it has a marker (G6).
    pub(crate) fn is_marked(self) -> bool {
        self.nodes().any(Node::is_marker)
    }

    /// Shows the fragments, oldest first, as `merge` takes them; `more` comes last.
    pub(crate) fn with_frags<R>(self, more: Option<&'g P>, show: impl FnOnce(&[&'g P]) -> R) -> R {
        // Newest first: the usual chain needs no memory of its own.
        let mut newest_first = more.into_iter().chain(self.frags());
        let len = usize::from(more.is_some()) + usize::from(self.head().depth) + 1;
        let Some(newest) = newest_first.next() else { return show(&[]) };
        let mut few = [newest; DEPTH_MAX as usize + 2];
        if let Some(few) = few.get_mut(..len) {
            few.iter_mut().rev().skip(1).zip(newest_first).for_each(|(place, frag)| *place = frag);
            return show(few);
        }
        let mut many: Vec<&P> = std::iter::once(newest).chain(newest_first).collect();
        many.reverse();
        show(&many)
    }

    /// Every record of the page, oldest first.
    pub(crate) fn pieces(self) -> Pieces {
        let count = match self.head().count {
            u8::MAX => self.each_piece().count(),
            count => usize::from(count),
        };
        Pieces::from_newest_first(count, self.each_piece())
    }

    /// Every record of the page, oldest first, to a list that is used again.
    pub(crate) fn oldest_first(self, pieces: &mut Vec<Piece>) {
        pieces.clear();
        self.with_records().for_each(|node| pieces.extend(node.pieces.iter().rev()));
        pieces.reverse();
    }

    /// Shows every record of the page, newest first.
    pub(crate) fn each_piece(self) -> impl Iterator<Item = Piece> + 'g {
        self.with_records().flat_map(|node| node.pieces.iter().rev())
    }

    /// Nodes, newest first, as far down as their records are the page's.
    fn with_records(self) -> impl Iterator<Item = &'g Node<P>> {
        // G6.
        let mut is_done = false;
        let ends = move |node: &&Node<P>| {
            let was = is_done;
            is_done = node.is_marker() && !planted(Canary::PiecesBelowMarker);
            !was
        };
        self.nodes().take_while(ends)
    }

    /// Bytes of memory of all nodes.
    pub(crate) fn weight(self) -> usize {
        let head = self.head();
        if head.deltas == Weight::MOST || head.depth == u8::MAX {
            // What was counted node by node must go node by node: a store may have been written with more records to a page than there are now.
            return self.nodes().map(Node::weight).sum();
        }
        (usize::from(head.depth) + 1) * size_of::<Node<P>>() + head.deltas.bytes() + head.base.bytes()
    }

    /// Whether one more delta would make the chain long: more than four, or over a quarter of the base in bytes.
    pub(crate) fn wants_fold(self) -> bool {
        let head = self.head();
        head.depth >= DEPTH_MAX || head.depth >= 2 && head.deltas.0 > head.base.0 / 4
    }

    /// Whether the page has as many records on disk as it may have.
    pub(crate) fn is_scattered(self) -> bool {
        usize::from(self.head().count) >= PIECES_MAX
    }
}

/// See [`Chain::nodes`].
#[derive(Debug)]
pub(crate) struct Nodes<'g, P> {
    next: *mut Node<P>,
    _guard: PhantomData<&'g Node<P>>,
}

impl<'g, P> Iterator for Nodes<'g, P> {
    type Item = &'g Node<P>;

    fn next(&mut self) -> Option<&'g Node<P>> {
        // SAFETY: null, or a node that lives as long as the chain's head does (G2).
        let node: &'g Node<P> = unsafe { self.next.as_ref() }?;
        self.next = node.next;
        Some(node)
    }
}

/// Drops a chain from its head down, without recursion. A panic of a fragment's `drop` is contained: the rest goes on.
///
/// # Safety
/// `head` came from `Box::into_raw` with all nodes below, and nobody else can reach any of them.
pub(crate) unsafe fn drop_chain<P>(head: *mut Node<P>) {
    let mut next = head;
    while !next.is_null() {
        // SAFETY: the caller's promise, node by node.
        let node = unsafe { Box::from_raw(next) };
        next = node.next;
        // The panic was reported by the hook already; it must not end whoever happens to collect garbage. What it carries may panic
        // when it goes in its turn, and what that carries stays.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(node))) {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(payload))).map_err(std::mem::forget);
        }
    }
}

/// Hands a chain that was unpublished to the epoch (G2).
///
/// # Safety
/// `head` was published and no slot names it (or a node above it) any more; `guard` is of the store's collector.
pub(crate) unsafe fn retire<P: Send + 'static>(head: *mut Node<P>, guard: &Guard) {
    if planted(Canary::MissingPin) {
        // SAFETY: none: this is the bug.
        return unsafe { drop_chain(head) };
    }
    let head = SendPtr(head);
    // SAFETY: new readers cannot reach it, old ones hold guards; the closure owns it from then on.
    unsafe {
        guard.defer_unchecked(move || {
            let head = head;
            drop_chain(head.0);
        });
    }
}

struct SendPtr<P>(*mut Node<P>);

// SAFETY: `P: Send`, and the closure is the only owner.
unsafe impl<P: Send> Send for SendPtr<P> {}
