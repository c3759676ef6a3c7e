//! The pool of segment files: born whole, found by LSN or by address, given back for reuse.
//!
//! The segments of all streams share one space of addresses and one row of sequences. Those of the log follow each other in LSN
//! order; where the others are is said by whoever names an address in them.
//!
//! - P1. A file bears a segment's name only once both copies of its header are durable: it is made under a scratch name,
//!   synced, then renamed; outside of the log it is written before, too. So a named segment without any valid header is damage, never a
//!   birth cut short.
//! - P2. A segment enters the table after its directory entry is durable; no LSN in it exists before, and no slot and no checkpoint names
//!   an address in it.
//! - P3. Sequences only rise, across restarts too: no life of a segment shares its number with another.

use std::sync::Arc;

use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::{Address, Lsn, Sequence};
use crate::base::sync::{Condvar, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::format::BLOCK;
use crate::format::parts::Parts;
use crate::format::piece::Piece;
use crate::format::root::Known;
use crate::format::segment::Purpose;
use crate::storage::Storage;
use crate::store::births::{Births, Stock, Unwanted};
use crate::store::handles::Handles;
use crate::store::in_use::{InUse, parts};
use crate::store::limit::{Claim, FULL};
use crate::store::segment::{Identity, Linked, Segment};
use crate::store::spans::Spans;
use crate::store::table::Table;

/// Every segment of a store.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(super) handles: Arc<Handles>,
    pub(super) identity: Identity,
    pub(super) segment_size: u64,
    table: RwLock<Table>,
    /// Held by nobody while the disk works.
    pub(super) births: Mutex<Births>,
    /// A segment of the log was born, or will not be.
    pub(super) born: Condvar,
    /// Held while files are given back, and by who wants them to stay.
    pub(super) leaving: Mutex<()>,
    /// Records whose payload is in parts.
    pub(crate) spans: Spans,
}

impl Pool {
    /// A pool of these segments, rising by sequence within each stream.
    pub(crate) fn new(
        handles: Arc<Handles>,
        identity: Identity,
        segment_size: u64,
        segments: impl IntoIterator<Item = Arc<Segment>>,
        next: Sequence,
    ) -> Pool {
        let (births, leaving) = (Mutex::new(Births::new(segment_size, next)), Mutex::new(()));
        let mut table = Table::default();
        segments.into_iter().for_each(|segment| table.enter(segment));
        let (table, born, spans) = (RwLock::new(table), Condvar::new(), Spans::default());
        Pool { handles, identity, segment_size, table, births, born, leaving, spans }
    }

