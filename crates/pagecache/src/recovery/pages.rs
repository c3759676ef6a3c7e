//! From the log's records to the mapping table: the newest replace of each page and the links on it, no page read.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::rebuild::{Collect, Rebuild, Record};
use crate::base::canary::{Canary, planted};
use crate::base::damage::Damage;
use crate::base::error::Result;
use crate::base::ids::{Address, Lsn, PageId, Sequence, Version};
use crate::format::moves::{self, Move};
use crate::format::page::{PageHead, Payload};
use crate::format::parts::Parts;
use crate::format::piece::Piece;
use crate::format::record::{ExtentRef, Kind};
use crate::format::root::Root;
use crate::log::core::LogCore;
use crate::page::ids::{Ids, push_run};
use crate::page::leaves::{Leaves, leaf_ids};
use crate::page::pieces::{Pieces, joined};
use crate::page::slot::{Seen, Slot, Word};
use crate::page::table::{PAGES_MAX, Table};
use crate::store::extent::know_image;
use crate::store::pool::Pool;
use crate::store::stream::corrupt;

/// Entries below which one thread applies them all.
const WORTH_A_THREAD: usize = 4096;

/// What replay keeps of one record.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: PageId,
    /// Its LSN; of an image the address of the record up to which it stands for the page's.
    at: u64,
    what: What,
    piece: Piece,
}

/// What a record does to its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// The page begins with it.
    Begins,
    /// It goes on what was there.
    GoesOn,
    Ends,
    /// It is an image, of everything up to a record.
    StandsFor,
}

/// The page records of a segment, in LSN order.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    entries: Vec<Entry>,
    long: Vec<Long>,
    given_back: Vec<Sequence>,
}

/// A record that has parts elsewhere.
#[derive(Debug)]
struct Long {
    id: PageId,
    lsn: Lsn,
    piece: Piece,
    extent: ExtentRef,
    parts: Parts,
}

impl Collect for Entries {
    fn record(&mut self, record: Record<'_>) -> Result<()> {
        let kind = record.shape.kind;
        match kind {
            Kind::Replace | Kind::Link | Kind::Free => {}
            Kind::Moves => return self.moves(&record),
            Kind::GivenBack => {
                let sequences = moves::decode_given_back(record.body);
                self.given_back.append(&mut sequences.ok_or_else(|| record.corrupt(Damage::MovesMalformed))?);
                return Ok(());
            }
            _ => return Ok(()),
        }
        let head = PageHead::decode(record.shape, record.body, record.body_at);
        let Some((head, payload)) = head.filter(|(head, _)| head.page.0 < PAGES_MAX) else {
            return Err(record.corrupt(Damage::NoPage));
        };
        let what = match kind {
            Kind::Free => What::Ends,
            Kind::Link if head.base != Version::NONE => What::GoesOn,
            _ => What::Begins,
        };
        let mut piece = Piece::new(record.segment.address(record.lsn), record.len);
        if let Payload::Extent(extent, parts) = payload {
            piece = piece.long();
            self.long.push(Long { id: head.page, lsn: record.lsn, piece, extent, parts });
        }
        self.entries.push(Entry { id: head.page, at: record.lsn.0, what, piece });
        Ok(())
    }
}

impl Entries {
    /// Takes what cleaning says of pages.
    fn moves(&mut self, record: &Record<'_>) -> Result<()> {
        let moves = moves::decode(record.body).ok_or_else(|| record.corrupt(Damage::MovesMalformed))?;
        for Move { page: id, upto, image } in moves {
            if id.0 >= PAGES_MAX {
                return Err(record.corrupt(Damage::NoPage));
            }
            self.entries.push(Entry { id, at: upto.0, what: What::StandsFor, piece: image });
        }
        Ok(())
    }
}

/// The table under construction.
#[derive(Debug)]
pub(crate) struct Replayed<P> {
    table: Table<P>,
    leaves: Leaves,
    segment_size: u64,
    high_water: u64,
    long: Vec<Long>,
    /// What moves have said of pages.
    moved: Vec<(PageId, Piece)>,
    given_back: BTreeSet<Sequence>,
    /// Bytes of the lists that slots own, modulo 2^64 while it is added up. Relaxed: a counter.
    lists: AtomicU64,
    threads: usize,
}

/// What an opening makes of a store's pages.
#[derive(Debug)]
pub(crate) struct Rebuilt<P> {
    pub(crate) table: Table<P>,
    pub(crate) leaves: Leaves,
    pub(crate) ids: Ids,
    /// Bytes of the lists of where cold pages are.
    pub(crate) lists: u64,
}

