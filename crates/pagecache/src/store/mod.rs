//! Segments as files: one pool for every stream, and the accounts of what is in use in them.

mod account;
pub(crate) mod birth;
pub(crate) mod births;
pub(crate) mod extent;
mod files;
pub(crate) mod handles;
pub(crate) mod in_use;
mod leave;
pub(crate) mod limit;
pub(crate) mod pool;
pub(crate) mod segment;
pub(crate) mod spans;
pub(crate) mod stream;
mod table;
