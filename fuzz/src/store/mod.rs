//! What must hold of a directory of arbitrary files.
//!
//! - S1. An opening answers with a typed error or a store. A reader's opening writes nothing, two of them say the same, and a
//!   writer's says the same too.
//! - S2. Of a store that opens, everything can be read or is told to be `Corrupt` (or, intact, to be no fragment: `Decode`).
//! - S3. It can be written to, and closed; what was there and what was written is there when it is opened again.
//! - S4. What `verify` calls sound opens, can be read, and is as it was counted.
//! - S5. No allocation is longer than the files justify.

pub mod log;
pub mod page;
pub mod verify;

use pagecache::{Background, ConfigBuilder, Corruption, Create, Error};

use crate::bound::Bound;
use crate::disk::{Disk, Files};

/// Ids above this are left out: the mapping table has 8 bytes for each id below the highest, used or not, by design.
const IDS_MAX: u64 = 1 << 20;

/// Everything on the thread of the target, so that an input means the same each time.
fn config(disk: &Disk) -> ConfigBuilder {
    ConfigBuilder::new()
        .storage(disk.clone())
        .create(Create::Existing)
        .background(Background::Caller)
        .flush_every_ms(None)
        .cache_capacity(64 << 10)
        .max_record(1 << 20)
        .collector(pagecache::crossbeam_epoch::Collector::new())
}

/// What the files justify: their bytes, the windows they are read through (256 KiB), and a mapping table for [`IDS_MAX`].
fn bound(files: &Files) -> Bound {
    let bytes: usize = files.values().map(Vec::len).sum();
    Bound::new(2 * bytes + (1 << 20) + 8 * IDS_MAX as usize)
}

/// Length and checksum of bytes: enough to compare.
type Sum = (usize, u64);

fn sum(bytes: &[u8]) -> Sum {
    // FNV-1a over 8 bytes at a time.
    let step = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x0100_0000_01b3);
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| step(sum, u64::from_le_bytes(*word)));
    (bytes.len(), rest.iter().fold(sum, |sum, byte| step(sum, u64::from(*byte))))
}

/// An error that files alone can cause at an opening.
fn told(error: &Error) -> String {
    match error {
        Error::Corrupt(at) => assert!(at.lsns.start <= at.lsns.end, "{error:?}"),
        Error::Incompatible { .. } | Error::NotFound { .. } | Error::Decode { .. } => {}
        // Numbers that leave no room for another segment, or an id beyond the memory.
        Error::NoSpace { .. } => {}
        other => panic!("no error for bad files: {other:?}"),
    }
    format!("{error:?}")
}

/// Damage, without the end of what it may affect: that depends on how much of the log is stable.
fn place(at: &Corruption) -> String {
    format!(
        "damaged: {} in segment {} at offset {} ({:?} from {})",
        at.what, at.segment, at.offset, at.page, at.lsns.start
    )
}

/// Whether a failed write is one that numbers near their end cause.
fn full(error: &Error) -> bool {
    error.is_no_space()
}
