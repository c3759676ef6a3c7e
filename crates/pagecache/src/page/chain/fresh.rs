//! Nodes and chains that nobody else has seen.

use super::{Chain, Node, Weight, count, drop_chain};
use crate::base::ids::Version;
use crate::base::sync::AtomicBool;
use crate::format::piece::Piece;
use crate::page::pieces::Pieces;
use crate::page::queues::Tag;

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
    pub(super) head: *mut Node<P>,
}

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
