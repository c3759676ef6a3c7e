//! What a log should hold: the reference model of the bare log, as plain as can be.

use std::sync::Arc;

use pagecache::Lsn;

use crate::driver::{Checked, Violation, claim};

/// A record's bytes. Clones share them.
pub type Body = Arc<[u8]>;

/// One LSN that was handed out.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where.
    pub lsn: Lsn,
    /// What was completed there; `None` where it was aborted.
    pub body: Option<Body>,
}

/// All that was written and not trimmed, in LSN order, and what was promised about it.
///
/// - M1. After a crash the log holds the completed records from the trim up to some place at or above `stable`, and
///   nothing else.
/// - M2. The trim is the acknowledged one, or one that was begun and never acknowledged.
/// - M3. No LSN is handed out twice, lost ones included.
#[derive(Clone, Debug)]
pub struct LogModel {
    entries: Vec<Entry>,
    stable: Lsn,
    first: Lsn,
    begun_trims: Vec<Lsn>,
    above: Lsn,
}

/// Records as a log shows them.
pub type Records = Vec<(Lsn, Vec<u8>)>;

/// A view of them.
pub type Found = [(Lsn, Vec<u8>)];

impl Default for LogModel {
    fn default() -> LogModel {
        LogModel::new()
    }
}

impl LogModel {
    /// Of an empty log.
    pub fn new() -> LogModel {
        LogModel { entries: Vec::new(), stable: Lsn(0), first: Lsn(0), begun_trims: Vec::new(), above: Lsn(0) }
    }

    /// Everything that is not known to be lost or trimmed, in LSN order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Everything below was acknowledged.
    pub fn stable(&self) -> Lsn {
        self.stable
    }

    /// Everything below was trimmed, durably.
    pub fn first(&self) -> Lsn {
        self.first
    }

    /// Notes a record that was completed or aborted.
    ///
    /// # Errors
    /// The LSN was handed out before (M3).
    pub fn wrote(&mut self, lsn: Lsn, body: Option<Body>) -> Checked {
        let at = self.entries.partition_point(|entry| entry.lsn < lsn);
        let fresh = lsn >= self.above && self.entries.get(at).is_none_or(|entry| entry.lsn != lsn);
        claim(fresh, || format!("{lsn} was handed out twice: everything below {} was drawn before", self.above))?;
        self.entries.insert(at, Entry { lsn, body });
        Ok(())
    }

    /// Notes that everything below is acknowledged as durable.
    pub fn acknowledged(&mut self, stable: Lsn) {
        self.stable = self.stable.max(stable);
    }

    /// Notes that no more than this is sure to be durable, and that LSNs above may be drawn again: the disk broke its word.
    pub fn doubt(&mut self, stable: Lsn) {
        (self.stable, self.above) = (stable, Lsn(0));
    }

    /// Notes that a trim was begun.
    pub fn begun_trim(&mut self, to: Lsn) {
        if to > self.first {
            self.begun_trims.push(to);
        }
    }

    /// Notes that everything below is trimmed, durably.
    pub fn trimmed(&mut self, to: Lsn) {
        self.first = self.first.max(to);
        let first = self.first;
        self.begun_trims.retain(|begun| *begun > first);
        self.entries.retain(|entry| entry.lsn >= first);
    }

    /// The completed records at or above an LSN.
    fn completed(&self, from: Lsn) -> impl Iterator<Item = (Lsn, &Body)> {
        let from = self.entries.partition_point(|entry| entry.lsn < from);
        self.entries[from..].iter().filter_map(|entry| Some((entry.lsn, entry.body.as_ref()?)))
    }

    /// Whether a log may say that this is the first LSN that it keeps (M2).
    fn check_first(&self, first: Lsn) -> Checked {
        let allowed = first == self.first || self.begun_trims.contains(&first);
        claim(allowed, || {
            format!("the log begins at {first}: {} was acknowledged, {:?} begun", self.first, self.begun_trims)
        })
    }

    /// Checks what an open log shows as durable: exactly the completed records below its stable LSN.
    ///
    /// # Errors
    /// It shows something else.
    pub fn check_shown(&self, first: Lsn, stable: Lsn, found: &Found) -> Checked {
        self.check_first(first)?;
        let shown = self.check_prefix(first, found)?;
        let below = self.completed(first).take_while(|(lsn, _)| *lsn < stable).count();
        claim(shown == below, || format!("{shown} records are shown and {below} are below the stable {stable}"))
    }

