//! The first part of the tour: index every text file below a directory into pages, from several threads, and search.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use pagecache::{PageCache, PageId, PageState, Rejected, Version, version};

use super::files::{Files, Skipped, text};
use super::speed::Latencies;
use super::words::{Index, Posting, Words, bucket, split};
use crate::show::{bytes, count, many, time};
use crate::{Failure, tour::Say};

/// Pages of the index.
pub(super) const BUCKETS: u64 = 8192;
const THREADS: usize = 4;
/// The most text that is read, in bytes.
const TEXT_MAX: u64 = 256 << 20;
/// A thread links what it has gathered after this many bytes of text.
const BATCH: usize = 128 << 10;

/// Tried first when words to search for are picked.
const FAVOURITES: [&str; 8] =
    ["materializer", "fdatasync", "checkpoint", "linearizable", "torn", "conflict", "salt", "reservation"];

/// What came of the indexing.
pub(super) struct Indexed {
    pub(super) files: Files,
    pub(super) links: Latencies,
    pub(super) took: Duration,
}

/// What the threads share.
struct Work<'a> {
    pc: &'a PageCache<Index>,
    files: &'a Files,
    ids: &'a [PageId],
    next: AtomicUsize,
    text_bytes: AtomicU64,
    read_files: AtomicU64,
    words: AtomicU64,
    conflicts: AtomicU64,
    skipped: Mutex<Skipped>,
    deadline: Instant,
    bar: ProgressBar,
}

/// Indexes the files below `root` for at most `limit`.
pub(super) fn build(say: Say, pc: &PageCache<Index>, root: &Path, limit: Duration) -> Result<Indexed, Failure> {
    let started = Instant::now();
    let deadline = started + limit;
    let files = Files::below(root, deadline).map_err(|error| format!("{}: {error}", root.display()))?;
    let ids: Vec<PageId> = {
        let guard = pc.pin();
        (0..BUCKETS).map(|_| pc.allocate(&guard)).collect()
    };
    let bar = ProgressBar::new(files.bytes.min(TEXT_MAX));
    bar.set_style(
        ProgressStyle::with_template("  indexing [{bar:40}] {bytes}/{total_bytes} {msg}")?.progress_chars("=> "),
    );
    let work = Work {
        pc,
        files: &files,
        ids: &ids,
        next: AtomicUsize::new(0),
        text_bytes: AtomicU64::new(0),
        read_files: AtomicU64::new(0),
        words: AtomicU64::new(0),
        conflicts: AtomicU64::new(0),
        skipped: Mutex::new(files.skipped.clone()),
        deadline,
        bar,
    };
    let mut links = Latencies::new();
    std::thread::scope(|scope| -> Result<(), Failure> {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| work.run())).collect();
        for thread in threads {
            links.add(&thread.join().map_err(|_| "an indexing thread panicked")??);
        }
        Ok(())
    })?;
    pc.flush()?;
    work.bar.finish_and_clear();
    let took = started.elapsed();
    let (read, text) = (work.read_files.load(Ordering::Relaxed), work.text_bytes.load(Ordering::Relaxed));
    let words = work.words.load(Ordering::Relaxed);
    say.line(format!(
        "  {} ({}) with {} in {}, by {THREADS} threads",
        many(read, "file"),
        bytes(text),
        many(words, "word"),
        time(took)
    ));
    say.line(format!(
        "  {} to {}, {} retried with the token and the fragment that came back",
        many(links.count(), "link"),
        many(pc.page_ids().count() as u64, "page"),
        many(work.conflicts.load(Ordering::Relaxed), "conflict")
    ));
    let skipped = work.skipped.into_inner().unwrap_or_default();
    let reasons: Vec<String> =
        skipped.iter().map(|(reason, number)| format!("{} x {reason}", count(*number))).collect();
    say.line(format!("  skipped: {}", if reasons.is_empty() { "nothing".to_owned() } else { reasons.join(", ") }));
    Ok(Indexed { files, links, took })
}

