//! Chains: a page as its fragments, newest first, each in a node of its own.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam_epoch::Guard;

use super::pieces::PIECES_MAX;
use super::pieces::Pieces;
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

/// A new node of a fragment, not yet published.
#[derive(Debug)]
pub(crate) struct Fresh<P> {
    /// It has a fragment.
    node: Box<Node<P>>,
}

/// A chain that nobody else has seen, dropped as a whole: also where user code panics on the way to its publication.
#[derive(Debug)]
pub(crate) struct Unpublished<P> {
    /// Null where there is none yet; from `Box::into_raw` with all nodes below, and nobody else's.
    head: *mut Node<P>,
}

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

impl<P> Fresh<P> {
    /// A base: the whole page in one fragment.
    pub(crate) fn base(version: Version, frag: P, heap: usize, pieces: Pieces) -> Fresh<P> {
        let own = Weight::of(heap.saturating_add(pieces.heap()));
        let node = Box::new(Node {
            version,
            next: std::ptr::null_mut(),
            count: count(&pieces),
            pieces,
            own,
            deltas: Weight(0),
            base: own,
            depth: 0,
            tag: Tag::NONE,
            used: AtomicBool::new(false),
            frag: Some(frag),
        });
        Fresh { node }
    }

    pub(crate) fn frag(&self) -> &P {
        // SAFETY: a fresh node has one.
        unsafe { self.node.frag.as_ref().unwrap_unchecked() }
    }

    pub(crate) fn into_frag(self) -> P {
        // SAFETY: a fresh node has one.
        unsafe { self.node.frag.unwrap_unchecked() }
    }

    /// The node, which whoever takes it publishes.
    pub(crate) fn into_raw(self) -> *mut Node<P> {
        Box::into_raw(self.node)
    }

    /// The fragment of a node that was published.
    ///
    /// # Safety
    /// It came from [`into_raw`](Self::into_raw), and lives for `'g`.
    pub(crate) unsafe fn published<'g>(node: *mut Node<P>) -> &'g P {
        // SAFETY: the caller's promise; a fresh node has one, and keeps it.
        unsafe { (*node).frag.as_ref().unwrap_unchecked() }
    }

    /// # Safety
    /// It came from [`into_raw`](Self::into_raw) and was not published.
    pub(crate) unsafe fn from_raw(node: *mut Node<P>) -> Fresh<P> {
        // SAFETY: the caller's promise.
        Fresh { node: unsafe { Box::from_raw(node) } }
    }

    /// The page becomes resident by this node: nobody has used it since.
    pub(crate) fn begin(&mut self, tag: Tag) {
        self.node.tag = tag;
        self.node.used = AtomicBool::new(false);
    }

    /// This node takes another's place as a page's head, before it is published: what is known of the page's stay goes on.
    pub(crate) fn follow(&mut self, head: &Node<P>) {
        self.node.tag = head.tag;
        self.node.used = AtomicBool::new(head.is_used());
    }

    /// Puts a base on top of a chain, before it is published: it becomes a delta.
    pub(crate) fn put_on(&mut self, below: Chain<'_, P>) {
        self.follow(below.head());
        let node = &mut *self.node;
        node.next = below.head;
        node.deltas = below.head().deltas.and(node.own);
        node.base = below.head().base;
        node.depth = below.head().depth.saturating_add(1);
        node.count = below.head().count.saturating_add(count(&node.pieces));
    }

    /// Makes a delta that was not published a base again.
    pub(crate) fn take_off(&mut self) {
        let node = &mut *self.node;
        node.next = std::ptr::null_mut();
        (node.deltas, node.base) = (Weight(0), node.own);
        node.depth = 0;
        node.count = count(&node.pieces);
    }

    /// Says where and when the fragment was logged, before the node is published.
    pub(crate) fn logged(&mut self, version: Version, piece: Piece) {
        self.node.version = version;
        self.node.pieces = Pieces::one(piece);
    }

    pub(crate) fn weight(&self) -> usize {
        self.node.weight()
    }

    pub(crate) fn is_base(&self) -> bool {
        self.node.next.is_null()
    }
}

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

impl<P> Unpublished<P> {
    /// A chain of no nodes.
    pub(crate) fn empty() -> Unpublished<P> {
        Unpublished { head: std::ptr::null_mut() }
    }

    pub(crate) fn of(node: Fresh<P>) -> Unpublished<P> {
        Unpublished { head: node.into_raw() }
    }

    /// Puts a node on top.
    pub(crate) fn push(&mut self, mut node: Fresh<P>) {
        if let Some(below) = self.chain() {
            node.put_on(below);
        }
        self.head = node.into_raw();
    }

    /// Its nodes, if it has any.
    pub(crate) fn chain(&self) -> Option<Chain<'_, P>> {
        // SAFETY: not null, and this one's alone as long as it is borrowed.
        (!self.head.is_null()).then(|| unsafe { Chain::from_raw(self.head) })
    }

    /// Its head, which owns what is below. Who takes it publishes it.
    pub(crate) fn into_raw(self) -> *mut Node<P> {
        std::mem::ManuallyDrop::new(self).head
    }
}

