//! Files in memory whose random bits are the same each time, made of files and turned into files again.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pagecache::storage::{LockGuard, LockMode, MemoryStorage, OpenMode, Storage, StorageFile, read_full, write_all};

/// Every file of a directory.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A directory in memory; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: MemoryStorage,
    drawn: Arc<AtomicU64>,
}

impl Disk {
    pub fn of(files: &Files) -> Disk {
        let disk = Disk::default();
        for (name, bytes) in files {
            let file = disk.open(name, OpenMode::CreateNew).expect("names are different");
            file.set_len(bytes.len() as u64).expect("memory takes any length");
            for (offset, piece) in crate::sparse::stretches(bytes) {
                write_all(file.as_ref(), piece, offset as u64).expect("memory takes every write");
            }
        }
        disk
    }

    pub fn files(&self) -> Files {
        let read = |name: String| {
            let file = self.open(&name, OpenMode::ReadOnly).expect("it was listed");
            let mut bytes = vec![0; file.len().expect("memory has a length") as usize];
            let got = read_full(file.as_ref(), &mut bytes, 0).expect("memory is read");
            assert_eq!(got, bytes.len());
            (name, bytes)
        };
        self.list().expect("memory is listed").into_iter().map(read).collect()
    }
}

impl Storage for Disk {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        self.files.open(name, mode)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.remove(name)
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.files.list()
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.files.sync_dir()
    }
    fn lock(&self, mode: LockMode) -> io::Result<Box<dyn LockGuard>> {
        self.files.lock(mode)
    }
    fn describe(&self) -> String {
        "a directory of arbitrary bytes".to_owned()
    }
    fn entropy(&self) -> u64 {
        (self.drawn.fetch_add(1, Ordering::Relaxed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
