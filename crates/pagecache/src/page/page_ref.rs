//! What `get` hands out: a page, borrowed from the cache or owned.

use std::fmt;
use std::ops::Deref;

use super::chain::Chain;

/// A page. It borrows the store and the guard, or owns what is not in the cache: what was merged while another thread changed the page, or what was read from
/// disk while guards keep so much garbage that nothing is evicted for a page that comes in.
pub struct PageRef<'g, P> {
    page: Inner<'g, P>,
}

enum Inner<'g, P> {
    Resident(&'g P),
    Owned(Box<P>),
}

impl<'g, P> PageRef<'g, P> {
    pub(crate) fn resident(page: &'g P) -> PageRef<'g, P> {
        PageRef { page: Inner::Resident(page) }
    }

    pub(crate) fn owned(page: P) -> PageRef<'g, P> {
        PageRef { page: Inner::Owned(Box::new(page)) }
    }

    /// Whether the page was handed out without a copy, straight from the cache.
    pub fn is_borrowed(&self) -> bool {
        matches!(self.page, Inner::Resident(_))
    }
}

impl<P> Deref for PageRef<'_, P> {
    type Target = P;

    fn deref(&self) -> &P {
        match &self.page {
            Inner::Resident(page) => page,
            Inner::Owned(page) => page,
        }
    }
}

impl<P> AsRef<P> for PageRef<'_, P> {
    fn as_ref(&self) -> &P {
        self
    }
}

impl<P: PartialEq> PartialEq<P> for PageRef<'_, P> {
    fn eq(&self, other: &P) -> bool {
        **self == *other
    }
}

impl<P: fmt::Debug> fmt::Debug for PageRef<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<P: fmt::Display> fmt::Display for PageRef<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

/// A page's fragments as they are, newest first: deltas, then the base. Nothing is merged.
pub struct Fragments<'g, P> {
    chain: Chain<'g, P>,
}

impl<'g, P> Fragments<'g, P> {
    pub(crate) fn new(chain: Chain<'g, P>) -> Fragments<'g, P> {
        Fragments { chain }
    }

    /// The fragments, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &'g P> + use<'g, P> {
        self.chain.frags()
    }

    /// How many there are, at least 1.
    pub fn count(&self) -> usize {
        self.chain.frags().count()
    }
}

impl<P: fmt::Debug> fmt::Debug for Fragments<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