impl<P> Drop for Unpublished<P> {
    fn drop(&mut self) {
        // SAFETY: nobody else has seen it; null is an empty chain.
        unsafe { drop_chain(self.head) };
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
        pieces.extend(self.each_piece());
        pieces.reverse();
    }

    /// Shows every record of the page, newest first.
    pub(crate) fn each_piece(self) -> impl Iterator<Item = Piece> + 'g {
        // G6.
        let mut is_done = false;
        let ends = move |node: &&Node<P>| {
            let was = is_done;
            is_done = node.is_marker() && !planted(Canary::PiecesBelowMarker);
            !was
        };
        self.nodes().take_while(ends).flat_map(|node| node.pieces.iter().rev())
    }

    /// Bytes of memory of all nodes.
    pub(crate) fn weight(self) -> usize {
        let head = self.head();
        if head.deltas == Weight::MOST {
            // What was counted node by node must go node by node.
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

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn piece(nth: u64) -> Piece {
        Piece::from_word(nth << 10)
    }

    /// A chain of single bytes, the oldest first, each with a piece of its number. The base is said to be long.
    fn chain(frags: &[u8]) -> Unpublished<u8> {
        let mut chain = Unpublished::empty();
        frags.iter().for_each(|frag| {
            let version = Version(u64::from(*frag) * 8);
            let heap = if chain.chain().is_some() { 100 } else { 10_000 };
            chain.push(Fresh::base(version, *frag, heap, Pieces::one(piece(u64::from(*frag)))));
        });
        chain
    }

    fn pieces(chain: &Unpublished<u8>) -> Vec<Piece> {
        chain.chain().unwrap().pieces().iter().collect()
    }

    fn marked(below: Unpublished<u8>, pieces: Pieces) -> Unpublished<u8> {
        let head = below.into_raw();
        // SAFETY: nobody else's.
        let marker = Node::marker(unsafe { Chain::from_raw(head) }, pieces);
        Unpublished { head: Box::into_raw(marker) }
    }

    #[test]
    fn a_markers_pieces_stand_for_those_below_and_its_page_is_what_it_was() {
        let mut page = chain(&[1, 2, 3]);
        assert_eq!(pieces(&page), [1, 2, 3].map(piece));
        let before = page.chain().unwrap().weight();
        page = marked(page, Pieces::from_newest_first(2, [piece(3), piece(9)].into_iter()));
        let head = page.chain().unwrap();
        assert!(head.is_marked() && head.head().whole().is_none());
        assert_eq!((head.head().version, head.base_version()), (Version(24), Version(8)));
        assert_eq!(head.weight(), before + head.head().weight());
        assert!(!head.wants_fold(), "a marker is no delta");
        page.push(Fresh::base(Version(32), 4, 100, Pieces::one(piece(4))));
        let head = page.chain().unwrap();
        assert_eq!(pieces(&page), [9, 3, 4].map(piece));
        assert_eq!(
            head.with_frags(Some(&5), |frags| frags.iter().map(|frag| **frag).collect::<Vec<u8>>()),
            [1, 2, 3, 4, 5]
        );
        assert_eq!(head.weight(), head.nodes().map(Node::weight).sum::<usize>());
        assert_eq!(head.frags().copied().collect::<Vec<u8>>(), [4, 3, 2, 1]);
        page.push(Fresh::base(Version(40), 5, 100, Pieces::one(piece(5))));
        assert!(page.chain().unwrap().wants_fold());
    }

    /// Deltas are counted as before: a page that was moved gets its next rewrite no later.
    #[test]
    fn a_marked_page_is_scattered_by_its_markers_pieces() {
        let many = PIECES_MAX - 1;
        let list = Pieces::from_newest_first(many, (0..many as u64).rev().map(piece));
        let mut page = marked(chain(&[1, 2]), list);
        assert!(!page.chain().unwrap().is_scattered());
        page.push(Fresh::base(Version(32), 4, 100, Pieces::one(piece(99))));
        assert!(page.chain().unwrap().is_scattered());
        assert_eq!(pieces(&page).len(), PIECES_MAX);
    }

    /// What is counted as each node comes must be what is taken away when the chain goes, whatever users say of their sizes.
    #[test]
    fn a_chain_weighs_what_its_nodes_weigh() {
        for heaps in
            [vec![100], vec![1000, 64, 64, 1], vec![0; 9], vec![usize::MAX; 3], vec![1, usize::MAX, 5, 1 << 40]]
        {
            let (mut head, mut sum) = (std::ptr::null_mut::<Node<u8>>(), 0);
            for heap in heaps {
                let mut node = Fresh::base(Version::NONE, 0u8, heap, Pieces::one(Piece::from_word(8)));
                assert!(node.weight() >= heap.min(1 << 36));
                if !head.is_null() {
                    // SAFETY: made below, and nobody else's.
                    node.put_on(unsafe { Chain::from_raw(head) });
                }
                sum += node.weight();
                head = node.into_raw();
                // SAFETY: as above.
                assert_eq!(unsafe { Chain::from_raw(head) }.weight(), sum);
            }
            // SAFETY: as above; this is the end of it.
            unsafe { drop_chain(head) };
        }
    }
}
