//! What is checked after each operation and each recovery, and which failures are excused.

use pagecache::{Error, Log, LogRead, Lsn};

use super::{Answer, BLOCK, LogOp, LogWorld, SEGMENT};
use crate::driver::{Checked, Violation, claim};
use crate::log_model::{Found, Records};

/// Counted calls of an open beyond those for files that it removes and blocks that it writes again.
const OPEN_CALLS: u64 = 40;

/// Counted calls of an operation beyond those for each segment that it fills.
const OP_CALLS: u64 = 24;

/// Files beyond those that hold what is kept: the one in use, one ahead, two to be reused, one of a birth.
const FILES: u64 = 6;

impl LogWorld {
    /// What holds after every operation, and what the log now says is durable.
    pub(super) fn check_after(&mut self, log: &Log, op: LogOp, since: usize, calls: u64) -> Checked {
        let (stable, first, tail) = (log.stable_lsn(), log.first_lsn(), log.tail_lsn());
        self.trust.look(&self.disk, self.model.stable());
        claim(stable >= self.model.stable(), || format!("stable at {stable} after {}", self.model.stable()))?;
        claim(first <= stable && stable <= tail, || format!("first {first}, stable {stable}, tail {tail}"))?;
        self.model.acknowledged(stable);
        if first > self.model.first() {
            self.model.begun_trim(first);
            self.model.trimmed(first);
        }
        if self.disk.crashed() {
            return Ok(());
        }
        let struck = self.disk.struck().len() > since;
        let calls = self.disk.io_count() - calls;
        // An extent of 512 KiB fills ten segments.
        claim(struck || calls < OP_CALLS + 12 * 10, || format!("{op:?} made {calls} calls of the disk"))?;
        self.check_files(tail)
    }

    /// The files are no longer than what is kept, and a few.
    fn check_files(&self, tail: Lsn) -> Checked {
        let kept = self.model.entries().first().map_or(self.released, |entry| entry.lsn.min(self.released));
        // The first record kept may have its pieces before it.
        let kept = kept.0.saturating_sub(16 * SEGMENT);
        let segments = (tail.0 / SEGMENT + 1) - kept / SEGMENT + FILES;
        let (len, files) = (self.disk.total_len(), self.disk.file_names().len() as u64);
        // A write that went astray may have made a file longer.
        let fits = len <= segments * SEGMENT && files <= segments;
        claim(fits || self.trust.is_betrayed(), || {
            format!("{files} files of {len} bytes for {segments} segments, kept from {}", self.released)
        })
    }

    /// Compares everything that a recovery found. `false` where the disk had broken its word and a record is rightly said to be
    /// damaged.
    pub(super) fn check_opened(&mut self, log: &Log) -> Result<bool, Violation> {
        let found: Answer<Records> = log.iter_from(Lsn(0)).collect();
        let found = match found {
            Ok(found) => found,
            Err(Error::Corrupt(_)) if self.trust.is_betrayed() => return Ok(false),
            Err(error) => return Err(Violation::new(format!("the records cannot be read: {error}"))),
        };
        let (first, stable, tail) = (log.first_lsn(), log.stable_lsn(), log.tail_lsn());
        claim(stable == tail, || format!("a log opens stable up to {stable} with its tail at {tail}"))?;
        claim(first <= stable, || format!("a log opens stable up to {stable} and begins at {first}"))?;
        claim(tail >= self.model.stable(), || {
            format!("a log opens at {tail} after {} was stable", self.model.stable())
        })?;
        let before = self.model.clone();
        self.model.recovered(first, tail, &found)?;
        for lost in before.entries().iter().filter(|entry| entry.lsn >= first).skip(found.len()) {
            let gone = found.binary_search_by_key(&lost.lsn, |(lsn, _)| *lsn).is_err();
            let read = log.read(lost.lsn);
            claim(!(gone && matches!(read, Ok(LogRead::Record(_)))), || format!("the lost {} is read", lost.lsn))?;
        }
        self.check_reads(log, 4).map(|()| true)
    }

    /// An open that no fault disturbs makes a bounded number of calls.
    pub(super) fn check_calls_of_open(&self, log: &Log, calls: u64) -> Checked {
        // What is read again and written again goes in pieces of 256 KiB, and a removal is a call.
        let bound = OPEN_CALLS + 4 * (self.disk.file_names().len() as u64 + log.tail_lsn().0 / SEGMENT);
        let calls = self.disk.io_count() - calls;
        claim(calls <= bound, || format!("an open made {calls} calls of the disk"))
    }

    /// Compares everything that the log shows, and reads every LSN.
    pub(super) fn check_all(&mut self, log: &Log) -> Checked {
        if self.disk.crashed() {
            return Ok(());
        }
        let since = self.disk.struck().len();
        let walked: Answer<Vec<_>> = log.iter_from(Lsn(0)).collect();
        if let Some(found) = self.excused(walked, since)? {
            self.model.check_shown(log.first_lsn(), log.stable_lsn(), &found)?;
            self.check_iteration_from_the_middle(log, &found)?;
        }
        self.check_reads(log, usize::MAX)
    }

    fn check_iteration_from_the_middle(&mut self, log: &Log, found: &Found) -> Checked {
        let middle = found.len() / 2;
        let Some((from, _)) = found.get(middle) else { return Ok(()) };
        let since = self.disk.struck().len();
        let walked: Answer<Vec<_>> = log.iter_from(*from).collect();
        match self.excused(walked, since)? {
            Some(rest) => claim(rest == found[middle..], || format!("the records from {from} are others")),
            None => Ok(()),
        }
    }

    /// Reads LSNs of every kind, at most about `limit` of them.
    fn check_reads(&mut self, log: &Log, limit: usize) -> Checked {
        let entries = self.model.entries();
        let step = (entries.len() / limit.max(1)).max(1);
        let picked: Vec<_> = entries.iter().rev().step_by(step).cloned().collect();
        for entry in picked {
            let since = self.disk.struck().len();
            let Some(read) = self.excused(log.read(entry.lsn), since)? else { continue };
            let right = match (&entry.body, &read) {
                (Some(body), LogRead::Record(bytes)) => **bytes == **body,
                (None, LogRead::Aborted) => true,
                (_, LogRead::Trimmed { first }) => entry.lsn < *first && *first == log.first_lsn(),
                _ => false,
            };
            claim(right, || format!("{} is read as {}", entry.lsn, outline(&read)))?;
        }
        let (first, tail) = (log.first_lsn(), log.tail_lsn());
        let beyond = log.read(tail);
        claim(matches!(beyond, Ok(LogRead::Beyond { .. })), || format!("the tail {tail} is read as {beyond:?}"))?;
        if first.0 >= BLOCK {
            let before = log.read(Lsn(first.0 - 8));
            claim(matches!(before, Ok(LogRead::Trimmed { .. })), || format!("before {first} is read: {before:?}"))?;
        }
        Ok(())
    }
}

fn outline(read: &LogRead) -> String {
    match read {
        LogRead::Record(bytes) => format!("a record of {} bytes", bytes.len()),
        other => format!("{other:?}"),
    }
}
