//! Page ids: none is lost, none has two owners, and no page comes back from the dead.

use std::collections::BTreeSet;
use std::sync::Mutex;

use pagecache::{Background, Error, PageId, PageState, Rejected, Version};
use pagecache_sim::disk::{SimDisk, Survival};

use crate::harness::{Texts, check, config, fill, pages, within_a_minute};

/// redb 832: pages that belonged to nobody were never given out again. Here ids that were handed out and never written, or freed,
/// come back after a crash, each once, and the others are in use.
#[test]
fn no_id_is_lost_by_a_crash_between_its_allocation_and_its_first_write() {
    let disk = SimDisk::new(1);
    let pc = pages(&disk);
    let guard = pc.pin();
    let idle: Vec<_> = (0..50).map(|_| pc.allocate(&guard)).collect();
    let mut kept = fill(&pc, "kept", 50, 40);
    for page in kept.drain(..20) {
        pc.free_at(page.id, page.at, &guard).unwrap();
    }
    let late: Vec<_> = (0..10).map(|_| pc.allocate(&guard)).collect();
    kept.extend(fill(&pc, "last", 1, 40));
    pc.flush().unwrap();
    let next = pages(&disk.crash(Survival::DropAll));
    check(&next, &kept);
    let guard = next.pin();
    let high = next.stats().ids_high_water;
    assert_eq!(high, (idle.len() + 50 + late.len() + 1) as u64);
    assert_eq!(next.page_count().unwrap(), kept.len() as u64);
    let live: BTreeSet<_> = kept.iter().map(|page| page.id).collect();
    let given: BTreeSet<_> = (0..high - live.len() as u64).map(|_| next.allocate(&guard)).collect();
    assert!(given.is_disjoint(&live), "an id in use was handed out");
    let all: BTreeSet<_> = given.union(&live).copied().collect();
    assert_eq!(all, (0..high).map(PageId).collect(), "an id is lost");
    assert_eq!(next.allocate(&guard), PageId(high));
}

/// badger 2286: a key that was deleted came back, since an older copy of it was moved. Here a freed page is free after every
/// crash, whatever was written for it before, in the same segment or in one far below.
#[test]
fn a_freed_page_stays_freed_whatever_is_recovered() {
    let disk = SimDisk::new(2);
    let pc = pages(&disk);
    let guard = pc.pin();
    let mut freed = Vec::new();
    let early = fill(&pc, "early", 20, 3000);
    let later = fill(&pc, "later", 20, 3000);
    pc.flush().unwrap();
    for page in early.iter().chain(&later[10..]) {
        freed.push((page.id, pc.free_at(page.id, page.at, &guard).unwrap()));
    }
    pc.flush().unwrap();
    let mut image = disk.clone();
    // Each time more recoveries stand between the free and its reader.
    for turn in 0..6 {
        let survival = if turn % 2 == 0 { Survival::DropAll } else { Survival::KeepAll };
        image = image.crash(survival);
        let next = pages(&image);
        let guard = next.pin();
        for (id, at) in &freed {
            assert_eq!(next.state(*id, &guard).unwrap(), PageState::Free(*at), "turn {turn}");
            assert!(matches!(next.get(*id, &guard), Err(Error::NoPage { state: PageState::Free(_), .. })));
        }
        check(&next, &later[..10]);
        fill(&next, "more", 3, 3000);
        next.flush().unwrap();
        // Those are written over ids that were free.
        freed.retain(|(id, _)| matches!(next.state(*id, &guard), Ok(PageState::Free(_))));
    }
    assert!(freed.len() > 5, "nothing was left to look at");
}

/// noisepage 399: a list of free ids took an id for another that had come back in the meantime, and two had it. Here threads free
/// and allocate as fast as they can, and each finds its page as it left it.
#[test]
fn ids_that_go_round_between_threads_have_one_owner_at_a_time() {
    within_a_minute(|| {
        let disk = SimDisk::new(3);
        let config = config(&disk).background(Background::Threads).flush_every_ms(1).cache_capacity(64 << 10);
        let pc = Texts::start(config.build()).unwrap();
        let owned = Mutex::new(BTreeSet::new());
        let again = Mutex::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (pc, owned, again) = (&pc, &owned, &again);
                scope.spawn(move || {
                    for turn in 0..1500 {
                        let guard = pc.pin();
                        let id = pc.allocate(&guard);
                        assert!(owned.lock().unwrap().insert(id), "{id} has two owners");
                        let text = format!("{thread}:{turn}");
                        let at = pc.replace_at(id, Version::NONE, text.clone(), &guard).unwrap();
                        *again.lock().unwrap() += u64::from(id.0 < 4000 && turn > 1200);
                        let at = pc.link_at(id, at, "!".into(), &guard).unwrap();
                        assert_eq!(*pc.get(id, &guard).unwrap().0, format!("{text}!"));
                        assert!(owned.lock().unwrap().remove(&id));
                        pc.free_at(id, at, &guard).unwrap();
                        if turn % 64 == 0 {
                            pc.flush().unwrap();
                        }
                    }
                });
            }
        });
        let high = pc.stats().ids_high_water;
        println!("{high} ids for 6000 pages, {} late ones", again.into_inner().unwrap());
        assert!(high < 6000, "none came back");
        assert_eq!(pc.page_count().unwrap(), 0);
    });
}

/// noisepage 399, seen by those who hold on: a token of a page that was freed, and whose id somebody else has now, is not taken for one
/// of the new page's.
#[test]
fn a_token_of_an_id_that_has_a_new_owner_is_refused() {
    let disk = SimDisk::new(4);
    let pc = pages(&disk);
    let guard = pc.pin();
    let old = fill(&pc, "old", 1, 40).remove(0);
    pc.free_at(old.id, old.at, &guard).unwrap();
    pc.flush().unwrap();
    let new = fill(&pc, "new", 1, 40).remove(0);
    assert_eq!(old.id, new.id);
    assert!(new.at > old.at);
    for at in [old.at, Version::NONE] {
        match pc.link_at(old.id, at, "late".into(), &guard) {
            Err(Rejected::Conflict { current, rejected, .. }) => {
                assert_eq!((&*current, &*rejected), (&new.text, "late"))
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(pc.free_at(old.id, at, &guard), Err(Rejected::Conflict { .. })));
    }
    check(&pc, &[new]);
}
