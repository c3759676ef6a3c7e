//! The one door to atomics, cells, locks and threads: `std` in production, `loom` under `--cfg loom`, `shuttle` under
//! `--cfg shuttle`.
//!
//! Locks here are never poisoned: a panic of user code ends that operation only, and every critical section of the
//! kit leaves its state whole at each point where user code could run (there is none inside).

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::atomic::{Ordering, fence},
    sync::{Condvar as RawCondvar, Mutex as RawMutex, MutexGuard},
};
#[cfg(loom)]
pub(crate) use seen::{AtomicBool, AtomicPtr, AtomicU64};
#[cfg(shuttle)]
pub(crate) use shuttle::{
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence},
    sync::{
        Condvar as RawCondvar, Mutex as RawMutex, MutexGuard, RwLock as RawRwLock, RwLockReadGuard, RwLockWriteGuard,
        mpsc,
    },
    thread::JoinHandle,
};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::{
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence},
    sync::{Condvar as RawCondvar, Mutex as RawMutex, MutexGuard},
};
// The models of loom run neither the background threads nor two at the table of segments.
#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::{RwLock as RawRwLock, RwLockReadGuard, RwLockWriteGuard, mpsc},
    thread::JoinHandle,
};

use std::io;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Atomics whose loads loom does not forget.
///
/// Loom remembers one last access of an atomic. A thread that loads and then swaps (every CAS loop does) hides by its own load
/// the loads of others before, and loom never tries the swap ahead of them. So each load here first touches a word of its own,
/// with no ordering: loom tries the orders of the touches, and learns nothing from them.
#[cfg(loom)]
mod seen {
    use loom::sync::atomic::{self, Ordering};

    #[derive(Debug)]
    pub(crate) struct Seen<A> {
        inner: A,
        touched: atomic::AtomicBool,
    }

    pub(crate) type AtomicBool = Seen<atomic::AtomicBool>;
    pub(crate) type AtomicU64 = Seen<atomic::AtomicU64>;
    pub(crate) type AtomicPtr<T> = Seen<atomic::AtomicPtr<T>>;

    impl<A> Seen<A> {
        fn touch(&self) -> &A {
            self.touched.swap(true, Ordering::Relaxed);
            &self.inner
        }
    }

    impl<A> std::ops::Deref for Seen<A> {
        type Target = A;

        fn deref(&self) -> &A {
            &self.inner
        }
    }

    macro_rules! seen {
        ([$($generic:ident)?] $atomic:ty, $value:ty) => {
            impl$(<$generic>)? Seen<$atomic> {
                pub(crate) fn new(value: $value) -> Self {
                    Seen { inner: <$atomic>::new(value), touched: atomic::AtomicBool::new(false) }
                }

                pub(crate) fn load(&self, order: Ordering) -> $value {
                    self.touch().load(order)
                }
            }
        };
    }

    seen!([] atomic::AtomicBool, bool);
    seen!([] atomic::AtomicU64, u64);
    seen!([T] atomic::AtomicPtr<T>, *mut T);

    impl Default for AtomicU64 {
        fn default() -> Self {
            AtomicU64::new(0)
        }
    }
}

/// A cell whose accesses loom can see; in production a plain `UnsafeCell`.
#[cfg(not(loom))]
#[repr(transparent)]
#[derive(Debug, Default)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

/// A mutex without poisoning.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(RawMutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(RawMutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }
}

/// A condition variable that goes with [`Mutex`].
#[derive(Debug, Default)]
pub(crate) struct Condvar(RawCondvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Condvar(RawCondvar::new())
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits at most `limit`. Under loom and shuttle there is no time: loom waits for a notification, shuttle for one or for
    /// nothing, as the schedule has it.
    pub(crate) fn wait_timeout<'a, T>(&self, guard: MutexGuard<'a, T>, limit: Duration) -> MutexGuard<'a, T> {
        #[cfg(not(any(loom, shuttle)))]
        return self.0.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0;
        #[cfg(any(loom, shuttle))]
        {
            let _ = limit;
            #[cfg(shuttle)]
            if chance() {
                return guard;
            }
            self.wait(guard)
        }
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A reader-writer lock without poisoning.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(RawRwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        RwLock(RawRwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a thread that outlives its starter.
///
/// # Errors
/// Where the system gives none.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    #[cfg(shuttle)]
    use shuttle::thread::Builder;
    #[cfg(not(shuttle))]
    use std::thread::Builder;
    Builder::new().name(name.to_owned()).spawn(run)
}

/// Whether the background takes a thread beside its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Help {
    Thread,
    None,
}

