//! One life of a segment: its file, where its records are, what is in use of it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::aligned::AlignedBuf;
use crate::base::damage::Damage;
use crate::base::error::{Corruption, Error, Result};
use crate::base::ids::{Address, Lsn};
use crate::format::BLOCK;
use crate::format::root::Known;
use crate::format::segment::{Previous, Purpose, SegmentHeader, name};
use crate::storage::{StorageFile, read_full};
use crate::store::account::Account;
use crate::store::handles::{Handle, Handles};

/// What every segment of a store says of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) purpose: Purpose,
    pub(crate) store: u128,
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
    /// A backup may have made a link to its file: what is in it must not be written over in a later life. Relaxed: it is changed under the lock of births;
    /// who gives the file back asks under that too, and who appends to it has what was there before a pin either way.
    linked: AtomicBool,
}

/// Whether there may be other links to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linked {
    Maybe,
    No,
}

impl Segment {
    pub(super) fn new(header: SegmentHeader, handle: Handle, recycled: bool) -> Segment {
        Segment { header, handle, cut: None, recycled, account: Account::default(), linked: AtomicBool::new(false) }
    }

    /// A segment that was there before this process. Whether there are links to its file nobody knows.
    pub(crate) fn found(header: SegmentHeader, file: Arc<dyn StorageFile>, handles: &Arc<Handles>) -> Segment {
        let handle = handles.opened(name(header.sequence), file);
        let segment = Segment::new(header, handle, false);
        if header.purpose == Purpose::Pages {
            segment.link();
        }
        segment
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
        let mut segment = Segment::new(header, handle, false);
        segment.link();
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

    /// Whether its header can be read, whatever it says.
    pub(crate) fn is_readable(&self) -> bool {
        let mut block = AlignedBuf::zeroed(BLOCK as usize);
        self.file().is_ok_and(|file| read_full(file.as_ref(), block.as_mut_slice(), 0).is_ok())
    }

    /// Bytes of disk that its file occupies, without opening it; none where it was never open.
    pub(super) fn occupied(&self) -> Option<u64> {
        self.handle.occupied()
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

    /// There may be other links to its file from now on.
    pub(super) fn link(&self) {
        self.linked.store(true, Ordering::Relaxed);
    }

    pub(super) fn linked(&self) -> Linked {
        if self.linked.load(Ordering::Relaxed) { Linked::Maybe } else { Linked::No }
    }
}
