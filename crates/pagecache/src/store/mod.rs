//! Segments as files: one pool for every stream. The accounts and the cleaner's policy will live here too.

pub(crate) mod handles;
pub(crate) mod in_use;
pub(crate) mod pool;
pub(crate) mod stream;
