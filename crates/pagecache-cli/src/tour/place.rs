//! Where the tour works, and what the system says about it: a temporary directory, its file system, the process's memory.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

/// A directory that is removed when the tour ends, well or badly.
pub(crate) struct Place {
    root: PathBuf,
}

impl Place {
    pub(crate) fn new() -> std::io::Result<Place> {
        let root = std::env::temp_dir().join(format!("pagecache-tour-{:016x}", random()));
        std::fs::create_dir(&root)?;
        Ok(Place { root })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    /// Leaves it, for a look at what went wrong.
    pub(crate) fn keep(self) -> PathBuf {
        let root = self.root.clone();
        std::mem::forget(self);
        root
    }

    pub(crate) fn store(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The type of its file system, where the system says so: a sync costs nothing in memory, and much on a disk.
    pub(crate) fn file_system(&self) -> Option<String> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
        let root = self.root.canonicalize().ok()?;
        let mounted = mounts.lines().filter_map(|line| {
            let mut parts = line.split(' ');
            let (at, kind) = (parts.nth(1)?, parts.next()?);
            root.starts_with(at).then_some((at.len(), kind))
        });
        mounted.max_by_key(|(len, _)| *len).map(|(_, kind)| kind.to_owned())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// Bytes of this process that are in memory, where the system says so.
pub(crate) fn resident_set() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// Random bits, from the keys that the standard library draws for its hash maps.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
