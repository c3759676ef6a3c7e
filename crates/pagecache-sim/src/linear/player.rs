//! Threads that ask a page cache at random, on few pages and with versions that may be stale, and write down what they were told.

use std::sync::atomic::{AtomicU64, Ordering};

use pagecache::crossbeam_epoch::Guard;
use pagecache::{Error, Fragment, Materializer, PageBytes, PageCache, PageId, PageState, Rejected, Version, version};

use super::history::{Call, Clock};
use super::page::{Answer, Ask, PageCall, explain_page};
use super::search::Unexplained;
use crate::rng::Rng;

/// Bytes that each fragment says it weighs: the smallest cache holds two, so that pages go and come back all the time.
pub const WEIGHT: usize = 24 << 10;

/// A page of words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(pub Vec<u64>);

/// Lets other threads run now and then while a call is under way: few processors would else seldom have two calls at once.
fn breathe() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    if !cfg!(shuttle) && CALLS.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
        std::thread::yield_now();
    }
}

impl Fragment for Words {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        breathe();
        self.0.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        Ok(())
    }

    fn decode(bytes: PageBytes) -> Result<Words, String> {
        breathe();
        Ok(Words(
            bytes
                .chunks(8)
                .map(|chunk| chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
                .collect(),
        ))
    }

    fn heap_size(&self) -> usize {
        WEIGHT
    }
}

/// Pages are their words, one behind the other.
#[derive(Debug)]
pub struct Joined;

impl Materializer for Joined {
    type PageFrag = Words;
    type Recovery = ();
    const RECOVERS: bool = false;

    fn new(_: &Option<()>) -> Joined {
        Joined
    }

    fn merge(&self, frags: &[&Words]) -> Words {
        breathe();
        Words(frags.iter().flat_map(|frag| frag.0.iter().copied()).collect())
    }

    fn recover(&self, _: &Words) -> Option<()> {
        None
    }
}

/// What one turn was.
#[derive(Clone, Debug)]
pub enum Turn {
    /// A call on the page with this place in the list.
    Page(usize, PageCall),
    /// A flush that was acknowledged: when it began and ended.
    Flushed(u64, u64),
    /// A flush that failed.
    NotFlushed,
}

/// One thread's part.
#[derive(Debug)]
pub struct Player {
    thread: usize,
    rng: Rng,
    /// Versions seen of each page, oldest first.
    versions: Vec<Vec<Version>>,
    made: u64,
}

impl Player {
    /// A player on so many pages; its turns follow from the seed and from what it is told.
    pub fn new(thread: usize, pages: usize, seed: u64) -> Player {
        let rng = Rng::new(seed ^ (thread as u64 + 1) << 32);
        Player { thread, rng, versions: vec![vec![Version::NONE]; pages], made: 0 }
    }

    /// Asks one thing. `flushes` is how many turns in a hundred flush the store.
    pub fn turn(
        &mut self,
        pages: &PageCache<Joined>,
        ids: &[PageId],
        guard: &Guard,
        clock: &Clock,
        flushes: u64,
    ) -> Turn {
        if self.rng.below(100) < flushes {
            let begun = clock.tick();
            let flushed = pages.flush();
            return flushed.map_or(Turn::NotFlushed, |_| Turn::Flushed(begun, clock.tick()));
        }
        let page = self.rng.index(ids.len());
        let ask = self.ask(page);
        let begun = clock.tick();
        let answer = ask_for(pages, ids[page], ask, guard);
        let ended = Some((clock.tick(), answer));
        let call = Call { thread: self.thread, begun, ask, ended };
        self.note(page, &call);
        Turn::Page(page, call)
    }

    fn ask(&mut self, page: usize) -> Ask {
        let seen = &self.versions[page];
        // Mostly the newest version it knows of; now and then one before.
        let back = if self.rng.one_in(6) { self.rng.index(seen.len()) } else { 0 };
        let at = seen[seen.len() - 1 - back];
        let word = (self.thread as u64 + 1) << 32 | self.made;
        self.made += 1;
        match self.rng.below(40) {
            0 => Ask::Free(at),
            1..7 => Ask::Replace(at, word),
            7..22 => Ask::Link(at, word),
            _ => Ask::Get,
        }
    }

    fn note(&mut self, page: usize, call: &PageCall) {
        if let Some(Answer::Page(version, _) | Answer::Done(version) | Answer::Conflict(version, _)) = call.answer()
            && self.versions[page].last() != Some(version)
        {
            self.versions[page].push(*version);
        }
    }
}

fn ask_for(pages: &PageCache<Joined>, id: PageId, ask: Ask, guard: &Guard) -> Answer {
    match ask {
        Ask::Get => match pages.get(id, guard) {
            Ok((page, token)) => Answer::Page(version(token), page.0.clone()),
            Err(error) => failed(&error),
        },
        Ask::Link(at, word) => told(pages.link_at(id, at, Words(vec![word]), guard)),
        Ask::Replace(at, word) => told(pages.replace_at(id, at, Words(vec![word]), guard)),
        Ask::Free(at) => told(pages.free_at(id, at, guard)),
    }
}

fn told<F>(result: Result<Version, Rejected<'_, Words, F>>) -> Answer {
    match result {
        Ok(version) => Answer::Done(version),
        Err(Rejected::Conflict { current, token, .. }) => Answer::Conflict(version(token), current.0.clone()),
        Err(Rejected::Failed { error, .. }) => failed(&error),
    }
}

fn failed(error: &Error) -> Answer {
    match error {
        Error::NoPage { state: PageState::Empty, .. } => Answer::Empty,
        Error::NoPage { state: PageState::Free(version), .. } => Answer::Free(*version),
        _ => Answer::Failed,
    }
}

/// All that happened.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// The calls on each page.
    pub pages: Vec<Vec<PageCall>>,
    /// When acknowledged flushes began and ended.
    pub flushes: Vec<(u64, u64)>,
}

impl Story {
    /// A story of so many pages.
    pub fn new(pages: usize) -> Story {
        Story { pages: vec![Vec::new(); pages], flushes: Vec::new() }
    }

    /// Adds what happened in one turn.
    pub fn add(&mut self, turn: Turn) {
        match turn {
            Turn::Page(page, call) => self.pages[page].push(call),
            Turn::Flushed(begun, ended) => self.flushes.push((begun, ended)),
            Turn::NotFlushed => {}
        }
    }

    /// Whether an order of the calls explains each page.
    ///
    /// # Errors
    /// The first page without one.
    pub fn explain(&self) -> Result<(), Unexplained> {
        self.pages.iter().try_for_each(|calls| explain_page(calls).map(drop))
    }

    /// Whether two threads were ever at the same page at once.
    pub fn overlaps(&self) -> bool {
        let meet = |one: &PageCall, other: &PageCall| one.thread != other.thread && one.overlaps(other);
        self.pages.iter().any(|calls| calls.iter().any(|one| calls.iter().any(|other| meet(one, other))))
    }

    /// Calls with this kind of answer.
    pub fn count(&self, is: impl Fn(&Answer) -> bool) -> u64 {
        self.pages.iter().flatten().filter_map(Call::answer).filter(|answer| is(answer)).count() as u64
    }
}
