//! Storage in memory that knows what was opened, and in which one thread's calls hang.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use pagecache::storage::{LockGuard, LockMode, MemoryStorage, OpenMode, Storage, StorageFile};

#[derive(Clone, Debug, Default)]
pub struct Watched {
    memory: MemoryStorage,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Names of files that were opened, in order.
    opened: Mutex<Vec<String>>,
    /// Where files were read, and how many bytes, in order.
    read: Mutex<Vec<(String, u64, usize)>>,
    gate: Mutex<Gate>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Gate {
    /// Whose calls are counted, and the one that hangs.
    thread: Option<ThreadId>,
    calls: usize,
    hangs: usize,
    /// The call that hangs now.
    waiting: Option<String>,
}

impl Shared {
    fn pass(&self, call: &str, name: &str) {
        let mut gate = self.gate.lock().unwrap();
        if gate.thread != Some(std::thread::current().id()) {
            return;
        }
        gate.calls += 1;
        if gate.calls == gate.hangs {
            gate.waiting = Some(format!("{call} {name}"));
            self.moved.notify_all();
            drop(self.moved.wait_while(gate, |gate| gate.waiting.is_some()).unwrap());
        }
    }
}

impl Watched {
    pub fn opened(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.opened.lock().unwrap())
    }

    pub fn read(&self) -> Vec<(String, u64, usize)> {
        std::mem::take(&mut *self.shared.read.lock().unwrap())
    }

    pub fn names(&self) -> Vec<String> {
        let mut names = self.memory.list().unwrap();
        names.sort();
        names
    }

    /// From now on the calling thread's calls are counted, but for flushes of the log, and this one hangs until the gate is opened.
    pub fn hang_at(&self, call: usize) {
        let thread = Some(std::thread::current().id());
        *self.shared.gate.lock().unwrap() = Gate { thread, hangs: call, ..Gate::default() };
    }

    /// The call that hangs, or none after so long.
    pub fn hanging(&self, patience: Duration) -> Option<String> {
        let gate = self.shared.gate.lock().unwrap();
        let (gate, _) = self.shared.moved.wait_timeout_while(gate, patience, |gate| gate.waiting.is_none()).unwrap();
        gate.waiting.clone()
    }

    pub fn open_gate(&self) {
        *self.shared.gate.lock().unwrap() = Gate::default();
        self.shared.moved.notify_all();
    }
}

impl Storage for Watched {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        self.shared.pass("open", name);
        let file = self.memory.open(name, mode)?;
        self.shared.opened.lock().unwrap().push(name.to_owned());
        Ok(Arc::new(WatchedFile { file, name: name.to_owned(), shared: Arc::clone(&self.shared) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.shared.pass("rename", from);
        self.memory.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.shared.pass("remove", name);
        self.memory.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.memory.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.shared.pass("sync_dir", "");
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
    name: String,
    shared: Arc<Shared>,
}

impl WatchedFile {
    /// Whether it is a segment of the log, as its header says: who flushes that commits for everybody, who waits for it as for any other's commit.
    fn is_of_log(&self) -> bool {
        let mut header = [0; 14];
        !self.name.starts_with("super")
            && self.file.read_at(&mut header, 0).is_ok_and(|count| count == 14)
            && header[0] != 0
            && header[13] == 0
    }
}

impl StorageFile for WatchedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.shared.pass("read", &self.name);
        let count = self.file.read_at(buf, offset)?;
        self.shared.read.lock().unwrap().push((self.name.clone(), offset, count));
        Ok(count)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        if !self.is_of_log() {
            self.shared.pass("write", &self.name);
        }
        self.file.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        if !self.is_of_log() {
            self.shared.pass("sync", &self.name);
        }
        self.file.sync_data()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.shared.pass("allocate", &self.name);
        self.file.allocate(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.shared.pass("set_len", &self.name);
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
