//! Models of the log under loom: the shipped types on a ring of four blocks, every schedule up to a bound on preemptions.
//!
//! A model is a plain function, so that the hunts at the end run the very same one with a bug planted.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p pagecache --lib --features canary models -- --nocapture`

use std::cell::Cell;
use std::panic;
use std::sync::{Arc, Once};
use std::time::Instant;

use loom::thread::spawn;

use super::core::Patience;
use super::iter::Walk;
use super::open::OpenSlots;
use super::tail::Urgency;
use crate::base::error::Error;
use crate::base::ids::Lsn;
use crate::base::sync::{AtomicBool, Condvar, Mutex, Ordering};
use crate::format::BLOCK;
use crate::format::mark::MarkKind;
use crate::store::limit::Claim;

/// Bytes of a segment: a header block at each end, and the last quarter is set aside.
const SEGMENT: u64 = 2048;
/// Where the log of a model begins, unless it says otherwise.
const START: Lsn = Lsn(BLOCK);

mod disk;
#[cfg(feature = "canary")]
mod planted_bugs;
mod rig;

use disk::join;
use rig::Rig;

// ---------------------------------------------------------------------------------------------------------------------
// Reservation, copy, completion, prefix (L1, L2, L3)

fn two_writers_and_a_reader() {
    let rig = Rig::new();
    let writers = [(1, 16), (2, 24)].map(|(id, len)| rig.spawn(move |rig| rig.append(id, len)));
    rig.check_ring(START);
    join(writers);
    let (prefix, mut ids) = rig.check_ring(START);
    ids.sort_unstable();
    assert_eq!((prefix, ids), (rig.log.tail(), vec![1, 2]));
}

/// One slot is freed and claimed again under the reader's eyes.
fn a_slot_is_used_again() {
    let rig = Rig::new();
    let writer = rig.spawn(|rig| {
        rig.append(1, 16);
        rig.append(2, 16);
    });
    let other = rig.spawn(|rig| drop(rig.draw(3, 16, Urgency::Normal).unwrap()));
    rig.check_ring(START);
    writer.join().unwrap();
    other.join().unwrap();
    assert_eq!((rig.check_ring(START).1.len(), rig.log.given()), (3, 30));
}

/// Two slots a chunk, three writers: a chunk is added while a reader walks the chunks.
fn three_writers_and_a_reader() {
    let rig = Rig::new();
    let writers = [1, 2, 3].map(|id| rig.spawn(move |rig| rig.append(id, 16)));
    rig.check_ring(START);
    join(writers);
    assert_eq!(rig.check_ring(START).1.len(), 3);
}

/// The first chunk is full: two want the next one at once, and a reader may see it before it knows of any draw in it.
fn two_add_a_chunk_under_a_reader() {
    let slots = Arc::new(OpenSlots::new());
    let held = [8, 16].map(|bound| slots.claim(Lsn(bound)));
    let others = [24, 32].map(|bound| {
        let slots = Arc::clone(&slots);
        spawn(move || drop(slots.claim(Lsn(bound))))
    });
    assert_eq!(slots.oldest().map(|oldest| oldest.bound()), Some(Lsn(8)));
    join(others);
    drop(held);
    assert!(slots.oldest().is_none());
}

/// A ticket that is held, raised and given up; another is made meanwhile.
fn a_held_ticket_is_raised_and_given_up() {
    let rig = Rig::new();
    let holder = rig.spawn(|rig| {
        let ticket = rig.draw(1, 16, Urgency::Normal).unwrap();
        ticket.hold(7);
        let lsn = ticket.lsn();
        assert!(rig.log.prefix() <= lsn);
        ticket.abort();
    });
    let writer = rig.spawn(|rig| rig.append(2, 24));
    rig.check_ring(START);
    holder.join().unwrap();
    writer.join().unwrap();
    assert_eq!(rig.check_ring(START).1.len(), 2);
}

/// A ticket begins in the next segment and leaves a pad at the end of this one: once it is raised the pad is below the prefix.
fn a_raised_ticket_shows_the_pad_before_it() {
    let start = Lsn(SEGMENT - 2 * BLOCK);
    let rig = Rig::at(start);
    rig.append(1, 72);
    rig.log.extend_to(Lsn(SEGMENT + BLOCK), Claim::Upkeep).unwrap();
    let holder = rig.spawn(|rig| {
        let ticket = rig.draw(2, 72, Urgency::Urgent).unwrap();
        assert!(ticket.lsn().0 > SEGMENT);
        ticket.hold(7);
        ticket.complete();
    });
    rig.check_ring(start);
    holder.join().unwrap();
    assert_eq!(rig.check_ring(start).1, [1, 2]);
}

