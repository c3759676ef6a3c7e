//! What is checked after each operation and each recovery, and which failures are excused.

use pagecache::{Error, PageCache, PageId, PageState, Stats, version};

use super::op::{Bytes, outline};
use super::{Answer, Concat, PageOp, PageWorld, SEGMENT};
use crate::driver::{Blind, Checked, Violation, claim};
use crate::page_model::{Body, Page};

/// Counted calls of an open beyond those for files that it removes and blocks that it writes again.
const OPEN_CALLS: u64 = 40;

/// Counted calls of an operation beyond those for each segment that it fills and each update that it makes.
const OP_CALLS: u64 = 24;

/// The same for a checkpoint.
const CHECKPOINT_CALLS: u64 = 60;

/// Bytes of pages that are read where a store was opened: all of a small one, another part of a large one each time.
const READ_MAX: usize = 128 << 10;

/// What was so before an operation.
#[derive(Clone, Debug)]
pub(super) struct Before {
    struck: usize,
    calls: u64,
    made: u64,
    pub(super) stats: Stats,
    /// Before those that give some back.
    pub(super) segments: Vec<String>,
}

impl PageWorld {
    /// The answer, or `None` where the call failed and may have. `since` is what had struck before it.
    pub(super) fn excused<T>(&mut self, answer: Answer<T>, since: usize, to: Blind) -> Result<Option<T>, Violation> {
        self.trust.excuse(&self.disk, answer, since, self.model.stable(), to)
    }

    pub(super) fn before(&self, pages: &PageCache<Concat>, op: PageOp) -> Before {
        let (struck, calls) = (self.disk.struck().len(), self.disk.io_count());
        let segments = if op.turns_max(self.cap) > 0 { self.segments() } else { Vec::new() };
        Before { struck, calls, made: self.made, stats: pages.stats(), segments }
    }

    /// What holds after every operation, and what the store now says is durable.
    pub(super) fn check_after(&mut self, pages: &PageCache<Concat>, op: PageOp, before: Before) -> Checked {
        let stats = pages.stats();
        let (stable, tail) = (stats.stable, stats.tail);
        self.trust.look(&self.disk, self.model.stable());
        claim(stable >= self.model.stable(), || format!("stable at {stable} after {}", self.model.stable()))?;
        claim(stable <= tail, || format!("stable {stable}, tail {tail}"))?;
        self.model.acknowledged(stable);
        self.check_counts(pages)?;
        if self.disk.crashed() {
            return Ok(());
        }
        let struck = self.disk.struck().len() > before.struck;
        let calls = self.disk.io_count() - before.calls;
        let grown = (tail.0 - before.stats.tail.0) / SEGMENT + 1;
        // A checkpoint makes a segment of the map or two, writes both copies of the superblock, and gives back what was before.
        let checkpoint = CHECKPOINT_CALLS + 16 * (before.stats.tail.0 / SEGMENT);
        let bound = OP_CALLS + 12 * grown + 8 * (self.made - before.made) + op.turns_max(self.cap) * checkpoint;
        claim(struck || calls <= bound, || format!("{op:?} made {calls} calls of the disk, over {bound}"))?;
        self.check_memory(&stats, op)?;
        // Where the disk broke its word a page may be gone whose parts nobody knows.
        if (op.turns_max(self.cap) > 0 || op == PageOp::Check) && !self.trust.is_betrayed() {
            pages.check_accounts().map_err(Violation::new)?;
        }
        self.count(&stats, &before);
        self.check_disk(&stats, op, &before)
    }

    /// How many pages and ids there are.
    fn check_counts(&self, pages: &PageCache<Concat>) -> Checked {
        let count = pages.page_count().map_err(|error| Violation::new(format!("pages cannot be counted: {error}")))?;
        let expected = self.model.allocated().count() as u64;
        claim(count == expected, || format!("{count} pages are allocated and not {expected}"))?;
        let (next, expected) = (pages.stats().ids_high_water, self.model.high_water());
        claim(next == expected, || format!("the next new id is {next} and not {expected}"))
    }