    /// Checks what a recovery found, and expects exactly that from now on. `tail` is above every LSN in use.
    ///
    /// # Errors
    /// A promise is broken (M1, M2).
    pub fn recovered(&mut self, first: Lsn, tail: Lsn, found: &Found) -> Checked {
        self.check_first(first)?;
        let count = self.check_prefix(first, found)?;
        if let Some((lsn, _)) = self.completed(first).nth(count) {
            claim(lsn >= self.stable, || {
                let last = found.last().map(|(lsn, _)| *lsn);
                format!(
                    "{lsn} is gone: everything below {} was acknowledged, and the last one found is {last:?}",
                    self.stable
                )
            })?;
        }
        // Given up LSNs above the acknowledged ones may be there or not: nothing is expected of them.
        let (stable, last) = (self.stable, found.last().map(|(lsn, _)| *lsn));
        self.entries.retain(|entry| match entry.body {
            Some(_) => Some(entry.lsn) <= last,
            None => entry.lsn < stable,
        });
        self.begun_trims.clear();
        self.trimmed(first);
        self.stable = tail;
        self.above = self.above.max(tail);
        Ok(())
    }

    /// How many completed records from `first` on are found, where the found ones are these and no others.
    fn check_prefix(&self, first: Lsn, found: &Found) -> Result<usize, Violation> {
        let mut expected = self.completed(first);
        for (number, (lsn, bytes)) in found.iter().enumerate() {
            let Some((at, body)) = expected.next() else {
                return Err(Violation::new(format!("{lsn} is found, {} bytes, and was never written", bytes.len())));
            };
            claim(*lsn == at, || format!("record {number} is found at {lsn}: {at} comes next"))?;
            claim(**bytes == **body, || {
                let differs = bytes.iter().zip(body.iter()).position(|(found, wrote)| found != wrote);
                format!("{lsn} has other bytes, {} of {}, from {differs:?}", bytes.len(), body.len())
            })?;
        }
        Ok(found.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(byte: u8) -> Body {
        Arc::from([byte; 3])
    }

    fn model() -> LogModel {
        let mut model = LogModel::new();
        model.wrote(Lsn(8), Some(body(1))).unwrap();
        model.wrote(Lsn(24), None).unwrap();
        model.wrote(Lsn(16), Some(body(2))).unwrap();
        model.wrote(Lsn(32), Some(body(3))).unwrap();
        model.acknowledged(Lsn(24));
        model
    }

    fn found(lsns: &[(u64, u8)]) -> Vec<(Lsn, Vec<u8>)> {
        lsns.iter().map(|(lsn, byte)| (Lsn(*lsn), vec![*byte; 3])).collect()
    }

    #[test]
    fn every_prefix_that_holds_the_acknowledged_is_allowed_and_no_other() {
        let recovers = |lsns: &[(u64, u8)]| model().recovered(Lsn(0), Lsn(40), &found(lsns)).is_ok();
        assert!(recovers(&[(8, 1), (16, 2)]));
        assert!(recovers(&[(8, 1), (16, 2), (32, 3)]));
        assert!(!recovers(&[(8, 1)]), "acknowledged and lost");
        assert!(!recovers(&[(16, 2)]), "a hole");
        assert!(!recovers(&[(8, 1), (16, 9)]), "other bytes");
        assert!(!recovers(&[(8, 1), (16, 2), (24, 0)]), "aborted");
        assert!(!recovers(&[(8, 1), (16, 2), (32, 3), (40, 4)]), "never written");
    }

    #[test]
    fn what_was_recovered_is_expected_from_then_on() {
        let mut model = model();
        model.recovered(Lsn(0), Lsn(40), &found(&[(8, 1), (16, 2), (32, 3)])).unwrap();
        assert!(model.clone().recovered(Lsn(0), Lsn(40), &found(&[(8, 1), (16, 2)])).is_err());
        assert!(model.wrote(Lsn(36), Some(body(4))).is_err(), "below what was drawn");
        model.wrote(Lsn(40), Some(body(4))).unwrap();
    }

    #[test]
    fn a_begun_trim_has_or_has_not_happened_and_an_acknowledged_one_has() {
        let mut model = model();
        model.begun_trim(Lsn(16));
        let found = |first: u64| if first == 0 { found(&[(8, 1), (16, 2)]) } else { found(&[(16, 2)]) };
        for first in [0, 16] {
            model.clone().recovered(Lsn(first), Lsn(40), &found(first)).unwrap();
        }
        assert!(model.clone().recovered(Lsn(8), Lsn(40), &found(0)).is_err());
        model.trimmed(Lsn(16));
        assert!(model.clone().recovered(Lsn(0), Lsn(40), &found(0)).is_err());
        model.recovered(Lsn(16), Lsn(40), &found(16)).unwrap();
    }
}
