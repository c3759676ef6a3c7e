//! Reading one record by its LSN, from the files or, where it is not written yet, from the ring.

use std::sync::Arc;

use super::core::LogCore;
use super::scan::{Scanner, Step};
use crate::base::aligned::AlignedBuf;
use crate::base::damage::Damage;
use crate::base::error::{Corruption, Error, Result};
use crate::base::ids::Lsn;
use crate::format::BLOCK;
use crate::format::record::{Parsed, Shape, parse, wanted};
use crate::storage::read_full;
use crate::store::segment::Segment;

/// Read when nothing is known of a record's length, in bytes.
const GUESS: u64 = 512;

/// A record in a buffer of its own.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) shape: Shape,
    pub(crate) buf: AlignedBuf,
    pub(crate) body_at: usize,
    pub(crate) body_len: usize,
}

impl Loaded {
    pub(crate) fn body(&self) -> &[u8] {
        self.buf.as_slice().get(self.body_at..self.body_at + self.body_len).unwrap_or_default()
    }
}

/// What stands at an LSN.
#[derive(Debug)]
pub(crate) enum At {
    Record(Loaded),
    Padding,
    Trimmed { first: Lsn },
    Beyond { tail: Lsn },
}

impl LogCore {
    /// What stands at an LSN. `guess` is a length in bytes that probably suffices, 0 if unknown.
    ///
    /// # Errors
    /// `NotARecord` inside a record, `Corrupt`, `Io`.
    pub(crate) fn at(&self, lsn: Lsn, guess: u64) -> Result<At> {
        if !lsn.0.is_multiple_of(8) {
            return Err(Error::NotARecord { lsn });
        }
        if lsn < self.first() {
            return Ok(At::Trimmed { first: self.first() });
        }
        let found = self.find(lsn, guess);
        match (lsn < self.first(), found) {
            // Damaged, or the file is another's by now, or there is none any more.
            (true, Err(Error::Corrupt(_) | Error::Io { .. }) | Ok(At::Padding)) => {
                Ok(At::Trimmed { first: self.first() })
            }
            (_, found) => found,
        }
    }

    /// As [`at`](Self::at), below the first kept LSN too, where a kept record may have its pieces.
    fn find(&self, lsn: Lsn, guess: u64) -> Result<At> {
        // A slot's bound may be older than what was made stable since it was looked up: stable records are whole all the same.
        let prefix = self.prefix().max(self.stable());
        if lsn >= prefix {
            return Ok(At::Beyond { tail: prefix });
        }
        let Some(segment) = self.pool.at_lsn(lsn) else { return Ok(At::Padding) };
        if lsn < segment.data_start() || lsn >= segment.records_end() {
            return Ok(At::Padding);
        }
        let end = segment.records_end().min(prefix);
        let mut want = if guess == 0 { GUESS } else { guess };
        let mut buf = AlignedBuf::default();
        loop {
            want = want.min(end.0 - lsn.0);
            let from = buf.as_slice().len() as u64;
            buf.grow(want as usize);
            let rest = buf.as_mut_slice().get_mut(from as usize..).unwrap_or_default();
            self.bytes(&segment, Lsn(lsn.0 + from), rest)?;
            let more = wanted(buf.as_slice(), lsn);
            // A length that no record may have is not believed, nor read.
            let longest = self.geometry.inline_max().max(2 * BLOCK);
            if more > want && more <= (end.0 - lsn.0).min(longest) {
                want = more;
                continue;
            }
            break;
        }
        let found = match parse(buf.as_slice(), lsn, segment.header.salt, end.0 - lsn.0) {
            Parsed::Record { shape, body, body_at, .. } => Some((shape, body_at, body.len())),
            Parsed::PadSegment | Parsed::PadBlock { .. } => None,
            Parsed::Unknown { kind } => return Err(unknown_kind(kind)),
            Parsed::Short { .. } | Parsed::Hole => return Err(self.explain_hole(&segment, lsn, end)),
        };
        Ok(match found {
            Some((shape, body_at, body_len)) => At::Record(Loaded { shape, buf, body_at, body_len }),
            None => At::Padding,
        })
    }

    /// A record that is known to be there.
    pub(crate) fn load(&self, lsn: Lsn, guess: u64) -> Result<Loaded> {
        match self.find(lsn, guess)? {
            At::Record(loaded) => Ok(loaded),
            At::Padding | At::Beyond { .. } | At::Trimmed { .. } => {
                Err(self.corrupt_at(lsn, Lsn(lsn.0 + 8), Damage::Misplaced))
            }
        }
    }

    /// Copies bytes of the log out of a segment; all of them lie below the prefix.
    fn bytes(&self, segment: &Arc<Segment>, lsn: Lsn, buf: &mut [u8]) -> Result<()> {
        let end = Lsn(lsn.0 + buf.len() as u64);
        let mut in_file = buf.len();
        if end > self.stable() {
            // Under the lock nothing lands, so the ring cannot go round over what is not written (L2).
            let rounds = self.rounds.lock();
            in_file = rounds.written.0.saturating_sub(lsn.0).min(buf.len() as u64) as usize;
            let rest = buf.get_mut(in_file..).unwrap_or_default();
            let mut at = 0;
            // SAFETY: below the prefix, not yet written, and `written` stands still while the lock is held.
            let copied: std::result::Result<(), ()> = unsafe {
                self.ring.read(Lsn(lsn.0 + in_file as u64), rest.len() as u64, |piece| {
                    if let Some(target) = rest.get_mut(at..at + piece.len()) {
                        target.copy_from_slice(piece);
                    }
                    at += piece.len();
                    Ok(())
                })
            };
            debug_assert!(copied.is_ok());
            drop(rounds);
        }
        let target = buf.get_mut(..in_file).unwrap_or_default();
        read_full(segment.file()?.as_ref(), target, segment.offset(lsn))
            .map(drop)
            .map_err(|error| Error::io("read", segment.name(), error))
    }

    /// Tells an LSN in the middle of a record from damage, by walking there from the segment's start.
    fn explain_hole(&self, segment: &Arc<Segment>, lsn: Lsn, end: Lsn) -> Error {
        let mut scanner = Scanner::new(Arc::clone(segment), end.min(self.stable()));
        loop {
            let at = scanner.position();
            let walked = match scanner.step() {
                Ok(Step::Record { .. } | Step::Mark { .. }) => true,
                Ok(Step::End) => false,
                Ok(Step::Hole | Step::Unknown { .. }) => break,
                Err(error) => return error,
            };
            // Walked over it, or to the segment's end before it: no record starts there.
            if at < lsn && (!walked || scanner.position() > lsn) {
                return Error::NotARecord { lsn };
            }
            if at >= lsn {
                break;
            }
        }
        self.corrupt_at(lsn, end, Damage::Checksum)
    }

    /// Damage at an LSN.
    pub(crate) fn corrupt_at(&self, lsn: Lsn, end: Lsn, what: Damage) -> Error {
        let (segment, offset) = match self.pool.at_lsn(lsn) {
            Some(segment) => (segment.header.sequence.0, segment.offset(lsn)),
            None => (u64::MAX, 0),
        };
        Error::Corrupt(Box::new(Corruption { page: None, segment, offset, lsns: lsn..end, what: what.what() }))
    }
}

pub(crate) fn unknown_kind(kind: u8) -> Error {
    Error::Incompatible {
        found: format!("a record of kind {kind}"),
        expected: format!("the kinds of format {}: was it written by a newer version?", crate::format::segment::FORMAT),
    }
}
