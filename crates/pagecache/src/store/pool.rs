//! The pool of segment files: born whole, found by LSN or by address, given back for reuse.
//!
//! The segments of all streams share one space of addresses and one row of sequences. Those of the log follow each other in LSN
//! order; where the others are is said by whoever names an address in them.
//!
//! - P1. A file bears a segment's name only once both copies of its header are durable: it is made under a scratch name,
//!   synced, then renamed; outside of the log it is written before, too. So a named segment without any valid header is damage, never a birth cut short.
//! - P2. A segment enters the table after its directory entry is durable; no LSN in it exists before, and no slot and no checkpoint names
//!   an address in it.
//! - P3. Sequences only rise, across restarts too: no life of a segment shares its number with another.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool as PlainBool, AtomicU64 as PlainU64, Ordering};

use crate::base::canary::{Canary, planted};
use crate::base::damage::Damage;
use crate::base::error::{Corruption, Error, Result};
use crate::base::ids::{Address, Lsn, Sequence};
use crate::base::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::format::BLOCK;
use crate::format::parts::Parts;
use crate::format::piece::Piece;
use crate::format::root::Known;
use crate::format::segment::{Previous, Purpose, SegmentHeader, Stream, name, scratch_name};
use crate::storage::{OpenMode, Storage, StorageFile, write_all};
use crate::store::handles::{Handle, Handles};
use crate::store::in_use::{InUse, parts};
use crate::store::spans::Spans;

/// Files kept for reuse in any case.
const SPARES: usize = 2;

/// How many files are kept for reuse, beyond a few that always are; more are removed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keep {
    pub(crate) spares: u64,
    /// Only where there are at most so many files, with those of segments; those of the map are not among them.
    pub(crate) files: u64,
}

/// One life of a segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    handle: Handle,
    /// Where its records end, where that is before the end of its data: a recovery cut it here.
    pub(crate) cut: Option<Lsn>,
    /// Its file was written in an earlier life, so its blocks hold data already.
    pub(crate) recycled: bool,
    pub(crate) account: Account,
}

/// How much of a segment is in use. Raised before an address in it is published and lowered after it was unpublished, so it is
/// too high at times and never too low (V7 of the design).
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Bytes of records that were published, those that the log's lives still count left out.
    raised: PlainU64,
    /// Those of them that were deltas, the ones that lie on top of a page.
    deltas: PlainU64,
    /// Bytes of records that were unpublished.
    dead: PlainU64,
    /// Records are being written to it that are not counted yet. A segment outside of the log is born so.
    growing: PlainBool,
    /// Bytes in use that could not be moved when it was tried last.
    stuck: PlainU64,
}

impl Account {
    // Relaxed where not said otherwise: counters. Who looks at one for whether its segment is empty comes after all raises: below the redo point
    // by the log's own order, elsewhere on the thread that raises. A lowering that is not seen yet keeps the segment a little longer.
    pub(crate) fn raise(&self, more: InUse) {
        self.raised.fetch_add(more.bytes(), Ordering::Relaxed);
        self.deltas.fetch_add(more.deltas(), Ordering::Relaxed);
    }

    pub(crate) fn lower(&self, bytes: u64) {
        self.dead.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_stuck(&self, live: u64) {
        self.stuck.store(live, Ordering::Relaxed);
    }

    /// Whether as much is in use as could not be moved when it was tried last.
    pub(crate) fn is_stuck(&self, live: u64) -> bool {
        live > 0 && self.stuck.load(Ordering::Relaxed) == live
    }

    pub(crate) fn set_growing(&self, growing: bool) {
        self.growing.store(growing, Ordering::Release);
    }

    /// Whether records may still be written to it: never of the log, of which the tail says it.
    pub(crate) fn is_growing(&self) -> bool {
        self.growing.load(Ordering::Acquire)
    }

    /// Whether nothing in it is in use, nor will be again. Release and Acquire: what was raised before it stopped growing is seen.
    pub(crate) fn is_empty(&self, more: InUse) -> bool {
        let growing = self.growing.load(Ordering::Acquire) && !planted(Canary::GrowingSegmentEmpty);
        !growing && self.live(more) == 0
    }

    /// Bytes in use; `more` are raised and counted elsewhere.
    pub(crate) fn live(&self, more: InUse) -> u64 {
        let raised = self.raised.load(Ordering::Relaxed) + more.bytes();
        raised.saturating_sub(self.dead.load(Ordering::Relaxed))
    }

    /// Bytes of deltas in use, as many as there are if they die as fast as the rest.
    pub(crate) fn live_deltas(&self, more: InUse) -> u64 {
        let deltas = self.deltas.load(Ordering::Relaxed) + more.deltas();
        let raised = self.raised.load(Ordering::Relaxed) + more.bytes();
        match deltas {
            0 => 0,
            _ => (deltas as f64 / raised.max(deltas) as f64 * self.live(more) as f64) as u64,
        }
    }
}

impl Segment {
    /// A segment that was there before this process.
    pub(crate) fn found(header: SegmentHeader, file: Arc<dyn StorageFile>, handles: &Arc<Handles>) -> Segment {
        let handle = handles.opened(name(header.sequence), file);
        Segment { header, handle, cut: None, recycled: false, account: Account::default() }
    }

