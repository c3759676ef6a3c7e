//! The files of segments on disk: made under a scratch name, kept under one for another life, removed.

use std::sync::Arc;

use crate::base::canary::{Canary, planted};
use crate::base::error::{Error, Result};
use crate::base::ids::Sequence;
use crate::format::BLOCK;
use crate::format::segment::{SegmentHeader, name, scratch_name};
use crate::storage::{OpenMode, Storage, StorageFile, write_all};
use crate::store::births::{Leaving, Left};
use crate::store::handles::Handles;
use crate::store::segment::Linked;

/// A file with a segment's headers, written and not synced, under its scratch name. One of an earlier life is taken for it where there is one, out of
/// `spare`; it stays there where it is still what it was.
///
/// # Errors
/// `NoSpace` and `Io` leave nothing behind but a scratch file that the next open removes.
pub(super) fn make(
    handles: &Handles,
    header: &SegmentHeader,
    allocate: u64,
    spare: &mut Option<String>,
) -> Result<Arc<dyn StorageFile>> {
    let scratch = scratch_name(header.sequence);
    let file = blank(handles, &scratch, spare)?;
    if let Err(error) = furnish(file.as_ref(), header, allocate, &scratch) {
        // Best effort: what stays is a scratch file, which means nothing.
        let _ = handles.storage().remove(&scratch);
        return Err(error);
    }
    Ok(file)
}

/// A file under a scratch name: a recycled one if there is one, else new.
fn blank(handles: &Handles, scratch: &str, spare: &mut Option<String>) -> Result<Arc<dyn StorageFile>> {
    if let Some(old) = spare {
        handles.storage().rename(old, scratch).map_err(|error| Error::io("rename", old.as_str(), error))?;
        *spare = None;
        return handles.open(scratch, OpenMode::ReadWrite).map_err(|error| {
            // Best effort, as below.
            let _ = handles.storage().remove(scratch);
            Error::io("open", scratch, error)
        });
    }
    match handles.open(scratch, OpenMode::CreateNew) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            // Left by a birth that failed, or by another process, and could not be removed.
            handles.storage().remove(scratch).map_err(|error| Error::io("remove", scratch, error))?;
            handles.open(scratch, OpenMode::CreateNew)
        }
        opened => opened,
    }
    .map_err(|error| Error::io("create", scratch, error))
}

fn furnish(file: &dyn StorageFile, header: &SegmentHeader, allocate: u64, scratch: &str) -> Result<()> {
    let (block, size) = (header.encode(), header.segment_size);
    // Systems refuse to set nothing aside.
    if allocate > 0 {
        file.allocate(0, allocate).map_err(|error| Error::io("allocate", scratch, error))?;
    }
    file.set_len(size).map_err(|error| Error::io("set_len", scratch, error))?;
    for offset in [0, size - BLOCK] {
        if offset > 0 && planted(Canary::SecondHeaderMissing) {
            continue;
        }
        write_all(file, &block, offset).map_err(|error| Error::io("write", scratch, error))?;
    }
    Ok(())
}

/// Names a file as that of its segment.
///
/// # Errors
/// `Io`.
pub(super) fn christen(storage: &dyn Storage, sequence: Sequence) -> Result<()> {
    let scratch = scratch_name(sequence);
    storage.rename(&scratch, &name(sequence)).map_err(|error| Error::io("rename", &scratch, error))
}

/// Keeps or removes files. The directory is to be synced before any of the kept ones is used.
///
/// # Errors
/// `Io` of the first that failed.
pub(super) fn leave(storage: &dyn Storage, leaving: Leaving) -> (Left, Result<()>) {
    let (mut left, mut failed) = (Left::default(), None);
    // One that fails keeps no other one.
    for sequence in leaving.keep {
        let (old, spare) = (name(sequence), scratch_name(sequence));
        match storage.rename(&old, &spare) {
            Ok(()) => left.spares.push(spare),
            Err(error) => {
                left.stay.push((sequence, Linked::No));
                failed.get_or_insert(Error::io("rename", &old, error));
            }
        }
    }
    for (sequence, linked) in leaving.remove {
        let old = name(sequence);
        if let Err(error) = storage.remove(&old) {
            left.stay.push((sequence, linked));
            failed.get_or_insert(Error::io("remove", &old, error));
        }
    }
    for spare in leaving.surplus {
        if let Err(error) = storage.remove(&spare) {
            failed.get_or_insert(Error::io("remove", &spare, error));
            left.spares.push(spare);
        }
    }
    (left, failed.map_or(Ok(()), Err))
}
