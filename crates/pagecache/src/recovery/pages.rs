//! From the log's records to the mapping table: the newest replace of each page and the links on it, no page read.

use std::collections::VecDeque;
use std::ops::Range;

use super::replay::{Collect, Record};
use crate::base::canary::{Canary, planted};
use crate::base::damage::Damage;
use crate::base::error::{Corruption, Error, Result};
use crate::base::ids::{Lsn, PageId, Sequence, Version};
use crate::format::page::PageHead;
use crate::format::record::Kind;
use crate::page::ids::Ids;
use crate::page::piece::{PIECES_MAX, Piece};
use crate::page::pieces::Pieces;
use crate::page::slot::{Seen, Word};
use crate::page::table::{PAGES_MAX, Table};

/// Entries below which one thread applies them all.
const WORTH_A_THREAD: usize = 4096;

/// What replay keeps of one record.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: PageId,
    lsn: Lsn,
    kind: Kind,
    piece: Piece,
}

/// The page records of a segment, in LSN order.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    segment: Sequence,
    start: Lsn,
    entries: Vec<Entry>,
}

impl Collect for Entries {
    fn record(&mut self, record: Record<'_>) -> Result<()> {
        let kind = record.shape.kind;
        if !matches!(kind, Kind::Replace | Kind::Link | Kind::Free) {
            return Ok(());
        }
        let head = PageHead::decode(record.shape, record.body, record.body_at).map(|(head, _)| head);
        let Some(head) = head.filter(|head| head.page.0 < PAGES_MAX) else {
            return Err(record.corrupt(Damage::NoPage));
        };
        let piece = Piece::new(record.segment.address(record.lsn), record.len);
        (self.segment, self.start) = (record.segment.header.sequence, record.segment.header.start);
        self.entries.push(Entry { id: head.page, lsn: record.lsn, kind, piece });
        Ok(())
    }
}

/// The table under construction.
#[derive(Debug)]
pub(crate) struct Replayed<P> {
    table: Table<P>,
    high_water: u64,
    threads: usize,
}

impl<P: Send + Sync> Replayed<P> {
    pub(crate) fn new(threads: usize) -> Replayed<P> {
        Replayed { table: Table::new(), high_water: 0, threads }
    }

    /// Applies a segment's records, after those of all segments before it: in parallel by page id.
    ///
    /// # Errors
    /// `NoSpace` for an id beyond the limit or the memory.
    pub(crate) fn apply(&mut self, collected: Entries) -> Result<()> {
        for entry in &collected.entries {
            self.table.ensure(entry.id)?;
            self.high_water = self.high_water.max(entry.id.0 + 1);
        }
        let table = &self.table;
        if self.threads < 2 || collected.entries.len() < WORTH_A_THREAD {
            return apply_part(table, &collected, 0, 1);
        }
        let parts = self.threads as u64;
        std::thread::scope(|scope| {
            let collected = &collected;
            let spawned: Vec<_> = (1..parts)
                .map(|part| {
                    let thread = std::thread::Builder::new().name("pagecache-replay".to_owned());
                    (part, thread.spawn_scoped(scope, move || apply_part(table, collected, part, parts)))
                })
                .collect();
            let mut applied = apply_part(table, collected, 0, parts);
            for (part, thread) in spawned {
                let result = match thread {
                    Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                    // No thread to be had: here.
                    Err(_) => apply_part(table, collected, part, parts),
                };
                applied = applied.and(result);
            }
            applied
        })
    }

    /// The table, and the ids: those below the highest that are free or were never written are free.
    pub(crate) fn finish(self) -> (Table<P>, Ids) {
        let mut free: VecDeque<Range<u64>> = VecDeque::new();
        let mut id = 0;
        while id < self.high_water {
            let mut run = id..id + 1;
            let word = self.table.get(PageId(id)).map(|slot| (slot, slot.load()));
            // SAFETY: nobody else is here yet: the words are this thread's.
            let seen = word.map(|(slot, word)| (slot, word, unsafe { word.see::<P>() }));
            let is_free = match seen {
                None => {
                    // A bucket that nobody needed: not one of its ids was written.
                    run.end = Table::<P>::bucket_end(PageId(id)).min(self.high_water);
                    true
                }
                Some((_, _, Seen::Absent | Seen::Free(_))) => true,
                // What grew by doubling gives back what it does not need.
                Some((slot, word, Seen::Cold(_))) => {
                    // SAFETY: as above.
                    slot.set(unsafe { word.into_pieces() }.map_or(word, |list| Word::cold(list.shrunk())));
                    false
                }
                Some(_) => false,
            };
            id = run.end;
            match free.back_mut().filter(|last| is_free && last.end == run.start) {
                Some(last) => last.end = run.end,
                None if is_free => free.push_back(run),
                None => {}
            }
        }
        (self.table, Ids::new(self.high_water, free))
    }
}

/// Applies the entries whose id falls to this part. No two parts touch the same slot.
///
/// # Errors
/// `Corrupt` for a page with more links than anyone would have written.
fn apply_part<P>(table: &Table<P>, collected: &Entries, part: u64, parts: u64) -> Result<()> {
    let mut mine = collected.entries.iter().filter(|entry| entry.id.0 % parts == part);
    let mut window = Vec::with_capacity(WINDOW);
    loop {
        window.extend(mine.by_ref().take(WINDOW));
        if window.is_empty() {
            return Ok(());
        }
        warm(table, &window);
        for entry in window.drain(..) {
            apply_one(table, collected, entry)?;
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
        if let Seen::Cold(pieces) = unsafe { slot.load().see::<P>() } {
            seen ^= pieces.last().map_or(0, |piece| piece.word());
        }
    }
    std::hint::black_box(seen);
}

fn apply_one<P>(table: &Table<P>, collected: &Entries, entry: &Entry) -> Result<()> {
    let Some(slot) = table.get(entry.id) else { return Ok(()) };
    let old = slot.load();
    // SAFETY: this thread is the only one at this slot, and `old` is owned by it until `set`.
    let new = match (entry.kind, unsafe { old.see::<P>() }) {
        (Kind::Free, _) if planted(Canary::FreeForgottenAtReplay) => return Ok(()),
        (Kind::Free, _) => Word::free(Version::from(entry.lsn)),
        (Kind::Link, Seen::Cold(pieces)) if pieces.len() >= PIECES_MAX => {
            return Err(Error::Corrupt(Box::new(Corruption {
                page: Some(entry.id),
                segment: collected.segment.0,
                offset: entry.lsn.0 - collected.start.0,
                lsns: entry.lsn..Lsn(entry.lsn.0 + entry.piece.len_max()),
                what: Damage::TooManyLinks.what(),
            })));
        }
        (Kind::Link, Seen::ColdOne(_) | Seen::Cold(_)) => {
            // SAFETY: as above; `set` puts it back.
            let Some(mut pieces) = (unsafe { old.into_pieces() }) else { return Ok(()) };
            pieces.push(entry.piece);
            slot.set(Word::cold(pieces));
            return Ok(());
        }
        _ => Word::cold(Pieces::one(entry.piece)),
    };
    slot.set(new);
    // SAFETY: it was just taken out of the slot.
    unsafe { old.discard::<P>() };
    Ok(())
}
