//! The pool of segment files: born whole, found by LSN or by address, given back for reuse.
//!
//! The segments of all streams share one space of addresses and one row of sequences. Those of the log follow each other in LSN
//! order; where the others are is said by whoever names an address in them.
//!
//! - P1. A file bears a segment's name only once both copies of its header are durable: it is made under a scratch name,
//!   synced, then renamed. So a named segment without any valid header is damage, never a birth cut short.
//! - P2. A segment enters the table after its directory entry is durable; no LSN in it exists before.
//! - P3. Sequences only rise, across restarts too: no life of a segment shares its number with another.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::{Address, Lsn, Sequence};
use crate::base::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::format::BLOCK;
use crate::format::parts::Parts;
use crate::format::piece::Piece;
use crate::format::root::Known;
use crate::format::segment::{Previous, SegmentHeader, Stream, name, scratch_name};
use crate::storage::{OpenMode, Storage, StorageFile, write_all};
use crate::store::account::Account;
use crate::store::handles::Handles;
use crate::store::in_use::{InUse, parts};
use crate::store::limit::{Claim, Limit};
use crate::store::segment::{Identity, Linked, Segment};
use crate::store::spans::Spans;

/// What could not be had where the cap on disk is reached.
pub(crate) const CAPPED: &str = "max_disk_bytes";

/// Files kept for reuse; more are removed.
const SPARES: usize = 2;

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

    fn len(&self) -> usize {
        self.log.len() + self.others.len()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.log.iter().chain(self.others.values())
    }
}

#[derive(Debug)]
struct Births {
    next: Sequence,
    spares: Vec<String>,
    /// Files of segments that nobody needs any more, and whether there may be other links to them.
    unwanted: Vec<(Sequence, Linked)>,
    /// Who wants all files to stay.
    pins: u64,
    limit: Limit,
}

/// What the birth of a segment needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    pub(crate) place: BirthPlace,
    pub(crate) claim: Claim,
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
        let births = Mutex::new(Births { next, spares: Vec::new(), unwanted: Vec::new(), pins: 0, limit: Limit::NONE });
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

    /// Bytes of memory of what is known of segments, about: each has a name, a place in a table, and its counts besides.
    pub(crate) fn bytes(&self) -> u64 {
        self.table().len() as u64 * (size_of::<Segment>() + 160) as u64
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

    /// Files of segments, those kept for reuse included.
    fn files(&self, births: &Births) -> u64 {
        (self.table().len() + births.spares.len() + births.unwanted.len()) as u64
    }

    /// Caps the bytes on disk from now on.
    pub(crate) fn cap(&self, max_disk_bytes: u64) {
        let mut births = self.births.lock();
        births.limit = Limit::new(max_disk_bytes, self.segment_size, self.files(&births));
    }

    /// Segments that may still be made for this; none where there is no cap.
    pub(crate) fn left(&self, claim: Claim) -> Option<u64> {
        let births = self.births.lock();
        let spares = births.spares.len() as u64;
        births.limit.left(self.files(&births) - spares, claim)
    }

    /// Makes a segment, durable by name and header, and enters it (P1, P2).
    ///
    /// # Errors
    /// `NoSpace` leaves nothing behind but a scratch file that the next open removes.
    pub(crate) fn birth(&self, birth: Birth) -> Result<Arc<Segment>> {
        let mut births = self.births.lock();
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
        // After 2^53 bytes, or behind a file whose name says so: nobody could read it.
        // The segments of the models are smaller than any on disk.
        if cfg!(not(loom)) && !header.is_sound() {
            return Err(Error::NoSpace { what: "segment numbers" });
        }
        let scratch = scratch_name(sequence);
        let recycled = !births.spares.is_empty();
        if !births.limit.allows(self.files(&births) + u64::from(!recycled), birth.claim) {
            return Err(Error::NoSpace { what: CAPPED });
        }
        let file = self.blank(&mut births.spares, &scratch)?;
        let made = self.furnish(file.as_ref(), &header, birth.allocate, &scratch);
        if let Err(error) = made {
            // Best effort: what stays is a scratch file, which means nothing.
            let _ = self.storage().remove(&scratch);
            return Err(error);
        }
        let final_name = name(sequence);
        self.storage().rename(&scratch, &final_name).map_err(|error| Error::io("rename", &scratch, error))?;
        births.next = Sequence(sequence.0 + 1);
        if !planted(Canary::SkippedDirectorySync) {
            self.sync_dir()?;
        }
        let segment = Arc::new(Segment::new(header, self.handles.opened(final_name, file), recycled));
        // Before anyone finds it: it holds nothing yet, and is not empty.
        segment.account.set_growing(stream != Stream::Log);
        if births.pins > 0 {
            segment.link();
        }
        self.table_mut().enter(Arc::clone(&segment));
        Ok(segment)
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
        file.sync_data().map_err(|error| Error::sync("sync", scratch, error))
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

    fn give_back(&self, gone: Vec<Arc<Segment>>) -> Result<u64> {
        let mut births = self.births.lock();
        let count = gone.len() as u64;
        births.unwanted.extend(gone.iter().map(|segment| (segment.header.sequence, segment.linked())));
        if births.unwanted.is_empty() || births.pins > 0 {
            return Ok(count);
        }
        // One that fails keeps no other one, and is tried again with the next.
        let mut failed = None;
        for (sequence, linked) in std::mem::take(&mut births.unwanted) {
            let (old, spare) = (name(sequence), scratch_name(sequence));
            let is_spare = linked == Linked::No && births.spares.len() < SPARES;
            let done = match is_spare {
                true => self.storage().rename(&old, &spare).map_err(|error| Error::io("rename", &old, error)),
                false => self.storage().remove(&old).map_err(|error| Error::io("remove", &old, error)),
            };
            match done {
                Ok(()) if is_spare => births.spares.push(spare),
                Ok(()) => {}
                Err(error) => {
                    births.unwanted.push((sequence, linked));
                    failed.get_or_insert(error);
                }
            }
        }
        if !planted(Canary::SegmentReusedEarly) {
            self.sync_dir()?;
        }
        failed.map_or(Ok(count), Err)
    }

    /// Keeps all files of segments until [`unpin`](Self::unpin): those that are given back meanwhile are removed then, and none that is there
    /// now, or made meanwhile, is ever used for another segment.
    pub(crate) fn pin(&self) {
        let mut births = self.births.lock();
        births.pins += 1;
        self.table().all().for_each(|segment| segment.link());
    }

    /// # Errors
    /// As [`release`](Self::release).
    pub(crate) fn unpin(&self) -> Result<u64> {
        self.births.lock().pins -= 1;
        self.give_back(Vec::new())
    }

    /// Bytes on disk: every segment's file, and the spares. No file is opened for it: one that was not open yet counts whole.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let spares = self.births.lock().spares.len() as u64;
        let occupied = |segment: &Arc<Segment>| segment.occupied().unwrap_or(self.segment_size);
        let used: u64 = self.all().iter().map(occupied).sum();
        used + spares * self.segment_size
    }
}
