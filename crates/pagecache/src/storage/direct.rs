//! Long writes past the system's page cache (`O_DIRECT`): a log alone is written once and rarely read, so a copy of it in the cache
//! costs a copy, memory, and a pass of the kernel's own write-back. Reads too, on request: a store's own cache holds what is hot.
//!
//! - R1. A write goes direct where it is cold, or reads go direct; and only where address, offset and length are multiples of a block,
//!   and it is long. Everything else, and everything on a file system that refuses, goes through the cache. Linux keeps the
//!   two coherent: a direct write drops what the cache holds of its range.
//! - R2. A second handle exists from the first direct write to the next sync: a file that is no longer written has one. Where reads
//!   go direct it stays with the file from the first of them.
//! - R3. Reads go direct where that is asked for. One takes the blocks that cover it, all at once, into a buffer of its own. Blocks that
//!   the cache holds newer than the disk are written back first, by Linux.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;

/// What a direct write is aligned to, in bytes: no disk has longer sectors.
const ALIGN: usize = 4096;

/// From this length on a write goes direct, in bytes. A shorter one waits for the disk longer than its copy takes.
const LONG: usize = 64 << 10;

/// The most that one read takes past the cache, in bytes: it is copied.
const READ_MAX: usize = 1 << 20;

/// The way past the cache, for one file.
#[derive(Debug, Default)]
pub(super) struct Direct {
    handle: Mutex<Option<Arc<File>>>,
    refused: AtomicBool,
    reads: Reads,
}

/// Which way a file is read, and what else it is opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reads {
    /// Through the cache.
    #[default]
    Cached,
    /// Past it, in a file that is written.
    Direct,
    /// Past it, in a file that is only read.
    DirectOnly,
}

impl Direct {
    pub(super) fn new(reads: Reads) -> Direct {
        Direct { reads, ..Direct::default() }
    }

    /// Reads at most `buf`; `None` where it is to go through the cache (R3).
    pub(super) fn read_at(&self, file: &File, buf: &mut [u8], offset: u64) -> Option<io::Result<usize>> {
        // Relaxed: a look that saves a try.
        if self.reads == Reads::Cached || buf.is_empty() || self.refused.load(Ordering::Relaxed) {
            return None;
        }
        let skip = offset as usize % ALIGN;
        let len = (skip + buf.len()).next_multiple_of(ALIGN).min(READ_MAX);
        let mut blocks = vec![0; len + ALIGN];
        let start = blocks.as_ptr().align_offset(ALIGN);
        let blocks = blocks.get_mut(start..start + len)?;
        let read = self.handle(file).and_then(|handle| handle.read_at(blocks, offset - skip as u64));
        match read {
            Err(error) if is_refusal(&error) => {
                self.refused.store(true, Ordering::Relaxed);
                None
            }
            Err(error) => Some(Err(error)),
            // So short that nothing of what is asked for came: whether the file ends here is told by the other way.
            Ok(count) if count <= skip => None,
            Ok(count) => {
                let found = blocks.get(skip..count).unwrap_or_default();
                let count = found.len().min(buf.len());
                buf.get_mut(..count)?.copy_from_slice(found.get(..count)?);
                Some(Ok(count))
            }
        }
    }

    /// Writes at most `buf`; `None` where it is to go through the cache (R1).
    pub(super) fn write_at(&self, file: &File, buf: &[u8], offset: u64) -> Option<io::Result<usize>> {
        if self.reads == Reads::Cached {
            return None;
        }
        self.write_cold_at(file, buf, offset)
    }

    /// As above, of what will hardly be read again.
    pub(super) fn write_cold_at(&self, file: &File, buf: &[u8], offset: u64) -> Option<io::Result<usize>> {
        let aligned = buf.as_ptr().addr() | buf.len() | offset as usize;
        // Relaxed: a look that saves a try.
        if buf.len() < LONG || !aligned.is_multiple_of(ALIGN) || self.refused.load(Ordering::Relaxed) {
            return None;
        }
        let written = self.handle(file).and_then(|handle| handle.write_at(buf, offset));
        match written {
            // No direct writes here, or no second handle to be had: nothing is wrong with the file.
            Err(error) if is_refusal(&error) => {
                self.refused.store(true, Ordering::Relaxed);
                None
            }
            written => Some(written),
        }
    }

    /// What was written is durable: the second handle goes (R2).
    pub(super) fn synced(&self) {
        if self.reads != Reads::Cached {
            return;
        }
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(handle);
    }

    fn handle(&self, file: &File) -> io::Result<Arc<File>> {
        let mut handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*handle {
            return Ok(Arc::clone(open));
        }
        // By the open file and not by its name, which may have changed.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut options = OpenOptions::new();
        options.read(self.reads != Reads::Cached).write(self.reads != Reads::DirectOnly);
        let open = options.custom_flags(OFlags::DIRECT.bits() as i32).open(path)?;
        Ok(Arc::clone(handle.insert(Arc::new(open))))
    }
}

