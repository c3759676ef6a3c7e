//! The one door to atomics, cells, locks and thread identity: `std` in production, `loom` under `--cfg loom`.
//!
//! Locks here are never poisoned: a panic of user code ends that operation only, and every critical section of the
//! kit leaves its state whole at each point where user code could run (there is none inside).

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering},
    sync::{Condvar as RawCondvar, Mutex as RawMutex, MutexGuard},
};
#[cfg(not(loom))]
pub(crate) use std::{
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering},
    sync::{Condvar as RawCondvar, Mutex as RawMutex, MutexGuard},
};

use std::sync::PoisonError;
use std::time::Duration;

/// A cell whose accesses loom can see; in production a plain `UnsafeCell`.
#[cfg(not(loom))]
#[repr(transparent)]
#[derive(Debug, Default)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }
}

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

    /// Waits at most `limit`. Under loom there is no time: it waits for a notification.
    pub(crate) fn wait_timeout<'a, T>(&self, guard: MutexGuard<'a, T>, limit: Duration) -> MutexGuard<'a, T> {
        #[cfg(not(loom))]
        return self.0.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0;
        #[cfg(loom)]
        {
            let _ = limit;
            self.wait(guard)
        }
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A small number that names the calling thread for as long as it lives; never 0.
#[cfg(not(loom))]
pub(crate) fn thread_ordinal() -> u64 {
    use std::sync::atomic::AtomicU64 as Counter;
    static NEXT: Counter = Counter::new(1);
    thread_local! {
        // Relaxed: the counter only has to hand out distinct numbers.
        static ORDINAL: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    // A thread that is past the end of its locals has no reservation of its own and takes a number for the moment.
    ORDINAL.try_with(|ordinal| *ordinal).unwrap_or_else(|_| NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Loom runs every model thread on one OS thread, so the name comes from loom.
#[cfg(loom)]
pub(crate) fn thread_ordinal() -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    loom::thread::current().id().hash(&mut hasher);
    hasher.finish() | 1
}

/// Tells the processor (or loom's scheduler) that this thread waits for another.
pub(crate) fn spin() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}
