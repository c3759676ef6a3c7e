//! One error for everything, each variant saying what to do next.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::ids::{Lsn, PageId, Version};

/// The kit's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub enum PageState {
    /// It holds data at this version, in memory or on disk.
    Live(Version),
    /// It was allocated and holds no data yet.
    Empty,
    /// It was freed by the record of this version.
    Free(Version),
    /// Nobody ever allocated this id.
    Unallocated,
}

/// Everything that can go wrong, and what to do about it.
///
/// Cheap to clone: the first cause of a poisoned store is told to every waiter.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Error {
    /// The page has moved on since the token was taken: get the current page and try again.
    Conflict {
        /// The page.
        page: PageId,
        /// Its version now.
        current: Version,
    },
    /// The page holds no data: match on its state.
    NoPage {
        /// The page asked for.
        page: PageId,
        /// What it is instead.
        state: PageState,
    },
    /// The record is longer than the store's `max_record`: split it.
    TooLarge {
        /// Its encoded length in bytes.
        len: u64,
        /// The longest that this store takes, in bytes.
        max: u64,
    },
    /// The disk is full, or [`max_disk_bytes`](crate::ConfigBuilder::max_disk_bytes) is reached, or the id space: free something and go on; clears
    /// once there is room, and nothing is
    /// half done. A full disk that only a sync meets is [`Io`](Error::Io) and ends the log ([`Poisoned`](Error::Poisoned)): what that left unwritten
    /// is not tried again.
    NoSpace {
        /// What could not be had.
        what: &'static str,
    },
    /// The operating system refused.
    Io {
        /// The operation, by its usual name.
        op: &'static str,
        /// The file or directory, as the kit names it.
        path: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Stored bytes are not what was written. Said by a start, the store does not open as it is: restore it from a copy. Said of an open store, nothing but
    /// what was asked for is affected: restore the page, or the store, from a copy.
    Corrupt(Box<Corruption>),
    /// A stored fragment is intact but the fragment type refused it: was the store written with another type?
    Decode {
        /// The page, where the bytes belong to one.
        page: Option<PageId>,
        /// What the decoder said.
        what: String,
    },
    /// A fragment could not be encoded: nothing was written.
    Encode {
        /// What the encoder said.
        what: String,
    },
    /// A write or a sync failed earlier and what is on disk is unknown: reopen the store.
    Poisoned {
        /// The first failure.
        cause: Arc<Error>,
    },
    /// This thread would wait for a reservation that it holds itself: complete or abort that first.
    WouldDeadlock {
        /// A lower bound of the LSN of the oldest reservation of this thread.
        lsn: Lsn,
    },
    /// A reservation was never completed nor dropped; what came before it is durable, what came after is not.
    Held {
        /// The oldest such reservation.
        lsn: Lsn,
        /// How long ago it was made.
        age: Duration,
    },
    /// The guard is of another collector, or unprotected: use the store's `pin()`.
    ForeignGuard,
    /// The store was opened with `read_only`.
    ReadOnly,
    /// The store is closed, or closing.
    Closed,
    /// Another opener holds the store: close that first.
    Locked {
        /// The store.
        path: String,
    },
    /// There is no store here and `create` says existing only, or the store is read only.
    NotFound {
        /// Where it was looked for.
        path: String,
    },
    /// There is a store here already and `create` says new only.
    Exists {
        /// Where.
        path: String,
    },
    /// The files are not of this store, or of a format this build does not know: nothing was touched.
    Incompatible {
        /// What is there.
        found: String,
        /// What this build reads.
        expected: String,
    },
    /// An option has a value that cannot work.
    Config {
        /// The option's name.
        option: &'static str,
        /// The value given.
        found: String,
        /// What is allowed.
        allowed: String,
    },
    /// No record starts at this LSN.
    NotARecord {
        /// The LSN asked for.
        lsn: Lsn,
    },
    /// A background thread could not be started.
    Thread {
        /// What the system said.
        source: Arc<io::Error>,
    },
}

/// Where stored bytes were found damaged. What is in no segment has its highest number, and what has no LSN an empty range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// The page that is affected, where it is known that it is this page alone.
    pub page: Option<PageId>,
    /// The segment's sequence, as in its file name; `u64::MAX` for what is in none: both copies of the superblock, or an LSN whose segment is gone.
    pub segment: u64,
    /// The offset in the segment's file, in bytes; 0 where there is no segment.
    pub offset: u64,
    /// The LSNs that may be affected: from the damage up to the next byte known to be good. `0..0` outside the log, where there are none: in images, in the
    /// map, in the superblock.
    pub lsns: std::ops::Range<Lsn>,
    /// What does not fit.
    pub what: &'static str,
}

impl Error {
    pub(crate) fn io(op: &'static str, path: impl Into<String>, source: io::Error) -> Error {
        if source.kind() == io::ErrorKind::StorageFull || source.kind() == io::ErrorKind::QuotaExceeded {
            return Error::NoSpace { what: op };
        }
        Error::Io { op, path: path.into(), source: Arc::new(source) }
    }

