//! Which records have pieces elsewhere in the log: a trim keeps the pieces of every record that it keeps.

use std::collections::BTreeMap;

use crate::base::canary::{Canary, planted};
use crate::base::ids::Lsn;
use crate::base::sync::Mutex;

/// Which records have pieces below themselves.
#[derive(Debug, Default)]
pub(crate) struct Extents {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// Record -> its first piece.
    known: BTreeMap<Lsn, Lsn>,
    /// Extents being written: a bound of their first piece.
    underway: BTreeMap<u64, Lsn>,
    tickets: u64,
}

/// Keeps the pieces of an extent that no record names yet.
#[derive(Debug)]
pub(crate) struct Underway<'a> {
    extents: &'a Extents,
    ticket: u64,
}

impl Extents {
    pub(super) fn begin(&self, bound: Lsn) -> Underway<'_> {
        let mut books = self.books.lock();
        books.tickets += 1;
        let ticket = books.tickets;
        books.underway.insert(ticket, bound);
        Underway { extents: self, ticket }
    }

    /// Notes that the record at `lsn` has its pieces from `first` on.
    pub(crate) fn note(&self, lsn: Lsn, first: Lsn) {
        self.books.lock().known.insert(lsn, first);
    }

    /// Forgets records below an LSN: nobody asks for what they need any more.
    pub(crate) fn forget_below(&self, trim: Lsn) {
        let mut books = self.books.lock();
        books.known = books.known.split_off(&trim);
    }

    /// The lowest LSN that is needed by records at or above `trim`.
    pub(crate) fn keep_from(&self, trim: Lsn) -> Lsn {
        let books = self.books.lock();
        if planted(Canary::PiecesFreedEarly) {
            return trim;
        }
        let known = books.known.range(trim..).map(|(_, first)| first);
        let oldest = known.chain(books.underway.values()).min().copied();
        oldest.map_or(trim, |first| first.min(trim))
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.extents.books.lock().underway.remove(&self.ticket);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// A checkpoint that asks, and fails, leaves the start where it was: what that will ask for stays.
    #[test]
    fn who_asks_forgets_nothing() {
        let extents = Extents::default();
        extents.note(Lsn(100), Lsn(10));
        extents.note(Lsn(300), Lsn(40));
        assert_eq!(extents.keep_from(Lsn(200)), Lsn(40));
        assert_eq!(extents.keep_from(Lsn(50)), Lsn(10));
        extents.forget_below(Lsn(200));
        assert_eq!((extents.keep_from(Lsn(50)), extents.keep_from(Lsn(400))), (Lsn(40), Lsn(400)));
        let underway = extents.begin(Lsn(20));
        assert_eq!(extents.keep_from(Lsn(400)), Lsn(20));
        drop(underway);
        assert_eq!(extents.keep_from(Lsn(400)), Lsn(400));
    }
}
