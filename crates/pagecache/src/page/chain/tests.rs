use super::*;
use crate::base::ids::Version;

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
    for heaps in [vec![100], vec![1000, 64, 64, 1], vec![0; 9], vec![usize::MAX; 3], vec![1, usize::MAX, 5, 1 << 40]] {
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

/// Class: bytes that are counted and never counted off.
#[test]
fn a_chain_of_more_nodes_than_a_byte_counts_weighs_what_they_do() {
    for len in [255, 256, 257, 300] {
        let page = chain(&vec![1; len]);
        let head = page.chain().unwrap();
        assert_eq!(head.weight(), head.nodes().map(Node::weight).sum::<usize>(), "{len}");
        assert_eq!((head.frags().count(), head.pieces().len()), (len, len));
        assert_eq!(head.with_frags(None, <[&u8]>::len), len);
    }
}
