//! Files in memory with random bits that are the same each time, and their bytes as text that can be compared by eye.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pagecache::storage::{LockGuard, LockMode, MemoryStorage, OpenMode, Storage, StorageFile, read_full, write_all};

/// Every file of a store.
pub type Files = BTreeMap<String, Vec<u8>>;

#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: MemoryStorage,
    drawn: Arc<AtomicU64>,
}

impl Disk {
    pub fn of(files: &Files) -> Disk {
        let disk = Disk::default();
        for (name, bytes) in files {
            write_all(disk.open(name, OpenMode::CreateNew).unwrap().as_ref(), bytes, 0).unwrap();
        }
        disk
    }

    pub fn files(&self) -> Files {
        let read = |name: String| {
            let file = self.open(&name, OpenMode::ReadOnly).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            read_full(file.as_ref(), &mut bytes, 0).unwrap();
            (name, bytes)
        };
        self.list().unwrap().into_iter().map(read).collect()
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
        self.files.describe()
    }
    fn entropy(&self) -> u64 {
        (self.drawn.fetch_add(1, Ordering::Relaxed) + 1) * 0x0101_0101_0101_0101
    }
}

/// For each file a line `name length`, then a line `offset: bytes` for every 16 bytes that are not zero.
pub fn text(files: &Files) -> String {
    let mut text = String::new();
    for (name, bytes) in files {
        writeln!(text, "{name} {}", bytes.len()).unwrap();
        for (nth, line) in bytes.chunks(16).enumerate().filter(|(_, line)| line.iter().any(|byte| *byte != 0)) {
            let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(text, "{:06x}: {}", nth * 16, hex.join(" ")).unwrap();
        }
    }
    text
}

pub fn files(text: &str) -> Files {
    let mut files = Files::new();
    let mut last = String::new();
    for line in text.lines() {
        match line.split_once(": ") {
            None => {
                let (name, len) = line.split_once(' ').unwrap();
                last = name.to_owned();
                files.insert(last.clone(), vec![0; len.parse().unwrap()]);
            }
            Some((offset, hex)) => {
                let bytes = files.get_mut(&last).unwrap();
                let at = usize::from_str_radix(offset, 16).unwrap();
                for (nth, byte) in hex.split(' ').enumerate() {
                    bytes[at + nth] = u8::from_str_radix(byte, 16).unwrap();
                }
            }
        }
    }
    files
}
