//! The ground floor: words with types, errors, and the one door to atomics.

pub(crate) mod aligned;
pub(crate) mod canary;
pub(crate) mod damage;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod freed;
pub(crate) mod ids;
pub(crate) mod sync;
pub(crate) mod upkeep;
#[cfg(not(any(loom, shuttle)))]
pub(crate) mod zeroed;
