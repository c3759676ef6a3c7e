//! Cleans where disk is out of proportion, and writes a checkpoint whenever the log behind the last one has become long.

use std::time::Duration;

use crate::base::error::Result;
use crate::base::event::Woken;
use crate::base::upkeep::Upkeep;
use crate::clean::{Aim, Cleaner, Then};
use crate::log::core::LogCore;
use crate::log::room::Grant;
use crate::page::materialize::Materializer;
use crate::store::limit::Claim;

/// Turns one after the other, before it is looked at everything anew.
const TURNS_MAX: usize = 16;

/// After so long without work it is looked for memory to free.
const IDLE: Duration = Duration::from_millis(500);

/// The name of the thread.
pub(crate) const THREAD: &str = "pagecache-ckpt";

/// Before there are writers: the thread may begin long after them, and whoever needs what it does waits for it.
pub(crate) fn prepare<M: Materializer>(log: &LogCore, cleaner: &Cleaner<M>) {
    log.attend(true);
    // As long as the map was not read nobody knows what there is room for.
    if cleaner.knows_all() {
        log.grant(Grant::Exactly(log.next_made(), cleaner.headroom()));
    }
}

pub(crate) fn run<M: Materializer>(log: &LogCore, cleaner: &Cleaner<M>) {
    let _upkeep = Upkeep::begin();
    let mut rests_at = log.tail();
    loop {
        match log.behind.wait(Some(IDLE)) {
            Woken::Over => break,
            // Nobody comes by who would.
            Woken::TimedOut => {
                cleaner.collect();
                cleaner.retry();
                let tail = log.tail();
                let rests = std::mem::replace(&mut rests_at, tail) == tail;
                if !cleaner.is_beyond_promise() {
                    if rests {
                        super::shrug(cleaner.rest());
                    }
                    continue;
                }
            }
            Woken::Rung => {}
        }
        let outcome = turn(log, cleaner, |grant| log.grant(grant));
        if outcome.is_err() {
            // Writers wait for what this thread can do; where it can do nothing they go on.
            log.grant(Grant::Unlimited);
        }
        log.attend(true);
        super::shrug(outcome);
    }
    log.attend(false);
    log.grant(Grant::Unlimited);
}

/// Turns of cleaning as long as something is due, with a checkpoint behind those where one is: by the log, or since what can be given back without one is not enough. `pace` is told before and after each how many segments of log may be
/// made.
///
/// # Errors
/// As the cleaning or a checkpoint; the next is due some log later.
pub(crate) fn turn<M: Materializer>(log: &LogCore, cleaner: &Cleaner<M>, pace: impl Fn(Grant)) -> Result<()> {
    let mut is_short = false;
    for nth in 0..TURNS_MAX {
        let is_first = nth == 0;
        if is_first && log.granted().is_some() {
            // What has been linked or has died since the last turn leaves room for more.
            let next = log.next_made();
            pace(Grant::AtLeast(next, cleaner.headroom()));
        }
        // Pages and links that have come since make the map heavier.
        cleaner.leave_room();
        let is_stopped = log.is_paced_out() || log.pool.left(Claim::User) == Some(0);
        // Frees are short: many of them are little log.
        let is_pressing = is_first && (is_stopped || cleaner.is_beyond_promise());
        let wants_cleaning = if is_first { log.wants_cleaning() || is_pressing } else { cleaner.is_due() };
        // Where a cap leaves little all of the log is wanted to be behind the redo point.
        let wants_checkpoint = log.wants_checkpoint() || is_short || wants_cleaning && cleaner.lacks_room();
        if !wants_checkpoint && !wants_cleaning {
            break;
        }
        let before = cleaner.segments();
        // The victims of the first are below the redo point as it was; those of the next below what it has made of it.
        let moved = cleaner.turn(Aim::Promise, if wants_checkpoint { Then::Checkpoint } else { Then::GiveBack });
        // Also after one that failed.
        log.clean_after(cleaner.step());
        let moved = moved?;
        let (next, headroom) = (log.next_made(), cleaner.headroom());
        // What lies behind the redo point can be given back once there is another one.
        is_short = !wants_checkpoint && (headroom == 0 || cleaner.lacks_room() || cleaner.is_beyond_promise());
        // Nobody waits for what cannot be helped.
        let least = u64::from(!is_short && moved == 0 && cleaner.segments() >= before);
        pace(Grant::Exactly(next, headroom.max(least)));
        if is_short {
            continue;
        }
        // Each turn gives back what it has emptied, so there is less to do behind it; where it is not, what is left cannot be moved.
        if !is_first && moved == 0 {
            break;
        }
    }
    Ok(())
}