/// Both writers find no room before the segment's end; one makes the next segment, both may draw in it (L1, P2).
fn the_log_goes_on_in_a_new_segment() {
    let start = Lsn(SEGMENT - 2 * BLOCK);
    let rig = Rig::at(start);
    let writer = rig.spawn(|rig| rig.append(1, 72));
    rig.append(2, 72);
    rig.check_ring(start);
    writer.join().unwrap();
    assert_eq!(rig.check_ring(start).1.len(), 2);
    assert!(rig.log.tail().0 > SEGMENT && rig.log.pool.log().len() == 2);
}

/// A flight lands while a segment is born: whoever draws in it after either of the two has raised the limits knows its life.
fn a_flight_lands_while_a_segment_is_born() {
    let start = Lsn(SEGMENT - 3 * BLOCK);
    let rig = Rig::at(start);
    for (id, len) in [(1, 128), (2, 72)] {
        rig.draw(id, len, Urgency::Urgent).unwrap().complete();
    }
    let maker = rig.spawn(|rig| rig.log.extend_to(Lsn(SEGMENT), Claim::Upkeep).unwrap());
    rig.log.write_out().unwrap();
    rig.append(3, 72);
    maker.join().unwrap();
    assert_eq!(rig.check_ring(Lsn(start.0 + BLOCK)).1, [2, 3]);
    assert!(rig.log.tail().0 > SEGMENT);
}

// ---------------------------------------------------------------------------------------------------------------------
// The ring goes round (L2)

/// The ring is full but for a bit; one writes it out, one writes over what was written. The second record goes over a block that may
/// be in flight while the first one finds room.
fn the_ring_goes_round_over_written_bytes_only() {
    let rig = Rig::new();
    for id in 1..=4 {
        rig.append(id, 120);
    }
    let writer = rig.spawn(|rig| {
        rig.append(5, 120);
        rig.append(6, 120);
    });
    rig.log.write_out().unwrap();
    writer.join().unwrap();
    rig.log.flush(Patience::Wait).unwrap();
    assert_eq!(rig.check_disk(rig.log.stable()), [1, 2, 3, 4, 5, 6]);
}

fn an_urgent_writer_goes_round_too() {
    let rig = Rig::new();
    for id in 1..=4 {
        rig.append(id, 120);
    }
    let writer = rig.spawn(|rig| rig.draw(5, 120, Urgency::Urgent).unwrap().complete());
    rig.log.write_out().unwrap();
    writer.join().unwrap();
    rig.log.flush(Patience::Wait).unwrap();
    assert_eq!(rig.check_disk(rig.log.stable()), [1, 2, 3, 4, 5]);
}

/// Nobody else writes: those who want room do.
fn writers_make_their_own_room() {
    let rig = Rig::new();
    for id in 1..=4 {
        rig.append(id, 120);
    }
    let writer = rig.spawn(|rig| rig.append(5, 64));
    rig.append(6, 64);
    writer.join().unwrap();
    rig.log.flush(Patience::Wait).unwrap();
    assert_eq!(rig.check_disk(rig.log.stable()).len(), 6);
}

// ---------------------------------------------------------------------------------------------------------------------
// Sleeping on an open slot (L6, O3)

fn drain(slots: &OpenSlots) {
    while let Some(oldest) = slots.oldest() {
        slots.wait(oldest, || false);
    }
}

fn a_leader_sleeps_on_a_slot() {
    let slots = Arc::new(OpenSlots::new());
    let open = slots.claim(Lsn(64));
    let leader = {
        let slots = Arc::clone(&slots);
        spawn(move || drain(&slots))
    };
    drop(open);
    leader.join().unwrap();
}

/// A raise to the bound that the slot has wakes nobody, and forgets nobody.
fn a_leader_sleeps_on_a_slot_that_is_raised_to_what_it_is() {
    let slots = Arc::new(OpenSlots::new());
    let open = slots.claim(Lsn(64));
    let leader = {
        let slots = Arc::clone(&slots);
        spawn(move || drain(&slots))
    };
    open.raise(Lsn(64), 7);
    drop(open);
    leader.join().unwrap();
}

