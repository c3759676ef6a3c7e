//! The log on its own: a durable, ordered sequence of records, for queues, replication and write-ahead logging.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::damage::Damage;
use crate::base::error::{Error, Result};
use crate::base::ids::{Lsn, Sequence};
use crate::config::Config;
use crate::engine::Engine;
use crate::format::record::{ExtentRef, Frame, Head, Kind, Shape};
use crate::format::segment::Purpose;
use crate::log::append::Ticket;
use crate::log::core::Patience;
use crate::log::extent::Extent;
use crate::log::iter::Walk;
use crate::log::read::At;
use crate::log::tail::Urgency;
use crate::recovery::rebuild::{Collect, Rebuild, Record};

/// An append-only log of byte records.
///
/// Appending is lock-free: one atomic step draws an [`Lsn`] and a place in a ring buffer. Records become durable in groups:
/// whoever waits in [`make_stable`](Log::make_stable) leads a round of writes and one sync, and all who wait meanwhile share the
/// next one. After a crash the log is some prefix of its order of LSNs, and that prefix holds everything that was acknowledged.
///
/// Threads share a log by reference, or in an `Arc`: all that is done with it takes `&self`. Only [`close`](Log::close) takes it by value, so the last
/// one who holds it closes, with no [`Reservation`] left. Iterators and tails outlive it.
///
/// ```
/// # fn main() -> Result<(), pagecache::Error> {
/// let log = pagecache::Log::start(pagecache::ConfigBuilder::new().temporary(true).build())?;
/// let lsn = log.write(b"hello")?;
/// log.make_stable(lsn)?;
/// assert_eq!(log.read(lsn)?, pagecache::LogRead::Record(b"hello".to_vec()));
/// log.close()
/// # }
/// ```
#[derive(Debug)]
pub struct Log {
    engine: Engine,
}

/// What stands at an LSN of a [`Log`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogRead {
    /// A record's bytes.
    Record(Vec<u8>),
    /// A reservation that was given up.
    Aborted,
    /// Bytes of the log's own between records.
    Padding,
    /// It was trimmed.
    Trimmed {
        /// The first LSN that is kept.
        first: Lsn,
    },
    /// Nothing is complete there yet.
    Beyond {
        /// Everything below is complete.
        tail: Lsn,
    },
}

/// A place in the log that is not part of it yet. Dropping it gives it up.
///
/// A reservation stays on its thread and holds back the stable LSN: finish it soon. That thread is refused where it would wait for
/// it, which holds only as long as no other can have it:
///
/// ```compile_fail,E0277
/// fn goes_to_another_thread<T: Send>() {}
/// goes_to_another_thread::<pagecache::Reservation<'_>>();
/// ```
#[derive(Debug)]
#[must_use = "dropping a reservation aborts it"]
pub struct Reservation<'a> {
    ticket: Ticket<'a>,
    extent: Option<Extent<'a>>,
}

impl Reservation<'_> {
    /// The LSN that the record will have.
    pub fn lsn(&self) -> Lsn {
        self.ticket.lsn()
    }

    /// Makes the record part of the log; durable once the log is stable past it.
    pub fn complete(self) -> Lsn {
        self.ticket.complete()
    }

    /// Gives the record up. Reading its LSN answers [`LogRead::Aborted`].
    pub fn abort(self) {
        drop(self.extent);
        self.ticket.abort();
    }
}

/// Which records have pieces elsewhere, found again at start.
#[derive(Debug, Default)]
struct Found {
    extents: Vec<(Lsn, ExtentRef)>,
}

impl Collect for Found {
    fn record(&mut self, record: Record<'_>) -> Result<()> {
        if record.shape.kind == Kind::Raw && record.shape.extent {
            self.extents.extend(ExtentRef::decode(record.body).map(|extent| (record.lsn, extent)));
        }
        Ok(())
    }
}

impl Rebuild for Found {
    type Part = Found;