impl Work<'_> {
    fn run(&self) -> Result<Latencies, Failure> {
        let mut links = Latencies::new();
        let mut gathered: BTreeMap<u64, Words> = BTreeMap::new();
        let mut since = 0;
        loop {
            let nth = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = self.files.paths.get(nth) else { break };
            let full = self.text_bytes.load(Ordering::Relaxed) >= TEXT_MAX;
            if full || Instant::now() > self.deadline {
                self.skip(if full { "file after 256 MiB of text" } else { "file not reached in time" });
                continue;
            }
            let text = match text(path) {
                Ok(text) => text,
                Err(reason) => {
                    self.skip(reason);
                    continue;
                }
            };
            let mut words = 0;
            for (line, nr) in text.lines().zip(1..) {
                for word in split(line) {
                    words += 1;
                    let page = gathered.entry(bucket(&word, BUCKETS)).or_default();
                    page.add(&word, Posting { file: nth as u32, line: nr });
                }
            }
            self.words.fetch_add(words, Ordering::Relaxed);
            self.read_files.fetch_add(1, Ordering::Relaxed);
            self.text_bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
            self.bar.inc(text.len() as u64);
            since += text.len();
            if since > BATCH {
                since = 0;
                self.link(std::mem::take(&mut gathered), &mut links)?;
            }
        }
        self.link(gathered, &mut links)?;
        Ok(links)
    }

    fn skip(&self, reason: &'static str) {
        *self.skipped.lock().unwrap_or_else(std::sync::PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    fn link(&self, gathered: BTreeMap<u64, Words>, links: &mut Latencies) -> Result<(), Failure> {
        for (bucket, words) in gathered {
            let started = Instant::now();
            let conflicts = link(self.pc, self.ids[bucket as usize], words)?;
            links.record(started.elapsed());
            self.conflicts.fetch_add(conflicts, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Puts a fragment on top of a page, whoever else does the same. Returns how often others came first.
pub(super) fn link(pc: &PageCache<Index>, id: PageId, mut words: Words) -> Result<u64, Failure> {
    let guard = pc.pin();
    let mut at = match pc.state(id, &guard)? {
        PageState::Live(version) => version,
        _ => Version::NONE,
    };
    let mut conflicts = 0;
    loop {
        match pc.link_at(id, at, words, &guard) {
            Ok(_) => return Ok(conflicts),
            Err(Rejected::Conflict { token, rejected, .. }) => (at, words) = (version(token), rejected),
            // Made by someone else since its state was asked for.
            Err(Rejected::Failed { error: pagecache::Error::NoPage { .. }, rejected }) if conflicts < 1000 => {
                (at, words) = (Version::NONE, rejected);
            }
            Err(other) => return Err(pagecache::Error::from(other).into()),
        }
        conflicts += 1;
    }
}

/// Answers a few searches.
pub(super) fn search(say: Say, pc: &PageCache<Index>, files: &Files) -> Result<(), Failure> {
    say.line("");
    for word in picked(pc)? {
        let started = Instant::now();
        let mut found = {
            let guard = pc.pin();
            let (page, _) = pc.get(PageId(bucket(&word, BUCKETS)), &guard)?;
            page.0.get(&word).cloned().unwrap_or_default()
        };
        let took = started.elapsed();
        found.sort_unstable();
        let mut in_files: Vec<u32> = found.iter().map(|posting| posting.file).collect();
        in_files.dedup();
        let (lines, files_found) = (many(found.len() as u64, "line"), many(in_files.len() as u64, "file"));
        say.line(format!("  search \"{word}\": {lines} of {files_found}, in {}", time(took)));
        for posting in found.iter().take(2) {
            let line: String = files.line(posting.file, posting.line).chars().take(80).collect();
            say.line(format!("    {}:{}: {line}", files.name(posting.file), posting.line));
        }
    }
    Ok(())
}

/// Three favourites that occur, else what occurs often enough to be worth showing. No page is merged for it.
fn picked(pc: &PageCache<Index>) -> Result<Vec<String>, Failure> {
    let guard = pc.pin();
    let mut words = Vec::new();
    for word in FAVOURITES {
        if let Ok((fragments, _)) = pc.fragments(PageId(bucket(word, BUCKETS)), &guard)
            && fragments.iter().any(|words| words.0.contains_key(word))
        {
            words.push(word.to_owned());
        }
    }
    for id in pc.page_ids() {
        let id = id?;
        if words.len() >= 3 {
            break;
        }
        let (fragments, _) = pc.fragments(id, &guard)?;
        let mut found = fragments.iter().flat_map(|words| &words.0);
        words.extend(found.find(|(word, places)| word.len() > 5 && places.len() > 1).map(|(word, _)| word.clone()));
    }
    words.truncate(3);
    Ok(words)
}

/// Shows the fragments of the page that has most of them, before and after a `get`.
pub(super) fn fragments(say: Say, pc: &PageCache<Index>) -> Result<(), Failure> {
    let guard = pc.pin();
    let mut most = (0, None);
    for id in pc.page_ids() {
        let id = id?;
        let (fragments, _) = pc.fragments(id, &guard)?;
        let words = fragments.iter().map(|words| words.0.len()).sum::<usize>();
        if fragments.count() > most.0.max(1) && words < 16 {
            most = (fragments.count(), Some(id));
        }
    }
    // Every page may have been folded already: then one more link makes a fragment to show.
    let Some(id) = most.1.map(Ok).or_else(|| pc.page_ids().next()).transpose()? else { return Ok(()) };
    if most.1.is_none() {
        let mut words = Words::default();
        words.add("tour", Posting { file: 0, line: 1 });
        link(pc, id, words)?;
    }
    let show = |when: &str| -> Result<(), Failure> {
        let (fragments, token) = pc.fragments(id, &guard)?;
        let parts: Vec<String> = fragments
            .iter()
            .map(|words| {
                let shown: Vec<String> =
                    words.0.iter().map(|(word, places)| format!("{word} {}", places.len())).collect();
                format!("[{}]", shown.join(", "))
            })
            .collect();
        say.line(format!("  {id} {when}, at {}: {}", version(token), parts.join(" ")));
        Ok(())
    };
    say.line("\n  The fragments of a page, newest first, each word with its number of places:");
    show("before a get")?;
    let started = Instant::now();
    drop(pc.get(id, &guard)?);
    let first = started.elapsed();
    show("after it     ")?;
    let started = Instant::now();
    let (page, _) = pc.get(id, &guard)?;
    let second = started.elapsed();
    let how = if page.is_borrowed() { "without a copy" } else { "as a copy" };
    say.line(format!("  the get that merged took {}; the next one {}, {how}", time(first), time(second)));
    Ok(())
}
