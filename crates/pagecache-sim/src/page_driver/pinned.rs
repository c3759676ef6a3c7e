//! Files that a backup keeps: none of them goes, and what is copied is a store.

use pagecache::{FilesPin, PageCache};

use super::{Concat, PageWorld};
use crate::disk::SimDisk;
use crate::driver::{Checked, World, claim};

/// A pin, and what was there when it was taken.
#[derive(Debug)]
pub(super) struct Pinned {
    _pin: FilesPin,
    segments: Vec<String>,
    /// What is copied first.
    superblocks: Vec<(String, Vec<u8>)>,
}

impl PageWorld {
    /// Begins a backup. One that was underway is given up.
    pub(super) fn pin(&mut self, pages: &PageCache<Concat>) -> Checked {
        self.pinned = None;
        let pin = pages.pin_files();
        let others = self.disk.file_names().into_iter().filter(|name| name.starts_with("super-"));
        let superblocks = others.map(|name| (name.clone(), self.disk.read_file(&name))).collect();
        self.pinned = Some(Pinned { _pin: pin, segments: self.segments(), superblocks });
        Ok(())
    }

    /// No file of a segment that was there has gone.
    pub(super) fn check_pinned(&self) -> Checked {
        let Some(pinned) = &self.pinned else { return Ok(()) };
        let now = self.segments();
        let gone = pinned.segments.iter().find(|segment| !now.contains(segment));
        claim(gone.is_none(), || format!("{} is gone, which is to stay", gone.map_or("", |gone| gone)))
    }

    /// Ends a backup: the superblocks as they were when it began and the segments as they are now are this store.
    pub(super) fn unpin(&mut self) -> Checked {
        let Some(pinned) = self.pinned.take() else { return Ok(()) };
        if !self.is_undisturbed() {
            return Ok(());
        }
        let disk = SimDisk::new(self.seed);
        for (name, bytes) in &pinned.superblocks {
            disk.write_file(name, bytes);
        }
        for name in self.segments() {
            disk.write_file(&name, &self.disk.read_file(&name));
        }
        let mut copy = self.over(disk);
        copy.open().map_err(|broken| broken.within("the copy of a store"))?;
        self.upkeep.copied += 1;
        Ok(())
    }
}
