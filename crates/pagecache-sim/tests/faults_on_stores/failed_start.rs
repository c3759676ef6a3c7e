//! A start that fails at any of its calls says so, and the next one finds everything.

use pagecache::{Create, Error, PageState};
use pagecache_sim::disk::{AfterSync, Call, Effect, Fault, SimDisk, Survival, When};

use crate::harness::{Page, Texts, check, config, fill, pages, within_a_minute};

/// A store to start on, drawn anew for each try.
struct Store {
    name: &'static str,
    disk: SimDisk,
    all: Vec<Page>,
}

fn stores() -> Vec<Store> {
    let make = |count| {
        let disk = SimDisk::new(41);
        let pc = pages(&disk);
        let all = fill(&pc, "page", count, 2000);
        pc.flush().unwrap();
        (disk, pc, all)
    };
    let (disk, pc, all) = make(80);
    pc.close().unwrap();
    let clean = Store { name: "clean", disk: disk.crash(Survival::DropAll), all };
    let (disk, pc, all) = make(80);
    let torn = Store { name: "torn", disk: disk.crash(Survival::DropAll), all };
    drop(pc);
    let (disk, pc, all) = make(40);
    pc.close().unwrap();
    // Left over by a birth that a crash cut short.
    disk.write_file("tmp-00000000000000aa", &[1; 5000]);
    let littered = Store { name: "littered", disk: disk.crash(Survival::DropAll), all };
    let new = Store { name: "new", disk: SimDisk::new(42), all: Vec::new() };
    vec![clean, torn, littered, new]
}

/// Class: recovery panics (sled 954), half-written snapshot makes the store unopenable (sled 1527), repair itself panics (redb
/// 1333), recovery removes what is already removed (photondb 263).
#[test]
fn a_start_that_fails_at_any_call_says_so_and_the_next_one_finds_everything() {
    within_a_minute(|| {
        let sync = |after| Effect::SyncFails(after);
        let effects = [
            Effect::Eio,
            Effect::Enospc,
            sync(AfterSync::KeptClean),
            sync(AfterSync::Dropped),
            sync(AfterSync::LaterSyncLies),
        ];
        let mut failures = 0;
        for store in stores() {
            for (call, effect) in Call::ALL.iter().flat_map(|call| effects.map(|effect| (*call, effect))) {
                if matches!(effect, Effect::SyncFails(_)) && !matches!(call, Call::SyncData | Call::SyncDir) {
                    continue;
                }
                for nth in 0.. {
                    let disk = store.disk.crash(Survival::KeepAll);
                    disk.fault(Fault::new(call, When::Once(nth), effect));
                    let what = format!("{}, {call:?} {nth}: {effect:?}", store.name);
                    let started = Texts::start(config(&disk).build());
                    disk.clear_faults();
                    let failed = match started.map(drop) {
                        Err(Error::Poisoned { cause }) => Err((*cause).clone()),
                        other => other,
                    };
                    match (effect, &failed) {
                        (_, Ok(())) | (_, Err(Error::Io { .. })) | (Effect::Enospc, Err(Error::NoSpace { .. })) => {}
                        (_, other) => panic!("{what}: {other:?}"),
                    }
                    failures += u64::from(failed.is_err());
                    // In this process, and after the machine stopped.
                    for disk in [disk.crash(Survival::DropAll), disk.crash(Survival::KeepAll), disk] {
                        let pc =
                            Texts::start(config(&disk).build()).unwrap_or_else(|error| panic!("{what}: {error:?}"));
                        check(&pc, &store.all);
                        let more = fill(&pc, "more", 3, 100);
                        pc.close().unwrap();
                        let pc = pages(&disk);
                        check(&pc, &store.all);
                        check(&pc, &more);
                    }
                    if failed.is_ok() {
                        break;
                    }
                }
            }
        }
        assert!(failures > 100, "only {failures} starts failed");
    });
}

#[test]
fn a_reader_that_fails_at_any_read_says_so_and_changes_nothing() {
    for store in stores() {
        let before = |disk: &SimDisk| -> Vec<_> {
            disk.file_names().into_iter().map(|name| (disk.read_file(&name), name)).collect()
        };
        let untouched = before(&store.disk);
        for nth in 0.. {
            store.disk.fault(Fault::new(Call::Read, When::Once(nth), Effect::Eio));
            let started = Texts::start(config(&store.disk).read_only(true).build());
            store.disk.clear_faults();
            match started {
                Err(Error::Io { op: "read", .. }) => {}
                Err(Error::NotFound { .. }) if store.name == "new" => break,
                Err(other) => panic!("{}: {other:?}", store.name),
                Ok(pc) => {
                    check(&pc, &store.all);
                    assert!(nth > 3, "{}: only {nth} reads", store.name);
                    break;
                }
            }
        }
        assert!(before(&store.disk) == untouched && store.disk.io_count() == 0);
    }
}

/// Class: crash tests that only kill -9; recovery is cut short again and again and never makes anything worse.
#[test]
fn starts_that_fail_one_after_the_other_add_up_to_nothing() {
    for store in stores() {
        let disk = store.disk.crash(Survival::KeepAll);
        for nth in 0..60 {
            let call = Call::ALL[nth as usize % Call::ALL.len()];
            disk.fault(Fault::new(call, When::Once(nth / 9), Effect::Eio));
            let started = Texts::start(config(&disk).create(Create::Either).build());
            disk.clear_faults();
            if let Ok(pc) = started {
                check(&pc, &store.all);
            }
        }
        let pc = pages(&disk);
        check(&pc, &store.all);
        assert_eq!(pc.page_count().unwrap(), store.all.len() as u64);
        assert!(!disk.file_names().iter().any(|name| name.starts_with("tmp-")), "{:?}", disk.file_names());
        let guard = pc.pin();
        let id = pc.allocate(&guard);
        assert_eq!(pc.state(id, &guard).unwrap(), PageState::Empty);
    }
}