/// The slot is raised, freed and claimed again with the same bound; two sleep on it.
fn two_sleep_on_a_slot_that_is_raised_and_used_again() {
    let slots = Arc::new(OpenSlots::new());
    let open = slots.claim(Lsn(64));
    let sleepers = [(); 2].map(|()| {
        let slots = Arc::clone(&slots);
        spawn(move || drain(&slots))
    });
    open.raise(Lsn(80), 7);
    drop(open);
    drop(slots.claim(Lsn(80)));
    join(sleepers);
}

/// The slot is never freed; the sleeper goes when it is told to.
fn a_sleeper_is_told_to_stop() {
    let slots = Arc::new(OpenSlots::new());
    let over = Arc::new(AtomicBool::new(false));
    let open = slots.claim(Lsn(64));
    let sleeper = {
        let (slots, over) = (Arc::clone(&slots), Arc::clone(&over));
        spawn(move || {
            let oldest = slots.oldest().unwrap();
            slots.wait(oldest, || over.load(Ordering::Acquire));
            assert!(over.load(Ordering::Acquire));
        })
    };
    over.store(true, Ordering::Release);
    slots.wake_all();
    sleeper.join().unwrap();
    drop(open);
}

// ---------------------------------------------------------------------------------------------------------------------
// The stable LSN, its leaders and followers (L4, L5)

/// The record before them fills most of a block, so that one of theirs lies across the block's end.
fn two_commit() {
    let rig = Rig::new();
    rig.append(1, 112);
    let other = rig.spawn(|rig| rig.commit(2, 32));
    rig.commit(3, 32);
    other.join().unwrap();
    assert_eq!(rig.check_disk(rig.log.stable()).len(), 3);
}

/// One wants what is there, another what it adds.
fn one_commits_and_one_waits() {
    let rig = Rig::new();
    let lsn = rig.append(1, 112);
    let other = rig.spawn(|rig| rig.commit(2, 32));
    rig.settle(1, lsn);
    other.join().unwrap();
    assert_eq!(rig.check_disk(rig.log.stable()), [1, 2]);
}

fn three_want_one_round() {
    let rig = Rig::new();
    let lsn = rig.append(1, 16);
    let others = [(); 2].map(|()| rig.spawn(move |rig| rig.settle(1, lsn)));
    rig.settle(1, lsn);
    join(others);
}

/// An idle tick writes a mark while another commits.
fn a_mark_meets_a_commit() {
    let rig = Rig::new();
    let marker = rig.spawn(|rig| rig.log.mark(MarkKind::Round).unwrap());
    rig.commit(1, 16);
    marker.join().unwrap();
    assert_eq!(rig.check_disk(rig.log.stable()), [1]);
}

/// Whoever sees the stable LSN move finds everything below it on disk. The second record lies across a block's end, and the
/// prefix may be seen at its own.
fn a_watcher_believes_the_stable_lsn() {
    let rig = Rig::new();
    rig.append(1, 112);
    rig.append(2, 32);
    let writer = rig.spawn(|rig| _ = rig.append(3, 16));
    let leader = rig.spawn(|rig| _ = rig.log.flush(Patience::None).unwrap());
    rig.check_disk(rig.log.stable());
    join([writer, leader]);
    rig.log.flush(Patience::Wait).unwrap();
    assert_eq!(rig.check_disk(rig.log.stable()), [1, 2, 3]);
}

/// The leader sleeps on a ticket that another holds; its end lets the round go on.
fn a_leader_waits_for_a_held_ticket() {
    let rig = Rig::new();
    let holder = rig.spawn(|rig| {
        let ticket = rig.draw(1, 16, Urgency::Normal).unwrap();
        ticket.hold(7);
        let own = ticket.lsn();
        // Its own ticket is all that it would wait for.
        let refused = rig.log.make_stable(own);
        assert!(matches!(refused, Err(Error::WouldDeadlock { lsn }) if lsn == own), "{refused:?}");
        ticket.complete();
    });
    rig.commit(2, 16);
    holder.join().unwrap();
}

/// A ticket drawn behind a seal holds up what is below the seal only until it is raised, however low its first bound was.
fn a_raised_ticket_holds_up_nobody_below_it() {
    let rig = Rig::new();
    let done = Arc::new((Mutex::new(false), Condvar::new()));
    let told = Arc::clone(&done);
    let holder = rig.spawn(move |rig| {
        let ticket = rig.draw(1, 16, Urgency::Normal).unwrap();
        ticket.hold(7);
        let mut over = told.0.lock();
        while ticket.lsn().0 >= START.0 + BLOCK && !*over {
            over = told.1.wait(over);
        }
        drop(over);
        ticket.complete();
    });
    rig.commit(2, 16);
    *done.0.lock() = true;
    done.1.notify_all();
    holder.join().unwrap();
}

