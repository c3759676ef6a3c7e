//! What the tests share: directories that go away, a store to spoil, a child process, and a watchdog.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pagecache::{Background, Config, ConfigBuilder, Error, Materializer, PageCache, PageId, Version};

/// Pages of text; a merge is a concatenation.
pub struct Concat;

impl Materializer for Concat {
    type PageFrag = String;
    type Recovery = ();
    const RECOVERS: bool = false;
    fn new(_: &Option<()>) -> Self {
        Concat
    }
    fn merge(&self, frags: &[&String]) -> String {
        frags.iter().map(|frag| frag.as_str()).collect()
    }
    fn recover(&self, _: &String) -> Option<()> {
        None
    }
}

pub type Texts = PageCache<Concat>;

/// A directory of one test, removed at the end.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Dir {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pagecache-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.join("store")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a test on a thread of its own, and ends the process where it hangs.
pub fn within_a_minute<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    within(Duration::from_secs(60), run)
}

/// The same, for tests that take as long as the machine takes for so much work.
pub fn within<T: Send + 'static>(time: Duration, run: impl FnOnce() -> T + Send + 'static) -> T {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let (done, waiting) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        // The test may have given up waiting: then the process is ending.
        let _ = done.send(outcome);
    });
    match waiting.recv_timeout(time) {
        Ok(Ok(value)) => {
            thread.join().unwrap();
            value
        }
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(_) => {
            eprintln!("{name} hangs");
            std::process::abort();
        }
    }
}

/// Small segments and no thread, so that a store of a few pages has many files.
pub fn small(path: &Path) -> ConfigBuilder {
    ConfigBuilder::new().path(path).background(Background::Caller)
}

pub fn config(path: &Path) -> Config {
    small(path).build()
}

/// What a page must hold.
pub type Expected = Vec<(PageId, String, Version)>;

/// Makes a store of several segments and closes it.
pub fn filled(path: &Path) -> Expected {
    let pc = Texts::start(small(path).segment_size(64 << 10).build()).unwrap();
    let expected = fill(&pc, "page");
    pc.close().unwrap();
    expected
}

/// Writes 150 pages of three fragments, about 400 KB, and makes them stable.
pub fn fill(pc: &Texts, prefix: &str) -> Expected {
    let guard = pc.pin();
    let mut expected = Vec::new();
    for page in 0..150 {
        let id = pc.allocate(&guard);
        let (base, one, two) = (format!("{prefix}{page}:").repeat(300), format!("<{page}>"), ".".repeat(page));
        let at = pc.replace_at(id, Version::NONE, base.clone(), &guard).unwrap();
        let at = pc.link_at(id, at, one.clone(), &guard).unwrap();
        let at = pc.link_at(id, at, two.clone(), &guard).unwrap();
        expected.push((id, base + &one + &two, at));
    }
    pc.flush().unwrap();
    expected
}

/// Every page is there as it was.
pub fn check(pc: &Texts, expected: &Expected) {
    let guard = pc.pin();
    for (id, content, at) in expected {
        let (page, token) = pc.get(*id, &guard).unwrap();
        assert!(page == *content, "{id} is another");
        assert_eq!(pagecache::version(token), *at);
    }
}

/// The segments of a store, oldest first.
pub fn segments(path: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let is_segment = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("seg-");
    let mut segments: Vec<_> = names.filter(is_segment).collect();
    segments.sort();
    segments
}

/// A directory as it can be seen from outside: bytes, modification times and modes.
pub type Seen = BTreeMap<PathBuf, (Vec<u8>, (i64, i64), u32)>;

pub fn seen(path: &Path) -> Seen {
    let mut all = Seen::new();
    let own = std::fs::metadata(path).unwrap();
    all.insert(path.to_owned(), (Vec::new(), (own.mtime(), own.mtime_nsec()), own.mode()));
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let bytes = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        all.insert(path, (bytes, (meta.mtime(), meta.mtime_nsec()), meta.mode()));
    }
    all
}

/// Copies a store file by file, as a careless backup does.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let mut files: Vec<_> = std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        // It may be renamed meanwhile: then it was no segment yet.
        let _ = std::fs::copy(&file, to.join(file.file_name().unwrap()));
    }
}

/// What a start on a spoilt store may answer: the right content, or an error that says what is wrong and where.
pub fn right_or_typed(path: &Path, expected: &Expected, what: &str) -> Result<(), Error> {
    for read_only in [true, false] {
        match Texts::start(small(path).read_only(read_only).build()) {
            Ok(pc) => check(&pc, expected),
            Err(error @ (Error::Corrupt(_) | Error::Incompatible { .. })) => return Err(error),
            Err(other) => panic!("{what}: {other:?}"),
        }
    }
    Ok(())
}

/// This test binary once more, as another process that runs only `child_process` in the given role.
pub fn child(role: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "openers::child_process", "--nocapture"]);
    command.env("PAGECACHE_TEST_ROLE", role).env("PAGECACHE_TEST_PATH", path);
    command
}

pub fn is_root() -> bool {
    let answer = Command::new("id").arg("-u").output();
    answer.is_ok_and(|output| output.stdout == b"0\n")
}
