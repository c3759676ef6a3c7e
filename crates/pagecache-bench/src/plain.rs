//! The peer: a log as most programs write it. One mutex, one buffer, `write_at`, one shared `fdatasync` with a leader and
//! followers. And the bare loop that says whether the peer is a worthy one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard};

use pagecache::storage::{FileStorage, OpenMode, Storage, write_all};

use crate::engines::Appends;
use crate::measure::seconds;

/// This name in tables, for the peer that writes into a file written before.
pub const PLAIN: &str = "plain";

/// This name in tables, for the same with a file that grows.
pub const GROWING: &str = "plain, growing file";

/// Plain's buffer, and what the bare loop writes at a time.
const BUFFER: usize = 8 << 20;

/// Of the bare loop's rate: below it `plain` is no peer, and a row held against it does not count.
pub const WORTHY: f64 = 0.8;

#[derive(Debug)]
struct State {
    buffer: Vec<u8>,
    /// Where the buffer's first byte goes.
    offset: u64,
    synced: u64,
    leading: bool,
}

/// A plain log in one file. No checksum.
#[derive(Debug)]
pub struct Plain {
    file: File,
    state: Mutex<State>,
    moved: Condvar,
}

fn new_file(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(true).open(path)
}

fn written_before(path: &Path, len: u64) -> io::Result<File> {
    let file = new_file(path)?;
    let zeros = vec![0; 1 << 20];
    for at in 0..len.div_ceil(1 << 20) {
        file.write_all_at(&zeros, at << 20)?;
    }
    file.sync_all()?;
    Ok(file)
}

impl Plain {
    /// A log in a new file of `len` bytes, written and synced before, so that no write meets a fresh block.
    ///
    /// # Errors
    /// What the system says.
    pub fn written_before(path: &Path, len: u64) -> io::Result<Plain> {
        written_before(path, len).map(Plain::over)
    }

    /// A log in a new, empty file.
    ///
    /// # Errors
    /// What the system says.
    pub fn growing(path: &Path) -> io::Result<Plain> {
        new_file(path).map(Plain::over)
    }

    fn over(file: File) -> Plain {
        let state = State { buffer: Vec::with_capacity(BUFFER), offset: 0, synced: 0, leading: false };
        Plain { file, state: Mutex::new(state), moved: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    fn write(&self, state: &mut State) {
        self.file.write_all_at(&state.buffer, state.offset).expect("the disk has room");
        state.offset += state.buffer.len() as u64;
        state.buffer.clear();
    }
}

impl Appends for Plain {
    /// Behind an 8-byte header; length and CRC32C would go there. Returns where the record ends.
    fn append(&self, record: &[u8]) -> u64 {
        let mut state = self.state();
        if state.buffer.len() + record.len() + 8 > BUFFER {
            self.write(&mut state);
        }
        state.buffer.extend_from_slice(&(record.len() as u64).to_le_bytes());
        state.buffer.extend_from_slice(record);
        state.offset + state.buffer.len() as u64
    }

    fn wait(&self, end: u64) {
        let mut state = self.state();
        while state.synced < end {
            if state.leading {
                state = self.moved.wait(state).expect("not poisoned");
                continue;
            }
            state.leading = true;
            self.write(&mut state);
            let upto = state.offset;
            drop(state);
            self.file.sync_data().expect("the disk syncs");
            state = self.state();
            state.synced = upto;
            state.leading = false;
            self.moved.notify_all();
        }
    }

    fn flush(&self) {
        let state = self.state();
        let end = state.offset + state.buffer.len() as u64;
        drop(state);
        self.wait(end);
    }
}

/// MB/s of a bare loop that writes as many bytes into a file written before, a buffer at a time, and syncs at the end.
///
/// # Errors
/// What the system says.
pub fn bare_bulk(path: &Path, bytes: u64) -> io::Result<f64> {
    let file = written_before(path, bytes)?;
    let buffer = vec![7; BUFFER.min(bytes.max(1) as usize)];
    let steps = bytes.div_ceil(buffer.len() as u64);
    let took = seconds(|| {
        for step in 0..steps {
            file.write_all_at(&buffer, step * buffer.len() as u64).expect("the disk has room");
        }
        file.sync_data().expect("the disk syncs");
    });
    Ok((steps * buffer.len() as u64) as f64 / took / 1e6)
}

/// MB/s of a bare loop that writes as many bytes into new files of a segment's size, each set aside when it is made as a log's
/// segments are, and syncs all at the end: what the file system gives to a log whose files were not written before.
///
/// # Errors
/// What the system says.
pub fn bare_fresh(dir: &Path, bytes: u64) -> io::Result<f64> {
    let storage = FileStorage::create(dir)?;
    let buffer = vec![7; 1 << 20];
    let mut files = Vec::new();
    let took = seconds(|| {
        for number in 0..bytes.div_ceil(BUFFER as u64) {
            let file = storage.open(&format!("seg-{number}"), OpenMode::CreateNew).expect("a new file");
            file.allocate(0, BUFFER as u64).expect("the disk has room");
            for at in 0..(BUFFER / buffer.len()) as u64 {
                write_all(file.as_ref(), &buffer, at * buffer.len() as u64).expect("the disk has room");
            }
            files.push(file);
        }
        files.iter().for_each(|file| file.sync_data().expect("the disk syncs"));
    });
    Ok((files.len() * BUFFER) as f64 / took / 1e6)
}

/// MB/s of a bare loop on one thread that writes a record and syncs it, `count` times.
///
/// # Errors
/// What the system says.
pub fn bare_durable(path: &Path, record: usize, count: usize) -> io::Result<f64> {
    let record = vec![7; record + 8];
    let bytes = (record.len() * count) as u64;
    let file = written_before(path, bytes)?;
    let took = seconds(|| {
        for at in 0..count {
            file.write_all_at(&record, (at * record.len()) as u64).expect("the disk has room");
            file.sync_data().expect("the disk syncs");
        }
    });
    Ok(bytes as f64 / took / 1e6)
}