/// The file system knows no direct writes (`EINVAL`), `/proc` is not there, or the process has no handle left.
fn is_refusal(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errnos = [Errno::INVAL, Errno::NOENT, Errno::ACCESS, Errno::MFILE, Errno::NFILE, Errno::OPNOTSUPP];
    errnos.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::{FileStorage, OpenMode, Storage, read_full, write_all, write_all_cold};
    use super::*;

    /// `len` bytes at an aligned address, and where they begin.
    fn aligned(len: usize) -> (Vec<u8>, usize) {
        let bytes: Vec<u8> = (0..len + ALIGN).map(|at| (at % 251) as u8).collect();
        let skip = bytes.as_ptr().align_offset(ALIGN);
        (bytes, skip)
    }

    #[test]
    fn long_writes_past_the_cache_and_short_ones_through_it_are_read_alike() {
        let storage = FileStorage::temporary().unwrap();
        let file = storage.open("a", OpenMode::CreateNew).unwrap();
        let (bytes, skip) = aligned(4 * LONG);
        let long = &bytes[skip..skip + 4 * LONG];
        let mut found = vec![0; 4 * LONG];
        write_all_cold(file.as_ref(), long, 0).unwrap();
        read_full(file.as_ref(), &mut found, 0).unwrap();
        assert_eq!(found, long);
        // Now the cache holds it all: what goes past it must be seen all the same, and what goes through it next.
        let (other, skip) = aligned(2 * LONG + 1);
        let other = &other[skip + 1..][..2 * LONG];
        write_all_cold(file.as_ref(), &long[LONG..2 * LONG], 0).unwrap();
        write_all_cold(file.as_ref(), other, LONG as u64).unwrap();
        write_all(file.as_ref(), b"short", 3).unwrap();
        read_full(file.as_ref(), &mut found, 0).unwrap();
        let mut expected = long.to_vec();
        expected[..LONG].copy_from_slice(&long[LONG..2 * LONG]);
        expected[LONG..3 * LONG].copy_from_slice(other);
        expected[3..8].copy_from_slice(b"short");
        assert_eq!(found, expected);
        file.sync_data().unwrap();
        storage.destroy().unwrap();
    }

    #[test]
    fn reads_past_the_cache_find_what_went_either_way_and_the_end_of_the_file() {
        let plain = FileStorage::temporary().unwrap();
        let storage = FileStorage::open(plain.path()).unwrap().direct_reads(true);
        let file = storage.open("a", OpenMode::CreateNew).unwrap();
        let (bytes, skip) = aligned(2 * LONG);
        let mut expected = bytes[skip..skip + 2 * LONG].to_vec();
        write_all(file.as_ref(), &bytes[skip..skip + 2 * LONG], 0).unwrap();
        write_all(file.as_ref(), b"through the cache", 5000).unwrap();
        expected[5000..5017].copy_from_slice(b"through the cache");
        write_all(file.as_ref(), b"the end", 2 * LONG as u64).unwrap();
        expected.extend_from_slice(b"the end");
        file.sync_data().unwrap();
        let reader = storage.open("a", OpenMode::ReadOnly).unwrap();
        for file in [file, reader] {
            for (offset, len) in
                [(0, 1), (5000, 17), (4095, 2), (8, 4112), (4096, 8192), (LONG - 3, LONG), (0, expected.len())]
            {
                let mut found = vec![0; len];
                assert_eq!(read_full(file.as_ref(), &mut found, offset as u64).unwrap(), len);
                assert_eq!(found, expected[offset..offset + len]);
            }
            for (offset, left) in [(2 * LONG, 7), (2 * LONG + 6, 1), (2 * LONG + 7, 0), (2 * LONG + ALIGN, 0)] {
                assert_eq!(read_full(file.as_ref(), &mut [0; 100], offset as u64).unwrap(), left, "{offset}");
            }
        }
        storage.destroy().unwrap();
    }

    #[test]
    fn a_handle_for_reads_stays_and_writes_nothing_where_the_file_is_only_read() {
        let storage = FileStorage::temporary().unwrap();
        let path = storage.path().join("a");
        std::fs::write(&path, vec![7; 2 * ALIGN]).unwrap();
        for reads in [Reads::Direct, Reads::DirectOnly] {
            let file = File::options().read(true).write(reads == Reads::Direct).open(&path).unwrap();
            let direct = Direct::new(reads);
            let mut found = [0; 100];
            if let Some(read) = direct.read_at(&file, &mut found, 4000) {
                assert_eq!((read.unwrap(), found), (100, [7; 100]));
                direct.synced();
                let handle = direct.handle.lock().unwrap().clone().unwrap();
                assert_eq!(rustix::fs::fcntl_getfl(&*handle).unwrap().contains(OFlags::RDWR), reads == Reads::Direct);
            }
        }
        storage.destroy().unwrap();
    }

    #[test]
    fn only_long_aligned_cold_writes_go_past_the_cache_and_their_handle_goes_with_the_sync() {
        let storage = FileStorage::temporary().unwrap();
        let path = storage.path().join("a");
        let file = File::options().write(true).create_new(true).open(path).unwrap();
        let (bytes, skip) = aligned(2 * LONG);
        let direct = Direct::default();
        for (from, len, offset) in
            [(skip, LONG - ALIGN, 0), (skip + 8, LONG, 0), (skip, LONG, 512), (skip, LONG + 8, 0)]
        {
            assert!(direct.write_cold_at(&file, &bytes[from..from + len], offset).is_none());
        }
        assert!(direct.write_at(&file, &bytes[skip..skip + LONG], 0).is_none(), "it may be read again");
        assert!(direct.handle.lock().unwrap().is_none());
        match direct.write_cold_at(&file, &bytes[skip..skip + LONG], 0) {
            Some(written) => assert_eq!(written.unwrap(), LONG),
            None => {
                assert!(direct.refused.load(Ordering::Relaxed), "this file system takes none, and that is remembered")
            }
        }
        direct.synced();
        assert!(direct.handle.lock().unwrap().is_none());
        // Where reads go direct every long write does.
        let path = storage.path().join("b");
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        let direct = Direct::new(Reads::Direct);
        assert!(direct.write_at(&file, &bytes[skip..skip + LONG - ALIGN], 0).is_none());
        assert!(
            direct.write_at(&file, &bytes[skip..skip + LONG], 0).is_some() || direct.refused.load(Ordering::Relaxed)
        );
        storage.destroy().unwrap();
    }
}