impl<P: Send + Sync> Rebuild for Replayed<P> {
    type Part = Entries;

    fn begin(&mut self, segment_size: u64, root: Option<&Root>) -> Result<()> {
        self.segment_size = segment_size;
        self.leaves = Leaves::new(root.map_or(leaf_ids(segment_size), |root| root.leaf_ids));
        if let Some(root) = root {
            self.high_water = root.high_water;
            self.leaves.find(root.leaves.clone())?;
        }
        Ok(())
    }

    fn join(&mut self, part: Entries) -> Result<()> {
        self.apply(part)
    }

    fn gave_back(&self, sequence: Sequence) -> bool {
        self.given_back.contains(&sequence)
    }

    fn highest_named(&self) -> Option<Sequence> {
        let images = self.moved.iter().map(|(_, image)| self.sequence(*image));
        images.chain(self.given_back.last().copied()).max()
    }

    fn moved_to(&self, sequence: Sequence) -> bool {
        self.moved.iter().any(|(_, image)| self.sequence(*image) == sequence)
    }

    fn check_moved(&self, is_there: impl Fn(Sequence) -> bool) -> Result<()> {
        let mut there = None;
        for (id, image) in &self.moved {
            let sequence = self.sequence(*image);
            if there == Some(sequence) || is_there(sequence) {
                there = Some(sequence);
                continue;
            }
            // Of others it is known when their leaf is read.
            if self.table.get(*id).is_some_and(|slot| names(slot, *image)) {
                return Err(corrupt(self.segment_size, image.address(), Damage::SegmentMissing));
            }
        }
        Ok(())
    }
}

impl<P: Send + Sync> Replayed<P> {
    pub(crate) fn new(threads: usize) -> Replayed<P> {
        Replayed {
            table: Table::new(),
            leaves: Leaves::new(1),
            segment_size: u64::MAX,
            high_water: 0,
            long: Vec::new(),
            moved: Vec::new(),
            given_back: BTreeSet::new(),
            lists: AtomicU64::new(0),
            threads,
        }
    }

    /// The segment that an image is in.
    fn sequence(&self, image: Piece) -> Sequence {
        Sequence(image.address().0 / self.segment_size)
    }

    /// Applies a segment's records, after those of all segments before it: in parallel by page id.
    ///
    /// # Errors
    /// `NoSpace` for an id beyond the limit or the memory.
    fn apply(&mut self, mut collected: Entries) -> Result<()> {
        self.long.append(&mut collected.long);
        self.given_back.extend(collected.given_back.drain(..));
        for entry in &collected.entries {
            if entry.what == What::StandsFor {
                // Of a page that nothing is known of it says nothing.
                if entry.id.0 < self.high_water {
                    self.table.ensure(entry.id)?;
                    self.leaves.moved(entry.id);
                }
                self.moved.push((entry.id, entry.piece));
                continue;
            }
            self.table.ensure(entry.id)?;
            self.leaves.ensure(entry.id)?;
            self.leaves.replayed(entry.id);
            self.high_water = self.high_water.max(entry.id.0 + 1);
        }
        let to = &To { table: &self.table, leaves: &self.leaves, lists: &self.lists };
        if self.threads < 2 || collected.entries.len() < WORTH_A_THREAD {
            apply_part(to, &collected, 0, 1);
            return Ok(());
        }
        let parts = self.threads as u64;
        std::thread::scope(|scope| {
            let collected = &collected;
            let spawned: Vec<_> = (1..parts)
                .map(|part| {
                    let thread = std::thread::Builder::new().name("pagecache-replay".to_owned());
                    (part, thread.spawn_scoped(scope, move || apply_part(to, collected, part, parts)))
                })
                .collect();
            apply_part(to, collected, 0, parts);
            for (part, thread) in spawned {
                match thread {
                    Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                    // No thread to be had: here.
                    Err(_) => apply_part(to, collected, part, parts),
                }
            }
        });
        Ok(())
    }

