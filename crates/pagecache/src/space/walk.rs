//! Where the bytes of a segment are: a walk over its records, each looked up in the slot of its page.

use std::sync::Arc;

use crossbeam_epoch::LocalHandle;

use super::long::Long;
use super::parts::Parts;
use crate::base::error::Result;
use crate::base::ids::{Lsn, PageId};
use crate::format::BLOCK;
use crate::format::leaf::LeafHead;
use crate::format::page::{ImageHead, PageHead, Payload};
use crate::format::record::{ExtentRef, Kind, Shape};
use crate::format::root::{LeafAt, PartHead};
use crate::format::segment::Stream;
use crate::log::scan::{Scanner, Step};
use crate::ops::Pages;
use crate::page::materialize::Materializer;
use crate::store::in_use::InUse;
use crate::store::segment::Segment;

/// What was found so far.
pub(super) struct Walk<'a, M: Materializer> {
    pages: &'a Pages<M>,
    /// The leaves and the number of the checkpoint that counts.
    leaves: Vec<Option<LeafAt>>,
    checkpoint: u64,
    /// As they were at the begin.
    redo: Lsn,
    stable: Lsn,
    tail: Lsn,
    handle: LocalHandle,
    /// By LSN those in the log, by address those among images.
    long: Long,
    long_images: Long,
    pub(super) of_pages: Parts,
    pub(super) of_map: Parts,
}

/// A record, as a walk shows it.
#[derive(Clone, Copy)]
struct Record<'a> {
    lsn: Lsn,
    shape: Shape,
    body: &'a [u8],
    body_at: usize,
    len: u64,
}

/// How a walk over a segment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Where it should, or at a pad that runs to there.
    Sound,
    /// Nothing valid stands where it stopped.
    Hole,
}

impl<'a, M: Materializer> Walk<'a, M> {
    pub(super) fn new(pages: &'a Pages<M>, (leaves, checkpoint): (Vec<Option<LeafAt>>, u64), redo: Lsn) -> Self {
        let (stable, handle) = (pages.log.stable(), pages.collector.register());
        // The tail after the stable LSN, so that it is not below.
        let tail = pages.log.tail();
        let (of_pages, of_map) = (Parts::default(), Parts::default());
        let (long, long_images) = (Long::default(), Long::default());
        Walk { pages, leaves, checkpoint, redo, stable, tail, handle, long, long_images, of_pages, of_map }
    }

