//! Files in memory: for tests, for benchmarks of everything but the disk, and for stores that need not outlive the process.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{LockGuard, LockMode, OpenMode, Storage, StorageFile};

/// Bytes of one piece of a file; a piece that was never written occupies nothing.
const PIECE: usize = 64 << 10;

/// A directory in memory. Clones share it: close a store on one and open it on another.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    files: Arc<Mutex<BTreeMap<String, Arc<MemoryFile>>>>,
    /// -1 exclusive, 0 free, n shared.
    holders: Arc<AtomicI64>,
}

impl MemoryStorage {
    /// An empty directory.
    pub fn new() -> MemoryStorage {
        MemoryStorage::default()
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Arc<MemoryFile>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryStorage {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        let mut files = self.files();
        match (files.get(name), mode) {
            (Some(_), OpenMode::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => Ok(Arc::<MemoryFile>::clone(file)),
            (None, OpenMode::CreateNew) => {
                let file = Arc::new(MemoryFile::default());
                files.insert(name.to_owned(), Arc::clone(&file));
                Ok(file)
            }
            (None, _) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files().remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, mode: LockMode) -> io::Result<Box<dyn LockGuard>> {
        // Acquire on success pairs with the release of the holder before; the word is the whole state.
        let step = |holders: i64| match mode {
            LockMode::Exclusive => (holders == 0).then_some(-1),
            LockMode::Shared => (holders >= 0).then_some(holders + 1),
        };
        match self.holders.fetch_update(Ordering::AcqRel, Ordering::Relaxed, step) {
            Ok(_) => Ok(Box::new(MemoryLock { holders: Arc::clone(&self.holders), mode })),
            Err(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

#[derive(Debug)]
struct MemoryLock {
    holders: Arc<AtomicI64>,
    mode: LockMode,
}

impl LockGuard for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let step = if self.mode == LockMode::Exclusive { 1 } else { -1 };
        self.holders.fetch_add(step, Ordering::AcqRel);
    }
}

type Piece = Option<Box<[u8]>>;

#[derive(Debug, Default)]
struct MemoryFile {
    bytes: RwLock<Bytes>,
}

#[derive(Debug, Default)]
struct Bytes {
    len: u64,
    pieces: Vec<Piece>,
}

impl StorageFile for MemoryFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        let count = bytes.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let (mut at, mut rest) = (offset as usize, buf.get_mut(..count).unwrap_or_default());
        while !rest.is_empty() {
            let within = at % PIECE;
            let step = (PIECE - within).min(rest.len());
            let (now, later) = rest.split_at_mut(step);
            match bytes.pieces.get(at / PIECE).and_then(|piece| piece.as_ref()?.get(within..within + step)) {
                Some(source) => now.copy_from_slice(source),
                None => now.fill(0),
            }
            (at, rest) = (at + step, later);
        }
        Ok(count)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        let end = offset.checked_add(buf.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        let longer = bytes.len.max(end);
        bytes.set_len(longer);
        let (mut at, mut rest) = (offset as usize, buf);
        while !rest.is_empty() {
            let within = at % PIECE;
            let step = (PIECE - within).min(rest.len());
            let (now, later) = rest.split_at(step);
            if let Some(piece) = bytes.pieces.get_mut(at / PIECE) {
                let piece = piece.get_or_insert_with(|| vec![0; PIECE].into_boxed_slice());
                if let Some(target) = piece.get_mut(within..within + step) {
                    target.copy_from_slice(now);
                }
            }
            (at, rest) = (at + step, later);
        }
        Ok(buf.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        let end = bytes.len.max(offset.saturating_add(len));
        bytes.set_len(end);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.write().unwrap_or_else(PoisonError::into_inner).set_len(len);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.read().unwrap_or_else(PoisonError::into_inner).len)
    }

    fn allocated(&self) -> io::Result<u64> {
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        Ok(bytes.pieces.iter().flatten().map(|piece| piece.len() as u64).sum())
    }
}

impl Bytes {
    fn set_len(&mut self, len: u64) {
        if len == self.len {
            return;
        }
        self.pieces.resize_with(len.div_ceil(PIECE as u64) as usize, || None);
        let within = (len % PIECE as u64) as usize;
        if let Some(Some(last)) = self.pieces.last_mut().filter(|_| len < self.len && within > 0) {
            last.get_mut(within..).unwrap_or_default().fill(0);
        }
        self.len = len;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn bytes_cross_pieces_and_holes_read_as_zero() {
        let storage = MemoryStorage::new();
        let file = storage.open("a", OpenMode::CreateNew).unwrap();
        file.write_at(&[7; 100], PIECE as u64 - 50).unwrap();
        let mut buf = [1; 200];
        assert_eq!(file.read_at(&mut buf, PIECE as u64 - 100).unwrap(), 150);
        assert!(buf[..50].iter().all(|byte| *byte == 0) && buf[50..150].iter().all(|byte| *byte == 7));
        file.set_len(PIECE as u64 - 10).unwrap();
        file.set_len(PIECE as u64 + 10).unwrap();
        assert_eq!(file.read_at(&mut buf, PIECE as u64 - 20).unwrap(), 30);
        assert!(buf[..10].iter().all(|byte| *byte == 7) && buf[10..30].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn one_writer_or_many_readers() {
        let storage = MemoryStorage::new();
        let writer = storage.clone().lock(LockMode::Exclusive).unwrap();
        assert!(storage.lock(LockMode::Shared).is_err());
        drop(writer);
        let _reader = storage.lock(LockMode::Shared).unwrap();
        assert!(storage.lock(LockMode::Shared).is_ok());
        assert!(storage.lock(LockMode::Exclusive).is_err());
    }
}