    /// What was made. Ids below the highest that are free or were never written are unused; of leaves that were not read yet it is
    /// not known, but how many they held.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn finish(mut self, log: &LogCore) -> Result<Rebuilt<P>> {
        let pool = &log.pool;
        for (id, piece) in std::mem::take(&mut self.moved) {
            if piece.is_long() && self.table.get(id).is_some_and(|slot| names(slot, piece)) {
                know_image(pool, id, piece)?;
            }
        }
        for Long { id, lsn, piece, extent, parts } in std::mem::take(&mut self.long) {
            log.note_extent(lsn, &extent);
            if self.table.get(id).is_some_and(|slot| names(slot, piece)) {
                pool.spans.enter(piece.address(), id, Arc::new(parts));
            }
        }
        let mut unused: VecDeque<Range<u64>> = VecDeque::new();
        let mut vacant = Vec::new();
        let (mut id, mut allocated) = (0, 0);
        while id < self.high_water {
            let leaf = self.leaves.of(PageId(id));
            if let Some(found) = self.leaves.found(leaf) {
                let range = self.leaves.range(leaf);
                allocated += self.leaves.ids() - found.vacant;
                // Beyond the highest id nothing is unused.
                let beyond = range.end.saturating_sub(self.high_water);
                if found.vacant > beyond || self.leaves.is_unread_and_replayed(leaf) {
                    vacant.push(leaf);
                }
                id = range.end;
                continue;
            }
            let mut run = id..id + 1;
            let is_unused = match self.table.get(PageId(id)) {
                None => {
                    // A bucket that nobody needed: not one of its ids was written. Found leaves may have ids there all the same.
                    let end = Table::<P>::bucket_end(PageId(id)).min(self.high_water);
                    run.end =
                        if self.leaves.all_found().is_empty() { end } else { self.leaves.range(leaf).end.min(end) };
                    true
                }
                Some(slot) => !is_page(slot, pool, &self.lists),
            };
            id = run.end;
            match is_unused {
                true => push_run(&mut unused, run),
                false => allocated += 1,
            }
        }
        self.leaves.offer(vacant.into_iter());
        let ids = Ids::new(self.high_water, unused, allocated);
        Ok(Rebuilt { table: self.table, leaves: self.leaves, ids, lists: self.lists.into_inner() })
    }
}

/// What the replayed log says of a page's records, for who looks at a store from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    /// No record of it, or only moves: so they are those of its leaf, or what has come of them.
    Leaf(Vec<Piece>),
    /// All of them.
    Whole(Vec<Piece>),
    /// It has none any more.
    Ended,
}

impl<P: Send + Sync> Replayed<P> {
    /// What becomes of the records that a page's leaf names.
    pub(crate) fn replay(
        &self,
        id: PageId,
        mut leaf: Vec<Piece>,
        waiting: &[Move],
        lsn: impl Fn(Piece) -> Option<Lsn>,
    ) -> Replay {
        waiting.iter().filter(|said| said.page == id).for_each(|said| _ = said.apply(&mut leaf));
        let Some(slot) = self.table.get(id) else { return Replay::Leaf(leaf) };
        // SAFETY: nobody else is here: the words are this thread's.
        match unsafe { slot.load().see::<P>() } {
            Seen::ColdOne(piece) => Replay::Whole(vec![piece]),
            Seen::Cold(pieces) => Replay::Whole(pieces.to_vec()),
            Seen::Headless(newer) => Replay::Leaf(joined(leaf, newer, lsn)),
            Seen::Absent => Replay::Leaf(leaf),
            Seen::Free(_) | Seen::Empty(_) | Seen::Resident(_) => Replay::Ended,
        }
    }

    /// The moves that wait for a leaf.
    pub(crate) fn waiting(&self, leaf: u64) -> Vec<Move> {
        self.leaves.waiting(leaf)
    }

    /// Whether nothing of what a page's leaf says counts any more.
    pub(crate) fn says_all(&self, id: PageId) -> bool {
        // SAFETY: as above.
        self.table
            .get(id)
            .is_some_and(|slot| !matches!(unsafe { slot.load().see::<P>() }, Seen::Absent | Seen::Headless(_)))
    }

    /// The pages of which it is said that they have moved.
    pub(crate) fn moved(&self) -> BTreeSet<PageId> {
        self.moved.iter().map(|(id, _)| *id).collect()
    }
}

/// Whether a slot names a record.
fn names<P>(slot: &Slot<P>, piece: Piece) -> bool {
    // SAFETY: nobody else is here yet: the words are this thread's.
    match unsafe { slot.load().see::<P>() } {
        Seen::ColdOne(one) => one == piece,
        Seen::Cold(pieces) | Seen::Headless(pieces) => pieces.contains(&piece),
        Seen::Absent | Seen::Free(_) | Seen::Empty(_) | Seen::Resident(_) => false,
    }
}

