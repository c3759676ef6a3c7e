//! The user's part: what a page is and how its fragments merge.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fragment::Fragment;

/// How page fragments merge, and what a user wants to find again after a restart.
///
/// What is written here, and of a [`Fragment`] `encode`, `decode` and `drop`, is called by whoever reads or updates pages, and by threads of the store, which
/// clean. It may use the store, but for [`clean`](crate::PageCache::clean), [`checkpoint`](crate::PageCache::checkpoint) and [`tick`](crate::PageCache::tick), which
/// would wait for themselves, and must not be the last to let go of it. What it writes on a thread that cleans waits for nobody who cleans: where there is no room
/// it gets `NoSpace`. It must take no lock that anybody holds across an update: who updates may wait until the store has been cleaned, and who cleans would wait for
/// the lock.
pub trait Materializer: Sized + Send + Sync + 'static {
    /// A whole page, or a change to one.
    type PageFrag: Fragment;

    /// What the user recovers beside the pages: a root's id, a counter. `()` for nothing.
    type Recovery: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;

    /// Whether [`recover`](Materializer::recover) is to be asked at all. `false` saves decoding every replayed fragment.
    const RECOVERS: bool = true;

    /// Made at start: once for the replay with what the last checkpoint knows (not where [`RECOVERS`](Materializer::RECOVERS) is
    /// `false`), then with the final state to serve. The first one lives on: later checkpoints show it what was logged since.
    fn new(last_recovery: &Option<Self::Recovery>) -> Self;

    /// Merges fragments, oldest first, into one that stands for all of them.
    ///
    /// It must be associative: `merge([a, b, c])`, `merge([merge([a, b]), c])` and `merge([a, merge([b, c])])` mean the same page.
    /// It is called with two or more fragments; one alone stands for itself. A panic ends the operation that asked, nothing
    /// else.
    fn merge(&self, frags: &[&Self::PageFrag]) -> Self::PageFrag;

    /// Called at start for every replayed fragment, in LSN order, and later by each checkpoint for those that were logged since, on the
    /// instance of the replay. The last `Some` wins.
    fn recover(&self, frag: &Self::PageFrag) -> Option<Self::Recovery>;

    /// Bytes of heap that a fragment owns. The default asks [`Fragment::heap_size`].
    fn heap_size(&self, frag: &Self::PageFrag) -> usize {
        frag.heap_size()
    }
}
