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

    /// The lowest LSN that is needed by records at or above `trim`; forgets those below.
    pub(crate) fn keep_from(&self, trim: Lsn) -> Lsn {
        let mut books = self.books.lock();
        books.known = books.known.split_off(&trim);
        if planted(Canary::PiecesFreedEarly) {
            return trim;
        }
        let oldest = books.known.values().chain(books.underway.values()).min().copied();
        oldest.map_or(trim, |first| first.min(trim))
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.extents.books.lock().underway.remove(&self.ticket);
    }
}
