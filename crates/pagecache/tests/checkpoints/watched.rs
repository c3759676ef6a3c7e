//! A storage that notes which files are opened, and stops where it is told to.

use std::io;
use std::sync::{Arc, Condvar, Mutex};

use pagecache::storage::{LockGuard, LockMode, MemoryStorage, OpenMode, Storage, StorageFile};

/// Memory, watched.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    memory: MemoryStorage,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Names of files that were opened, in order.
    opened: Mutex<Vec<String>>,
    gate: Mutex<Gate>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Gate {
    /// Syncs of the superblock wait.
    shut: bool,
    waiting: usize,
}

impl Watched {
    pub fn opened(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.opened.lock().unwrap())
    }

    pub fn names(&self) -> Vec<String> {
        let mut names = self.memory.list().unwrap();
        names.sort();
        names
    }

    /// Lets no superblock be synced.
    pub fn shut(&self) {
        self.shared.gate.lock().unwrap().shut = true;
    }

    /// Returns once somebody waits at the gate.
    pub fn somebody_waits(&self) {
        let gate = self.shared.gate.lock().unwrap();
        drop(self.shared.moved.wait_while(gate, |gate| gate.waiting == 0).unwrap());
    }

    pub fn open_gate(&self) {
        self.shared.gate.lock().unwrap().shut = false;
        self.shared.moved.notify_all();
    }
}

impl Storage for Watched {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.memory.open(name, mode)?;
        self.shared.opened.lock().unwrap().push(name.to_owned());
        let gate = name.starts_with("super-").then(|| Arc::clone(&self.shared));
        Ok(Arc::new(WatchedFile { file, gate }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.memory.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.memory.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.memory.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.memory.sync_dir()
    }

    fn lock(&self, mode: LockMode) -> io::Result<Box<dyn LockGuard>> {
        self.memory.lock(mode)
    }

    fn describe(&self) -> String {
        self.memory.describe()
    }
}

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn StorageFile>,
    gate: Option<Arc<Shared>>,
}

impl StorageFile for WatchedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        if let Some(shared) = &self.gate {
            let mut gate = shared.gate.lock().unwrap();
            gate.waiting += 1;
            shared.moved.notify_all();
            gate = shared.moved.wait_while(gate, |gate| gate.shut).unwrap();
            gate.waiting -= 1;
        }
        self.file.sync_data()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