    /// A segment that a checkpoint knows. Its file is not looked at before it is needed.
    pub(crate) fn known(known: &Known, identity: Identity, segment_size: u64, handles: &Arc<Handles>) -> Segment {
        let header = SegmentHeader {
            purpose: identity.purpose,
            stream: known.stream,
            store: identity.store,
            segment_size,
            sequence: known.sequence,
            start: known.start,
            salt: known.salt,
            previous: None,
            stable: Lsn(0),
            first: Lsn(0),
        };
        let handle = handles.named(name(known.sequence));
        let mut segment = Segment { header, handle, cut: None, recycled: false, account: Account::default() };
        let end = Lsn(segment.data_end().0.saturating_sub(known.cut_off));
        segment.cut = (known.cut_off > 0).then_some(end);
        segment
    }

    /// Its file, opened if it is not.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn file(&self) -> Result<Arc<dyn StorageFile>> {
        self.handle.file().map_err(|error| Error::io("open", self.name(), error))
    }

    /// Damage, where its file has become shorter: its whole length was durable before it got its name (P1), so this is no torn
    /// tail, and the marks that would prove it may be among what is gone.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub(crate) fn check_length(&self) -> Result<()> {
        let len = self.file()?.len().map_err(|error| Error::io("len", self.name(), error))?;
        let Range { start, end } = self.header.start..Lsn(self.header.start.0 + self.header.segment_size);
        if len >= end.0 - start.0 {
            return Ok(());
        }
        Err(Error::Corrupt(Box::new(Corruption {
            page: None,
            segment: self.header.sequence.0,
            offset: len,
            lsns: Lsn(start.0 + len)..end,
            what: Damage::FileTooShort.what(),
        })))
    }

    /// The first LSN of its data.
    pub(crate) fn data_start(&self) -> Lsn {
        Lsn(self.header.start.0 + BLOCK)
    }

    /// The LSN behind the last byte that its data may have.
    pub(crate) fn data_end(&self) -> Lsn {
        Lsn(self.header.start.0 + self.header.segment_size - BLOCK)
    }

    /// The LSN behind its last record.
    pub(crate) fn records_end(&self) -> Lsn {
        self.cut.unwrap_or_else(|| self.data_end())
    }

    /// Where an LSN of this segment is in its file.
    pub(crate) fn offset(&self, lsn: Lsn) -> u64 {
        lsn.0.saturating_sub(self.header.start.0)
    }

    /// The place of an LSN of this segment in ever-written space.
    pub(crate) fn address(&self, lsn: Lsn) -> Address {
        Address(self.header.sequence.0 * self.header.segment_size + self.offset(lsn))
    }

    /// The file's name, for messages.
    pub(crate) fn name(&self) -> String {
        name(self.header.sequence)
    }

    /// As the segment before the next one, with records up to `end`.
    pub(crate) fn as_previous(&self, end: Lsn) -> Previous {
        Previous { sequence: self.header.sequence, salt: self.header.salt, end }
    }
}

/// Every segment of a store.
#[derive(Debug)]
pub(crate) struct Pool {
    handles: Arc<Handles>,
    identity: Identity,
    segment_size: u64,
    table: RwLock<Table>,
    births: Mutex<Births>,
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

    /// How many segments are not of the map.
    fn of_pages(&self) -> usize {
        let is_map = |segment: &&Arc<Segment>| segment.header.stream == Stream::Map;
        self.log.len() + self.others.len() - self.others.values().filter(is_map).count()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.log.iter().chain(self.others.values())
    }
}

/// What every segment of a store says of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) purpose: Purpose,
    pub(crate) store: u128,
}

#[derive(Debug)]
struct Births {
    next: Sequence,
    spares: Vec<String>,
    keep: Keep,
    /// Files of segments that nobody needs any more.
    unwanted: Vec<Sequence>,
}

/// What the birth of a segment needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    pub(crate) place: BirthPlace,
    pub(crate) stable: Lsn,
    /// Bytes of disk to set aside now.
    pub(crate) allocate: u64,
}

