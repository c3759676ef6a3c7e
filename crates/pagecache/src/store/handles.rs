//! Files that are opened when they are needed, and closed again when there are many: a store may have more segments than a
//! process may have files.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::storage::{LockGuard, LockMode, OpenMode, Storage, StorageFile};

/// Files that a store keeps open. Well below the 1024 that a process usually may have, which are not all for the store.
const OPEN_MAX: usize = 256;

/// Of a file that was never open here, nothing is known of what it occupies.
const UNKNOWN: u64 = u64::MAX;

/// The open files of a store. Its locks are plain ones of `std`: nothing under them waits, calls out or is looked at by a model.
#[derive(Debug)]
pub(crate) struct Handles {
    storage: Arc<dyn Storage>,
    mode: OpenMode,
    /// In the order in which they were opened; one that was used since it came by goes round again.
    open: Mutex<VecDeque<Weak<Shared>>>,
    most: usize,
}

#[derive(Debug)]
struct Shared {
    name: String,
    file: Mutex<Option<Arc<dyn StorageFile>>>,
    used: AtomicBool,
    /// Bytes of disk that it occupied when it was closed last. Relaxed: a number to be shown.
    occupied: AtomicU64,
}

/// A file by name, open or not.
#[derive(Debug)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
    handles: Arc<Handles>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the system has no more files to give.
fn is_out_of_files(error: &io::Error) -> bool {
    // ENFILE and EMFILE, which are the same numbers on every Unix.
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}

impl Handles {
    pub(crate) fn new(storage: Arc<dyn Storage>, mode: OpenMode) -> Arc<Handles> {
        Handles::with_most(storage, mode, OPEN_MAX)
    }

    fn with_most(storage: Arc<dyn Storage>, mode: OpenMode, most: usize) -> Arc<Handles> {
        Arc::new(Handles { storage, mode, open: Mutex::new(VecDeque::new()), most })
    }

    /// The directory, for what is done to it as a whole and for files that are not kept: there is room for these too.
    pub(crate) fn storage(&self) -> &dyn Storage {
        self
    }

    /// How segments are opened.
    pub(crate) fn mode(&self) -> OpenMode {
        self.mode
    }

    /// Opens a file, closing others where the system has none left.
    pub(crate) fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        self.with_room(|| self.storage.open(name, mode))
    }

    /// Does something that the system may need a file for, and once more where it has none left: with that nothing was done yet.
    fn with_room<T>(&self, run: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match run() {
            Err(error) if is_out_of_files(&error) => {
                self.close_all_but(0);
                run()
            }
            done => done,
        }
    }

    /// A file that is opened at its first use.
    pub(crate) fn named(self: &Arc<Self>, name: String) -> Handle {
        self.handle(name, None)
    }

    /// A file that is open already.
    pub(crate) fn opened(self: &Arc<Self>, name: String, file: Arc<dyn StorageFile>) -> Handle {
        let handle = self.handle(name, Some(file));
        self.enter(&handle.shared);
        handle
    }

    fn handle(self: &Arc<Self>, name: String, file: Option<Arc<dyn StorageFile>>) -> Handle {
        let shared = Arc::new(Shared {
            name,
            file: Mutex::new(file),
            used: AtomicBool::new(false),
            occupied: AtomicU64::new(UNKNOWN),
        });
        Handle { shared, handles: Arc::clone(self) }
    }

    fn enter(&self, shared: &Arc<Shared>) {
        locked(&self.open).push_back(Arc::downgrade(shared));
        self.close_all_but(self.most);
    }

    /// Closes files until so many are left, those that were not used lately first.
    fn close_all_but(&self, left: usize) {
        let mut closed = Vec::new();
        let mut open = locked(&self.open);
        let mut spared = open.len();
        while open.len() > left
            && let Some(next) = open.pop_front()
        {
            let Some(shared) = next.upgrade() else { continue };
            // Relaxed: a hint.
            if spared > 0 && shared.used.swap(false, Ordering::Relaxed) {
                spared -= 1;
                open.push_back(next);
                continue;
            }
            let file = locked(&shared.file).take();
            closed.extend(file.map(|file| (shared, file)));
        }
        drop(open);
        // Outside the lock: the last one to drop a file closes it.
        for (shared, file) in closed {
            shared.occupied.store(file.allocated().unwrap_or(UNKNOWN), Ordering::Relaxed);
        }
    }
}

