//! Pieces of work that know nothing of one another, shared by as many threads as there are processors.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{available_parallelism, scope};

use super::Tally;

/// Does so many pieces of work, which must not panic, and adds up what each of them came to. Numbers are handed out in order, and what was begun is done: so
/// what is told of is the first that fails, however the threads run.
///
/// # Errors
/// That of the lowest number.
pub fn share<E: Send>(
    pieces: usize,
    tally: &mut Tally,
    work: impl Fn(usize, &mut Tally) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done = Mutex::new((Tally::default(), None::<(usize, E)>));
    let threads = available_parallelism().map_or(1, NonZero::get);
    scope(|scope| {
        for _ in 0..threads.min(pieces) {
            scope.spawn(|| {
                let (mut own, mut failed) = (Tally::default(), None);
                while failed.is_none() && !over.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= pieces {
                        break;
                    }
                    failed = work(number, &mut own).err().map(|error| (number, error));
                }
                over.fetch_or(failed.is_some(), Ordering::Relaxed);
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                done.0 += own;
                let first = [done.1.take(), failed].into_iter().flatten().min_by_key(|(number, _)| *number);
                done.1 = first;
            });
        }
    });
    let (sum, first) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    *tally += sum;
    first.map_or(Ok(()), |(_, error)| Err(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once() {
        let (mut tally, done) = (Tally::default(), Mutex::new(Vec::new()));
        let all = share(1000, &mut tally, |number, tally| {
            tally.runs += 1;
            done.lock().unwrap().push(number);
            Ok::<(), ()>(())
        });
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert_eq!((all, tally.runs), (Ok(()), 1000));
        assert_eq!(done, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_that_fails_is_told_of_whoever_is_faster() {
        for _ in 0..100 {
            let failed = share(100, &mut Tally::default(), |number, _| match number {
                17 => {
                    // Long enough for the next one to fail before.
                    std::thread::yield_now();
                    Err(number)
                }
                18.. => Err(number),
                _ => Ok(()),
            });
            assert_eq!(failed, Err(17));
        }
    }
}
