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

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::{Address, Lsn, Sequence};
use crate::base::sync::{Condvar, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::format::BLOCK;
use crate::format::parts::Parts;
use crate::format::piece::Piece;
use crate::format::root::Known;
use crate::format::segment::{Previous, Purpose, SegmentHeader, Stream, name, scratch_name};
use crate::storage::{Storage, StorageFile};
use crate::store::account::Account;
use crate::store::births::{Births, Drawn, Keep, Order, Stock, Unwanted};
use crate::store::files;
use crate::store::handles::Handles;
use crate::store::in_use::{InUse, parts};
use crate::store::limit::{CHECKPOINT, Claim, FULL, UPKEEP};
use crate::store::segment::{Identity, Segment};
use crate::store::spans::Spans;

/// Every segment of a store.
#[derive(Debug)]
pub(crate) struct Pool {
    handles: Arc<Handles>,
    identity: Identity,
    segment_size: u64,
    table: RwLock<Table>,
    /// Held by nobody while the disk works.
    births: Mutex<Births>,
    /// A segment of the log was born, or will not be.
    born: Condvar,
    /// Held while files are given back, and by who wants them to stay.
    leaving: Mutex<()>,
    /// Records whose payload is in parts.
    pub(crate) spans: Spans,
}

#[derive(Debug, Default)]
struct Table {
    /// Oldest first: rising by LSN and by sequence.
    log: VecDeque<Arc<Segment>>,
    others: BTreeMap<Sequence, Arc<Segment>>,
}

impl Table {
    fn enter(&mut self, segment: Arc<Segment>) {
        match segment.header.stream {
            Stream::Log => self.log.push_back(segment),
            Stream::Folds | Stream::Survivors | Stream::Map => {
                self.others.insert(segment.header.sequence, segment);
            }
        }
    }

    fn get(&self, sequence: Sequence) -> Option<&Arc<Segment>> {
        match self.log.binary_search_by_key(&sequence, |segment| segment.header.sequence) {
            Ok(at) => self.log.get(at),
            Err(_) => self.others.get(&sequence),
        }
    }

    /// Changes the account of a segment, if it is there.
    fn account(&self, sequence: Sequence, change: impl FnOnce(&Account)) {
        if let Some(segment) = self.get(sequence) {
            change(&segment.account);
        }
    }

    fn len(&self) -> usize {
        self.log.len() + self.others.len()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.log.iter().chain(self.others.values())
    }
}

/// A segment that has its number and is not in the table. Whatever ends a birth half-way, a panic of the storage's too, nobody waits for it any more.
struct Underway<'a> {
    pool: &'a Pool,
    sequence: Sequence,
    /// A file of an earlier life that it gets.
    spare: Option<String>,
    /// Its file bears its name.
    is_named: bool,
    goes_on: bool,
}

impl Underway<'_> {
    /// It is written before it is named: somebody else ends it.
    fn goes_on(mut self) {
        self.goes_on = true;
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if self.goes_on {
            return;
        }
        let (mut births, spare) = (self.pool.births.lock(), self.spare.take());
        match self.is_named {
            true => births.ended(self.sequence, spare),
            false => births.failed(self.sequence, spare),
        }
        drop(births);
        self.pool.born.notify_all();
    }
}

