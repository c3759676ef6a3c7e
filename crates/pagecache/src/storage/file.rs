//! Files of the operating system: positioned I/O, preallocation, directory sync, permissions and the lock.
//!
//! Linux is tested. Other Unixes and Windows compile from the same file and are not checked.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(target_os = "linux")]
use super::direct::{Direct, Reads};
use super::{LockGuard, LockMode, OpenMode, Storage, StorageFile};

const LOCK: &str = "LOCK";

/// A directory of the file system: 0700, files 0600, symlinks refused.
#[derive(Debug)]
pub struct FileStorage {
    dir: PathBuf,
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there is no such way"))]
    direct_reads: bool,
}

impl FileStorage {
    /// The directory at `path`, which must exist.
    ///
    /// # Errors
    /// What the system says, `NotADirectory` where `path` is something else.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<FileStorage> {
        let dir = path.into();
        if !fs::metadata(&dir)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(FileStorage { dir, direct_reads: false })
    }

    /// The directory at `path`, made with mode 0700, its parents too and their entries synced, where it does not exist.
    ///
    /// # Errors
    /// What the system says, `NotADirectory` where `path` is something else.
    pub fn create(path: impl Into<PathBuf>) -> io::Result<FileStorage> {
        let dir = path.into();
        make_dir(&dir)?;
        FileStorage::open(dir)
    }

    /// A new directory with an unpredictable name under the system's place for temporary files.
    ///
    /// # Errors
    /// What the system says.
    pub fn temporary() -> io::Result<FileStorage> {
        loop {
            let name = format!("pagecache-{:016x}{:016x}", super::random_u64(), super::random_u64());
            let dir = std::env::temp_dir().join(name);
            match dir_builder().create(&dir) {
                Ok(()) => return Ok(FileStorage { dir, direct_reads: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads past the system's page cache (`O_DIRECT`), where the system has that: for a store whose own cache has the memory. Each open
    /// file has a second handle then. Reads of what was just written wait until it is on disk. Long writes go the same way.
    pub fn direct_reads(mut self, direct: bool) -> FileStorage {
        self.direct_reads = direct;
        self
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl Storage for FileStorage {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::CreateNew => options.write(true).create_new(true),
            OpenMode::ReadWrite => options.write(true),
            OpenMode::ReadOnly => &mut options,
        };
        private(&mut options);
        let file = options.open(self.dir.join(name))?;
        #[cfg(target_os = "linux")]
        if self.direct_reads {
            let reads = if mode == OpenMode::ReadOnly { Reads::DirectOnly } else { Reads::Direct };
            return Ok(Arc::new(OsFile { file, direct: Direct::new(reads) }));
        }
        Ok(Arc::new(OsFile::new(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != LOCK {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn sync_dir(&self) -> io::Result<()> {
        sync_directory(&self.dir)
    }

    fn lock(&self, mode: LockMode) -> io::Result<Box<dyn LockGuard>> {
        let mut options = OpenOptions::new();
        options.read(true);
        if mode == LockMode::Exclusive {
            options.write(true).create(true).truncate(false);
        }
        private(&mut options);
        let file = options.open(self.dir.join(LOCK))?;
        let taken = match mode {
            LockMode::Exclusive => file.try_lock(),
            LockMode::Shared => file.try_lock_shared(),
        };
        match taken {
            Ok(()) => Ok(Box::new(OsLock { file })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn describe(&self) -> String {
        self.dir.display().to_string()
    }

    #[cfg(target_os = "linux")]
    fn available(&self) -> io::Result<Option<u64>> {
        let found = rustix::fs::statvfs(&self.dir)?;
        // A file system without blocks does not count them.
        Ok((found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize)))
    }

    fn destroy(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.dir)
    }
}

#[derive(Debug)]
struct OsLock {
    file: File,
}

impl LockGuard for OsLock {}

impl Drop for OsLock {
    fn drop(&mut self) {
        // Not left to the closing of the file: a process that is being started holds a copy of it until it runs.
        let _ = self.file.unlock();
    }
}

#[derive(Debug)]
struct OsFile {
    file: File,
    #[cfg(target_os = "linux")]
    direct: Direct,
}

impl OsFile {
    fn new(file: File) -> OsFile {
        OsFile {
            file,
            #[cfg(target_os = "linux")]
            direct: Default::default(),
        }
    }
}

impl StorageFile for OsFile {
    #[cfg(unix)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        #[cfg(target_os = "linux")]
        if let Some(read) = self.direct.read_at(&self.file, buf, offset) {
            return read;
        }
        std::os::unix::fs::FileExt::read_at(&self.file, buf, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        #[cfg(target_os = "linux")]
        if let Some(written) = self.direct.write_at(&self.file, buf, offset) {
            return written;
        }
        std::os::unix::fs::FileExt::write_at(&self.file, buf, offset)
    }

    #[cfg(target_os = "linux")]
    fn write_cold_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        match self.direct.write_cold_at(&self.file, buf, offset) {
            Some(written) => written,
            None => std::os::unix::fs::FileExt::write_at(&self.file, buf, offset),
        }
    }

    #[cfg(windows)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, buf, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(&self.file, buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        #[cfg(target_os = "linux")]
        self.direct.synced();
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn begin_sync(&self, offset: u64, len: u64) {
        write_back(&self.file, offset, len);
    }

    #[cfg(target_os = "linux")]
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        // The system calls an empty range an error.
        if len == 0 {
            return Ok(());
        }
        use rustix::fs::{FallocateFlags, fallocate};
        loop {
            match fallocate(&self.file, FallocateFlags::empty(), offset, len) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => return fill(&self.file, offset, len),
                Err(error) => return Err(error.into()),
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        fill(&self.file, offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    #[cfg(unix)]
    fn allocated(&self) -> io::Result<u64> {
        Ok(std::os::unix::fs::MetadataExt::blocks(&self.file.metadata()?).saturating_mul(512))
    }
}

/// Has Linux begin to write back what of a range is in its cache only, where it stays. For what cannot be done nobody waits: a sync tells.
#[cfg(target_os = "linux")]
fn write_back(file: &File, offset: u64, len: u64) {
    use std::os::fd::AsRawFd;
    // SAFETY: as in `fcntl.h` of glibc and musl, where `off64_t` has 64 bits; it takes numbers only, and a descriptor that is none is an error.
    unsafe extern "C" {
        safe fn sync_file_range(fd: std::ffi::c_int, offset: i64, len: i64, flags: std::ffi::c_uint)
        -> std::ffi::c_int;
    }
    /// `SYNC_FILE_RANGE_WRITE` of `linux/fs.h`.
    const WRITE: std::ffi::c_uint = 2;
    if let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) {
        let _ = sync_file_range(file.as_raw_fd(), offset, len, WRITE);
    }
}

/// Where the system cannot set space aside: writes zeros where the file ends before the range does. Space within the file is
/// taken to be there.
fn fill(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let file = OsFile::new(file.try_clone()?);
    let zeros = [0; 64 << 10];
    let (mut at, end) = (file.len()?, offset.saturating_add(len));
    while at < end {
        let step = (end - at).min(zeros.len() as u64);
        super::write_all(&file, zeros.get(..step as usize).unwrap_or_default(), at)?;
        at += step;
    }
    Ok(())
}

/// Makes a directory and its parents, each synced into its own parent, so that a store never hangs in the air.
fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_dir(parent)?;
    match dir_builder().create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_directory(parent),
    }
}

#[cfg(unix)]
fn dir_builder() -> fs::DirBuilder {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    builder
}

#[cfg(not(unix))]
fn dir_builder() -> fs::DirBuilder {
    fs::DirBuilder::new()
}

/// Mode 0600, and symlinks are not followed. `std` sets close-on-exec.
#[cfg(unix)]
fn private(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
    #[cfg(target_os = "linux")]
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
}

#[cfg(not(unix))]
fn private(_options: &mut OpenOptions) {}

#[cfg(unix)]
fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Windows has no directory handle to sync through `std`; renames are journalled by the file system.
#[cfg(not(unix))]
fn sync_directory(_dir: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix, not(loom)))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_and_directories_are_private() {
        let storage = FileStorage::temporary().unwrap();
        storage.open("a", OpenMode::CreateNew).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(storage.path()), 0o700);
        assert_eq!(mode(&storage.path().join("a")), 0o600);
        storage.destroy().unwrap();
    }

    #[test]
    fn a_symlink_is_refused() {
        let storage = FileStorage::temporary().unwrap();
        fs::write(storage.path().join("real"), b"x").unwrap();
        std::os::unix::fs::symlink(storage.path().join("real"), storage.path().join("link")).unwrap();
        assert!(storage.open("link", OpenMode::ReadOnly).is_err());
        storage.destroy().unwrap();
    }

    #[test]
    fn an_exclusive_lock_shuts_out_this_process_too_and_shared_ones_agree() {
        let storage = FileStorage::temporary().unwrap();
        let held = storage.lock(LockMode::Exclusive).unwrap();
        let refused = |mode| storage.lock(mode).unwrap_err().kind();
        assert_eq!(refused(LockMode::Exclusive), io::ErrorKind::WouldBlock);
        assert_eq!(refused(LockMode::Shared), io::ErrorKind::WouldBlock);
        drop(held);
        let one = storage.lock(LockMode::Shared).unwrap();
        let two = storage.lock(LockMode::Shared).unwrap();
        assert_eq!(refused(LockMode::Exclusive), io::ErrorKind::WouldBlock);
        drop((one, two));
        storage.lock(LockMode::Exclusive).unwrap();
        storage.destroy().unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_disk_says_what_is_left() {
        let storage = FileStorage::temporary().unwrap();
        assert!(storage.available().unwrap().is_none_or(|available| available > 0));
        storage.destroy().unwrap();
        assert!(storage.available().is_err());
    }

    #[test]
    fn what_is_on_its_way_is_read_as_it_was_written_and_no_range_is_an_error() {
        let storage = FileStorage::temporary().unwrap();
        let file = storage.open("a", OpenMode::CreateNew).unwrap();
        let bytes: Vec<u8> = (0..200_000).map(|at| (at % 251) as u8).collect();
        super::super::write_all(file.as_ref(), &bytes, 0).unwrap();
        for (offset, len) in [(0, 200_000), (4096, 100), (1 << 40, 4096), (u64::MAX, 1), (0, u64::MAX), (0, 0)] {
            file.begin_sync(offset, len);
        }
        let mut found = vec![0; 200_000];
        super::super::read_full(file.as_ref(), &mut found, 0).unwrap();
        assert_eq!(found, bytes);
        file.sync_data().unwrap();
        storage.destroy().unwrap();
    }

    #[test]
    fn allocation_keeps_contents_and_lengthens() {
        let storage = FileStorage::temporary().unwrap();
        let file = storage.open("a", OpenMode::CreateNew).unwrap();
        super::super::write_all(file.as_ref(), b"abc", 0).unwrap();
        file.allocate(0, 8192).unwrap();
        assert_eq!(file.len().unwrap(), 8192);
        let mut buf = [1u8; 5];
        super::super::read_full(file.as_ref(), &mut buf, 0).unwrap();
        assert_eq!(&buf, b"abc\0\0");
        let plain = fs::File::options().read(true).write(true).open(storage.path().join("a")).unwrap();
        fill(&plain, 0, 100_000).unwrap();
        assert_eq!(file.len().unwrap(), 100_000, "the way without fallocate");
        super::super::read_full(file.as_ref(), &mut buf, 0).unwrap();
        assert_eq!(&buf, b"abc\0\0");
        storage.destroy().unwrap();
    }
}
