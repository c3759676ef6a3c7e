//! What the fuzz targets share: stores as bytes, what must hold of them, mutators, and a bound on memory.

pub mod archive;
pub mod bound;
pub mod disk;
pub mod input;
pub mod mutate;
pub mod sparse;
pub mod store;
