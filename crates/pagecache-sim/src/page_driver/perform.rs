//! The operations themselves.

use pagecache::{Error, PageCache, PageId, PageState, Rejected, Version, version};

use super::op::Bytes;
use super::{Answer, CAPACITY, Concat, FRAGMENT_MIN, PageOp, PageWorld, Update, Wrong};
use crate::driver::{Blind, Checked, Violation, claim};
use crate::page_model::{Body, Change, Page};

type Pages = PageCache<Concat>;

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// It failed and may have.
    Excused,
}

impl PageWorld {
    pub(super) fn perform(&mut self, pages: &Pages, op: PageOp) -> Checked {
        let since = self.disk.struck().len();
        match op {
            PageOp::Alloc => self.allocate(pages).map(drop),
            PageOp::New(len) => {
                let id = self.allocate(pages)?;
                self.update(pages, id, Update::Replace, len).map(drop)
            }
            PageOp::Replace(pick, len) => self.update_picked(pages, self.pick(pick), Update::Replace, len),
            PageOp::Link(pick, len) => self.update_picked(pages, self.pick(pick), Update::Link, len),
            PageOp::LinkMany(pick, count) => {
                let id = self.picked(pages, self.pick(pick))?;
                for _ in 0..count {
                    if self.update(pages, id, Update::Link, FRAGMENT_MIN)? == Outcome::Excused {
                        break;
                    }
                }
                Ok(())
            }
            PageOp::Stale(pick, update, wrong) => match self.pick(pick) {
                Some(id) => self.be_refused(pages, id, update, wrong),
                None => Ok(()),
            },
            PageOp::Missing => self.ask_for_missing(pages),
            PageOp::Get(pick) => self.pick(pick).map_or(Ok(()), |id| self.check_page(pages, id).map(drop)),
            PageOp::Fragments(pick) => self.pick(pick).map_or(Ok(()), |id| self.check_fragments(pages, id).map(drop)),
            PageOp::Free(pick) => self.update_picked(pages, self.pick(pick), Update::Free, 0),
            PageOp::Flood(len) => self.flood(pages, len),
            PageOp::Flush => {
                let tail = pages.stats().tail;
                match self.excused(pages.flush(), since, Blind::Nothing)? {
                    Some(stable) => claim(stable >= tail, || format!("a flush up to {tail} says {stable}")),
                    None => Ok(()),
                }
            }
            PageOp::MakeStable(pick) => {
                let Some(id) = self.pick(pick) else { return Ok(()) };
                let at = self.model.version(id);
                match self.excused(pages.make_stable(at), since, Blind::Nothing)? {
                    Some(stable) => claim(stable.0 > at.0, || format!("{at} is made stable, up to {stable}")),
                    None => Ok(()),
                }
            }
            PageOp::Checkpoint => match self.excused(pages.checkpoint(), since, Blind::Nothing)? {
                Some(redo) => {
                    let (at, stable) = (pages.stats().redo, pages.stable_lsn());
                    claim(redo == at && redo <= stable, || format!("a checkpoint at {redo}, {at} of {stable}"))
                }
                None => Ok(()),
            },
            PageOp::Clean => self.clean(pages).map(drop),
            PageOp::Settle => self.settle(pages),
            PageOp::Tick => self.excused(pages.tick(), since, Blind::Nothing).map(drop),
            PageOp::Pin => self.pin(pages),
            PageOp::Unpin => self.unpin(),
            PageOp::Check => self.check_all(pages),
        }
    }

    fn allocate(&mut self, pages: &Pages) -> Result<PageId, Violation> {
        let stable = pages.stable_lsn();
        let id = pages.allocate(&self.handle.pin());
        self.model.handed_out(id, stable)?;
        Ok(id)
    }

    /// The page that was meant, or a new one.
    fn picked(&mut self, pages: &Pages, picked: Option<PageId>) -> Result<PageId, Violation> {
        picked.map_or_else(|| self.allocate(pages), Ok)
    }

