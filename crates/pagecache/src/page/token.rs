//! Tokens: a page's version in the shape of a pointer that nobody dereferences.

use std::marker::PhantomData;
use std::ptr;

use crossbeam_epoch::Shared;

use crate::base::ids::Version;

/// What a token seems to point to. There is no such object: the *address* is the version.
#[derive(Debug)]
pub struct PageVersion<P> {
    _aligned: [u64; 0],
    _page: PhantomData<fn() -> P>,
}

/// A token: the version of a page at the time it was taken, null for a page that holds no data.
///
/// It is a plain number in the shape of a `crossbeam_epoch::Shared`. A forged, stale or foreign one is harmless: it is
/// compared, never followed.
pub type PagePtr<'g, P> = Shared<'g, PageVersion<P>>;

/// The version that a token is.
pub fn version<P>(token: PagePtr<'_, P>) -> Version {
    Version(token.as_raw().addr() as u64)
}

/// The token of a version.
pub(crate) fn token<'g, P>(version: Version) -> PagePtr<'g, P> {
    // Versions are multiples of 8, the alignment of `PageVersion`, so no bit is taken for a tag.
    Shared::from(ptr::without_provenance::<PageVersion<P>>(version.0 as usize))
}

const _: () = assert!(align_of::<PageVersion<u8>>() == 8 && size_of::<PageVersion<u8>>() == 0);
