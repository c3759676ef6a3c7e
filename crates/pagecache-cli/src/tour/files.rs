//! Which files are read: the text files below a directory, and for all others the reason why not.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Longer files are left out.
const LONGEST: u64 = 4 << 20;

/// Directories that hold what tools made.
const MADE: [&str; 3] = [".git", "target", "node_modules"];

/// What was left out and why: reason -> how many.
pub(super) type Skipped = BTreeMap<&'static str, u64>;

/// The files to read.
pub(super) struct Files {
    root: PathBuf,
    pub(super) paths: Vec<PathBuf>,
    pub(super) bytes: u64,
    pub(super) skipped: Skipped,
}

impl Files {
    /// Everything below `root` that may be text, in order of names, until the deadline. Links are not followed.
    pub(super) fn below(root: &Path, deadline: Instant) -> std::io::Result<Files> {
        let mut files = Files { root: root.to_owned(), paths: Vec::new(), bytes: 0, skipped: Skipped::new() };
        // A root that cannot be read is an error, anything below it a reason.
        fs::read_dir(root)?;
        files.walk(root, deadline);
        Ok(files)
    }

    fn walk(&mut self, dir: &Path, deadline: Instant) {
        let Ok(entries) = fs::read_dir(dir) else { return self.skip("directory that may not be read") };
        let mut entries: Vec<_> = entries.flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            if Instant::now() > deadline {
                return self.skip("directory not looked at in time");
            }
            let Ok(meta) = entry.metadata() else {
                self.skip("file that may not be read");
                continue;
            };
            if meta.is_dir() {
                let name = entry.file_name();
                match MADE.iter().any(|made| name == *made) || name.to_string_lossy().starts_with("target-") {
                    true => self.skip(".git, target or node_modules directory"),
                    false => self.walk(&entry.path(), deadline),
                }
            } else if !meta.is_file() {
                self.skip("link or device");
            } else if meta.len() > LONGEST {
                self.skip("file over 4 MiB");
            } else if meta.len() == 0 {
                self.skip("empty file");
            } else {
                self.bytes += meta.len();
                self.paths.push(entry.path());
            }
        }
    }

    fn skip(&mut self, reason: &'static str) {
        *self.skipped.entry(reason).or_default() += 1;
    }

    /// A file's name as it is shown.
    pub(super) fn name(&self, file: u32) -> String {
        let path = &self.paths[file as usize];
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// One line of a file, trimmed, from 1.
    pub(super) fn line(&self, file: u32, line: u32) -> String {
        let text = fs::read_to_string(&self.paths[file as usize]).unwrap_or_default();
        text.lines().nth(line.saturating_sub(1) as usize).unwrap_or_default().trim().to_owned()
    }
}

/// A file's text, or the reason why it is none.
pub(super) fn text(path: &Path) -> Result<String, &'static str> {
    let unreadable = |_| "file that may not be read";
    let mut bytes = Vec::new();
    // It may have grown since it was listed.
    File::open(path).map_err(unreadable)?.take(LONGEST).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.iter().take(8192).any(|byte| *byte == 0) {
        return Err("binary file");
    }
    String::from_utf8(bytes).map_err(|_| "binary file")
}
