//! What a world may be told and what it may lose: failures that a fault of its disk explains, and a disk that broke its word.

use pagecache::{Error, Lsn};

use super::{Violation, claim};
use crate::disk::{AfterSync, Call, Effect, SimDisk, Strike};

/// What a store says.
type Answer<T> = Result<T, Error>;

/// Which failures a call may keep to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blind {
    /// None: it answers for what it did.
    Nothing,
    /// Those of a flush that it led to make room, which nobody had asked for.
    Room,
}

/// The failures of one store, across the disks that it lives on.
///
/// - T1. An error is excused by a call of the disk that failed, by a full disk, or by an earlier failure that ended the store.
/// - T2. A sync that failed is never answered with `Ok`, and ends the store.
/// - T3. A disk that said `Ok` and did not do what it said may cost what was acknowledged since, and excuses `Corrupt`. Within a
///   start it may cost the last round too: a start writes again what nothing proves, and a wrong place may be in the middle of it.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// What had struck when the store was opened.
    opened: usize,
    poisoned: bool,
    told: u64,
    /// What was stable when the disk first broke its word.
    floor: Option<Lsn>,
    /// What is stable as far as was seen, and what was before that: the last round has no proof but itself.
    seen: (Lsn, Lsn),
    lost: bool,
}

impl Trust {
    /// The same store on another disk, closed.
    #[must_use]
    pub fn elsewhere(&self) -> Trust {
        Trust { floor: self.floor, seen: self.seen, ..Trust::default() }
    }

    /// Begins anew with an opening.
    pub fn opening(&mut self, disk: &SimDisk) {
        (self.opened, self.poisoned) = (disk.struck().len(), false);
    }

    /// The store is open: from now on other calls answer.
    pub fn opened(&mut self, disk: &SimDisk) {
        self.opened = disk.struck().len();
    }

    /// Whether the store has said that it has failed, or has to.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Calls that failed and may have.
    pub fn told(&self) -> u64 {
        self.told
    }

    /// Whether the store refused to open as damaged, on a disk that had broken its word.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Notes that a damaged store was rightly said to be so.
    pub fn lose(&mut self) {
        self.lost = true;
    }

    /// What is still promised to be there: all that was stable, or what was before the disk first broke its word.
    pub fn promised(&self, stable: Lsn) -> Lsn {
        self.floor.map_or(stable, |floor| floor.min(stable))
    }

    /// Whether the disk has broken its word.
    pub fn is_betrayed(&self) -> bool {
        self.floor.is_some()
    }

    /// Looks whether the disk has broken its word; all that was stable up to `stable` came before.
    pub fn look(&mut self, disk: &SimDisk, stable: Lsn) {
        if self.floor.is_none() && stable > self.seen.1 {
            self.seen = (self.seen.1, stable);
        }
        if self.floor.is_none() && disk.struck().iter().any(|strike| strike.effect.lies()) {
            self.floor = Some(stable);
        }
    }

    /// Whether a fault has made a call fail since the store was opened.
    pub fn has_struck(&self, disk: &SimDisk) -> bool {
        has_struck(disk, self.opened)
    }

    /// The answer, or `None` where the call failed and may have. `since` is what had struck before it, `stable` what must be
    /// there whatever a failed sync dropped.
    ///
    /// # Errors
    /// It failed and may not have, or should have and did not.
    pub fn excuse<T>(
        &mut self,
        disk: &SimDisk,
        answer: Answer<T>,
        since: usize,
        stable: Lsn,
        to: Blind,
    ) -> Result<Option<T>, Violation> {
        self.look(disk, stable);
        let struck = failed_since(disk, since);
        let sync_failed = struck.iter().any(Strike::fails_sync);
        let error = match answer {
            Ok(_) if sync_failed && to == Blind::Nothing => {
                return Err(Violation::new(format!("a call answered Ok although {struck:?}")));
            }
            Ok(answer) => {
                self.poisoned |= sync_failed;
                return Ok(Some(answer));
            }
            Err(error) => error,
        };
        if disk.crashed() {
            return Ok(None);
        }
        let full = disk.capacity().is_some() || struck.iter().any(|strike| strike.effect == Effect::Enospc);
        let excused = match &error {
            Error::NoSpace { .. } => full,
            Error::Io { .. } => !struck.is_empty(),
            // A failed sync may drop what was written and not yet durable: to say so is right.
            Error::Corrupt(at) => self.floor.is_some() || self.poisoned && at.lsns.end > stable,
            Error::NotARecord { lsn } => self.floor.is_some() || self.poisoned && *lsn >= stable,
            Error::Poisoned { .. } => self.poisoned || self.has_struck(disk),
            _ => false,
        };
        claim(excused, || format!("a call failed ({struck:?} struck): {error}"))?;
        self.told += 1;
        self.poisoned |= sync_failed || matches!(error, Error::Poisoned { .. });
        Ok(None)
    }

