//! What a refused update gives back: the reason, the page as it is now, and the caller's own fragment.

use std::fmt;

use crate::base::error::Error;
use crate::page::page_ref::PageRef;
use crate::page::token::{PagePtr, version};

/// A refused update. Nothing happened, nothing is lost: `rejected` is the fragment that was given (`()` for a free).
///
/// It turns into an [`Error`] by `?`, which drops the pages.
pub enum Rejected<'g, P, F = P> {
    /// The page has moved on since the token was taken.
    Conflict {
        /// The page as it is now.
        current: PageRef<'g, P>,
        /// Its token: an update with it succeeds unless the page moves on again.
        token: PagePtr<'g, P>,
        /// What was given.
        rejected: F,
        /// The same, as an error.
        error: Error,
    },
    /// Anything else.
    Failed {
        /// Why.
        error: Error,
        /// What was given.
        rejected: F,
    },
}

impl<P, F> Rejected<'_, P, F> {
    /// Why.
    pub fn error(&self) -> &Error {
        match self {
            Rejected::Conflict { error, .. } | Rejected::Failed { error, .. } => error,
        }
    }

    /// What was given.
    pub fn into_rejected(self) -> F {
        match self {
            Rejected::Conflict { rejected, .. } | Rejected::Failed { rejected, .. } => rejected,
        }
    }
}

impl<P, F> From<Rejected<'_, P, F>> for Error {
    fn from(rejected: Rejected<'_, P, F>) -> Error {
        match rejected {
            Rejected::Conflict { error, .. } | Rejected::Failed { error, .. } => error,
        }
    }
}

impl<P, F> fmt::Debug for Rejected<'_, P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejected::Conflict { token, .. } => {
                f.debug_struct("Conflict").field("current", &version(*token)).finish_non_exhaustive()
            }
            Rejected::Failed { error, .. } => f.debug_struct("Failed").field("error", error).finish_non_exhaustive(),
        }
    }
}

impl<P, F> fmt::Display for Rejected<'_, P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.error(), f)
    }
}

impl<P, F> std::error::Error for Rejected<'_, P, F> {}