    fn update_picked(&mut self, pages: &Pages, picked: Option<PageId>, update: Update, len: u32) -> Checked {
        let id = self.picked(pages, picked)?;
        self.update(pages, id, update, len).map(drop)
    }

    /// An update that names the page's version.
    fn update(&mut self, pages: &Pages, id: PageId, update: Update, len: u32) -> Result<Outcome, Violation> {
        let since = self.disk.struck().len();
        let body = self.body(id, len);
        let at = self.model.version(id);
        let answer = match self.send(pages, id, at, update, &body)? {
            Err(Error::Conflict { .. }) => {
                return Err(Violation::new(format!("{update:?} of {id} at its version {at} is a conflict")));
            }
            answer => answer,
        };
        if self.is_capped_out(&answer, update) {
            self.check_state(pages, id)?;
            self.check_page(pages, id)?;
            return Ok(Outcome::Excused);
        }
        let failed = self.trust.is_poisoned();
        let Some(version) = self.excused(answer, since, Blind::Room)? else {
            // Nothing happened.
            self.check_state(pages, id)?;
            self.check_page(pages, id)?;
            return Ok(Outcome::Excused);
        };
        claim(!failed, || "a failed store takes updates".to_owned())?;
        let change = match update {
            Update::Replace => Change::Replace(body),
            Update::Link => Change::Link(body),
            Update::Free => Change::Free,
        };
        self.model.changed(id, change, version)?;
        self.check_state(pages, id)?;
        Ok(Outcome::Done)
    }

    /// Sends an update. What is refused must come back as it was given.
    fn send(
        &mut self,
        pages: &Pages,
        id: PageId,
        at: Version,
        update: Update,
        body: &Body,
    ) -> Result<Answer<Version>, Violation> {
        let guard = self.handle.pin();
        let given = Bytes(body.to_vec());
        // A token where there is one in the cache's own hand; both ways are the same call.
        let token = match self.model.page(id) {
            Some(Page::Live { version: current, .. }) if self.made.is_multiple_of(4) && *current == at => {
                let since = self.disk.struck().len();
                self.excused(pages.get(id, &guard), since, Blind::Room)?.map(|(_, token)| token)
            }
            _ => None,
        };
        let answer = match (update, token) {
            (Update::Replace, Some(token)) => pages.replace(id, token, given, &guard).map(version),
            (Update::Link, Some(token)) => pages.link(id, token, given, &guard).map(version),
            (Update::Replace, None) => pages.replace_at(id, at, given, &guard),
            (Update::Link, None) => pages.link_at(id, at, given, &guard),
            (Update::Free, _) => {
                return match pages.free_at(id, at, &guard) {
                    Ok(version) => Ok(Ok(version)),
                    Err(rejected) => self.refusal(id, rejected).map(|(error, ())| Err(error)),
                };
            }
        };
        match answer {
            Ok(version) => Ok(Ok(version)),
            Err(rejected) => {
                let (error, back) = self.refusal(id, rejected)?;
                claim(back.0 == **body, || format!("{id} refuses {} bytes and gives others back", body.len()))?;
                Ok(Err(error))
            }
        }
    }

    /// What a refusal says: a conflict shows the page as it is.
    fn refusal<F>(&self, id: PageId, rejected: Rejected<'_, Bytes, F>) -> Result<(Error, F), Violation> {
        match rejected {
            Rejected::Conflict { current, token, rejected, error } => {
                self.check_current(id, &current, PageState::Live(version(token)))?;
                Ok((error, rejected))
            }
            Rejected::Failed { error, rejected } => Ok((error, rejected)),
        }
    }