/// What the birth of a segment of the log needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    pub(crate) start: Lsn,
    pub(crate) previous: Option<Previous>,
    pub(crate) first: Lsn,
    pub(crate) claim: Claim,
    pub(crate) stable: Lsn,
    /// Bytes of disk to set aside now.
    pub(crate) allocate: u64,
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

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read()
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
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

    /// Caps the bytes on disk from now on.
    pub(crate) fn cap(&self, max_disk_bytes: u64) {
        self.births.lock().cap(max_disk_bytes, self.table().len());
    }

    /// Segments that may still be made for this, by the cap and by what the disk says; none where there is no cap and nobody knows.
    pub(crate) fn left(&self, claim: Claim) -> Option<u64> {
        let by_cap = self.births.lock().left(claim, self.table().len());
        by_cap.into_iter().chain(self.left_on_disk(claim)).min()
    }

    /// A bare log makes room by trims, which take none; only pages need some to make some.
    fn left_on_disk(&self, claim: Claim) -> Option<u64> {
        if self.identity.purpose != Purpose::Pages {
            return None;
        }
        let available = self.storage().available().ok()??;
        let spares = self.births.lock().stock(0, Unwanted::Counts).spares;
        let all = (available / self.segment_size).saturating_add(spares);
        Some(match claim {
            Claim::User => all.saturating_sub(UPKEEP),
            Claim::Images => all.saturating_sub(CHECKPOINT),
            Claim::Upkeep => all,
        })
    }

    /// Makes a segment of the log, durable by name and header, and enters it (P1, P2).
    ///
    /// # Errors
    /// `NoSpace` leaves nothing behind but a scratch file that the next open removes.
    pub(crate) fn birth(&self, birth: Birth) -> Result<Arc<Segment>> {
        let Birth { start, previous, first, claim, stable, allocate } = birth;
        let order = Order { stream: Stream::Log, start: Some(start), previous, first, stable, claim, allocate };
        let (segment, file, mut underway) = self.make(&order)?;
        let sequence = segment.header.sequence;
        self.name_synced(file.as_ref(), &mut underway)?;
        let mut births = self.births.lock();
        self.table_mut().enter(Arc::clone(&segment));
        births.ended(sequence, None);
        drop(births);
        Ok(segment)
    }

    /// Has a segment's file bear its name, durably.
    fn name_synced(&self, file: &dyn StorageFile, underway: &mut Underway<'_>) -> Result<()> {
        let scratch = scratch_name(underway.sequence);
        let synced = file.sync_data().map_err(|error| Error::sync("sync", &scratch, error));
        if let Err(error) = synced.and_then(|()| files::christen(self.storage(), underway.sequence)) {
            let _ = self.storage().remove(&scratch);
            return Err(error);
        }
        underway.is_named = true;
        match planted(Canary::SkippedDirectorySync) {
            true => Ok(()),
            false => self.sync_dir(),
        }
    }

    /// Makes a segment outside of the log that is to be written before it is named: its headers are synced with what it holds. No
    /// directory is to list it meanwhile, since nothing names an address in it.
    ///
    /// # Errors
    /// As [`birth`](Self::birth).
    pub(crate) fn begin(&self, stream: Stream, stable: Lsn) -> Result<(Arc<Segment>, Arc<dyn StorageFile>)> {
        // No space is set aside: a full disk is met by a write, and costs this piece of work only.
        let claim = if stream == Stream::Map { Claim::Upkeep } else { Claim::Images };
        let order = Order { stream, start: None, previous: None, first: Lsn(0), stable, claim, allocate: 0 };
        let (segment, file, underway) = self.make(&order)?;
        underway.goes_on();
        Ok((segment, file))
    }

    /// Makes a segment under its scratch name, with its headers written and not synced. It is under way until it is [named](Self::name),
    /// [abandoned](Self::abandon) or, of the log, born.
    fn make(&self, order: &Order) -> Result<(Arc<Segment>, Arc<dyn StorageFile>, Underway<'_>)> {
        // What is left is what it takes to free some: with no room for a checkpoint nothing could ever be given back.
        if order.claim != Claim::Upkeep && self.left_on_disk(order.claim) == Some(0) {
            return Err(Error::NoSpace { what: FULL });
        }
        let Drawn { sequence, spare, pins_ever } = self.births.lock().draw(order, self.table().len())?;
        let mut underway = Underway { pool: self, sequence, spare, is_named: false, goes_on: false };
        let header = SegmentHeader {
            purpose: self.identity.purpose,
            stream: order.stream,
            store: self.identity.store,
            segment_size: self.segment_size,
            sequence,
            start: order.start.unwrap_or(Lsn(sequence.0.saturating_mul(self.segment_size))),
            salt: self.storage().entropy(),
            previous: order.previous,
            stable: order.stable,
            first: order.first,
        };
        // After 2^53 bytes, or behind a file whose name says so: nobody could read it.
        // The segments of the models are smaller than any on disk.
        if cfg!(not(loom)) && !header.is_sound() {
            return Err(Error::NoSpace { what: "segment numbers" });
        }
        let recycled = underway.spare.is_some();
        let file = files::make(&self.handles, &header, order.allocate, &mut underway.spare)?;
        let handle = self.handles.opened(name(sequence), Arc::clone(&file));
        let segment = Arc::new(Segment::new(header, handle, recycled));
        // Before anyone finds it: it holds nothing yet, and is not empty.
        segment.account.set_growing(order.stream != Stream::Log);
        self.births.lock().made(&segment, pins_ever);
        Ok((segment, file, underway))
    }

    /// Names segments that were begun, and are synced, and enters them (P1, P2).
    ///
    /// # Errors
    /// `Io`. What was named is a file that means nothing.
    pub(crate) fn name(&self, begun: &[Arc<Segment>]) -> Result<()> {
        if begun.is_empty() {
            return Ok(());
        }
        for segment in begun {
            files::christen(self.storage(), segment.header.sequence)?;
        }
        if !planted(Canary::SkippedDirectorySync) {
            self.sync_dir()?;
        }
        let mut births = self.births.lock();
        let mut table = self.table_mut();
        for segment in begun {
            table.enter(Arc::clone(segment));
            births.ended(segment.header.sequence, None);
        }
        Ok(())
    }

    /// Removes the files of segments that were begun and will not be named. Best effort: what stays means nothing.
    pub(crate) fn abandon(&self, begun: &[Arc<Segment>]) {
        for segment in begun {
            for name in [scratch_name(segment.header.sequence), segment.name()] {
                let _ = self.storage().remove(&name);
            }
        }
        let mut births = self.births.lock();
        begun.iter().for_each(|segment| births.ended(segment.header.sequence, None));
    }

    /// Where the segments are, for messages.
    pub(crate) fn describe(&self) -> String {
        self.storage().describe()
    }

    pub(crate) fn sync_dir(&self) -> Result<()> {
        self.storage().sync_dir().map_err(|error| Error::sync("sync_dir", self.storage().describe(), error))
    }

    /// Takes every segment of the log that ends at or below `keep` out of the table, the newest never, and gives its file back.
    pub(crate) fn release_below(&self, keep: Lsn) -> Result<u64> {
        self.give_back(|table| {
            let mut gone = Vec::new();
            while table.log.len() > 1 && table.log.front().is_some_and(|segment| segment.data_end() <= keep) {
                gone.extend(table.log.pop_front());
            }
            gone
        })
    }

    /// Takes the segments that nobody needs any more out of the table, and gives their files back.
    ///
    /// # Errors
    /// `Io`: what was not given back is a file that means nothing, for the next opening to remove.
    pub(crate) fn release(&self, unwanted: impl Fn(&Segment) -> bool) -> Result<u64> {
        self.give_back(|table| {
            let gone: Vec<Arc<Segment>> = table.all().filter(|segment| unwanted(segment)).map(Arc::clone).collect();
            for segment in &gone {
                table.others.remove(&segment.header.sequence);
            }
            if gone.iter().any(|segment| segment.header.stream == Stream::Log) {
                table.log.retain(|segment| !gone.iter().any(|gone| Arc::ptr_eq(gone, segment)));
            }
            gone
        })
    }

    /// What is taken out of the table is counted as leaving at once, and nobody makes it stay in between.
    fn give_back(&self, take: impl FnOnce(&mut Table) -> Vec<Arc<Segment>>) -> Result<u64> {
        let _one_at_a_time = self.leaving.lock();
        let (gone, leaving) = {
            let (mut births, mut table) = (self.births.lock(), self.table_mut());
            let gone = take(&mut table);
            let leaving = births.leave(&gone, table.len());
            (gone, leaving)
        };
        let has_changed = !leaving.is_empty();
        let (left, given_back) = files::leave(self.storage(), leaving);
        // Before any of them is used for another segment.
        let synced = match has_changed && !planted(Canary::SegmentReusedEarly) {
            true => self.sync_dir(),
            false => Ok(()),
        };
        self.births.lock().left_behind(left);
        synced.and(given_back).map(|()| gone.len() as u64)
    }

    /// Removes files beyond those that are to be kept for reuse.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub(crate) fn trim(&self) -> Result<()> {
        self.give_back(|_| Vec::new()).map(|_| ())
    }

    /// Says how many files are kept for reuse, from the next that are given back on.
    pub(crate) fn keep(&self, keep: Keep) {
        self.births.lock().keep(keep);
    }

    /// Keeps all files of segments until [`unpin`](Self::unpin): those that are given back meanwhile are removed then, and none that is there
    /// now, or made meanwhile, is ever used for another segment.
    pub(crate) fn pin(&self) {
        // What is leaving has left then, or stays.
        let _nothing_leaves = self.leaving.lock();
        let mut births = self.births.lock();
        births.pin();
        self.table().all().for_each(|segment| segment.link());
    }

    /// # Errors
    /// As [`release`](Self::release).
    pub(crate) fn unpin(&self) -> Result<u64> {
        self.births.lock().unpin();
        self.give_back(|_| Vec::new())
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