    fn gave_back(&self, _: Sequence) -> bool {
        // A bare log has no checkpoint that would miss it.
        false
    }

    fn highest_named(&self) -> Option<Sequence> {
        None
    }

    fn moved_to(&self, _: Sequence) -> bool {
        false
    }

    fn check_moved(&self, _: impl Fn(Sequence) -> bool) -> Result<()> {
        Ok(())
    }

    fn join(&mut self, part: Found) -> Result<()> {
        self.extents.extend(part.extents);
        Ok(())
    }
}

impl Log {
    /// Opens or creates a log.
    ///
    /// # Errors
    /// `Config` names an option to change; `Locked`, `NotFound`, `Exists` and `Incompatible` say what is at the path instead;
    /// `Corrupt` where acknowledged records are damaged; `Io`, `NoSpace`; `Thread` where the system gives no thread for the background.
    pub fn start(config: Config) -> Result<Log> {
        let mut found = Found::default();
        let engine = Engine::start(&config, Purpose::Log, &mut found)?;
        for (lsn, extent) in found.extents {
            engine.log.note_extent(lsn, &extent);
        }
        Ok(Log { engine })
    }

    /// Appends a record of 0 to `max_record` bytes. It may wait before it has an LSN: for room in the ring, which writes and open reservations give, and for
    /// a segment that is being made.
    ///
    /// # Errors
    /// `TooLarge`; `NoSpace` and `Io` before anything happened; `Poisoned`, `ReadOnly`; `WouldDeadlock` where this thread holds a
    /// reservation that fills the ring.
    pub fn write(&self, record: &[u8]) -> Result<Lsn> {
        let log = &self.engine.log;
        match log.is_inline(record) {
            true => log.append(&Frame::bare(Kind::Raw, record), record, Urgency::Normal),
            false => self.draw(record).map(Reservation::complete),
        }
    }