    /// What every segment of this store says of it.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        self.handles.storage()
    }

    pub(crate) fn segment_size(&self) -> u64 {
        self.segment_size
    }

    pub(super) fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read()
    }

    pub(super) fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write()
    }

    /// The segment of the log that holds an LSN, if it is still there.
    pub(crate) fn at_lsn(&self, lsn: Lsn) -> Option<Arc<Segment>> {
        let table = &self.table().log;
        let after = table.partition_point(|segment| segment.header.start <= lsn);
        let segment = table.get(after.checked_sub(1)?)?;
        (segment.offset(lsn) < self.segment_size).then(|| Arc::clone(segment))
    }

    /// The segment that holds an address, and the LSN of what is there.
    pub(crate) fn at_address(&self, address: Address) -> Option<(Arc<Segment>, Lsn)> {
        let sequence = Sequence(address.0 / self.segment_size);
        let table = self.table();
        let segment = table.get(sequence)?;
        Some((Arc::clone(segment), Lsn(segment.header.start.0 + address.0 % self.segment_size)))
    }

    /// The first segment of the log that starts above an LSN.
    pub(crate) fn after(&self, lsn: Lsn) -> Option<Arc<Segment>> {
        let table = &self.table().log;
        let after = table.partition_point(|segment| segment.header.start <= lsn);
        table.get(after).map(Arc::clone)
    }

    /// Bytes of data in the segments that hold the LSNs from `first` to `last`.
    pub(crate) fn data_between(&self, first: Lsn, last: Lsn) -> u64 {
        let table = &self.table().log;
        let from = table.partition_point(|segment| segment.data_end() <= first);
        let to = table.partition_point(|segment| segment.header.start <= last);
        to.saturating_sub(from) as u64 * (self.segment_size - 2 * BLOCK)
    }

    /// All segments of the log now, oldest first.
    pub(crate) fn log(&self) -> Vec<Arc<Segment>> {
        self.table().log.iter().map(Arc::clone).collect()
    }

    /// Counts the records of a page as in use, all of them, the oldest first, with their parts.
    pub(crate) fn raise(&self, pieces: impl Iterator<Item = Piece>) {
        let table = self.table();
        for (piece, part) in parts(pieces) {
            table.account(self.sequence(piece), |account| account.raise(InUse::of(piece, part)));
            let parts = if piece.is_long() { self.spans.parts(piece.address()) } else { None };
            for (sequence, bytes) in parts.iter().flat_map(|parts| parts.iter()) {
                table.account(sequence, |account| account.raise(InUse::of_part(bytes)));
            }
        }
    }

    /// Counts records as in use no more, with their parts.
    pub(crate) fn lower(&self, pieces: impl Iterator<Item = Piece>) {
        let table = self.table();
        for piece in pieces {
            table.account(self.sequence(piece), |account| account.lower(piece.len_max()));
            let parts = if piece.is_long() { self.spans.take(piece.address()) } else { None };
            for (sequence, bytes) in parts.iter().flat_map(|parts| parts.iter()) {
                table.account(sequence, |account| account.lower(bytes));
            }
        }
    }

    /// Counts parts of a record as in use no more, which nobody has published.
    pub(crate) fn lower_parts(&self, parts: &Parts) {
        let table = self.table();
        parts.iter().for_each(|(sequence, bytes)| table.account(sequence, |account| account.lower(bytes)));
    }

    /// The segment that a record is in.
    pub(crate) fn sequence(&self, piece: Piece) -> Sequence {
        Sequence(piece.address().0 / self.segment_size)
    }

    /// Whether a record, or a part of it, is in a segment.
    pub(crate) fn is_in(&self, piece: Piece, sequence: Sequence) -> bool {
        let has_part = || self.spans.parts(piece.address()).is_some_and(|parts| parts.is_in(sequence));
        self.sequence(piece) == sequence || piece.is_long() && has_part()
    }

    /// Bytes of data in the segments of images from that of `first` to that of `last`.
    pub(crate) fn images_between(&self, first: Address, last: Address) -> u64 {
        let sequences = Sequence(first.0 / self.segment_size)..=Sequence(last.0 / self.segment_size);
        if sequences.is_empty() {
            return 0;
        }
        self.table().others.range(sequences).count() as u64 * (self.segment_size - 2 * BLOCK)
    }

    /// All segments now.
    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.table().all().map(Arc::clone).collect()
    }

    /// A segment by its sequence.
    pub(crate) fn get(&self, sequence: Sequence) -> Option<Arc<Segment>> {
        self.table().get(sequence).map(Arc::clone)
    }

    /// Bytes of memory of what is known of segments, about: each has a name, a place in a table, and its counts besides.
    pub(crate) fn bytes(&self) -> u64 {
        self.table().len() as u64 * (size_of::<Segment>() + 160) as u64
    }

    /// The segments that `keep` wants as a checkpoint knows them, by sequence; and the first sequence that is not given out. What
    /// comes later has that or a higher one, but for segments outside of the log that are being written, in which nothing is named. Waits for a segment of the log
    /// that is just being born.
    pub(crate) fn directory(&self, keep: impl Fn(&Segment) -> bool) -> (Vec<Known>, Sequence) {
        let mut births = self.births.lock();
        while births.is_log_underway() && !planted(Canary::DirectoryDuringBirth) {
            births = self.born.wait(births);
        }
        let table = self.table();
        let mut known: Vec<Known> = (table.all())
            .filter(|segment| keep(segment))
            .map(|segment| Known {
                sequence: segment.header.sequence,
                stream: segment.header.stream,
                start: segment.header.start,
                salt: segment.header.salt,
                cut_off: segment.data_end().0 - segment.records_end().0,
            })
            .collect();
        known.sort_unstable_by_key(|known| known.sequence);
        (known, births.next())
    }

    /// Files of segments, of whatever stream. Files that a backup keeps are beside what cleaning answers for.
    pub(crate) fn stock(&self) -> Stock {
        self.births.lock().stock(self.table().len(), Unwanted::NotIfPinned)
    }

    /// Caps the bytes on disk from now on, so many segments of which are the reserve.
    pub(crate) fn cap(&self, max_disk_bytes: u64, reserve: u64) {
        self.births.lock().cap(max_disk_bytes, reserve, self.table().len());
    }

    /// Whether a segment of the log was made where users had no room: what frees and pads leave of it is for no updates.
    pub(crate) fn is_of_frees(&self, sequence: Sequence) -> bool {
        self.births.lock().is_of_frees(sequence)
    }

    /// Gives users what was made for frees while there was no room for users.
    ///
    /// # Errors
    /// `NoSpace` where there is none yet.
    pub(crate) fn give_to_users(&self) -> Result<()> {
        if self.left_on_disk(Claim::User) == Some(0) {
            return Err(Error::NoSpace { what: FULL });
        }
        self.births.lock().give_to_users(self.table().len())
    }

    /// Leaves the map so many segments to be written anew from now on.
    pub(crate) fn leave_for_map(&self, segments: u64) {
        self.births.lock().leave_for_map(segments);
    }

    /// The same, where the store is opened.
    pub(crate) fn begin_with_map(&self, segments: u64) {
        self.births.lock().begin_with_map(segments, self.table().len());
    }

    /// Segments that may still be made for this, by the cap and by what the disk says; none where there is no cap and nobody knows.
    pub(crate) fn left(&self, claim: Claim) -> Option<u64> {
        let by_cap = self.births.lock().left(claim, self.table().len());
        by_cap.into_iter().chain(self.left_on_disk(claim)).min()
    }

    /// A bare log makes room by trims, which take none; only pages need some to make some.
    pub(super) fn left_on_disk(&self, claim: Claim) -> Option<u64> {
        if self.identity.purpose != Purpose::Pages {
            return None;
        }
        let available = self.storage().available().ok()??;
        let births = self.births.lock();
        let all = (available / self.segment_size).saturating_add(births.stock(0, Unwanted::Counts).spares);
        Some(births.shares().of(all, claim))
    }

    /// Whether what is written to the log from here on may come to somebody else, too, who has a link to the file.
    pub(crate) fn is_linked_at(&self, lsn: Lsn) -> bool {
        self.at_lsn(lsn).is_none_or(|segment| segment.linked() == Linked::Maybe)
    }

    /// Whether what is written is read again before long: pages are, when they are wanted and when they are moved.
    pub(crate) fn is_read_again(&self) -> bool {
        self.identity.purpose == Purpose::Pages
    }

    /// Where the segments are, for messages.
    pub(crate) fn describe(&self) -> String {
        self.storage().describe()
    }

    pub(crate) fn sync_dir(&self) -> Result<()> {
        self.storage().sync_dir().map_err(|error| Error::sync("sync_dir", self.storage().describe(), error))
    }

    /// Bytes on disk: every segment's file, and the spares. No file is opened for it: one that was not open yet counts whole.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let (all, stock) = {
            let births = self.births.lock();
            let all = self.all();
            let stock = births.stock(all.len(), Unwanted::Counts);
            (all, stock)
        };
        let occupied = |segment: &Arc<Segment>| segment.occupied().unwrap_or(self.segment_size);
        let named: u64 = all.iter().map(occupied).sum();
        named + (stock.segments - all.len() as u64 + stock.spares) * self.segment_size
    }
}
