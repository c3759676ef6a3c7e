//! Files of a bench: places, what is written to them, and how to make them cold.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

/// A directory of that name under `dir`, empty.
pub fn fresh(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{}: {error}", path.display()),
        _ => path,
    }
}

/// Bytes that this process has handed to `write` calls so far, to files of any kind.
pub fn written() -> u64 {
    of_io("wchar: ")
}

/// `read` calls of this process so far, of files of any kind.
pub fn reads() -> u64 {
    of_io("syscr: ")
}

fn of_io(name: &str) -> u64 {
    let counters = fs::read_to_string("/proc/self/io").expect("the system's counters of this process");
    let line = counters.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|count| count.parse().ok()).expect("a count")
}

/// Bytes of this process that are in memory now.
pub fn resident() -> u64 {
    of_memory("VmRSS:")
}

/// Of those, the bytes that are in no file: heap and stacks.
pub fn anonymous() -> u64 {
    of_memory("RssAnon:")
}

fn of_memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the system's account of this process");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.expect("a count of kibibytes") << 10
}

/// Bytes of disk that a directory's files occupy.
pub fn occupied(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("a directory");
    // A file may go between the listing and the question.
    entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.blocks() * 512)).sum()
}

/// Syncs every file in a directory and asks the system to forget what it caches of them.
pub fn make_cold(dir: &Path) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let file = File::open(entry.expect("an entry").path()).expect("a file");
        file.sync_all().expect("the disk syncs");
        fadvise(&file, 0, None, Advice::DontNeed).expect("the system takes advice");
    }
}

/// Reads every file in a directory from its beginning to its end, by name, 1 MiB at a time. Returns the bytes.
pub fn read_all(dir: &Path) -> u64 {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    for path in paths {
        let mut file = File::open(path).expect("a file");
        loop {
            match file.read(&mut buffer).expect("the disk reads") {
                0 => break,
                count => bytes += count as u64,
            }
        }
    }
    bytes
}
