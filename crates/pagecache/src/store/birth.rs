//! Births: a number, a file under a scratch name, its headers, its name, and only then the table.

use std::sync::Arc;

use super::pool::Pool;
use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::{Lsn, Sequence};
use crate::format::segment::{Previous, SegmentHeader, Stream, name, scratch_name};
use crate::storage::StorageFile;
use crate::store::births::{Drawn, Order};
use crate::store::files;
use crate::store::limit::{Claim, FULL};
use crate::store::segment::Segment;

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
        let is_beyond =
            order.stream == Stream::Log && order.claim != Claim::User && self.left_on_disk(Claim::User) == Some(0);
        let Drawn { sequence, spare, pins_ever } = self.births.lock().draw(order, self.table().len(), is_beyond)?;
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
}