/// Runs `beside` in a thread of its own while this one runs `here`, and waits for both. What either panics with goes on from here.
///
/// # Errors
/// Where the system gives no thread; neither has run then.
pub(crate) fn with_help<B: Send, H>(
    name: &str,
    beside: impl FnOnce() -> B + Send,
    here: impl FnOnce() -> H,
) -> io::Result<(B, H)> {
    #[cfg(shuttle)]
    let both = shuttle::thread::scope(|scope| {
        let _ = name;
        let helper = scope.spawn(beside);
        let here = here();
        Ok((helper.join(), here))
    });
    #[cfg(not(shuttle))]
    let ordinal = HelperOrdinal::take();
    #[cfg(not(shuttle))]
    let both = std::thread::scope(|scope| {
        let beside = || {
            ordinal.name_thread();
            beside()
        };
        let helper = std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, beside)?;
        let here = here();
        let joined = helper.join();
        // Nothing of the thread is left, its locals neither.
        ordinal.give_back();
        Ok((joined, here))
    });
    both.map(|(beside, here)| (beside.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), here))
}

/// Threads that may work at once.
pub(crate) fn parallelism() -> usize {
    // What replays beside its caller starts scoped threads of std, which shuttle does not know.
    if cfg!(shuttle) { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) }
}

/// Whether it is that late.
#[cfg(not(shuttle))]
pub(crate) fn is_past(at: Instant) -> bool {
    Instant::now() >= at
}

/// Shuttle has no clock: each look at it is a choice of the schedule.
#[cfg(shuttle)]
pub(crate) fn is_past(_at: Instant) -> bool {
    chance()
}

#[cfg(shuttle)]
fn chance() -> bool {
    use shuttle::rand::{Rng, thread_rng};
    thread_rng().gen_bool(0.5)
}

#[cfg(not(any(loom, shuttle)))]
thread_local! {
    // Without a destructor and without a lazy start: one load from a register's offset.
    static ORDINAL: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// A small number that names the calling thread for as long as it lives; never 0.
#[cfg(not(any(loom, shuttle)))]
#[inline]
pub(crate) fn thread_ordinal() -> u64 {
    ORDINAL.with(|ordinal| {
        if ordinal.get() == 0 {
            ordinal.set(next_ordinal());
        }
        ordinal.get()
    })
}

#[cfg(not(any(loom, shuttle)))]
fn next_ordinal() -> u64 {
    use std::sync::atomic::AtomicU64 as Counter;
    static NEXT: Counter = Counter::new(1);
    // Relaxed: the counter only has to hand out distinct numbers.
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The name of a thread that helps: of one that was joined before, if there is any. Each turn of cleaning has its own, and only the first few names of a process
/// have places of their own (`page/pins.rs`).
#[cfg(not(shuttle))]
struct HelperOrdinal(u64);

#[cfg(not(any(loom, shuttle)))]
impl HelperOrdinal {
    fn free() -> MutexGuard<'static, Vec<u64>> {
        static FREE: RawMutex<Vec<u64>> = RawMutex::new(Vec::new());
        FREE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take() -> HelperOrdinal {
        let free = HelperOrdinal::free().pop();
        HelperOrdinal(free.unwrap_or_else(next_ordinal))
    }

    /// This thread has it.
    fn name_thread(&self) {
        ORDINAL.with(|ordinal| ordinal.set(self.0));
    }

    /// Its thread has ended.
    fn give_back(&self) {
        HelperOrdinal::free().push(self.0);
    }
}

/// The models of loom have no helpers.
#[cfg(loom)]
impl HelperOrdinal {
    fn take() -> HelperOrdinal {
        HelperOrdinal(0)
    }

    fn name_thread(&self) {
        let _ = self.0;
    }

    fn give_back(&self) {}
}

/// Loom runs every model thread on one OS thread, so the name comes from loom.
#[cfg(loom)]
pub(crate) fn thread_ordinal() -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    loom::thread::current().id().hash(&mut hasher);
    hasher.finish() | 1
}

/// Shuttle runs every simulated thread on one OS thread, so the name comes from shuttle.
#[cfg(shuttle)]
pub(crate) fn thread_ordinal() -> u64 {
    usize::from(shuttle::current::me()) as u64 + 1
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// Class: what is handed out for ever to those who live for a moment.
    #[test]
    fn threads_that_help_one_after_the_other_share_a_few_names_and_those_at_once_do_not() {
        let helped = || with_help("helper", thread_ordinal, thread_ordinal).unwrap();
        let mut names = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let (beside, here) = helped();
            assert!(beside != here && beside != 0);
            names.insert(beside);
        }
        // Other tests have helpers, too.
        assert!(names.len() < 30, "{names:?}");
        let (one, (other, _)) = with_help("helper", thread_ordinal, helped).unwrap();
        assert_ne!(one, other);
        // A panic of it gives the name back all the same.
        let panics = || with_help("helper", || panic!("a helper's"), || ());
        assert!(std::panic::catch_unwind(panics).is_err());
    }
}
