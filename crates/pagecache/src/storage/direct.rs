//! Long writes past the system's page cache (`O_DIRECT`): a log is written once and rarely read, so a copy of it in the cache
//! costs a copy, memory, and a pass of the kernel's own write-back.
//!
//! - D1. A write goes direct only where address, offset and length are multiples of a block, and it is long. Everything else, and
//!   everything on a file system that refuses, goes through the cache. Linux keeps the two coherent: a direct write drops
//!   what the cache holds of its range.
//! - D2. A second handle exists from the first direct write to the next sync: a file that is no longer written has one.

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

/// The way past the cache, for one file.
#[derive(Debug, Default)]
pub(super) struct Direct {
    handle: Mutex<Option<Arc<File>>>,
    refused: AtomicBool,
}

impl Direct {
    /// Writes at most `buf`; `None` where it is to go through the cache (D1).
    pub(super) fn write_at(&self, file: &File, buf: &[u8], offset: u64) -> Option<io::Result<usize>> {
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

    /// What was written is durable: the second handle goes (D2).
    pub(super) fn synced(&self) {
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
        let open = OpenOptions::new().write(true).custom_flags(OFlags::DIRECT.bits() as i32).open(path)?;
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
    use super::super::{FileStorage, OpenMode, Storage, read_full, write_all};
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
        write_all(file.as_ref(), long, 0).unwrap();
        read_full(file.as_ref(), &mut found, 0).unwrap();
        assert_eq!(found, long);
        // Now the cache holds it all: what goes past it must be seen all the same, and what goes through it next.
        let (other, skip) = aligned(2 * LONG + 1);
        let other = &other[skip + 1..][..2 * LONG];
        write_all(file.as_ref(), &long[LONG..2 * LONG], 0).unwrap();
        write_all(file.as_ref(), other, LONG as u64).unwrap();
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
    fn only_long_aligned_writes_go_past_the_cache_and_their_handle_goes_with_the_sync() {
        let storage = FileStorage::temporary().unwrap();
        let path = storage.path().join("a");
        let file = File::options().write(true).create_new(true).open(path).unwrap();
        let (bytes, skip) = aligned(2 * LONG);
        let direct = Direct::default();
        for (from, len, offset) in
            [(skip, LONG - ALIGN, 0), (skip + 8, LONG, 0), (skip, LONG, 512), (skip, LONG + 8, 0)]
        {
            assert!(direct.write_at(&file, &bytes[from..from + len], offset).is_none());
        }
        assert!(direct.handle.lock().unwrap().is_none());
        match direct.write_at(&file, &bytes[skip..skip + LONG], 0) {
            Some(written) => assert_eq!(written.unwrap(), LONG),
            None => {
                assert!(direct.refused.load(Ordering::Relaxed), "this file system takes none, and that is remembered")
            }
        }
        direct.synced();
        assert!(direct.handle.lock().unwrap().is_none());
        storage.destroy().unwrap();
    }
}