    /// The store that was started, or `None` where the start failed and may have. `stable` is what was durable before.
    ///
    /// # Errors
    /// It failed and may not have, or should have and did not.
    pub fn excuse_start<T>(&mut self, disk: &SimDisk, started: Answer<T>, stable: Lsn) -> Result<Option<T>, Violation> {
        self.look(disk, stable);
        if disk.struck().iter().skip(self.opened).any(|strike| matches!(strike.effect, Effect::MisdirectedWrite { .. }))
        {
            self.floor = self.floor.map(|floor| floor.min(self.seen.0));
        }
        let struck = failed_since(disk, self.opened);
        if disk.crashed() {
            return Ok(None);
        }
        let error = match started {
            Ok(started) => {
                // What can fail without a word is the removal of a file that nobody needs, and a read of what is there twice.
                let is_excused = |strike: &Strike| is_read_of_the_map(disk, strike);
                claim(struck.iter().all(is_excused), || format!("a start answered Ok although {struck:?}"))?;
                return Ok(Some(started));
            }
            Err(error) => error,
        };
        let full = disk.capacity().is_some() || struck.iter().any(|strike| strike.effect == Effect::Enospc);
        let excused = match &error {
            Error::NoSpace { .. } => full,
            Error::Io { .. } | Error::Poisoned { .. } => !struck.is_empty(),
            Error::Corrupt(_) if self.floor.is_some() => {
                self.lost = true;
                true
            }
            _ => false,
        };
        claim(excused, || format!("the start failed ({struck:?} struck): {error}"))?;
        self.told += 1;
        Ok(None)
    }
}

/// Whether a read of a root or of a header of the map failed: there are two of both. A start reads no leaf.
pub fn is_read_of_the_map(disk: &SimDisk, strike: &Strike) -> bool {
    /// Where a header says its stream, and what it says of the map (docs/FORMAT.md).
    const STREAM: (usize, u8) = (13, 3);
    if (strike.call, strike.effect) != (Call::Read, Effect::Eio) || !strike.file.starts_with("seg-") {
        return false;
    }
    // A segment that held nothing but the root that was not read is gone.
    if !disk.file_names().iter().any(|name| **name == *strike.file) {
        return true;
    }
    let bytes = disk.read_file(&strike.file);
    let headers = [0, bytes.len().saturating_sub(4096)];
    headers.iter().any(|header| bytes.get(header + STREAM.0) == Some(&STREAM.1))
}

/// The calls that failed since so many had been struck.
pub fn failed_since(disk: &SimDisk, since: usize) -> Vec<Strike> {
    disk.struck().into_iter().skip(since).filter(Strike::fails).collect()
}

/// Whether a fault has made a call fail since so many had been struck.
pub fn has_struck(disk: &SimDisk, since: usize) -> bool {
    !failed_since(disk, since).is_empty()
}

/// Ends what no opening can do anything about: a disk whose syncs go on lying.
pub(super) fn end_lies(disk: &SimDisk) {
    let lies = Effect::SyncFails(AfterSync::LaterSyncLies);
    if disk.struck().iter().any(|strike| strike.effect == lies) {
        disk.clear_faults();
    }
}
