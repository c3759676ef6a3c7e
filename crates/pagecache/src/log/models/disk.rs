//! A disk for models: it knows what was synced, and shows loom who wrote which block and who reads it.

use std::io;
use std::sync::atomic::AtomicU64 as PlainU64;
use std::sync::{Arc, Mutex as PlainMutex, PoisonError};

use loom::thread::JoinHandle;

use super::SEGMENT;
use crate::base::ids::Lsn;
use crate::base::sync::{AtomicU64, Ordering, UnsafeCell};
use crate::format::BLOCK;
use crate::storage::{LockGuard, LockMode, OpenMode, Storage, StorageFile};

/// A disk that knows what was synced, and shows loom who wrote which block and who reads it.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) files: PlainMutex<Vec<Arc<DiskFile>>>,
    /// Syncs that fail, counted down.
    pub(super) bad_syncs: Arc<PlainU64>,
    /// Writes that find the disk full, counted down.
    pub(super) full: Arc<PlainU64>,
}

#[derive(Debug)]
pub(super) struct DiskFile {
    /// Touched without an ordering by every call, so that loom tries their orders and learns no order from them.
    pub(super) order: AtomicU64,
    pub(super) blocks: Vec<UnsafeCell<()>>,
    pub(super) images: PlainMutex<Images>,
    pub(super) bad_syncs: Arc<PlainU64>,
    pub(super) full: Arc<PlainU64>,
}

// SAFETY: the cells hold nothing; their accesses are there for loom to judge.
unsafe impl Sync for DiskFile {}

#[derive(Debug)]
pub(super) struct Images {
    pub(super) written: Vec<u8>,
    pub(super) synced: Vec<u8>,
}

pub(super) fn join<const N: usize, T>(threads: [JoinHandle<T>; N]) {
    for thread in threads {
        thread.join().unwrap();
    }
}

pub(super) fn locked<T>(mutex: &PlainMutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn count_down(counter: &PlainU64) -> bool {
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

impl Disk {
    pub(super) fn file(&self, lsn: Lsn) -> Arc<DiskFile> {
        Arc::clone(&locked(&self.shared.files)[(lsn.0 / SEGMENT) as usize])
    }
}

impl DiskFile {
    pub(super) fn touch(&self) {
        self.order.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn span(&self, offset: u64, len: usize) -> &[UnsafeCell<()>] {
        &self.blocks[(offset / BLOCK) as usize..(offset + len as u64).div_ceil(BLOCK) as usize]
    }

    /// What a crash now would leave. The reader must be in order with whoever wrote it.
    pub(super) fn synced(&self, offset: u64, len: usize) -> Vec<u8> {
        self.touch();
        self.span(offset, len).iter().for_each(|block| block.with(|_| ()));
        locked(&self.images).synced[offset as usize..offset as usize + len].to_vec()
    }
}

impl Storage for Disk {
    fn open(&self, _name: &str, _mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        let file = Arc::new(DiskFile {
            order: AtomicU64::new(0),
            blocks: (0..SEGMENT / BLOCK).map(|_| UnsafeCell::new(())).collect(),
            images: PlainMutex::new(Images { written: vec![0; SEGMENT as usize], synced: vec![0; SEGMENT as usize] }),
            bad_syncs: Arc::clone(&self.shared.bad_syncs),
            full: Arc::clone(&self.shared.full),
        });
        locked(&self.shared.files).push(Arc::clone(&file));
        Ok(file)
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _mode: LockMode) -> io::Result<Box<dyn LockGuard>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn describe(&self) -> String {
        "a disk in a model".to_owned()
    }

    fn entropy(&self) -> u64 {
        0x5eed + locked(&self.shared.files).len() as u64
    }
}

impl StorageFile for DiskFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.touch();
        self.span(offset, buf.len()).iter().for_each(|block| block.with(|_| ()));
        buf.copy_from_slice(&locked(&self.images).written[offset as usize..offset as usize + buf.len()]);
        Ok(buf.len())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.touch();
        if count_down(&self.full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.span(offset, buf.len()).iter().for_each(|block| block.with_mut(|_| ()));
        locked(&self.images).written[offset as usize..offset as usize + buf.len()].copy_from_slice(buf);
        Ok(buf.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.touch();
        if count_down(&self.bad_syncs) {
            return Err(io::Error::other("the disk is gone"));
        }
        let mut images = locked(&self.images);
        images.synced = images.written.clone();
        Ok(())
    }

    fn allocate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(SEGMENT)
    }
}
