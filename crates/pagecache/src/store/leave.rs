//! Segments that nobody needs any more: out of the table, and their files kept for another life, removed, or left where somebody wants them to stay.

use std::sync::Arc;

use super::pool::Pool;
use crate::base::canary::{Canary, planted};
use crate::base::error::Result;
use crate::base::ids::Lsn;
use crate::format::segment::Stream;
use crate::store::births::Keep;
use crate::store::files;
use crate::store::segment::Segment;
use crate::store::table::Table;

impl Pool {
    /// Takes every segment of the log that ends at or below `keep` out of the table, the newest never, and gives its file back.
    pub(crate) fn release_below(&self, keep: Lsn) -> Result<u64> {
        self.give_back(|table| {
            let mut gone = Vec::new();
            while table.log.len() > 1 && table.log.front().is_some_and(|segment| segment.data_end() <= keep) {
                gone.extend(table.log.pop_front());
            }
            gone
        })
    }

    /// Takes the segments that nobody needs any more out of the table, and gives their files back.
    ///
    /// # Errors
    /// `Io`: what was not given back is a file that means nothing, for the next opening to remove.
    pub(crate) fn release(&self, unwanted: impl Fn(&Segment) -> bool) -> Result<u64> {
        self.give_back(|table| {
            let gone: Vec<Arc<Segment>> = table.all().filter(|segment| unwanted(segment)).map(Arc::clone).collect();
            for segment in &gone {
                table.others.remove(&segment.header.sequence);
            }
            // Those of the log come in its order: one walk, under the lock.
            let mut of_log = gone.iter().filter(|segment| segment.header.stream == Stream::Log).peekable();
            table.log.retain(|segment| of_log.next_if(|gone| Arc::ptr_eq(gone, segment)).is_none());
            gone
        })
    }

    /// What is taken out of the table is counted as leaving at once, and nobody makes it stay in between. A directory that cannot be synced ends the log, which is for who
    /// calls to say (L5); nothing that was kept by then is used for another segment.
    fn give_back(&self, take: impl FnOnce(&mut Table) -> Vec<Arc<Segment>>) -> Result<u64> {
        let _one_at_a_time = self.leaving.lock();
        let (gone, leaving) = {
            let (mut births, mut table) = (self.births.lock(), self.table_mut());
            if births.are_over() {
                return Ok(0);
            }
            let gone = take(&mut table);
            let leaving = births.leave(&gone, table.len());
            (gone, leaving)
        };
        let has_changed = !leaving.is_empty();
        let (mut left, given_back) = files::leave(self.storage(), leaving);
        // Before any of them is used for another segment.
        let synced = match has_changed && !planted(Canary::SegmentReusedEarly) {
            true => self.sync_dir(),
            false => Ok(()),
        };
        if synced.is_err() {
            // After a crash their old names may be there again, with what would be written to them: they stay what they are, for the next opening to remove.
            left.spares.clear();
        }
        self.births.lock().left_behind(left);
        synced.and(given_back).map(|()| gone.len() as u64)
    }