    /// Draws an LSN and copies the record in, without making it part of the log yet. It waits as [`write`](Log::write) does.
    ///
    /// # Errors
    /// As [`write`](Log::write).
    pub fn reserve(&self, record: &[u8]) -> Result<Reservation<'_>> {
        let reservation = self.draw(record)?;
        reservation.ticket.hold(self.engine.clock());
        Ok(reservation)
    }

    fn draw(&self, record: &[u8]) -> Result<Reservation<'_>> {
        let log = &self.engine.log;
        let max = log.max_record();
        if record.len() as u64 > max {
            return Err(Error::TooLarge { len: record.len() as u64, max });
        }
        if log.is_inline(record) {
            let ticket = log.draw(&Frame::bare(Kind::Raw, record), record, Urgency::Normal)?;
            return Ok(Reservation { ticket, extent: None });
        }
        let extent = log.write_extent(record)?;
        let mut head = Head::new();
        extent.reference.push_to(&mut head);
        let shape = Shape { extent: true, ..Shape::plain(Kind::Raw) };
        let ticket = log.draw(&Frame::new(shape, &mut head, &[]), &[], Urgency::Normal)?;
        log.note_extent(ticket.lsn(), &extent.reference);
        Ok(Reservation { ticket, extent: Some(extent) })
    }

    /// What stands at an LSN, durable or not.
    ///
    /// # Errors
    /// `NotARecord` for an LSN inside a record; `Corrupt` where its bytes are damaged; `Incompatible` where a newer version has written it; `Io`.
    pub fn read(&self, lsn: Lsn) -> Result<LogRead> {
        let log = &self.engine.log;
        let loaded = match log.at(lsn, 0)? {
            At::Record(loaded) => loaded,
            At::Padding => return Ok(LogRead::Padding),
            At::Trimmed { first } => return Ok(LogRead::Trimmed { first }),
            At::Beyond { tail } => return Ok(LogRead::Beyond { tail }),
        };
        match (loaded.shape.kind, loaded.shape.extent) {
            (Kind::Raw, false) => Ok(LogRead::Record(loaded.body().to_vec())),
            (Kind::Raw, true) => match ExtentRef::decode(loaded.body()) {
                Some(extent) => match log.read_extent(lsn, &extent) {
                    Ok(whole) => Ok(LogRead::Record(whole.as_slice().to_vec())),
                    // Trimmed while it was read.
                    Err(_) if lsn < log.first() => Ok(LogRead::Trimmed { first: log.first() }),
                    Err(error) => Err(error),
                },
                None => Err(log.corrupt_at(lsn, Lsn(lsn.0 + 8), Damage::ExtentMalformed)),
            },
            (Kind::Aborted, _) => Ok(LogRead::Aborted),
            _ => Ok(LogRead::Padding),
        }
    }

    /// The durable records at or above an LSN, in order. The iterator ends at the stable LSN of the moment and may be asked
    /// again later. `lsn` is a record's, an iterator's [`position`](LogIter::position), or below all records: `Lsn(0)` starts at the
    /// beginning. An item is `Corrupt` where a record is damaged, `Incompatible` where a newer version has written one, `NotARecord` where `lsn` is none of these places, or
    /// `Io`; after an error the iterator is at its end.
    pub fn iter_from(&self, lsn: Lsn) -> LogIter {
        LogIter { walk: Walk::new(Arc::clone(&self.engine.log), lsn), failed: false }
    }

    /// As [`iter_from`](Log::iter_from), waiting for more at the end: for replication. It outlives the log and ends when that is
    /// closed.
    pub fn tail_from(&self, lsn: Lsn) -> LogTail {
        LogTail { walk: Walk::new(Arc::clone(&self.engine.log), lsn) }
    }

    /// Returns once the record at `lsn` is durable; for an LSN that nobody has written, once everything written now is. It waits for reservations that are open
    /// below, for a write and for a sync, its own or one that others lead. Returns the stable LSN.
    ///
    /// # Errors
    /// `Poisoned` (reopen), `NoSpace` (trim, or make room, and try again), `Io` where a file cannot be opened (try again), `WouldDeadlock` where this thread holds a reservation that
    /// comes first.
    pub fn make_stable(&self, lsn: Lsn) -> Result<Lsn> {
        self.engine.log.make_stable(lsn)
    }

    /// Makes everything durable that is complete now, and waits as [`make_stable`](Log::make_stable) does. Returns the stable LSN.
    ///
    /// # Errors
    /// As [`make_stable`](Log::make_stable).
    pub fn flush(&self) -> Result<Lsn> {
        self.engine.log.flush(Patience::Wait)
    }

    /// Everything below is durable.
    pub fn stable_lsn(&self) -> Lsn {
        self.engine.log.stable()
    }

    /// Everything below was drawn: the next record comes at or above.
    pub fn tail_lsn(&self) -> Lsn {
        self.engine.log.tail()
    }

    /// The first LSN that is kept.
    pub fn first_lsn(&self) -> Lsn {
        self.engine.log.first()
    }

    /// Forgets the records that start below `lsn`, as far as they are stable, durably, and gives back the disk of segments that hold
    /// nothing else. It flushes, and so waits as [`make_stable`](Log::make_stable) does. Returns the first LSN that is kept.
    ///
    /// # Errors
    /// As [`make_stable`](Log::make_stable), after which the trim has or has not happened; `ReadOnly`; `Corrupt` where `lsn` is in the middle of something and the records before it
    /// cannot be walked.
    pub fn trim(&self, lsn: Lsn) -> Result<Lsn> {
        self.engine.log.trim(lsn)
    }

    /// Bytes of disk that the log occupies, as the system says of the files that were open; no file is opened to tell.
    pub fn disk_bytes(&self) -> u64 {
        self.engine.log.pool.disk_bytes()
    }

    /// Does what the background threads do, for stores with [`Background::Caller`](crate::Background::Caller).
    ///
    /// # Errors
    /// As [`make_stable`](Log::make_stable); `ReadOnly` of a log that is only read.
    pub fn tick(&self) -> Result<()> {
        self.engine.tick()
    }

    /// Flushes, joins the background threads and frees the lock; the next start of the same path succeeds at once. Dropping the log does the same and keeps the
    /// errors to itself.
    ///
    /// # Errors
    /// `Held` where a reservation was leaked: what came before it is durable. `Poisoned`, `NoSpace`, `Io`.
    pub fn close(self) -> Result<()> {
        self.engine.close()
    }
}

