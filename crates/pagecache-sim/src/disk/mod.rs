//! A disk that loses what was not synced, tears what was under way, and fails on command; the same seed gives the same run.
//!
//! [`SimDisk`] is a `pagecache::storage::Storage`. Run a store on it, stop it at the n-th call
//! ([`crash_at`](SimDisk::crash_at)), draw the images that a crash at this point may leave
//! ([`images`](SimDisk::images), [`crash`](SimDisk::crash)), and recover from each of them:
//!
//! ```
//! use pagecache::storage::{OpenMode, Storage, StorageFile};
//! use pagecache_sim::disk::{SimDisk, Survival};
//!
//! let disk = SimDisk::new(1);
//! let file = disk.open("a", OpenMode::CreateNew).unwrap();
//! file.write_at(b"hello", 0).unwrap();
//! file.sync_data().unwrap();
//! // The bytes are durable, the name is not.
//! assert!(disk.crash(Survival::DropAll).file_names().is_empty());
//! disk.sync_dir().unwrap();
//! assert_eq!(disk.crash(Survival::DropAll).read_file("a"), b"hello");
//! ```

mod content;
mod crash;
mod fault;
mod images;
mod state;
mod storage;
mod trace;

pub use crash::{Rest, Survival};
pub use fault::{AfterSync, Call, Effect, Fault, Strike, When};

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::content::Content;
use self::state::{Event, State};
use crate::rng::Rng;

/// One simulated directory on a simulated disk. Clones share it.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("SimDisk")
            .field("files", &state.dir.current.len())
            .field("pending", &state.pending.len())
            .field("io_count", &state.io_count)
            .field("crashed", &state.crashed)
            .finish_non_exhaustive()
    }
}