/// Who holds a ticket behind a seal may wait for what is below the seal: the leader does not sleep on that ticket.
fn a_holder_waits_for_what_is_below_its_ticket() {
    let rig = Rig::new();
    let holder = rig.spawn(|rig| {
        let ticket = rig.draw(1, 16, Urgency::Normal).unwrap();
        ticket.hold(7);
        match rig.log.make_stable(START) {
            Ok(stable) => assert!(stable <= ticket.lsn()),
            Err(error) => assert!(matches!(error, Error::WouldDeadlock { .. }), "{error}"),
        }
        ticket.complete();
    });
    rig.commit(2, 16);
    holder.join().unwrap();
}

/// The ring is full behind a held ticket, so there is no room for a new seal; the seal below the ticket is flushed all the same.
fn a_full_ring_does_not_hold_up_the_seal_before_it() {
    let rig = Rig::new();
    let first = rig.draw(1, 16, Urgency::Normal).unwrap();
    let tick = rig.spawn(|rig| rig.log.flush(Patience::None).unwrap());
    assert_eq!(tick.join().unwrap(), START);
    first.complete();
    let ticket = rig.draw(2, 16, Urgency::Normal).unwrap();
    ticket.hold(7);
    assert_eq!(ticket.lsn().0, START.0 + BLOCK);
    rig.log.write_out().unwrap();
    for id in 3..=6 {
        rig.append(id, 120);
    }
    let other = rig.spawn(|rig| rig.log.flush(Patience::Wait).unwrap());
    assert_eq!(rig.log.make_stable(START).unwrap(), ticket.lsn());
    ticket.complete();
    assert_eq!(rig.check_disk(other.join().unwrap()), [1, 2, 3, 4, 5, 6]);
}

fn a_failed_sync_is_told_to_all() {
    let rig = Rig::new();
    let lsn = rig.append(1, 16);
    // One only: what syncs after it must not be believed either.
    rig.disk.shared.bad_syncs.store(1, Ordering::Relaxed);
    let other = rig.spawn(|rig| {
        let ticket = rig.draw(2, 16, Urgency::Normal)?;
        rig.log.make_stable(ticket.complete())
    });
    for told in [rig.log.make_stable(lsn), other.join().unwrap()] {
        assert!(matches!(told, Err(Error::Poisoned { .. })), "{told:?}");
    }
    assert_eq!(rig.log.stable(), START);
}

/// The write that finds the disk full is told so; the same bytes are written by whoever comes next.
fn a_full_disk_is_told_to_one() {
    let rig = Rig::new();
    rig.disk.shared.full.store(1, Ordering::Relaxed);
    let commit = |rig: &Rig, id| {
        let lsn = rig.append(id, 16);
        match rig.log.make_stable(lsn) {
            Ok(stable) => usize::from(rig.check_disk(stable).contains(&id)),
            Err(Error::NoSpace { .. }) => 0,
            Err(error) => panic!("{error}"),
        }
    };
    let other = rig.spawn(move |rig| commit(rig, 1));
    let done = commit(&rig, 2) + other.join().unwrap();
    assert_eq!(done, 1);
    rig.log.flush(Patience::Wait).unwrap();
    assert_eq!(rig.check_disk(rig.log.stable()).len(), 2);
}

// ---------------------------------------------------------------------------------------------------------------------
// Close (L6)

/// A forgotten ticket would be waited for until the end of time.
fn a_close_lets_all_waiters_go() {
    let rig = Rig::new();
    rig.spawn(|rig| std::mem::forget(rig.draw(1, 16, Urgency::Normal).unwrap())).join().unwrap();
    let lsn = rig.append(2, 16);
    let waiter = rig.spawn(move |rig| rig.log.make_stable(lsn).map(drop));
    let closer = rig.spawn(|rig| rig.log.close());
    let told = rig.log.make_stable(lsn).map(drop);
    for told in [told, waiter.join().unwrap()] {
        assert!(matches!(told, Err(Error::Closed)), "{told:?}");
    }
    closer.join().unwrap();
    assert_eq!(rig.log.stable(), START);
}

/// Commit against close: acknowledged and on disk, or refused; never neither.
fn a_commit_meets_a_close() {
    let rig = Rig::new();
    let closer = rig.spawn(|rig| rig.log.close());
    match rig.draw(1, 16, Urgency::Normal) {
        Ok(ticket) => {
            let lsn = ticket.complete();
            match rig.log.make_stable(lsn) {
                Ok(stable) => assert_eq!(rig.check_disk(stable), [1]),
                Err(error) => assert!(matches!(error, Error::Closed), "{error}"),
            }
        }
        Err(error) => assert!(matches!(error, Error::Closed), "{error}"),
    }
    closer.join().unwrap();
    assert!(matches!(rig.draw(2, 16, Urgency::Normal).map(drop), Err(Error::Closed)));
}