    /// Compares everything that a recovery found.
    pub(super) fn check_opened(&mut self, pages: &PageCache<Concat>) -> Checked {
        let stats = pages.stats();
        let (stable, tail) = (stats.stable, stats.tail);
        claim(stable == tail, || format!("a store opens stable up to {stable} with its tail at {tail}"))?;
        claim(tail >= self.model.stable(), || format!("a store opens at {tail}, {} was stable", self.model.stable()))?;
        let guard = self.handle.pin();
        let ids = stats.ids_high_water.max(self.model.high_water()) + 2;
        let states: Answer<Vec<_>> = (0..ids).map(|id| pages.state(PageId(id), &guard)).collect();
        let states = match states {
            // A leaf of the map is damaged, and the store says so for each of its pages: as much as a refusal to start.
            Err(Error::Corrupt(_)) if self.trust.is_betrayed() => {
                self.trust.lose();
                return Ok(());
            }
            states => states.map_err(|error| Violation::new(format!("a state cannot be told: {error}")))?,
        };
        self.model.recovered(&states, stats.ids_high_water, tail)?;
        self.check_ids(pages)?;
        self.check_opened_accounts(pages)?;
        let number = self.model.last_body().and_then(|body| super::op::last_number(body));
        let recovered = pages.recovered_state();
        claim(recovered == number.as_ref(), || format!("{recovered:?} is recovered and not {number:?}"))?;
        self.check_some(pages, stats.tail.0 / 8, READ_MAX)
    }

    /// An open that no fault disturbs makes a bounded number of calls.
    pub(super) fn check_calls_of_open(&self, pages: &PageCache<Concat>, calls: u64) -> Checked {
        // What is read again and written again goes in pieces of 256 KiB, and a removal is a call.
        let bound = OPEN_CALLS + 4 * (self.disk.file_names().len() as u64 + pages.stats().tail.0 / SEGMENT);
        let calls = self.disk.io_count() - calls;
        claim(calls <= bound, || format!("an open made {calls} calls of the disk"))
    }

    /// Which pages hold data, and how many there are.
    fn check_ids(&self, pages: &PageCache<Concat>) -> Checked {
        let found: Answer<Vec<PageId>> = pages.page_ids().collect();
        let found = found.map_err(|error| Violation::new(format!("ids cannot be told: {error}")))?;
        let expected: Vec<PageId> = self.model.live().collect();
        claim(found == expected, || format!("{found:?} hold data and not {expected:?}"))?;
        self.check_counts(pages)
    }

    /// Reads pages that hold data, from the one with this number around, until so many bytes were compared.
    fn check_some(&mut self, pages: &PageCache<Concat>, first: u64, limit: usize) -> Checked {
        let live: Vec<_> = self.model.live().collect();
        let first = (first % live.len().max(1) as u64) as usize;
        let mut bytes = 0;
        for id in live[first..].iter().chain(&live[..first]) {
            if bytes >= limit {
                break;
            }
            // One in four unmerged: from then on it is merged only once.
            if id.0 & 3 == first as u64 & 3 {
                bytes += self.check_fragments(pages, *id)?;
            }
            bytes += self.check_page(pages, *id)?;
        }
        Ok(())
    }

    /// Reads everything, and asks about everything else.
    pub(super) fn check_all(&mut self, pages: &PageCache<Concat>) -> Checked {
        if self.disk.crashed() {
            return Ok(());
        }
        self.check_ids(pages)?;
        for id in (0..self.model.high_water() + 2).map(PageId) {
            self.check_state(pages, id)?;
            self.check_fragments(pages, id)?;
            self.check_page(pages, id)?;
        }
        Ok(())
    }

    /// What a page is said to be.
    pub(super) fn check_state(&mut self, pages: &PageCache<Concat>, id: PageId) -> Checked {
        let since = self.disk.struck().len();
        let expected = self.model.state(id);
        let state = pages.state(id, &self.handle.pin());
        // An image has to be read for its version.
        match self.excused(state, since, Blind::Nothing)? {
            Some(state) => claim(state == expected, || format!("{id} is {state:?} and not {expected:?}")),
            None => Ok(()),
        }
    }

    /// Reads a page, merged. Bytes that were compared.
    pub(super) fn check_page(&mut self, pages: &PageCache<Concat>, id: PageId) -> Result<usize, Violation> {
        let since = self.disk.struck().len();
        let guard = self.handle.pin();
        let found = match pages.get(id, &guard) {
            Ok((page, at)) => Ok((page, version(at))),
            Err(error) => Err(error),
        };
        let Some(found) = self.data(id, found, since)? else { return Ok(0) };
        let (page, at) = found;
        self.check_live(id, PageState::Live(at), |bodies| same(bodies, [&*page].into_iter()))
    }