impl Storage for Handles {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        Handles::open(self, name, mode)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.storage.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.storage.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.with_room(|| self.storage.list())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.with_room(|| self.storage.sync_dir())
    }

    fn lock(&self, mode: LockMode) -> io::Result<Box<dyn LockGuard>> {
        self.storage.lock(mode)
    }

    fn describe(&self) -> String {
        self.storage.describe()
    }

    fn available(&self) -> io::Result<Option<u64>> {
        self.storage.available()
    }

    fn entropy(&self) -> u64 {
        self.storage.entropy()
    }

    fn destroy(&self) -> io::Result<()> {
        self.storage.destroy()
    }
}

impl Handle {
    /// The file, opened if it is not. Who holds it may go on using it, whether or not it is closed here meanwhile.
    pub(crate) fn file(&self) -> io::Result<Arc<dyn StorageFile>> {
        self.shared.used.store(true, Ordering::Relaxed);
        if let Some(file) = &*locked(&self.shared.file) {
            return Ok(Arc::clone(file));
        }
        let opened = self.handles.open(&self.shared.name, self.handles.mode)?;
        let (file, is_first) = {
            let mut file = locked(&self.shared.file);
            // Another may have opened it meanwhile.
            let is_first = file.is_none();
            (Arc::clone(file.get_or_insert(opened)), is_first)
        };
        if is_first {
            self.handles.enter(&self.shared);
        }
        Ok(file)
    }

    /// Bytes of disk that the file occupies, told without opening it: as it is now where it is open, else as it was when it was closed.
    /// Nothing where it was not open yet, or the system does not say.
    pub(crate) fn occupied(&self) -> Option<u64> {
        let open = locked(&self.shared.file).clone();
        let bytes = match open {
            Some(file) => file.allocated().unwrap_or(UNKNOWN),
            None => self.shared.occupied.load(Ordering::Relaxed),
        };
        (bytes != UNKNOWN).then_some(bytes)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::storage::{MemoryStorage, write_all};

    fn open_files(handles: &[Handle]) -> Vec<usize> {
        let is_open = |at: &usize| locked(&handles[*at].shared.file).is_some();
        (0..handles.len()).filter(is_open).collect()
    }

    #[test]
    fn few_files_are_open_at_once_and_those_in_use_stay() {
        let storage = MemoryStorage::new();
        for number in 0..10u8 {
            let file = storage.open(&number.to_string(), OpenMode::CreateNew).unwrap();
            write_all(file.as_ref(), &[number], 0).unwrap();
        }
        let all = Handles::with_most(Arc::new(storage), OpenMode::ReadOnly, 3);
        let handles: Vec<Handle> = (0..10).map(|number| all.named(number.to_string())).collect();
        assert_eq!(open_files(&handles), []);
        for (number, handle) in handles.iter().enumerate() {
            let mut byte = [0];
            assert_eq!(handle.file().unwrap().read_at(&mut byte, 0).unwrap(), 1);
            assert_eq!(usize::from(byte[0]), number);
            handles[0].file().unwrap();
            assert!(open_files(&handles).len() <= 3);
            assert!(open_files(&handles).contains(&0), "the one that is used all the time was closed");
        }
        // One that is held goes on after it was closed.
        let held = handles[1].file().unwrap();
        all.close_all_but(0);
        assert_eq!(open_files(&handles), []);
        assert_eq!(held.read_at(&mut [0], 0).unwrap(), 1);
    }

    #[test]
    fn what_a_file_occupies_is_told_without_opening_it() {
        let storage = MemoryStorage::new();
        let file = storage.open("a", OpenMode::CreateNew).unwrap();
        write_all(file.as_ref(), &[1; 100], 0).unwrap();
        let all = Handles::new(Arc::new(storage), OpenMode::ReadWrite);
        let handles = [all.named("a".to_owned())];
        assert_eq!(handles[0].occupied(), None, "it was never open");
        assert_eq!(open_files(&handles), []);
        let piece = handles[0].file().unwrap().allocated().unwrap();
        assert_eq!(handles[0].occupied(), Some(piece));
        write_all(handles[0].file().unwrap().as_ref(), &[1; 100], 5 * piece).unwrap();
        all.close_all_but(0);
        assert_eq!(open_files(&handles), []);
        assert_eq!(handles[0].occupied(), Some(2 * piece), "as it was when it was closed");
        assert_eq!(open_files(&handles), []);
    }
}
