//! The seam to the operating system: every byte that leaves or enters the process passes through these traits.
//!
//! A [`Storage`] is one directory of files with names the library chooses. Users may bring their own (an object store's
//! cache, a block device, the simulated disk of `pagecache-sim`); what a store relies on is written at each method.
//! [`FileStorage`] is the real thing, [`MemoryStorage`] keeps everything in memory.

#[cfg(target_os = "linux")]
mod direct;
mod file;
mod memory;

pub use file::FileStorage;
pub use memory::MemoryStorage;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// How [`Storage::open`] treats what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must not exist; it is created empty, for reading and writing.
    CreateNew,
    /// The file must exist; it is opened for reading and writing.
    ReadWrite,
    /// The file must exist; it is opened for reading.
    ReadOnly,
}

/// How [`Storage::lock`] takes the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Nobody else may hold it in any mode: a writer. Creates what it needs.
    Exclusive,
    /// Others may hold it shared: a reader. Writes nothing.
    Shared,
}

/// The lock on a directory, held until dropped.
pub trait LockGuard: Send + Sync + Debug {}

/// One directory of files.
///
/// Names are plain ASCII without separators. Creating, renaming and removing are durable only after
/// [`sync_dir`](Storage::sync_dir); the order in which unsynced ones survive a crash is not promised, but a rename
/// is atomic: afterwards the file has one name or the other.
pub trait Storage: Send + Sync + Debug + 'static {
    /// Opens or creates a file.
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>>;

    /// Renames a file, replacing the target.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name. Open handles stay readable.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names in the directory, in any order, the lock's own file left out.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes all creations, renames and removals so far durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Takes the directory, before anything in it is read. `WouldBlock` means that another opener (in this process or
    /// another) holds it.
    fn lock(&self, mode: LockMode) -> io::Result<Box<dyn LockGuard>>;

    /// Where this is, for messages.
    fn describe(&self) -> String;

    /// Bytes that files may still take, as far as the system says so; `None` where nobody knows. A store of pages leaves the last of it to what makes room:
    /// frees, checkpoints and cleaning.
    ///
    /// # Errors
    /// What the system says; the same as if nobody knew.
    fn available(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// 64 fresh random bits: salts and the store's uuid. They guard against accidents, not against attackers.
    fn entropy(&self) -> u64 {
        random_u64()
    }

    /// Removes the whole directory, for temporary stores. Called once, while the lock is still held.
    fn destroy(&self) -> io::Result<()> {
        for name in self.list()? {
            self.remove(&name)?;
        }
        Ok(())
    }
}

/// One open file. Handles may be used from many threads at once.
pub trait StorageFile: Send + Sync + Debug {
    /// Reads at most `buf.len()` bytes; 0 means the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at most `buf.len()` bytes, at least 1. Durable only after [`sync_data`](StorageFile::sync_data).
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// As [`write_at`](StorageFile::write_at), of bytes that will hardly be read again: they need not take the place of others in a cache. A storage that
    /// stands in front of another one passes it on, or loses what the other makes of it.
    fn write_cold_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.write_at(buf, offset)
    }

    /// Makes everything written so far, and the length needed to read it, durable. Not the directory entry. After an
    /// error nothing is known about what is durable, and a second call proves nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// Says that a range was written for now, and will be synced soon if it is not yet: what can be done of it without waiting may begin, and what
    /// was written is to stay where it is read fast. A hint, which promises nothing. The file may have got another name meanwhile, or none.
    fn begin_sync(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }

    /// Sets aside space for the range, so that writing there does not meet a full disk. Contents are kept; new bytes
    /// read as zero. May do nothing where the system cannot.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Sets the length; new bytes read as zero.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Bytes of disk that the file occupies now.
    fn allocated(&self) -> io::Result<u64> {
        self.len()
    }
}

/// Reads until `buf` is full or the file ends, through short transfers and interruptions. Returns the bytes read.
pub fn read_full(file: &dyn StorageFile, mut buf: &mut [u8], mut offset: u64) -> io::Result<usize> {
    let wanted = buf.len();
    while !buf.is_empty() {
        match file.read_at(buf, offset) {
            Ok(0) => break,
            Ok(count) => {
                buf = buf.get_mut(count..).unwrap_or_default();
                offset = offset.saturating_add(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(wanted.saturating_sub(buf.len()))
}

/// Writes all of `buf`, through short transfers and interruptions.
pub fn write_all(file: &dyn StorageFile, buf: &[u8], offset: u64) -> io::Result<()> {
    write_whole(buf, offset, |buf, offset| file.write_at(buf, offset))
}

/// As [`write_all`], of bytes that will hardly be read again.
pub(crate) fn write_all_cold(file: &dyn StorageFile, buf: &[u8], offset: u64) -> io::Result<()> {
    write_whole(buf, offset, |buf, offset| file.write_cold_at(buf, offset))
}

fn write_whole(mut buf: &[u8], mut offset: u64, write: impl Fn(&[u8], u64) -> io::Result<usize>) -> io::Result<()> {
    while !buf.is_empty() {
        match write(buf, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                buf = buf.get(count..).unwrap_or_default();
                offset = offset.saturating_add(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Random bits from the keys that `std` draws from the operating system for its hash maps.
pub(crate) fn random_u64() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u64(u64::from(std::process::id()));
    hasher.finish()
}
