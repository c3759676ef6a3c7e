//! The files of segments: made under a scratch name, kept for another life, removed.

use std::sync::Arc;

use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::{Lsn, Sequence};
use crate::format::BLOCK;
use crate::format::segment::{Previous, SegmentHeader, Stream, name, scratch_name};
use crate::storage::{OpenMode, Storage, StorageFile, write_all};
use crate::store::handles::Handles;
use crate::store::limit::{CAPPED, Claim, Limit};
use crate::store::segment::{Identity, Linked, Segment};

/// Files kept for reuse in any case.
const SPARES: u64 = 2;

/// How many files are kept for reuse, beyond a few that always are; more are removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keep {
    pub(crate) spares: u64,
    /// Only where there are at most so many files, with those of segments.
    pub(crate) files: u64,
}

/// A segment to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) stream: Stream,
    /// Of the log only: where it starts and what is before it. Any other starts at its address.
    pub(super) start: Option<Lsn>,
    pub(super) previous: Option<Previous>,
    pub(super) first: Lsn,
    pub(super) stable: Lsn,
    pub(super) claim: Claim,
    /// Bytes of disk to set aside now.
    pub(super) allocate: u64,
}

/// What there is of files, with those that are in the pool's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stock {
    /// Of segments, those that could not be removed yet among them.
    pub(crate) segments: u64,
    /// Kept for reuse.
    pub(crate) spares: u64,
}

/// What the lock of births guards.
#[derive(Debug)]
pub(super) struct Births {
    handles: Arc<Handles>,
    identity: Identity,
    segment_size: u64,
    pub(super) next: Sequence,
    spares: Vec<String>,
    keep: Keep,
    /// Segments that are being written and have no name yet.
    begun: Vec<Arc<Segment>>,
    /// Files of segments that nobody needs any more, and whether there may be other links to them.
    unwanted: Vec<(Sequence, Linked)>,
    /// Who wants all files to stay.
    pins: u64,
    limit: Limit,
}

impl Births {
    pub(super) fn new(handles: Arc<Handles>, identity: Identity, segment_size: u64, next: Sequence) -> Births {
        Births {
            handles,
            identity,
            segment_size,
            next,
            spares: Vec::new(),
            keep: Keep::default(),
            begun: Vec::new(),
            unwanted: Vec::new(),
            pins: 0,
            limit: Limit::NONE,
        }
    }

    fn storage(&self) -> &dyn Storage {
        self.handles.storage()
    }

    /// What there is of files, where so many segments are in the pool's table.
    pub(super) fn stock(&self, named: usize, unwanted: Unwanted) -> Stock {
        let stays = unwanted == Unwanted::Counts || self.pins == 0;
        let unwanted = if stays { self.unwanted.len() } else { 0 };
        Stock { segments: (named + self.begun.len() + unwanted) as u64, spares: self.spares.len() as u64 }
    }

    /// Caps the bytes on disk from now on.
    pub(super) fn cap(&mut self, max_disk_bytes: u64, named: usize) {
        let Stock { segments, spares } = self.stock(named, Unwanted::Counts);
        self.limit = Limit::new(max_disk_bytes, self.segment_size, segments + spares);
    }

    /// Segments that may still be made for this; none where there is no cap.
    pub(super) fn left(&self, claim: Claim, named: usize) -> Option<u64> {
        self.limit.left(self.stock(named, Unwanted::Counts).segments, claim)
    }

    /// Makes a segment under its scratch name, with its headers written and not synced.
    ///
    /// # Errors
    /// `NoSpace` and `Io` leave nothing behind but a scratch file that the next open removes.
    pub(super) fn make(&mut self, order: &Order, named: usize) -> Result<(Arc<Segment>, Arc<dyn StorageFile>)> {
        let sequence = self.next;
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
        // Files kept for reuse are used first, and are there already.
        if !self.limit.allows(self.stock(named, Unwanted::Counts).segments + 1, order.claim) {
            return Err(Error::NoSpace { what: CAPPED });
        }
        let scratch = scratch_name(sequence);
        let recycled = !self.spares.is_empty();
        let file = self.blank(&scratch)?;
        if let Err(error) = self.furnish(file.as_ref(), &header, order.allocate, &scratch) {
            // Best effort: what stays is a scratch file, which means nothing.
            let _ = self.storage().remove(&scratch);
            return Err(error);
        }
        let handle = self.handles.opened(name(sequence), Arc::clone(&file));
        let segment = Arc::new(Segment::new(header, handle, recycled));
        // Before anyone finds it: it holds nothing yet, and is not empty.
        segment.account.set_growing(order.stream != Stream::Log);
        if self.pins > 0 {
            segment.link();
        }
        Ok((segment, file))
    }

