//! What cleaning says in the log: pages that have gone to images, and segments that were given back.
//!
//! | record | body |
//! |---|---|
//! | `Moves` | for each page that has gone: its id; the granule of the newest record that its image stands for, as the distance from that of the page before in the record (of the first: from 0); twice the distance of the image's granule from where the image before ends by its length class (of the first: from 0), and 1 more where the length class is another one than that image's (than 0); that class, as in leaves, if so |
//! | `GivenBack` | the sequence of each segment |
//!
//! All numbers are varints, distances zigzag as in leaves.

use super::bytes::{Cursor, push_varint};
use super::leaf::{unzigzag, zigzag};
use super::piece::{GRANULE_BITS, Piece};
use crate::base::ids::{Address, PageId, Sequence};

/// A page has gone to an image, which stands for its records up to one of them. That is told by its place, which no other record ever has; not by its
/// version: what is newer stays on top, also where it was drawn before the move was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) page: PageId,
    pub(crate) upto: Address,
    pub(crate) image: Piece,
}

impl Move {
    /// Puts the image in the place of what it stands for, in a page's records, oldest first. Whether it is that page still: where the record is not among them
    /// the page was replaced since, or is of a time behind the move.
    pub(crate) fn apply(self, pieces: &mut Vec<Piece>) -> bool {
        let Some(upto) = pieces.iter().position(|piece| piece.address() == self.upto) else { return false };
        pieces.splice(..=upto, [self.image]);
        true
    }
}

/// Bytes of a record of either kind, at most, as writers make them: as long as others, so that nobody waits for its copy to the ring.
pub(crate) const RECORD_MAX: u64 = 4 << 10;

/// The bodies of the records that say these moves, each of so many bytes at most, but of one move at least.
pub(crate) fn encode(moves: impl IntoIterator<Item = Move>, max: usize) -> Vec<Vec<u8>> {
    let (mut bodies, mut body, mut before) = (Vec::new(), Vec::new(), NOTHING);
    for said in moves {
        if body.len() + MOVE_MAX > max && !body.is_empty() {
            bodies.push(std::mem::take(&mut body));
            before = NOTHING;
        }
        let distance = said.image.granule().wrapping_sub(end(before.image)) as i64;
        let is_other = said.image.class() != before.image.class();
        push_varint(&mut body, said.page.0);
        push_varint(&mut body, zigzag((said.upto.0 / 8).wrapping_sub(before.upto.0 / 8) as i64));
        push_varint(&mut body, zigzag(distance) << 1 | u64::from(is_other));
        if is_other {
            push_varint(&mut body, said.image.class());
        }
        before = said;
    }
    bodies.extend(Some(body).filter(|body| !body.is_empty()));
    bodies
}

/// What the first move of a record is told against.
const NOTHING: Move = Move { page: PageId(0), upto: Address(0), image: Piece::NONE };

/// The granule behind an image, by its length class: images are written one behind the other, many of the same length.
fn end(image: Piece) -> u64 {
    image.granule() + image.len_max() / 8
}

/// The most bytes of one move: three numbers of 64 bits, and a class.
const MOVE_MAX: usize = 3 * NUMBER_MAX + 2;

/// Of a number of 64 bits.
const NUMBER_MAX: usize = 10;

/// Reads the moves of a record. `None` where they are not what [`encode`] makes.
pub(crate) fn decode(body: &[u8]) -> Option<Vec<Move>> {
    let (mut cursor, mut moves, mut before) = (Cursor::new(body), Vec::new(), NOTHING);
    while !cursor.rest().is_empty() {
        let page = PageId(cursor.varint()?);
        let upto = (before.upto.0 / 8).wrapping_add(unzigzag(cursor.varint()?) as u64);
        if upto >= 1 << GRANULE_BITS {
            return None;
        }
        let image = cursor.varint()?;
        let granule = end(before.image).wrapping_add(unzigzag(image >> 1) as u64);
        let class = match image & 1 {
            0 => before.image.class(),
            _ => cursor.varint().filter(|class| *class != before.image.class())?,
        };
        before = Move { page, upto: Address(upto * 8), image: Piece::from_parts(granule, class)? };
        moves.push(before);
    }
    (!moves.is_empty()).then_some(moves)
}

/// The bodies of the records that say that segments were given back, each of so many bytes at most, but of one segment at least.
pub(crate) fn encode_given_back(sequences: impl IntoIterator<Item = Sequence>, max: usize) -> Vec<Vec<u8>> {
    let (mut bodies, mut body) = (Vec::new(), Vec::new());
    for sequence in sequences {
        if body.len() + NUMBER_MAX > max && !body.is_empty() {
            bodies.push(std::mem::take(&mut body));
        }
        push_varint(&mut body, sequence.0);
    }
    bodies.extend(Some(body).filter(|body| !body.is_empty()));
    bodies
}