    /// Removes files beyond those that are to be kept for reuse.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub(crate) fn trim(&self) -> Result<()> {
        self.give_back(|_| Vec::new()).map(|_| ())
    }

    /// Says how many files are kept for reuse, from the next that are given back on.
    pub(crate) fn keep(&self, keep: Keep) {
        self.births.lock().keep(keep);
    }

    /// Keeps all files of segments until [`unpin`](Self::unpin): those that are given back meanwhile are removed then, and none that is there
    /// now, or made meanwhile, is ever used for another segment.
    pub(crate) fn pin(&self) {
        // What is leaving has left then, or stays.
        let _nothing_leaves = self.leaving.lock();
        let mut births = self.births.lock();
        births.pin();
        self.table().all().for_each(|segment| segment.link());
    }

    /// # Errors
    /// As [`release`](Self::release).
    pub(crate) fn unpin(&self) -> Result<u64> {
        self.births.lock().unpin();
        self.give_back(|_| Vec::new())
    }

    /// Has no file given back any more, once what is leaving has left: the directory is about to be somebody else's.
    pub(crate) fn end(&self) {
        let _nothing_leaves = self.leaving.lock();
        self.births.lock().end();
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::base::error::Error;
    use crate::base::ids::Sequence;
    use crate::format::segment::Purpose;
    use crate::storage::{LockGuard, LockMode, MemoryStorage, OpenMode, Storage, StorageFile};
    use crate::store::birth::Birth;
    use crate::store::handles::Handles;
    use crate::store::limit::{CAPPED, Claim};
    use crate::store::segment::Identity;

    /// A directory that may not be synced any more.
    #[derive(Debug, Default)]
    struct Directory {
        files: MemoryStorage,
        fails: AtomicBool,
    }

    impl Storage for Directory {
        fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
            self.files.open(name, mode)
        }
        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.files.rename(from, to)
        }
        fn remove(&self, name: &str) -> io::Result<()> {
            self.files.remove(name)
        }
        fn list(&self) -> io::Result<Vec<String>> {
            self.files.list()
        }
        fn sync_dir(&self) -> io::Result<()> {
            if self.fails.load(Ordering::Relaxed) { Err(io::ErrorKind::Other.into()) } else { self.files.sync_dir() }
        }
        fn lock(&self, mode: LockMode) -> io::Result<Box<dyn LockGuard>> {
            self.files.lock(mode)
        }
        fn describe(&self) -> String {
            "a directory".to_owned()
        }
    }

    /// A pool of two segments of the log.
    fn pool(directory: &Arc<Directory>) -> Pool {
        let identity = Identity { purpose: Purpose::Pages, store: 7 };
        let handles = Handles::new(Arc::<Directory>::clone(directory), OpenMode::ReadWrite);
        let pool = Pool::new(handles, identity, 64 << 10, [], Sequence(0));
        for start in [0, 64 << 10].map(Lsn) {
            let (previous, first, stable) = (None, Lsn(0), Lsn(0));
            pool.birth(Birth { start, previous, first, claim: Claim::Upkeep, stable, allocate: 0 }).unwrap();
        }
        pool
    }

    #[test]
    fn what_was_renamed_in_a_directory_that_cannot_be_synced_is_not_used_again() {
        for fails in [false, true] {
            let directory = Arc::new(Directory::default());
            let pool = pool(&directory);
            directory.fails.store(fails, Ordering::Relaxed);
            let released = pool.release_below(Lsn(64 << 10));
            assert_eq!(released.is_err(), fails);
            directory.fails.store(false, Ordering::Relaxed);
            assert_eq!(pool.stock().spares, u64::from(!fails));
        }
    }

    #[test]
    fn frees_have_segments_of_their_own_until_there_is_room_for_users() {
        const SIZE: u64 = 64 << 10;
        let pool = pool(&Arc::new(Directory::default()));
        pool.cap(16 * SIZE + 8192, 4);
        let birth = |claim| {
            let start = Lsn(pool.log().len() as u64 * SIZE + pool.log()[0].header.start.0);
            let (previous, first, stable) = (None, Lsn(0), Lsn(0));
            pool.birth(Birth { start, previous, first, claim, stable, allocate: 0 }).map(|made| made.header.sequence)
        };
        let is_refused = |made| matches!(made, Err(Error::NoSpace { what: CAPPED }));
        assert!(!pool.is_of_frees(birth(Claim::Frees).unwrap()), "as long as there is room for all");
        while pool.left(Claim::User) != Some(0) {
            birth(Claim::User).unwrap();
        }
        assert!(pool.log().len() == 10 && is_refused(birth(Claim::User)));
        let of_frees = [(); 2].map(|()| birth(Claim::Frees).unwrap());
        assert!(is_refused(birth(Claim::Frees)), "two at once");
        assert!(of_frees.iter().all(|of| pool.is_of_frees(*of)));
        assert_eq!(
            (pool.left(Claim::Images), pool.left(Claim::Upkeep)),
            (Some(3), Some(4)),
            "none is kept for a third"
        );
        pool.release(|segment| segment.header.sequence == of_frees[0]).unwrap();
        assert!(birth(Claim::Frees).is_ok() && is_refused(pool.give_to_users().map(|()| of_frees[0])));
        let oldest = pool.log()[0].header.start;
        pool.release_below(Lsn(oldest.0 + 3 * SIZE)).unwrap();
        pool.give_to_users().unwrap();
        assert!(!pool.is_of_frees(of_frees[1]));
    }

    #[test]
    fn nothing_is_given_back_behind_the_end() {
        let directory = Arc::new(Directory::default());
        let pool = pool(&directory);
        let before = directory.list().unwrap();
        pool.end();
        assert_eq!(pool.release_below(Lsn(64 << 10)).unwrap(), 0);
        assert_eq!(directory.list().unwrap(), before);
    }
}
