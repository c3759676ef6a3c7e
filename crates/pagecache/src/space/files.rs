//! The files of a store: each is taken once, by its name, as long as it is when it is looked at.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

use super::parts::Parts;
use super::walk::Walk;
use crate::base::error::{Error, Result};
use crate::format::segment::{Named, parse_name};
use crate::page::materialize::Materializer;
use crate::storage::{OpenMode, StorageFile};
use crate::store::pool::Pool;
use crate::store::segment::Segment;

/// What the directory holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Files {
    pub(super) count: u64,
    /// Their lengths together.
    pub(super) bytes: u64,
    /// Bytes of disk that they occupy.
    pub(super) occupied: u64,
    /// Names that no file of a store has.
    pub(super) foreign: u64,
    /// What is in no segment.
    pub(super) parts: Parts,
}

/// Takes every file; the segments are walked.
///
/// # Errors
/// `Io`.
pub(super) fn take<M: Materializer>(pool: &Pool, walk: &mut Walk<'_, M>) -> Result<Files> {
    let names = pool.storage().list().map_err(|error| Error::io("list", pool.describe(), error))?;
    let mut names: BTreeMap<String, Named> = names.into_iter().map(|name| (name.clone(), parse_name(&name))).collect();
    let mut files = Files::default();
    // Those of the log by their LSNs. One that was born since is not looked at.
    for segment in pool.all() {
        if names.remove(&segment.name()).is_some() {
            files.segment(pool, &segment, walk)?;
        }
    }
    for (name, named) in names {
        files.other(pool, &name, named)?;
    }
    Ok(files)
}

impl Files {
    fn segment<M: Materializer>(&mut self, pool: &Pool, segment: &Arc<Segment>, walk: &mut Walk<'_, M>) -> Result<()> {
        let file = match segment.file() {
            // Given back since: its file has another name, or is gone.
            Err(_) if pool.get(segment.header.sequence).is_none() => return Ok(()),
            file => file?,
        };
        let len = self.file(&segment.name(), file.as_ref())?;
        walk.segment(segment, len)
    }

    fn other(&mut self, pool: &Pool, name: &str, named: Named) -> Result<()> {
        if named == Named::Foreign {
            self.foreign += 1;
            return Ok(());
        }
        let file = match pool.storage().open(name, OpenMode::ReadOnly) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            file => file.map_err(|error| Error::io("open", name, error))?,
        };
        let len = self.file(name, file.as_ref())?;
        match named {
            Named::Superblock(_) => self.parts.superblocks += len,
            Named::Scratch => self.parts.spare += len,
            Named::Segment(_) | Named::Foreign => self.parts.leftovers += len,
        }
        Ok(())
    }

    /// Counts a file. Returns its length.
    fn file(&mut self, name: &str, file: &dyn StorageFile) -> Result<u64> {
        let len = file.len().map_err(|error| Error::io("len", name, error))?;
        let occupied = file.allocated().map_err(|error| Error::io("stat", name, error))?;
        self.count += 1;
        self.bytes += len;
        self.occupied += occupied;
        Ok(len)
    }
}
