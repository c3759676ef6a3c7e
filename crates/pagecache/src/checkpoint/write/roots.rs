//! The two roots of a checkpoint.

use std::collections::BTreeSet;

use super::{Books, Checkpointer};
use crate::base::canary::{Canary, planted};
use crate::base::error::Result;
use crate::base::ids::Sequence;
use crate::format::piece::Piece;
use crate::format::record::{Kind, Shape};
use crate::format::root::{LeafAt, PartHead, Root};
use crate::page::materialize::Materializer;
use crate::store::limit::{Claim, UPKEEP};
use crate::store::stream::payload_max;

/// Segments that a cap and the disk have to leave for there to be a second root.
const ROOTS_LEAVE: u64 = 16 + UPKEEP;

impl<M: Materializer> Checkpointer<M> {
    /// Writes and syncs a root, one for each copy of the superblock, so that a damaged block costs neither. Returns the last part of each, and the segments
    /// that they are in.
    pub(super) fn write_roots(
        &self,
        books: &mut Books<M>,
        checkpoint: u64,
        root: &Root,
    ) -> Result<([Piece; 2], BTreeSet<Sequence>)> {
        let log = &*self.pages.log;
        let bytes = root.encode(log.pool.segment_size());
        // Both lists of leaves, the root's bytes, and what is gathered of them.
        let leaves = 2 * root.leaves.capacity() * size_of::<Option<LeafAt>>() + bytes.capacity();
        let mut segments = BTreeSet::new();
        let first = self.write_root(books, checkpoint, &bytes, &mut segments)?;
        // Where a cap or the disk leaves little room both copies name the same.
        let second = match log.pool.left(Claim::Upkeep) {
            Some(left) if left < ROOTS_LEAVE => first,
            _ => {
                // Nothing of both is in one block.
                books.writer.end_block();
                self.write_root(books, checkpoint, &bytes, &mut segments)?
            }
        };
        let now = books.writer.memory() + leaves as u64;
        log.hold(&mut books.held, now);
        if !planted(Canary::SuperblockBeforeRoot) {
            books.writer.sync(&log.pool)?;
        }
        Ok(([first, second], segments))
    }

    /// Writes a root in parts. Returns the last.
    fn write_root(
        &self,
        books: &mut Books<M>,
        checkpoint: u64,
        bytes: &[u8],
        segments: &mut BTreeSet<Sequence>,
    ) -> Result<Piece> {
        let log = &*self.pages.log;
        let size = log.pool.segment_size();
        let mut previous = None;
        for (index, part) in (0..).zip(bytes.chunks(payload_max(size) as usize)) {
            let head = PartHead { checkpoint, index, previous }.encode();
            let piece = books.writer.put(&log.pool, log.stable(), Shape::plain(Kind::Root), head, part)?;
            segments.insert(Sequence(piece.address().0 / size));
            previous = Some(piece);
        }
        // A root is never empty.
        Ok(previous.unwrap_or(Piece::NONE))
    }
}
