//! One planted fault, named by the argument, for a sanitizer to find; `clean` is free of faults and must not be reported.

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{mpsc, Arc, Condvar, Mutex, RwLock};
use std::thread;

/// Written by one thread, then read by another once `ready` says so.
struct Handed {
    value: UnsafeCell<u64>,
    ready: AtomicBool,
}

// SAFETY: `value` is read only by who saw `ready`; whether that is enough is what the sanitizer is asked.
unsafe impl Sync for Handed {}

impl Handed {
    fn give(&self, publish: Ordering) {
        // SAFETY: the reader waits for `ready`. With a relaxed `publish` or `see` this is the planted race.
        unsafe { *self.value.get() = 7 };
        self.ready.store(true, publish);
    }

    fn take(&self, see: Ordering) -> u64 {
        while !self.ready.load(see) {
            thread::yield_now();
        }
        // SAFETY: as in `give`.
        unsafe { *self.value.get() }
    }
}

/// Many times: ThreadSanitizer sees a race of two accesses that are far apart in one of three runs or so.
fn hand_over(publish: Ordering, see: Ordering) {
    for _ in 0..100 {
        let handed = Handed { value: UnsafeCell::new(0), ready: AtomicBool::new(false) };
        thread::scope(|scope| {
            scope.spawn(|| handed.give(publish));
            black_box(handed.take(see));
        });
    }
}

/// What the suite leans on in `std`: an uninstrumented one is reported here.
fn clean() {
    hand_over(Ordering::Release, Ordering::Acquire);
    let shared = Arc::new((Mutex::new(Vec::new()), Condvar::new(), RwLock::new(0_u64), AtomicU64::new(0)));
    let (send, receive) = mpsc::channel();
    let workers: Vec<_> = (0..4)
        .map(|id| {
            let (shared, send) = (Arc::clone(&shared), send.clone());
            thread::spawn(move || {
                for turn in 0..100 {
                    shared.0.lock().unwrap().push(Box::new(turn));
                    shared.1.notify_all();
                    *shared.2.write().unwrap() += 1;
                    shared.3.fetch_add(1, Ordering::Relaxed);
                    send.send(vec![id; 8]).unwrap();
                }
            })
        })
        .collect();
    drop(send);
    let mut all = shared.0.lock().unwrap();
    while all.len() < 400 {
        all = shared.1.wait(all).unwrap();
    }
    drop(all);
    assert_eq!(receive.iter().count(), 400);
    for worker in workers {
        worker.join().unwrap();
    }
    assert_eq!((*shared.2.read().unwrap(), shared.3.load(Ordering::Relaxed)), (400, 400));
}

fn after_free() {
    let freed = Box::into_raw(Box::new([7_u64; 16]));
    // SAFETY: it came from `Box::into_raw`.
    drop(unsafe { Box::from_raw(black_box(freed)) });
    // SAFETY: there is none; this is the planted use after a free.
    black_box(unsafe { (*black_box(freed))[3] });
}

fn leak() {
    // More than one, so that a pointer left behind on the stack does not hide them all.
    for _ in 0..16 {
        std::mem::forget(black_box(Box::new([7_u64; 16])));
    }
}

fn main() {
    let asked = std::env::args().nth(1).unwrap_or_default();
    match asked.as_str() {
        "clean" => clean(),
        "after-free" => after_free(),
        "leak" => leak(),
        // Both sides need their ordering: each is taken away in turn.
        "relaxed-publish" => hand_over(Ordering::Relaxed, Ordering::Acquire),
        "relaxed-look" => hand_over(Ordering::Release, Ordering::Relaxed),
        _ => {
            eprintln!("no such fault: {asked:?}");
            std::process::exit(2);
        }
    }
    println!("{asked}: done");
}