    /// An update that names another version than the page's.
    fn be_refused(&mut self, pages: &Pages, id: PageId, update: Update, wrong: Wrong) -> Checked {
        let since = self.disk.struck().len();
        let current = self.model.version(id);
        let at = match wrong {
            Wrong::Old(before) => self.model.versions(id).nth(before + 1).unwrap_or(Version::NONE),
            Wrong::Null => Version::NONE,
            Wrong::Foreign => match self.model.last_version() {
                Some(last) if last != current => last,
                _ => Version(current.0 + 8),
            },
        };
        if at == current {
            // An empty page is rightly updated with null.
            return Ok(());
        }
        let body = self.body(id, 24);
        let refusal = match self.send(pages, id, at, update, &body)? {
            Ok(version) => {
                return Err(Violation::new(format!("{update:?} at {at} of {id} at {current} is taken: {version}")));
            }
            Err(refusal) => refusal,
        };
        match (&refusal, self.model.state(id)) {
            (Error::Conflict { page, current: told }, PageState::Live(current)) if *page == id && *told == current => {}
            (Error::NoPage { page, state }, expected) if *page == id && *state == expected => {}
            (Error::NoSpace { .. }, PageState::Live(_))
                if self.is_capped_out(&Err::<(), _>(refusal.clone()), update) => {}
            // The page could not be read.
            (_, PageState::Live(_)) => self.excused(Err::<(), _>(refusal), since, Blind::Room).map(drop)?,
            (_, state) => return Err(Violation::new(format!("{update:?} of {id}, {state:?}, says {refusal}"))),
        }
        self.check_state(pages, id)
    }

    /// Free pages, never allocated ones, and ids beyond all.
    fn ask_for_missing(&mut self, pages: &Pages) -> Checked {
        let next = self.model.high_water();
        let mut missing: Vec<_> = self.model.freed().take(3).collect();
        missing.extend([next, next + 5000, u64::MAX].map(PageId));
        for id in missing {
            let expected = self.model.state(id);
            self.check_page(pages, id)?;
            self.check_fragments(pages, id)?;
            self.check_state(pages, id)?;
            let old = self.model.versions(id).next().unwrap_or(Version(8));
            for (update, at) in [Update::Replace, Update::Link, Update::Free].iter().zip([old, Version::NONE, old]) {
                let body = self.body(id, 24);
                let since = self.disk.struck().len();
                match self.send(pages, id, at, *update, &body)? {
                    Err(Error::NoPage { page, state }) if page == id && state == expected => {}
                    Err(error) => drop(self.excused(Err::<(), _>(error), since, Blind::Room)?),
                    Ok(version) => {
                        return Err(Violation::new(format!("{update:?} of {id}, {expected:?}, is taken: {version}")));
                    }
                }
            }
        }
        Ok(())
    }

    /// More new pages than the cache holds, then all that hold data once around, so that each has to come back.
    fn flood(&mut self, pages: &Pages, len: u32) -> Checked {
        let mut bytes = 0;
        while bytes < CAPACITY + CAPACITY / 4 {
            let id = self.allocate(pages)?;
            if self.update(pages, id, Update::Replace, len)? == Outcome::Excused {
                break;
            }
            bytes += u64::from(len) + 100;
        }
        let live: Vec<_> = self.model.live().collect();
        for id in live.into_iter().take(40) {
            self.check_page(pages, id)?;
        }
        Ok(())
    }

    /// A new page; whether it is there.
    pub(super) fn write_one(&mut self, pages: &Pages) -> Result<bool, Violation> {
        let id = self.allocate(pages)?;
        Ok(self.update(pages, id, Update::Replace, 33)? == Outcome::Done)
    }

    /// Shows that an open store takes, keeps and returns something new.
    pub(super) fn write_and_read(&mut self, pages: &Pages) -> Checked {
        let id = self.allocate(pages)?;
        for update in [Update::Replace, Update::Link] {
            let done = self.update(pages, id, update, 33)? == Outcome::Done;
            claim(done, || format!("{update:?} failed"))?;
        }
        let at = self.model.version(id);
        let stable = pages.make_stable(at).map_err(|error| Violation::new(format!("a flush failed: {error}")))?;
        claim(stable.0 > at.0, || format!("{at} was made stable, up to {stable}"))?;
        self.model.acknowledged(stable);
        claim(self.check_fragments(pages, id)? == 66, || format!("{id} was not read"))?;
        claim(self.check_page(pages, id)? == 66, || format!("{id} was not read"))
    }
}
