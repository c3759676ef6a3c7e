//! Walking the whole log in LSN order, over segments and the gaps that recovery leaves, up to the stable LSN.

use std::sync::Arc;
use std::time::Duration;

use super::core::LogCore;
use super::read::unknown_kind;
use super::scan::{Scanner, Step};
use crate::base::damage::Damage;
use crate::base::error::{Error, Result};
use crate::base::ids::Lsn;
use crate::base::sync::Ordering;
use crate::format::record::{ExtentRef, Kind};

/// A position in the log and the segment being read.
#[derive(Debug)]
pub(crate) struct Walk {
    log: Arc<LogCore>,
    at: Lsn,
    scanner: Option<Scanner>,
}

impl Walk {
    /// Starts at the first record at or above `from`, which is a record's LSN or below every record.
    pub(crate) fn new(log: Arc<LogCore>, from: Lsn) -> Walk {
        Walk { log, at: from, scanner: None }
    }

    /// Where the walk goes on: behind the last record it has shown.
    pub(crate) fn position(&self) -> Lsn {
        self.at
    }

    /// The next stable record of a user; `None` where there is none now.
    ///
    /// # Errors
    /// `Corrupt`, `Io`; the walk stays where it is.
    pub(crate) fn next(&mut self) -> Result<Option<(Lsn, Vec<u8>)>> {
        loop {
            let stable = self.log.stable();
            self.at = self.at.max(self.log.first());
            if self.at >= stable {
                return Ok(None);
            }
            let Some(segment) = self.log.pool.at_lsn(self.at) else {
                match self.log.pool.after(self.at) {
                    Some(next) => self.at = next.data_start(),
                    None => return Ok(None),
                }
                continue;
            };
            self.at = self.at.max(segment.data_start());
            if self.at >= segment.records_end() {
                match self.log.pool.after(self.at) {
                    Some(next) => self.at = next.data_start(),
                    None => return Ok(None),
                }
                self.scanner = None;
                continue;
            }
            // A scanner goes on where its window ends at an older stable LSN: then a new one is made.
            let fits = self.scanner.as_ref().is_some_and(|scanner| {
                Arc::ptr_eq(scanner.segment(), &segment) && scanner.position() == self.at && !scanner.is_done()
            });
            if !fits {
                self.scanner = Some(Scanner::from(segment, self.at, stable));
            }
            let Some(scanner) = &mut self.scanner else { continue };
            match scanner.step()? {
                Step::Record { lsn, shape, body, .. } => {
                    let (bytes, extent) = match (shape.kind, shape.extent) {
                        (Kind::Raw, false) => (Some(body.to_vec()), None),
                        (Kind::Raw, true) => (None, Some(ExtentRef::decode(body))),
                        _ => (None, None),
                    };
                    let next = scanner.position();
                    let bytes = match extent {
                        Some(Some(extent)) => match self.log.read_extent(lsn, &extent) {
                            Ok(whole) => Some(whole.as_slice().to_vec()),
                            // Trimmed while it was read.
                            Err(_) if lsn < self.log.first() => None,
                            Err(error) => return Err(error),
                        },
                        Some(None) => return Err(self.log.corrupt_at(lsn, next, Damage::ExtentMalformed)),
                        None => bytes,
                    };
                    self.at = next;
                    if let Some(bytes) = bytes {
                        return Ok(Some((lsn, bytes)));
                    }
                }
                Step::Mark { .. } => self.at = scanner.position(),
                Step::End => {
                    let end = scanner.segment().records_end();
                    self.at = if scanner.position() >= end { end } else { scanner.position() };
                    if self.at < end && self.at >= stable {
                        return Ok(None);
                    }
                    self.scanner = None;
                }
                Step::Unknown { kind } => return Err(unknown_kind(kind)),
                Step::Hole => {
                    if self.at < self.log.first() {
                        self.scanner = None;
                        continue;
                    }
                    return match self.log.at(self.at, 0) {
                        // Nobody asked for this place: the log says that it begins here.
                        Err(Error::NotARecord { lsn }) if lsn == self.log.first() => {
                            Err(self.log.corrupt_at(lsn, stable, Damage::FirstMissing))
                        }
                        Err(error @ Error::Corrupt(_)) => Err(error),
                        Err(_) => Err(Error::NotARecord { lsn: self.at }),
                        Ok(_) => Err(self.log.corrupt_at(self.at, stable, Damage::Checksum)),
                    };
                }
            }
        }
    }

    /// Whether more may come.
    pub(crate) fn is_open(&self) -> bool {
        // Acquire pairs with the release in `close`: what became stable before it is found by whoever is told the end.
        !self.log.closing.load(Ordering::Acquire) && self.log.rounds.lock().poison.is_none()
    }

    /// Waits until something may have come or the log is over, at most `limit`.
    pub(crate) fn wait(&self, limit: Duration) {
        let rounds = self.log.rounds.lock();
        // Under the lock: `wake_everyone` and every leader take it between the change and the wake-up. So Relaxed; and whoever
        // is woken asks `is_open` before it looks.
        let over = self.log.closing.load(Ordering::Relaxed) || rounds.poison.is_some();
        if self.log.stable() <= self.at && !over {
            drop(self.log.moved.wait_timeout(rounds, limit));
        }
    }
}