    /// A sync that failed, for whatever reason: a full disk too, since what it left unwritten is not tried again.
    pub(crate) fn sync(op: &'static str, path: impl Into<String>, source: io::Error) -> Error {
        Error::Io { op, path: path.into(), source: Arc::new(source) }
    }

    /// Whether this is [`Error::NoSpace`], which clears by itself.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Error::NoSpace { .. })
    }

    /// Whether this is [`Error::Corrupt`].
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Error::Corrupt(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Conflict { page, current } => {
                write!(f, "{page} has moved on to {current}: get it again and retry")
            }
            Error::NoPage { page, state: PageState::Empty } => write!(f, "{page} is allocated but holds no data yet"),
            Error::NoPage { page, state: PageState::Free(at) } => write!(f, "{page} was freed at {at}"),
            Error::NoPage { page, state: PageState::Unallocated } => write!(f, "{page} was never allocated"),
            Error::NoPage { page, state: PageState::Live(at) } => write!(f, "{page} holds data already, at {at}"),
            Error::TooLarge { len, max } => write!(f, "a record of {len} bytes is over max_record ({max}): split it"),
            Error::NoSpace { what } => write!(f, "no space ({what}): free something and go on"),
            Error::Io { op, path, source } => write!(f, "{op} of {path} failed: {source}"),
            Error::Corrupt(at) => {
                if let Some(page) = at.page {
                    write!(f, "{page} is damaged: ")?;
                }
                write!(f, "{}", at.what)?;
                if at.segment != u64::MAX {
                    write!(f, " in segment {:016x} at offset {}", at.segment, at.offset)?;
                }
                if !at.lsns.is_empty() {
                    write!(f, " ({}..{})", at.lsns.start, at.lsns.end)?;
                }
                write!(f, ": restore from a copy")
            }
            Error::Decode { page: Some(page), what } => {
                write!(f, "{page} is intact but does not decode ({what}): was it written with another fragment type?")
            }
            Error::Decode { page: None, what } => write!(f, "a fragment does not decode: {what}"),
            Error::Encode { what } => write!(f, "the fragment could not be encoded: {what}"),
            Error::Poisoned { cause } => write!(f, "the store failed earlier ({cause}): reopen it"),
            Error::WouldDeadlock { lsn } => {
                write!(f, "this thread holds a reservation at or after {lsn} that it would wait for: complete it first")
            }
            Error::Held { lsn, age } => {
                write!(f, "a reservation at {lsn} has been open for {age:?} and was never completed nor dropped")
            }
            Error::ForeignGuard => write!(f, "the guard is not of this store's collector: use the store's pin()"),
            Error::ReadOnly => write!(f, "the store is open read only"),
            Error::Closed => write!(f, "the store is closed"),
            Error::Locked { path } => write!(f, "{path} is open elsewhere: close it there first"),
            Error::NotFound { path } => write!(f, "there is no store at {path}"),
            Error::Exists { path } => write!(f, "there is a store at {path} already"),
            Error::Incompatible { found, expected } => write!(f, "found {found}, expected {expected}"),
            Error::Config { option, found, allowed } => write!(f, "option {option} is {found}; allowed: {allowed}"),
            Error::NotARecord { lsn } => write!(f, "no record starts at {lsn}"),
            Error::Thread { source } => write!(f, "a background thread could not be started: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } | Error::Thread { source } => Some(source.as_ref()),
            Error::Poisoned { cause } => Some(cause.as_ref()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_goes_anywhere() {
        fn anywhere<T: std::error::Error + Send + Sync + 'static>() {}
        anywhere::<Error>();
    }

    #[test]
    fn a_full_disk_is_no_space_whatever_the_call() {
        assert!(Error::io("write", "x", io::ErrorKind::StorageFull.into()).is_no_space());
        assert!(!Error::io("write", "x", io::ErrorKind::PermissionDenied.into()).is_no_space());
    }

    #[test]
    fn damage_says_its_place_as_far_as_it_has_one() {
        let said = |page, segment, lsns| {
            Error::Corrupt(Box::new(Corruption { page, segment, offset: 4096, lsns, what: "it is damaged" }))
                .to_string()
        };
        assert_eq!(
            said(Some(PageId(3)), 26, Lsn(8)..Lsn(16)),
            "page:3 is damaged: it is damaged in segment 000000000000001a at offset 4096 (lsn:8..lsn:16): restore from a copy"
        );
        let of_images = said(None, 26, Lsn(0)..Lsn(0));
        assert_eq!(of_images, "it is damaged in segment 000000000000001a at offset 4096: restore from a copy");
        assert_eq!(said(None, u64::MAX, Lsn(0)..Lsn(0)), "it is damaged: restore from a copy");
        assert_eq!(said(None, u64::MAX, Lsn(8)..Lsn(16)), "it is damaged (lsn:8..lsn:16): restore from a copy");
    }
}