/// Durable records in order; see [`Log::iter_from`].
#[derive(Debug)]
pub struct LogIter {
    walk: Walk,
    failed: bool,
}

impl LogIter {
    /// Behind the last record seen: from here [`Log::iter_from`] and [`Log::tail_from`] show what comes after it, in this process
    /// or after a restart.
    pub fn position(&self) -> Lsn {
        self.walk.position()
    }
}

impl Iterator for LogIter {
    type Item = Result<(Lsn, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.walk.next().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// Durable records as they come; see [`Log::tail_from`].
#[derive(Debug)]
pub struct LogTail {
    walk: Walk,
}

/// What a [`LogTail`] has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tailed {
    /// The next durable record.
    Record(Lsn, Vec<u8>),
    /// Nothing came in time.
    TimedOut,
    /// The log was closed (or has failed), and every durable record was seen.
    Closed,
}

impl LogTail {
    /// Behind the last record seen: from here [`Log::iter_from`] and [`Log::tail_from`] show what comes after it, in this process
    /// or after a restart.
    pub fn position(&self) -> Lsn {
        self.walk.position()
    }

    /// The next durable record, waiting at most `timeout` for it.
    ///
    /// # Errors
    /// As the items of [`Log::iter_from`]; the next call tries again.
    pub fn next(&mut self, timeout: Duration) -> Result<Tailed> {
        let until = Instant::now().checked_add(timeout);
        loop {
            // Asked before looking: what became durable before a close is seen before its end is told.
            let open = self.walk.is_open();
            if let Some((lsn, record)) = self.walk.next()? {
                return Ok(Tailed::Record(lsn, record));
            }
            if !open {
                return Ok(Tailed::Closed);
            }
            let left = until.map_or(timeout, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(Tailed::TimedOut);
            }
            self.walk.wait(left);
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::config::{Background, ConfigBuilder};
    use crate::storage::MemoryStorage;
    use crate::store::limit::Claim;

    /// Where there is no room for a segment that nobody needs yet it is looked for something to clean, but not each time that the background comes by.
    #[test]
    fn room_that_nobody_needs_yet_is_asked_for_each_eighth_of_a_segment() {
        const SEGMENT: u64 = 64 << 10;
        let config = ConfigBuilder::new().storage(MemoryStorage::new()).segment_size(SEGMENT);
        let config = config.max_disk_bytes(16 * SEGMENT + 8192).background(Background::Caller);
        let log = Log::start(config.build()).unwrap();
        let core = &log.engine.log;
        let asks = |bytes: u64| {
            let end = core.tail().0 + bytes;
            while core.tail().0 < end {
                log.write(&[7; 100]).unwrap();
            }
            core.clean_after(1 << 40);
            assert!(!core.wants_cleaning());
            // Without the flush of a tick: short rounds have a segment grow a little at a time.
            let made = core.extend_ahead();
            assert!(matches!(made, Ok(()) | Err(Error::NoSpace { .. })), "{made:?}");
            core.wants_cleaning()
        };
        // Up to the beginning of the last segment that there may be.
        while core.pool.left(Claim::User) != Some(0) {
            asks(0);
            log.write(&[7; 100]).unwrap();
        }
        while !asks(0) {
            log.write(&[7; 100]).unwrap();
        }
        assert!(!asks(0), "nothing was written since");
        let mut asked = 0;
        let begun = core.tail().0;
        while core.tail().0 < begun + SEGMENT / 2 {
            asked += u64::from(asks(128));
        }
        assert!((3..=4).contains(&asked), "{asked} times in four eighths");
    }
}
