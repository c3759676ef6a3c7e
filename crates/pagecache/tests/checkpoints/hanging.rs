//! A checkpoint, and a turn of cleaning before it, whose calls of the storage hang, one after the other: everybody else goes on.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::time::Duration;

use pagecache::{PageId, Version};

use crate::common::Bytes;
use crate::watched::Watched;
use crate::{Pages, bytes, check, put, small};

const LEN: usize = 3000;

fn overwrite<'a>(pc: &Pages, pages: impl Iterator<Item = &'a mut (PageId, Version)>) {
    let guard = pc.pin();
    for (id, at) in pages {
        *at = pc.replace_at(*id, *at, bytes(id.0, LEN), &guard).unwrap();
    }
}

/// Everything that users do: updates, durability, many new segments, reads, frees.
fn go_on(pc: &Pages, pages: &mut [(PageId, Version)]) {
    let guard = pc.pin();
    let one = put(pc, 1, 100)[0];
    let at = pc.link_at(one.0, one.1, Bytes(vec![1]), &guard).unwrap();
    pc.make_stable(at).unwrap();
    overwrite(pc, pages.iter_mut().take(100));
    pc.flush().unwrap();
    check(pc, pages, LEN);
    pc.free_at(one.0, at, &guard).unwrap();
}

/// Whose calls hang: those of both, or of the second alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Clean,
    Checkpoint,
}

#[test]
fn nobody_waits_for_a_checkpoint_that_hangs() {
    let storage = Watched::default();
    let pc = Pages::start(small().storage(storage.clone()).log_limit(256 << 10).fill_target(0.9).build()).unwrap();
    let mut pages = put(&pc, 500, LEN);
    let (mut hung, mut moved) = (BTreeMap::<String, usize>::new(), 0);
    for (work, call) in (1..100).map(|call| (Work::Clean, call)).chain((1..60).map(|call| (Work::Checkpoint, call))) {
        // Every third page: segments that are emptier than others, to be moved, and empty ones, to be given back.
        overwrite(&pc, pages.iter_mut().skip(call % 3).step_by(3));
        pc.flush().unwrap();
        let hangs = std::thread::scope(|scope| {
            let cleans = scope.spawn(|| {
                if work == Work::Clean {
                    storage.hang_at(call);
                }
                let moved = pc.clean().unwrap();
                if work == Work::Checkpoint {
                    storage.hang_at(call);
                }
                pc.checkpoint().unwrap();
                moved
            });
            let mut hangs = None;
            while hangs.is_none() && !cleans.is_finished() {
                hangs = storage.hanging(Duration::from_millis(1));
            }
            if let Some(hangs) = &hangs {
                let (sender, receiver) = channel();
                let (pc, pages) = (&pc, &mut pages);
                scope.spawn(move || {
                    go_on(pc, pages);
                    sender.send(()).unwrap();
                });
                let went_on = receiver.recv_timeout(Duration::from_secs(60));
                let is_over = cleans.is_finished();
                storage.open_gate();
                assert!(went_on.is_ok() && !is_over, "somebody waited for {hangs}");
            }
            moved += cleans.join().unwrap();
            hangs
        });
        let Some(hangs) = hangs else {
            // Turns differ: one may have fewer calls than the one before.
            continue;
        };
        let kind = |name: &str| name.split_once('-').map_or(String::new(), |(kind, _)| format!(" {kind}"));
        let (what, name) = hangs.split_once(' ').unwrap();
        *hung.entry(what.to_owned() + &kind(name)).or_default() += 1;
    }
    println!("{moved} pages moved, calls that hung: {hung:?}");
    assert!(moved > 100, "{moved}");
    let all = [
        "open tmp",
        "write tmp",
        "sync tmp",
        "rename tmp",
        "sync_dir",
        "open super",
        "sync super",
        "rename seg",
        "remove seg",
    ];
    assert!(all.iter().all(|what| hung.contains_key(*what)), "{hung:?}");
    check(&pc, &pages, LEN);
    pc.close().unwrap();
    let pc = Pages::start(small().storage(storage).build()).unwrap();
    check(&pc, &pages, LEN);
}
