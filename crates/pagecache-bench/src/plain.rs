//! The peer: a log as most programs write it. One mutex, one buffer, `write_at` into a file written before, one shared
//! `fdatasync` with a leader and followers.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex};

const BUFFER: usize = 8 << 20;

struct State {
    buffer: Vec<u8>,
    /// Where the buffer's first byte goes.
    offset: u64,
    synced: u64,
    leading: bool,
}

/// A plain log in one file.
pub struct Plain {
    file: File,
    state: Mutex<State>,
    moved: Condvar,
}

impl Plain {
    /// A log in a new file of `len` bytes, written and synced before, so that no write meets a fresh block.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(path: &Path, len: u64) -> io::Result<Plain> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        let zeros = vec![0; 1 << 20];
        for at in 0..len.div_ceil(1 << 20) {
            file.write_all_at(&zeros, at << 20)?;
        }
        file.sync_all()?;
        let state = State { buffer: Vec::with_capacity(BUFFER), offset: 0, synced: 0, leading: false };
        Ok(Plain { file, state: Mutex::new(state), moved: Condvar::new() })
    }

    /// Appends a record behind an 8-byte header (length and CRC32C would go there); returns where it ends.
    pub fn append(&self, record: &[u8]) -> u64 {
        let mut state = self.state.lock().expect("not poisoned");
        if state.buffer.len() + record.len() + 8 > BUFFER {
            self.write(&mut state);
        }
        state.buffer.extend_from_slice(&(record.len() as u64).to_le_bytes());
        state.buffer.extend_from_slice(record);
        state.offset + state.buffer.len() as u64
    }

    fn write(&self, state: &mut State) {
        self.file.write_all_at(&state.buffer, state.offset).expect("the disk has room");
        state.offset += state.buffer.len() as u64;
        state.buffer.clear();
    }

    /// Returns once everything below `end` is synced.
    pub fn sync(&self, end: u64) {
        let mut state = self.state.lock().expect("not poisoned");
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
            state = self.state.lock().expect("not poisoned");
            state.synced = upto;
            state.leading = false;
            self.moved.notify_all();
        }
    }
}