/// A tail asks whether the log is open before it looks: once the answer was no, it finds all that was stable at the close.
fn a_tail_that_is_told_the_end_has_all() {
    let rig = Rig::new();
    let writer = rig.spawn(|rig| {
        rig.commit(1, 16);
        rig.log.close();
    });
    let mut walk = Walk::new(Arc::clone(&rig.log), START);
    let open = walk.is_open();
    let found = walk.next().unwrap();
    assert!(open || found.is_some(), "the end was told before the last record");
    writer.join().unwrap();
    assert_eq!(found.or_else(|| walk.next().unwrap()).map(|(lsn, bytes)| (lsn, bytes.len())), Some((START, 10)));
    assert!(!walk.is_open() && walk.next().unwrap().is_none());
}

// ---------------------------------------------------------------------------------------------------------------------
// The run

thread_local! {
    /// The model that runs on this thread, and its schedules so far.
    static RUNNING: Cell<(&'static str, u64)> = const { Cell::new(("", 0)) };
}

/// A failure inside a model often ends the process (loom's objects cannot be dropped outside it), so what is known is said
/// before anything is unwound.
fn announce_failures() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let (name, schedule) = RUNNING.replace(("", 0));
            if !name.is_empty() {
                let (text, literal) = (info.payload().downcast_ref::<String>(), info.payload().downcast_ref::<&str>());
                let text = text.map(String::as_str).or(literal.copied()).unwrap_or_default();
                println!("{name}: fails in schedule {schedule}: {text}");
            }
            before(info);
        }));
    });
}

/// Runs every schedule with at most `preemptions` preemptions (`LOOM_MAX_PREEMPTIONS` overrides).
fn explore(name: &'static str, preemptions: usize, model: fn()) {
    announce_failures();
    #[cfg(feature = "canary")]
    planted_bugs::plant_what_was_asked();
    RUNNING.set((name, 0));
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    let started = Instant::now();
    builder.check(move || {
        let (name, schedules) = RUNNING.get();
        RUNNING.set((name, schedules + 1));
        model();
    });
    let (_, schedules) = RUNNING.replace(("", 0));
    println!("{name}: {schedules} schedules, {:.1} s", started.elapsed().as_secs_f64());
}

macro_rules! models {
    ($($name:ident <= $bound:literal,)*) => {
        mod every_schedule {
            $(#[test]
            fn $name() {
                super::explore(stringify!($name), $bound, super::$name);
            })*
        }
    };
}

models! {
    two_writers_and_a_reader <= 3,
    a_slot_is_used_again <= 2,
    three_writers_and_a_reader <= 1,
    two_add_a_chunk_under_a_reader <= 2,
    a_held_ticket_is_raised_and_given_up <= 2,
    a_raised_ticket_shows_the_pad_before_it <= 3,
    the_log_goes_on_in_a_new_segment <= 2,
    a_flight_lands_while_a_segment_is_born <= 3,
    the_ring_goes_round_over_written_bytes_only <= 2,
    an_urgent_writer_goes_round_too <= 2,
    writers_make_their_own_room <= 2,
    a_leader_sleeps_on_a_slot <= 3,
    a_leader_sleeps_on_a_slot_that_is_raised_to_what_it_is <= 3,
    two_sleep_on_a_slot_that_is_raised_and_used_again <= 2,
    a_sleeper_is_told_to_stop <= 3,
    two_commit <= 1,
    one_commits_and_one_waits <= 2,
    a_mark_meets_a_commit <= 2,
    three_want_one_round <= 2,
    a_watcher_believes_the_stable_lsn <= 3,
    a_leader_waits_for_a_held_ticket <= 1,
    a_raised_ticket_holds_up_nobody_below_it <= 2,
    a_holder_waits_for_what_is_below_its_ticket <= 1,
    a_full_ring_does_not_hold_up_the_seal_before_it <= 2,
    a_failed_sync_is_told_to_all <= 2,
    a_full_disk_is_told_to_one <= 1,
    a_close_lets_all_waiters_go <= 2,
    a_commit_meets_a_close <= 3,
    a_tail_that_is_told_the_end_has_all <= 3,
}
