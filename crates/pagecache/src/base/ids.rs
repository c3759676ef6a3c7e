//! The numbers of the kit, each a type of its own, so that a place in time is never taken for a place on disk.

use std::fmt;

/// A stable page id: the name under which a page is stored for ever, whatever moves underneath.
///
/// Ids are dense: [`allocate`](crate::PageCache::allocate) hands out the lowest never-used id, or one whose free is durable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct PageId(pub u64);

/// A position in the log's time, in bytes, always a multiple of 8; it only grows, and none is ever used twice.
///
/// An `Lsn` orders events. It is not a place on disk: see `docs/FORMAT.md` for how one maps to the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct Lsn(pub u64);

/// The version of a page: the [`Lsn`] of its last logical record (`replace`, `link` or `free`), zero where it never had one.
///
/// Versions of one page only rise, for ever, across free and reuse of its id. A `Version` is a plain number:
/// `Send`, valid beyond any guard, and never dereferenced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct Version(pub u64);

/// The number of one life of a segment; a recycled file gets a new one, so none recurs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Sequence(pub(crate) u64);

/// A place in ever-written space: segment sequence x segment size + offset, in bytes, a multiple of 8. None ever recurs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Address(pub(crate) u64);

impl Version {
    /// The version of a page that holds no data.
    pub const NONE: Version = Version(0);
}

impl From<Lsn> for Version {
    fn from(lsn: Lsn) -> Version {
        Version(lsn.0)
    }
}

macro_rules! plain {
    ($type:ident, $prefix:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

plain!(PageId, "page:");
plain!(Lsn, "lsn:");
plain!(Version, "v:");
plain!(Sequence, "seg:");
plain!(Address, "@");