/// The stream of a new segment, and what of its header that stream decides.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BirthPlace {
    Log {
        start: Lsn,
        previous: Option<Previous>,
        first: Lsn,
    },
    /// At its address, in a stream that is not the log.
    Address(Stream),
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
        let births = Mutex::new(Births { next, spares: Vec::new(), keep: Keep::default(), unwanted: Vec::new() });
        let mut table = Table::default();
        segments.into_iter().for_each(|segment| table.enter(segment));
        Pool { handles, identity, segment_size, table: RwLock::new(table), births, spans: Spans::default() }
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

    /// The segments that `keep` wants as a checkpoint knows them, by sequence; and the first sequence that is not given out. What is
    /// born later has that or a higher one.
    pub(crate) fn directory(&self, keep: impl Fn(&Segment) -> bool) -> (Vec<Known>, Sequence) {
        // Under this lock nothing is being born.
        let births = self.births.lock();
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
        (known, births.next)
    }

    /// Makes a segment, durable by name and header, and enters it (P1, P2).
    ///
    /// # Errors
    /// `NoSpace` leaves nothing behind but a scratch file that the next open removes.
    pub(crate) fn birth(&self, birth: Birth) -> Result<Arc<Segment>> {
        // Held to the end: nothing is being born while a directory is listed.
        let mut births = self.births.lock();
        let (segment, file) = self.make(&mut births, birth)?;
        let scratch = scratch_name(segment.header.sequence);
        if let Err(error) = file.sync_data() {
            let _ = self.storage().remove(&scratch);
            return Err(Error::sync("sync", &scratch, error));
        }
        self.storage().rename(&scratch, &segment.name()).map_err(|error| Error::io("rename", &scratch, error))?;
        births.next = Sequence(segment.header.sequence.0 + 1);
        if !planted(Canary::SkippedDirectorySync) {
            self.sync_dir()?;
        }
        self.table_mut().enter(Arc::clone(&segment));
        Ok(segment)
    }

    /// Makes a segment outside of the log that is to be written before it is named: its headers are synced with what it holds. No
    /// directory is to list it meanwhile, since nothing names an address in it.
    ///
    /// # Errors
    /// As [`birth`](Self::birth).
    pub(crate) fn begin(&self, stream: Stream, stable: Lsn) -> Result<(Arc<Segment>, Arc<dyn StorageFile>)> {
        let mut births = self.births.lock();
        // No space is set aside: a full disk is met by a write, and costs this piece of work only.
        let (segment, file) =
            self.make(&mut births, Birth { place: BirthPlace::Address(stream), stable, allocate: 0 })?;
        births.next = Sequence(segment.header.sequence.0 + 1);
        Ok((segment, file))
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
            let scratch = scratch_name(segment.header.sequence);
            self.storage().rename(&scratch, &segment.name()).map_err(|error| Error::io("rename", &scratch, error))?;
        }
        if !planted(Canary::SkippedDirectorySync) {
            self.sync_dir()?;
        }
        let mut table = self.table_mut();
        begun.iter().for_each(|segment| table.enter(Arc::clone(segment)));
        Ok(())
    }

    /// Removes the file of a segment that was begun and will not be named. Best effort: what stays means nothing.
    pub(crate) fn abandon(&self, begun: &Segment) {
        for name in [scratch_name(begun.header.sequence), begun.name()] {
            let _ = self.storage().remove(&name);
        }
    }

    /// A segment as it is under its scratch name, its headers not synced yet.
    fn make(&self, births: &mut Births, birth: Birth) -> Result<(Arc<Segment>, Arc<dyn StorageFile>)> {
        let sequence = births.next;
        let (stream, start, previous, first) = match birth.place {
            BirthPlace::Log { start, previous, first } => (Stream::Log, start, previous, first),
            BirthPlace::Address(stream) => (stream, Lsn(sequence.0.saturating_mul(self.segment_size)), None, Lsn(0)),
        };
        let header = SegmentHeader {
            purpose: self.identity.purpose,
            stream,
            store: self.identity.store,
            segment_size: self.segment_size,
            sequence,
            start,
            salt: self.storage().entropy(),
            previous,
            stable: birth.stable,
            first,
        };
        // After 2^57 bytes, or behind a file whose name says so: nobody could read it.
        // The segments of the models are smaller than any on disk.
        if cfg!(not(loom)) && !header.is_sound() {
            return Err(Error::NoSpace { what: "segment numbers" });
        }
        let scratch = scratch_name(sequence);
        let recycled = !births.spares.is_empty();
        let file = self.blank(&mut births.spares, &scratch)?;
        let made = self.furnish(file.as_ref(), &header, birth.allocate, &scratch);
        if let Err(error) = made {
            // Best effort: what stays is a scratch file, which means nothing.
            let _ = self.storage().remove(&scratch);
            return Err(error);
        }
        let handle = self.handles.opened(name(sequence), Arc::clone(&file));
        let account = Account::default();
        // Before anyone finds it: it holds nothing yet, and is not empty.
        account.set_growing(stream != Stream::Log);
        Ok((Arc::new(Segment { header, handle, cut: None, recycled, account }), file))
    }

    /// A file under a scratch name: a recycled one if there is one, else new.
    fn blank(&self, spares: &mut Vec<String>, scratch: &str) -> Result<Arc<dyn StorageFile>> {
        if let Some(spare) = spares.pop() {
            if let Err(error) = self.storage().rename(&spare, scratch) {
                let failed = Error::io("rename", &spare, error);
                spares.push(spare);
                return Err(failed);
            }
            return self.handles.open(scratch, OpenMode::ReadWrite).map_err(|error| Error::io("open", scratch, error));
        }
        match self.handles.open(scratch, OpenMode::CreateNew) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                // Left by a birth that failed in this process.
                self.storage().remove(scratch).map_err(|error| Error::io("remove", scratch, error))?;
                self.handles.open(scratch, OpenMode::CreateNew)
            }
            opened => opened,
        }
        .map_err(|error| Error::io("create", scratch, error))
    }

    fn furnish(&self, file: &dyn StorageFile, header: &SegmentHeader, allocate: u64, scratch: &str) -> Result<()> {
        let block = header.encode();
        // Systems refuse to set nothing aside.
        if allocate > 0 {
            file.allocate(0, allocate).map_err(|error| Error::io("allocate", scratch, error))?;
        }
        file.set_len(self.segment_size).map_err(|error| Error::io("set_len", scratch, error))?;
        for offset in [0, self.segment_size - BLOCK] {
            if offset > 0 && planted(Canary::SecondHeaderMissing) {
                continue;
            }
            write_all(file, &block, offset).map_err(|error| Error::io("write", scratch, error))?;
        }
        Ok(())
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
        let mut gone = Vec::new();
        {
            let log = &mut self.table_mut().log;
            while log.len() > 1 && log.front().is_some_and(|segment| segment.data_end() <= keep) {
                gone.extend(log.pop_front());
            }
        }
        self.give_back(gone)
    }

    /// Takes the segments that nobody needs any more out of the table, and gives their files back.
    ///
    /// # Errors
    /// `Io`: what was not given back is a file that means nothing, for the next opening to remove.
    pub(crate) fn release(&self, unwanted: impl Fn(&Segment) -> bool) -> Result<u64> {
        let gone = {
            let mut table = self.table_mut();
            let gone: Vec<Arc<Segment>> = table.all().filter(|segment| unwanted(segment)).map(Arc::clone).collect();
            for segment in &gone {
                table.others.remove(&segment.header.sequence);
            }
            if gone.iter().any(|segment| segment.header.stream == Stream::Log) {
                table.log.retain(|segment| !gone.iter().any(|gone| Arc::ptr_eq(gone, segment)));
            }
            gone
        };
        self.give_back(gone)
    }

    /// Says how many files are kept from the next that are given back on.
    pub(crate) fn keep(&self, keep: Keep) {
        self.births.lock().keep = keep;
    }

    fn give_back(&self, gone: Vec<Arc<Segment>>) -> Result<u64> {
        let mut births = self.births.lock();
        let count = gone.len() as u64;
        births.unwanted.extend(gone.iter().map(|segment| segment.header.sequence));
        let Keep { spares, files } = births.keep;
        let used = self.table().of_pages() as u64;
        let most = SPARES.max(spares.min(files.saturating_sub(used)) as usize);
        if births.unwanted.is_empty() && births.spares.len() <= most {
            return Ok(0);
        }
        // One that fails keeps no other one, and is tried again with the next.
        let mut failed = None;
        for sequence in std::mem::take(&mut births.unwanted) {
            let (old, spare) = (name(sequence), scratch_name(sequence));
            let is_kept = births.spares.len() < most;
            let done = match is_kept {
                true => self.storage().rename(&old, &spare).map_err(|error| Error::io("rename", &old, error)),
                false => self.storage().remove(&old).map_err(|error| Error::io("remove", &old, error)),
            };
            match done {
                Ok(()) if is_kept => births.spares.push(spare),
                Ok(()) => {}
                Err(error) => {
                    births.unwanted.push(sequence);
                    failed.get_or_insert(error);
                }
            }
        }
        while births.spares.len() > most
            && let Some(spare) = births.spares.pop()
        {
            if let Err(error) = self.storage().remove(&spare) {
                failed.get_or_insert(Error::io("remove", &spare, error));
                births.spares.push(spare);
                break;
            }
        }
        if !planted(Canary::SegmentReusedEarly) {
            self.sync_dir()?;
        }
        failed.map_or(Ok(count), Err)
    }

    /// Bytes on disk: every segment's file, and the spares. No file is opened for it: one that was not open yet counts whole.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let spares = self.births.lock().spares.len() as u64;
        let occupied = |segment: &Arc<Segment>| segment.handle.occupied().unwrap_or(self.segment_size);
        let used: u64 = self.all().iter().map(occupied).sum();
        used + spares * self.segment_size
    }
}