    /// As [`make`](Self::make), to be written before it is named.
    pub(super) fn begin(&mut self, order: &Order, named: usize) -> Result<(Arc<Segment>, Arc<dyn StorageFile>)> {
        let (segment, file) = self.make(order, named)?;
        self.next = Sequence(self.next.0 + 1);
        self.begun.push(Arc::clone(&segment));
        Ok((segment, file))
    }

    /// Begun segments have a name now, or never will.
    pub(super) fn ended(&mut self, begun: &[Arc<Segment>]) {
        self.begun.retain(|one| !begun.iter().any(|ended| Arc::ptr_eq(one, ended)));
    }

    /// A file under a scratch name: a recycled one if there is one, else new.
    fn blank(&mut self, scratch: &str) -> Result<Arc<dyn StorageFile>> {
        if let Some(spare) = self.spares.pop() {
            if let Err(error) = self.storage().rename(&spare, scratch) {
                let failed = Error::io("rename", &spare, error);
                self.spares.push(spare);
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

    /// Says how many files are kept from the next that are given back on.
    pub(super) fn keep(&mut self, keep: Keep) {
        self.keep = keep;
    }

    /// Takes the files of segments that nobody needs any more: some are kept for reuse, the others removed, once nobody wants them to stay.
    /// The directory is to be synced afterwards where it says so.
    ///
    /// # Errors
    /// `Io` of the first that failed: what was not given back is tried again with the next.
    pub(super) fn give_back(&mut self, gone: &[Arc<Segment>], named: usize) -> (Changed, Result<()>) {
        self.unwanted.extend(gone.iter().map(|segment| (segment.header.sequence, segment.linked())));
        let most = self.most(named);
        let surplus = self.spares.len() as u64 > most;
        if self.pins > 0 || self.unwanted.is_empty() && !surplus {
            return (Changed::No, Ok(()));
        }
        // One that fails keeps no other one.
        let mut failed = None;
        for (sequence, linked) in std::mem::take(&mut self.unwanted) {
            let (old, spare) = (name(sequence), scratch_name(sequence));
            let is_kept = linked == Linked::No && (self.spares.len() as u64) < most;
            let done = match is_kept {
                true => self.storage().rename(&old, &spare).map_err(|error| Error::io("rename", &old, error)),
                false => self.storage().remove(&old).map_err(|error| Error::io("remove", &old, error)),
            };
            match done {
                Ok(()) if is_kept => self.spares.push(spare),
                Ok(()) => {}
                Err(error) => {
                    self.unwanted.push((sequence, linked));
                    failed.get_or_insert(error);
                }
            }
        }
        while self.spares.len() as u64 > most
            && let Some(spare) = self.spares.pop()
        {
            if let Err(error) = self.storage().remove(&spare) {
                failed.get_or_insert(Error::io("remove", &spare, error));
                self.spares.push(spare);
                break;
            }
        }
        (Changed::Yes, failed.map_or(Ok(()), Err))
    }

    /// Files kept for reuse at most.
    fn most(&self, named: usize) -> u64 {
        let used = (named + self.begun.len()) as u64;
        let capped = self.limit.left(used, Claim::User).unwrap_or(u64::MAX);
        SPARES.max(self.keep.spares.min(self.keep.files.saturating_sub(used)).min(capped))
    }

    /// Nothing that is begun or made from now on is ever used for another segment, nor is anything removed.
    pub(super) fn pin(&mut self) {
        self.pins += 1;
        self.begun.iter().for_each(|segment| segment.link());
    }

    pub(super) fn unpin(&mut self) {
        self.pins -= 1;
    }
}

/// Whether the directory has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    Yes,
    No,
}

/// Whether files that only stay because somebody wants them to are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwanted {
    Counts,
    NotIfPinned,
}
