//! The disk seen through the store's own seam: every call is counted, traced, and may go wrong.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pagecache::storage::{LockGuard, LockMode, OpenMode, Storage, StorageFile};

use super::SimDisk;
use super::content::{Content, end_of};
use super::fault::{Call, Effect, eio};
use super::state::{Event, FileId, State};

impl Storage for SimDisk {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        let mut state = self.state();
        state.alive()?;
        let file = if mode == OpenMode::CreateNew {
            state.begin(Call::Create, name, (0, 0), &[])?;
            if state.lookup(name).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let name = Arc::from(name);
            let file = state.new_file(&name, Content::default());
            state.change(Event::Create { file, name });
            file
        } else {
            state.lookup(name)?
        };
        state.node(file).handles += 1;
        Ok(Arc::new(SimFile { state: Arc::clone(&self.state), file, mode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.begin(Call::Rename, from, (0, 0), to.as_bytes())?;
        let file = state.lookup(from)?;
        if from != to {
            state.change(Event::Rename { file, from: from.into(), to: to.into() });
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.begin(Call::Remove, name, (0, 0), &[])?;
        let file = state.lookup(name)?;
        state.change(Event::Remove { file, name: name.into() });
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.state().alive()?;
        Ok(self.file_names())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        let effect = state.begin(Call::SyncDir, "", (0, 0), &[])?;
        state.sync_dir(effect)
    }

    fn lock(&self, mode: LockMode) -> io::Result<Box<dyn LockGuard>> {
        let mut state = self.state();
        state.alive()?;
        state.holders = match mode {
            LockMode::Exclusive if state.holders == 0 => -1,
            LockMode::Shared if state.holders >= 0 => state.holders + 1,
            _ => return Err(io::ErrorKind::WouldBlock.into()),
        };
        Ok(Box::new(SimLock { state: Arc::clone(&self.state), mode }))
    }

    fn describe(&self) -> String {
        "simulated disk".to_owned()
    }

    fn entropy(&self) -> u64 {
        self.state().rng.next_u64()
    }
}

struct SimLock {
    state: Arc<Mutex<State>>,
    mode: LockMode,
}

impl fmt::Debug for SimLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimLock").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let step = if self.mode == LockMode::Exclusive { 1 } else { -1 };
        self.state.lock().unwrap_or_else(PoisonError::into_inner).holders += step;
    }
}

struct SimFile {
    state: Arc<Mutex<State>>,
    file: FileId,
    mode: OpenMode,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("file", &self.file).field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl SimFile {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a call on this file through the crash point, the trace and the faults.
    fn begin(&self, call: Call, place: (u64, u64), data: &[u8]) -> io::Result<(MutexGuard<'_, State>, Option<Effect>)> {
        if self.mode == OpenMode::ReadOnly && matches!(call, Call::Write | Call::Allocate | Call::SetLen) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut state = self.state();
        let name = Arc::clone(&state.node(self.file).name);
        let effect = state.begin(call, &name, place, data)?;
        Ok((state, effect))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.state().close(self.file);
    }
}

impl StorageFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut state, effect) = self.begin(Call::Read, (offset, buf.len() as u64), &[])?;
        let len = if effect == Some(Effect::Short) { half(buf.len()) } else { buf.len() };
        let node = state.node(self.file);
        let end = offset.saturating_add(len as u64);
        if node.unreadable.iter().any(|range| range.start < end && offset < range.end) {
            return Err(eio());
        }
        Ok(node.current.read(&mut buf[..len], offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let (mut state, effect) = self.begin(Call::Write, (offset, buf.len() as u64), buf)?;
        let len = if effect == Some(Effect::Short) { half(buf.len()) } else { buf.len() };
        if len == 0 {
            return Ok(0);
        }
        let (file, bytes) = (self.file, &buf[..len]);
        let end = end_of(offset, len as u64)?;
        let grow = |state: &mut State| {
            if end > state.node(file).current.len() {
                state.change(Event::SetLen { file, len: end });
            }
        };
        let offset = match effect {
            Some(Effect::LostWrite) => {
                grow(&mut state);
                return Ok(len);
            }
            Some(Effect::MisdirectedWrite { delta }) => {
                grow(&mut state);
                offset.saturating_add_signed(delta)
            }
            _ => offset,
        };
        end_of(offset, len as u64)?;
        state.make_room(file, offset, len as u64)?;
        state.change(Event::Write { file, offset, bytes: bytes.into() });
        Ok(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut state, effect) = self.begin(Call::SyncData, (0, 0), &[])?;
        state.sync_data(self.file, effect)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let (mut state, _) = self.begin(Call::Allocate, (offset, len), &[])?;
        let file = self.file;
        end_of(offset, len)?;
        state.make_room(file, offset, len)?;
        if len > 0 {
            state.change(Event::Allocate { file, offset, len });
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut state, _) = self.begin(Call::SetLen, (len, 0), &[])?;
        let file = self.file;
        end_of(len, 0)?;
        if len != state.node(file).current.len() {
            state.change(Event::SetLen { file, len });
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.state();
        state.alive()?;
        Ok(state.node(self.file).current.len())
    }

    fn allocated(&self) -> io::Result<u64> {
        let mut state = self.state();
        state.alive()?;
        Ok(state.node(self.file).current.allocated())
    }
}

fn half(len: usize) -> usize {
    (len / 2).max(len.min(1))
}
