//! Bytes <-> structs, pure: no I/O, no clock, no state. `docs/FORMAT.md` draws every byte.

pub(crate) mod bytes;
pub(crate) mod leaf;
pub(crate) mod mark;
pub(crate) mod moves;
pub(crate) mod page;
pub(crate) mod parts;
pub(crate) mod piece;
pub(crate) mod record;
#[cfg(any(fuzzing, test))]
pub(crate) mod repair;
pub(crate) mod root;
pub(crate) mod segment;
pub(crate) mod superblock;

/// The unit of flushing, in bytes: a block that holds acknowledged bytes is never written again with other bytes. Small
/// under loom, which follows every granule.
pub(crate) const BLOCK: u64 = if cfg!(loom) { 128 } else { 4096 };

/// Everything in the log starts at a multiple of this many bytes.
pub(crate) const GRANULE: u64 = 8;

/// The next multiple of the granule.
pub(crate) const fn granular(len: u64) -> u64 {
    len.next_multiple_of(GRANULE)
}

const _: () = assert!(BLOCK.is_power_of_two() && BLOCK.is_multiple_of(GRANULE));