impl SimDisk {
    /// An empty disk. The seed decides [`entropy`](pagecache::storage::Storage::entropy).
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::from_state(State::new(Rng::new(seed)))
    }

    fn from_state(state: State) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk that the next process finds if the machine stops now: everything on it durable, unlocked, with neither
    /// faults nor crash point armed, calls counted and traced from zero, the capacity and the sequence of entropy going
    /// on. This disk stays as it is, so that many images can be drawn from one point.
    #[must_use]
    pub fn crash(&self, survival: Survival) -> SimDisk {
        let state = self.state();
        let image = state.image(&state.plan(survival));
        SimDisk::from_state(image)
    }

    /// The disk that the next process finds if this one dies now and the machine goes on: all it did is there, and what no
    /// sync has covered is still pending. Unlocked, with no faults armed and syncs honest again; calls are counted and traced
    /// from zero. This disk stays as it is.
    #[must_use]
    pub fn kill(&self) -> SimDisk {
        let next = self.state().killed();
        SimDisk::from_state(next)
    }

    /// At most `limit` policies worth trying at this point, no two with the same image: `DropAll` and `KeepAll` (one of them
    /// where nothing is pending), all subsets where these fill no more than half of the limit, else as many as fit of
    /// single-missing, single-kept, prefixes, torn and random ones. The same state and seed give the same list.
    pub fn images(&self, limit: usize, seed: u64) -> Vec<Survival> {
        self.state().choose(limit, seed)
    }

    /// How many events a crash could keep or lose now.
    pub fn pending_count(&self) -> usize {
        self.state().pending.len()
    }

    /// Calls so far that change something or sync, failed ones included: all but reads, opens, lists and locks.
    pub fn io_count(&self) -> u64 {
        self.state().io_count
    }

    /// Reads so far, failed ones included.
    pub fn read_count(&self) -> u64 {
        self.state().read_count
    }

    /// Stops the process at the counted call with this number, from 0: it and every later call, reads too, fail with
    /// "crashed" and do nothing. A number already reached stops the next counted call.
    pub fn crash_at(&self, nth: u64) {
        self.state().crash_at = Some(nth);
    }

    /// Stops the process at a sync of a file, before it does anything, after so many that come first.
    pub fn crash_at_sync(&self, nth: u64) {
        self.state().crash_at_sync = Some(nth);
    }

    /// The numbers and lengths in bytes of the writes that a crash could keep, lose or tear now.
    pub fn pending_writes(&self) -> Vec<(usize, usize)> {
        let state = self.state();
        let writes = state.pending.iter().enumerate().filter_map(|(number, event)| match event {
            Event::Write { bytes, .. } => Some((number, bytes.len())),
            _ => None,
        });
        writes.collect()
    }

    /// Whether the crash point was reached.
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// A hash of all calls so far, reads included: kinds, names, places and data.
    pub fn trace_hash(&self) -> u64 {
        self.state().trace.hash()
    }

    /// Arms a fault. Where several strike one call, the one armed first wins; all of them count it.
    ///
    /// # Panics
    /// Where the effect means nothing for the call, such as a lying read.
    pub fn fault(&self, fault: Fault) {
        assert!(fault.is_meaningful(), "{:?} means nothing for {:?}", fault.effect, fault.call);
        self.state().faults.arm(fault);
    }

    /// The calls that armed faults have struck so far, in order.
    pub fn struck(&self) -> Vec<Strike> {
        self.state().faults.struck.clone()
    }

    /// Disarms all faults, ends the lies of syncs and makes unreadable ranges readable. What a lying sync skipped is still
    /// pending; flipped bits, lost and misdirected writes stay.
    pub fn clear_faults(&self) {
        self.state().clear_faults();
    }

    /// Limits the bytes that all files may occupy, in pages of 4 KiB: beyond, writes and allocations fail with `ENOSPC` and
    /// do nothing. As on a real disk, a removed file's space is free once its last handle is dropped.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// The limit on the bytes that all files may occupy, if there is one.
    pub fn capacity(&self) -> Option<u64> {
        self.state().capacity
    }

    /// Bytes that all files occupy, in pages of 4 KiB.
    pub fn used_bytes(&self) -> u64 {
        self.state().used()
    }

    /// Turns over a bit of a file, in what is durable as in what is read now. False where the file is shorter.
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn flip_bit(&self, name: &str, bit: u64) -> bool {
        self.with_file(name, |state, file| {
            let node = state.node(file);
            let durable = node.durable.flip(bit);
            node.current.flip(bit) || durable
        })
    }

    /// Makes reads that touch the range of bytes fail with `EIO`, on this disk and not on its crash images.
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn unreadable(&self, name: &str, range: Range<u64>) {
        self.with_file(name, |state, file| state.node(file).unreadable.push(range));
    }

    /// The bytes of a file as a process would read them now, faults aside. Works after the crash point too.
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn read_file(&self, name: &str) -> Vec<u8> {
        self.with_file(name, |state, file| state.node(file).current.to_vec())
    }

    /// Puts a file there, or replaces its bytes; both are durable at once, and nothing is counted.
    pub fn write_file(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        let content = Content::from_bytes(bytes);
        let name: Arc<str> = name.into();
        let file = match state.lookup(&name) {
            Ok(file) => file,
            Err(_) => state.new_file(&name, Content::default()),
        };
        state.pending.retain(|event| event.content_of() != Some(file));
        let node = state.node(file);
        (node.durable, node.current, node.diverged) = (content.clone(), content, false);
        state.dir.durable.insert(Arc::clone(&name), file);
        state.dir.current.insert(name, file);
    }

    /// The names in the directory, sorted.
    pub fn file_names(&self) -> Vec<String> {
        self.state().dir.current.keys().map(|name| name.to_string()).collect()
    }

    /// The lengths of all files together, in bytes.
    pub fn total_len(&self) -> u64 {
        let state = self.state();
        state.dir.current.values().filter_map(|file| state.files.get(file)).map(|node| node.current.len()).sum()
    }

    fn with_file<T>(&self, name: &str, act: impl FnOnce(&mut State, state::FileId) -> T) -> T {
        let mut state = self.state();
        let file = state.lookup(name).unwrap_or_else(|_| panic!("no file {name:?} on the simulated disk"));
        act(&mut state, file)
    }
}