    /// Takes a segment whose file is `len` bytes long. Those of the log come in the order of their LSNs.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn segment(&mut self, segment: &Arc<Segment>, len: u64) -> Result<()> {
        let before = (self.of_pages, self.of_map);
        let walked = match segment.header.stream {
            Stream::Log => self.log(segment, len),
            Stream::Folds | Stream::Survivors | Stream::Map => self.others(segment, len),
        };
        if self.pages.log.pool.get(segment.header.sequence).is_some() {
            return walked;
        }
        // It was given back meanwhile, and its file may be another segment's by now: nothing in it was in use.
        (self.of_pages, self.of_map) = before;
        self.long(segment.header.stream).forget(segment.header.start..segment.data_end());
        match segment.header.stream {
            Stream::Map => self.of_map.map_dead += len,
            _ => self.of_pages.dead += len,
        }
        Ok(())
    }

    fn long(&mut self, stream: Stream) -> &mut Long {
        if stream == Stream::Log { &mut self.long } else { &mut self.long_images }
    }

    fn parts(&mut self, stream: Stream) -> &mut Parts {
        if stream == Stream::Map { &mut self.of_map } else { &mut self.of_pages }
    }

    /// Counts the blocks at both ends, as far as the file goes; what is behind its end means nothing. Returns where its data ends.
    fn ends(&mut self, segment: &Segment, len: u64) -> Lsn {
        let (size, data_end) = (segment.header.segment_size, segment.data_end());
        let parts = self.parts(segment.header.stream);
        parts.headers += len.min(BLOCK) + len.min(size).saturating_sub(size - BLOCK);
        parts.leftovers += len.saturating_sub(size);
        data_end.min(Lsn(segment.header.start.0 + len)).max(segment.data_start())
    }

    fn log(&mut self, segment: &Arc<Segment>, len: u64) -> Result<()> {
        let data_end = self.ends(segment, len);
        let records_end = segment.records_end().min(data_end).max(segment.data_start());
        let stable = self.stable.max(segment.data_start()).min(records_end);
        let mut scanner = Scanner::new(Arc::clone(segment), stable);
        let (at, ended, _) = self.records(segment, &mut scanner)?;
        let rest = stable.0 - at.0;
        match ended {
            // Below the stable LSN every byte is accounted for.
            Ended::Hole => self.of_pages.unreadable += rest,
            Ended::Sound if at >= self.redo => self.of_pages.log += rest,
            Ended::Sound => self.of_pages.padding += rest,
        }
        let tail = self.tail.max(stable).min(records_end);
        self.of_pages.log += tail.0 - stable.0;
        let behind = data_end.0 - tail.0;
        match self.tail <= segment.data_end() {
            true => self.of_pages.unwritten += behind,
            // Cut off: the log goes on in another one.
            false => self.of_pages.padding += behind,
        }
        Ok(())
    }

    fn others(&mut self, segment: &Arc<Segment>, len: u64) -> Result<()> {
        let data_end = self.ends(segment, len);
        // Before the walk: it may grow meanwhile, and then end where nothing was written yet.
        let is_growing = segment.account.is_growing();
        let mut scanner = Scanner::new(Arc::clone(segment), data_end);
        let (at, ended, in_use) = self.records(segment, &mut scanner)?;
        // After the walk, so that what is in use now was in use when the walk came by.
        let is_missed = || match segment.header.stream {
            Stream::Map => self.names_leaf_behind(segment, at),
            _ => {
                !is_growing
                    && segment.account.live(InUse::default())
                        > in_use + self.pages.log.pool.spans.bytes_in(segment.header.sequence)
            }
        };
        let is_damaged = ended == Ended::Hole && is_missed();
        let rest = data_end.0 - at.0;
        let parts = self.parts(segment.header.stream);
        match ended {
            Ended::Hole if is_damaged => parts.unreadable += rest,
            Ended::Hole if is_growing => parts.unwritten += rest,
            _ => parts.padding += rest,
        }
        Ok(())
    }

    /// Whether the checkpoint that counts names a leaf in this segment at or behind a place.
    fn names_leaf_behind(&self, segment: &Segment, at: Lsn) -> bool {
        let behind = segment.address(at)..segment.address(segment.data_end());
        self.leaves.iter().flatten().any(|leaf| behind.contains(&leaf.piece.address()))
    }

    /// Counts the records of a segment up to the first hole. Returns where they end, how, and what pages name of them, by the lengths
    /// of the segment's account.
    fn records(&mut self, segment: &Segment, scanner: &mut Scanner) -> Result<(Lsn, Ended, u64)> {
        let mut in_use = 0;
        loop {
            let from = scanner.position();
            match scanner.step()? {
                Step::Record { lsn, shape, body, body_at, len, .. } => {
                    in_use += self.record(segment, Record { lsn, shape, body, body_at, len });
                }
                Step::Mark { .. } => {
                    let len = scanner.position().0 - from.0;
                    self.fill(from, segment.header.stream, len);
                }
                Step::End => return Ok((from, Ended::Sound, in_use)),
                Step::Hole | Step::Unknown { .. } => return Ok((from, Ended::Hole, in_use)),
            }
        }
    }

    /// Counts what fills up.
    fn fill(&mut self, lsn: Lsn, stream: Stream, bytes: u64) {
        let is_log = stream == Stream::Log && lsn >= self.redo;
        let parts = self.parts(stream);
        if is_log { parts.log += bytes } else { parts.padding += bytes }
    }

    /// Counts a record. Returns its bytes in the account of its segment.
    fn record(&mut self, segment: &Segment, record: Record<'_>) -> u64 {
        let bytes = (record.body_at + record.body.len()) as u64;
        let stream = segment.header.stream;
        self.fill(record.lsn, stream, record.len - bytes);
        match (stream, record.shape.kind) {
            (Stream::Map, Kind::Leaf | Kind::Root) => {
                match self.is_of_checkpoint(segment, &record) {
                    true => self.of_map.map_live += bytes,
                    false => self.of_map.map_dead += bytes,
                }
                0
            }
            // What fills a block.
            (Stream::Map | Stream::Folds | Stream::Survivors, Kind::Aborted) => {
                self.parts(stream).padding += bytes;
                0
            }
            (Stream::Log | Stream::Folds | Stream::Survivors, Kind::Extent) => {
                let is_log = self.count_dead(record.lsn, stream, bytes);
                self.long(stream).piece(record.lsn, record.body, bytes, is_log);
                0
            }
            _ => self.of_page(segment, &record, bytes),
        }
    }

    /// Counts a record of a page, and the pieces that it names.
    fn of_page(&mut self, segment: &Segment, record: &Record<'_>, bytes: u64) -> u64 {
        let page = page(record);
        let named = page.and_then(|(id, _)| self.pages.names(id, segment.address(record.lsn), &self.handle.pin()));
        let extent = page.and_then(|(_, extent)| extent);
        let pieces = extent.map(|extent| self.long(segment.header.stream).named(&extent)).unwrap_or_default();
        let Some(piece) = named else {
            self.count_dead(record.lsn, segment.header.stream, bytes);
            return 0;
        };
        let parts = &mut self.of_pages;
        // They were taken for what no page names, so far.
        parts.dead -= pieces.dead;
        parts.log -= pieces.log;
        let bytes = bytes + pieces.dead + pieces.log;
        match record.shape.kind {
            Kind::Link => parts.live_deltas += bytes,
            _ => parts.live_images += bytes,
        }
        piece.len_max()
    }

    /// Counts bytes that no page names. Whether they are in the log behind which a start would replay.
    fn count_dead(&mut self, lsn: Lsn, stream: Stream, bytes: u64) -> bool {
        let is_log = stream == Stream::Log && lsn >= self.redo;
        let parts = &mut self.of_pages;
        if is_log {
            parts.log += bytes
        } else {
            parts.dead += bytes
        }
        is_log
    }

    /// Whether the checkpoint that counts names this leaf or this part of a root.
    fn is_of_checkpoint(&self, segment: &Segment, record: &Record<'_>) -> bool {
        let address = segment.address(record.lsn);
        if record.shape.kind == Kind::Root {
            return PartHead::decode(record.body).is_some_and(|(head, _)| head.checkpoint == self.checkpoint);
        }
        let named = LeafHead::decode(record.body).and_then(|(head, _)| self.leaves.get(head.number as usize));
        named.copied().flatten().is_some_and(|at| at.piece.address() == address)
    }
}

/// The page of a record, and where the pieces are of one that is too long.
fn page(record: &Record<'_>) -> Option<(PageId, Option<ExtentRef>)> {
    let (id, payload) = match record.shape.kind {
        Kind::Image => {
            ImageHead::decode(record.shape, record.body, record.body_at).map(|(head, payload)| (head.page, payload))
        }
        Kind::Replace | Kind::Link => {
            PageHead::decode(record.shape, record.body, record.body_at).map(|(head, payload)| (head.page, payload))
        }
        _ => None,
    }?;
    let extent = match payload {
        Payload::Inline(_) => None,
        Payload::Extent(extent, _) => Some(extent),
    };
    Some((id, extent))
}