/// Reads it. `None` where it is malformed.
pub(crate) fn decode_given_back(body: &[u8]) -> Option<Vec<Sequence>> {
    let (mut cursor, mut sequences) = (Cursor::new(body), Vec::new());
    while !cursor.rest().is_empty() {
        sequences.push(Sequence(cursor.varint().filter(|sequence| *sequence < 1 << GRANULE_BITS)?));
    }
    (!sequences.is_empty()).then_some(sequences)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn moves() -> Vec<Move> {
        let piece = |at| Piece::new(Address(at), 4100);
        let of = |page, upto, image| Move { page: PageId(page), upto: Address(upto), image: piece(image) };
        vec![of(7, 4096, 1 << 52), of(1 << 36, 1 << 52, 8), Move { image: piece(16).long(), ..of(0, 8, 0) }]
    }

    #[test]
    fn moves_come_back_from_as_many_records_as_they_take() {
        for max in [0, 1, 64, 100, 1 << 20] {
            let bodies = encode(moves(), max);
            let found: Vec<Move> = bodies.iter().flat_map(|body| decode(body).unwrap()).collect();
            assert_eq!(found, moves());
            assert_eq!(bodies.len() == 1, max > 64, "{max}");
            for body in bodies {
                for cut in 1..body.len() {
                    assert_ne!(decode(&body[..cut]).as_deref(), decode(&body).as_deref());
                }
            }
        }
        assert!(encode([], 100).is_empty());
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[1, 1, 0]), None, "an address below 0");
        assert_eq!(decode(&[1, 0, 2]), None, "an image below 0");
        assert_eq!(decode(&[1, 0, 1, 0]), None, "no other class");
    }

    #[test]
    fn images_of_one_length_that_lie_beside_each_other_take_a_byte_each() {
        for len in [24, 1056, 4120, 70_000] {
            let of = |number| {
                let image = Piece::new(Address((1 << 40) + number * len), len);
                Move { page: PageId(number), upto: Address(number * 16), image }
            };
            let all: Vec<Move> = (0..100).map(of).collect();
            let bodies = encode(all.clone(), 1 << 20);
            assert_eq!(decode(&bodies[0]).as_deref(), Some(&all[..]));
            // Of the id, of the newest record and of the image; and what the first one takes more, or what a class that is not exact does.
            let most = if len < 4096 { 3 } else { 5 };
            assert!(bodies[0].len() <= 100 * most + 12, "{len}: {}", bodies[0].len());
        }
    }

    #[test]
    fn an_image_takes_the_place_of_what_it_stands_for_and_of_nothing_newer() {
        let piece = |at| Piece::new(Address(at), 24);
        let said = Move { page: PageId(0), upto: Address(16), image: piece(800) };
        let after = |pieces: &[u64]| {
            let mut pieces: Vec<Piece> = pieces.iter().map(|at| piece(*at)).collect();
            let applied = said.apply(&mut pieces);
            (applied, pieces.iter().map(|piece| piece.address().0).collect::<Vec<_>>())
        };
        assert_eq!(after(&[8, 16, 24]), (true, vec![800, 24]));
        assert_eq!(after(&[16]), (true, vec![800]));
        assert_eq!(after(&[800, 24]), (false, vec![800, 24]), "it is there already");
        assert_eq!(after(&[24]), (false, vec![24]), "the page was replaced");
    }

    #[test]
    fn segments_given_back_come_back() {
        for (sequences, max) in
            [(vec![Sequence(0)], 0), (vec![Sequence(3), Sequence(1 << 40), Sequence((1 << GRANULE_BITS) - 1)], 100)]
        {
            for max in [0, max] {
                let bodies = encode_given_back(sequences.iter().copied(), max);
                let found: Vec<_> = bodies.iter().flat_map(|body| decode_given_back(body).unwrap()).collect();
                assert_eq!(found, sequences);
                assert_eq!(bodies.len(), if max == 0 { sequences.len() } else { 1 });
            }
        }
        assert!(encode_given_back([], 100).is_empty());
        assert_eq!((decode_given_back(&[0x80]), decode_given_back(&[])), (None, None));
        let beyond = encode_given_back([Sequence(1 << GRANULE_BITS)], 100);
        assert_eq!(decode_given_back(&beyond[0]), None, "no segment has such a number");
    }
}