/// Whether a slot of a leaf that is known holds a page, whose records are counted then. A list that grew by doubling gives back what it does not need.
fn is_page<P>(slot: &Slot<P>, pool: &Pool, lists: &AtomicU64) -> bool {
    let word = slot.load();
    // SAFETY: nobody else is here yet: the words are this thread's.
    match unsafe { word.see::<P>() } {
        Seen::Absent | Seen::Free(_) | Seen::Empty(_) => false,
        Seen::Cold(_) => {
            // SAFETY: as above.
            slot.set(unsafe { word.into_pieces() }.map_or(word, |list| {
                pool.raise(list.iter());
                let (before, list) = (list.heap(), list.shrunk());
                lists.fetch_add((list.heap() as u64).wrapping_sub(before as u64), Ordering::Relaxed);
                Word::cold(list)
            }));
            true
        }
        Seen::ColdOne(piece) => {
            pool.raise(std::iter::once(piece));
            true
        }
        Seen::Resident(_) | Seen::Headless(_) => true,
    }
}

/// Where entries go.
struct To<'a, P> {
    table: &'a Table<P>,
    leaves: &'a Leaves,
    lists: &'a AtomicU64,
}

/// Applies the entries whose id falls to this part. No two parts touch the same slot.
fn apply_part<P>(to: &To<'_, P>, collected: &Entries, part: u64, parts: u64) {
    let mut mine = collected.entries.iter().filter(|entry| entry.id.0 % parts == part);
    let mut window = Vec::with_capacity(WINDOW);
    loop {
        window.extend(mine.by_ref().take(WINDOW));
        if window.is_empty() {
            return;
        }
        warm(to.table, &window);
        for entry in window.drain(..) {
            apply_one(to, entry);
        }
    }
}

/// Entries that are looked at together: pages come in no order, and the waits for their memory overlap.
const WINDOW: usize = 16;

/// Looks at what [`apply_one`] will look at, for many entries whose looks do not depend on each other.
fn warm<P>(table: &Table<P>, window: &[&Entry]) {
    let mut seen = 0;
    for slot in window.iter().filter_map(|entry| table.get(entry.id)) {
        // SAFETY: this thread is the only one at this slot.
        if let Seen::Cold(pieces) | Seen::Headless(pieces) = unsafe { slot.load().see::<P>() } {
            seen ^= pieces.last().map_or(0, |piece| piece.word());
        }
    }
    std::hint::black_box(seen);
}

fn apply_one<P>(to: &To<'_, P>, entry: &Entry) {
    let Some(slot) = to.table.get(entry.id) else { return };
    let old = slot.load();
    // SAFETY: this thread is the only one at this slot, and `old` is owned by it until `set`.
    let new = match (entry.what, unsafe { old.see::<P>() }) {
        (What::StandsFor, seen) => {
            let said = Move { page: entry.id, upto: Address(entry.at), image: entry.piece };
            let (Seen::ColdOne(_) | Seen::Cold(_) | Seen::Headless(_) | Seen::Absent) = seen else { return };
            let mut pieces = match seen {
                Seen::ColdOne(piece) => vec![piece],
                Seen::Cold(pieces) | Seen::Headless(pieces) => pieces.to_vec(),
                _ => Vec::new(),
            };
            if !said.apply(&mut pieces) {
                // It is of what the leaf says, or of nothing any more.
                if matches!(seen, Seen::Headless(_) | Seen::Absent) && !to.leaves.is_read(entry.id) {
                    to.leaves.wait(said);
                }
                return;
            }
            // Also one without its beginning: the image stands for that.
            Word::cold(Pieces::from_newest_first(pieces.len(), pieces.iter().rev().copied()))
        }
        (What::Ends, _) if planted(Canary::FreeForgottenAtReplay) => return,
        (What::Ends, _) => Word::free(Version(entry.at)),
        (What::GoesOn, seen @ (Seen::ColdOne(_) | Seen::Cold(_) | Seen::Headless(_))) => {
            let is_headless = matches!(seen, Seen::Headless(_));
            // SAFETY: as above; `set` puts it back.
            let Some(mut pieces) = (unsafe { old.into_pieces() }) else { return };
            let before = pieces.heap();
            pieces.push(entry.piece);
            to.lists.fetch_add((pieces.heap() - before) as u64, Ordering::Relaxed);
            slot.set(if is_headless { Word::headless(pieces) } else { Word::cold(pieces) });
            return;
        }
        (What::GoesOn, Seen::Absent) if !to.leaves.is_read(entry.id) => Word::headless(Pieces::one(entry.piece)),
        _ => Word::cold(Pieces::one(entry.piece)),
    };
    // SAFETY: both are this thread's.
    let (before, after) = unsafe { (old.list_bytes(), new.list_bytes()) };
    if before != after {
        to.lists.fetch_add((after as u64).wrapping_sub(before as u64), Ordering::Relaxed);
    }
    slot.set(new);
    // SAFETY: it was just taken out of the slot.
    unsafe { old.discard::<P>() };
}
