//! Which threads are at work that writers wait for: what these wait for must not be themselves.

use std::cell::Cell;
use std::marker::PhantomData;

#[cfg(shuttle)]
use shuttle::thread_local;

thread_local! {
    static AT_WORK: Cell<bool> = const { Cell::new(false) };
}

/// This thread cleans or writes a checkpoint, or helps who does. As long as it is at that, what user code has it write waits neither for a grant of log
/// nor for a turn of cleaning.
#[derive(Debug)]
#[must_use]
pub(crate) struct Upkeep {
    /// Whether it was at it before.
    before: bool,
    /// Ended by the thread that began it.
    _here: PhantomData<*const ()>,
}

impl Upkeep {
    pub(crate) fn begin() -> Upkeep {
        Upkeep { before: AT_WORK.with(|at_work| at_work.replace(true)), _here: PhantomData }
    }

    /// Whether this thread is at it. The models of loom have no background.
    pub(crate) fn is_here() -> bool {
        !cfg!(loom) && AT_WORK.with(Cell::get)
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        AT_WORK.with(|at_work| at_work.set(self.before));
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn it_ends_where_it_began_and_is_nobody_elses() {
        assert!(!Upkeep::is_here());
        let outer = Upkeep::begin();
        drop(Upkeep::begin());
        assert!(Upkeep::is_here());
        std::thread::scope(|scope| assert!(!scope.spawn(Upkeep::is_here).join().unwrap()));
        drop(outer);
        assert!(!Upkeep::is_here());
    }
}