    /// Reads a page, unmerged. Bytes that were compared.
    pub(super) fn check_fragments(&mut self, pages: &PageCache<Concat>, id: PageId) -> Result<usize, Violation> {
        let since = self.disk.struck().len();
        let guard = self.handle.pin();
        let found = match pages.fragments(id, &guard) {
            Ok((fragments, at)) => Ok((fragments, version(at))),
            Err(error) => Err(error),
        };
        let Some((fragments, at)) = self.data(id, found, since)? else { return Ok(0) };
        let mut oldest_first: Vec<_> = fragments.iter().collect();
        claim(oldest_first.len() == fragments.count(), || format!("{id} counts {} fragments", fragments.count()))?;
        oldest_first.reverse();
        self.check_live(id, PageState::Live(at), |bodies| same(bodies, oldest_first.into_iter()))
    }

    /// What was read, or `None` where the page holds no data and the answer says so, or a failure is excused.
    fn data<T>(&mut self, id: PageId, found: Answer<T>, since: usize) -> Result<Option<T>, Violation> {
        match (self.model.page(id), found) {
            (Some(Page::Live { .. }), found) => self.excused(found, since, Blind::Room),
            (_, Err(Error::NoPage { page, state })) => {
                let expected = self.model.state(id);
                let right = page == id && state == expected;
                claim(right, || format!("{id} is {expected:?}, and a read says that {page} is {state:?}"))
                    .map(|()| None)
            }
            (_, Err(error)) => Err(Violation::new(format!("{id} holds no data, and a read says {error}"))),
            (_, Ok(_)) => Err(Violation::new(format!("{id} is {:?} and can be read", self.model.state(id)))),
        }
    }

    /// Compares the state and the content of a page that holds data.
    pub(super) fn check_live(
        &self,
        id: PageId,
        state: PageState,
        content: impl FnOnce(&[Body]) -> Result<usize, String>,
    ) -> Result<usize, Violation> {
        let expected = self.model.state(id);
        claim(state == expected, || format!("{id} is read as {state:?} and is {expected:?}"))?;
        match self.model.page(id) {
            Some(Page::Live { bodies, .. }) => {
                content(bodies).map_err(|differs| Violation::new(format!("{id} at {state:?}: {differs}")))
            }
            _ => Err(Violation::new(format!("{id} is {expected:?} and has content"))),
        }
    }

    /// Compares what a conflict shows.
    pub(super) fn check_current(&self, id: PageId, current: &Bytes, state: PageState) -> Checked {
        self.check_live(id, state, |bodies| same(bodies, [current].into_iter())).map(drop)
    }
}

/// How many bytes there are, where the fragments, oldest first, are these bodies in this order.
pub(super) fn same<'a>(bodies: &[Body], fragments: impl Iterator<Item = &'a Bytes>) -> Result<usize, String> {
    let mut bodies = bodies.iter();
    let mut expected: &[u8] = &[];
    let mut count = 0;
    for fragment in fragments {
        let mut bytes = fragment.0.as_slice();
        count += bytes.len();
        while !bytes.is_empty() {
            if expected.is_empty() {
                expected = bodies.next().map(|body| &**body).unwrap_or_default();
            }
            let step = bytes.len().min(expected.len());
            if step == 0 || bytes[..step] != expected[..step] {
                return Err(format!("fragments {:?} where {:?} comes next", outline(bytes), outline(expected)));
            }
            (bytes, expected) = (&bytes[step..], &expected[step..]);
        }
    }
    match expected.is_empty() && bodies.next().is_none() {
        true => Ok(count),
        false => Err("the newest fragments are missing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_are_compared_across_their_borders() {
        let bodies: Vec<Body> = vec![Body::from([1, 2]), Body::from([3]), Body::from([4, 5])];
        let check = |fragments: &[&[u8]]| {
            let fragments: Vec<_> = fragments.iter().map(|bytes| Bytes(bytes.to_vec())).collect();
            same(&bodies, fragments.iter())
        };
        assert_eq!(check(&[&[1, 2, 3, 4, 5]]), Ok(5));
        assert_eq!(check(&[&[1, 2], &[3, 4, 5]]), Ok(5));
        assert_eq!(check(&[&[1, 2, 3], &[4, 5]]), Ok(5));
        let wrong: [&[&[u8]]; 5] =
            [&[], &[&[1, 2], &[3]], &[&[1, 2, 3, 4]], &[&[1, 2, 4, 5], &[3]], &[&[1, 2, 3, 4, 5, 6]]];
        assert!(wrong.into_iter().all(|fragments| check(fragments).is_err()));
    }
}
