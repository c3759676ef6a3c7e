//! A disk that fails in the middle of a flush, with others waiting: all are woken and told the same, and nothing that was
//! acknowledged is lost.

use std::sync::Arc;

use pagecache::{Error, Log, Lsn};
use pagecache_sim::disk::{AfterSync, Call, Effect, Fault, SimDisk, Survival, When};
use shuttle::thread::spawn;

use crate::harness::{chosen, count, join, options, scenarios};

type Record = (Lsn, Vec<u8>);

/// What a writer was told: what is durable, and why the rest is not.
#[derive(Default)]
struct Told {
    durable: Vec<Record>,
    causes: Vec<Arc<Error>>,
}

/// Waits for what it wrote; where the disk was full, once more.
fn commit(log: &Log, record: Vec<u8>, told: &mut Told) -> bool {
    let mut written = None;
    loop {
        let done = match written {
            None => log.write(&record).map(|lsn| written = Some(lsn)),
            Some(lsn) => log.make_stable(lsn).map(|stable| assert!(stable > lsn)),
        };
        match (done, written) {
            (Ok(()), Some(lsn)) if log.stable_lsn() > lsn => {
                told.durable.push((lsn, record));
                return true;
            }
            (Ok(()) | Err(Error::NoSpace { .. }), _) => {}
            (Err(Error::Poisoned { cause }), _) => {
                told.causes.push(cause);
                return false;
            }
            (Err(error), _) => panic!("{error}"),
        }
    }
}

fn three_commit(log: &Arc<Log>) -> Vec<Told> {
    join([1u8, 2, 3].map(|name| {
        let log = Arc::clone(log);
        spawn(move || {
            let mut told = Told::default();
            for turn in 0..2u8 {
                if !commit(&log, vec![name * 10 + turn; 2500], &mut told) {
                    break;
                }
            }
            told
        })
    }))
}

/// Everything that was acknowledged is there after a crash that loses all the rest.
fn check_durable(disk: &SimDisk, told: &[Told]) {
    let again = Log::start(options(&disk.crash(Survival::DropAll)).build()).unwrap();
    let found = again.iter_from(Lsn(0)).collect::<Result<Vec<_>, _>>().unwrap();
    for (lsn, record) in told.iter().flat_map(|told| &told.durable) {
        assert!(found.iter().any(|(at, bytes)| (at, bytes) == (lsn, record)), "{lsn} was acknowledged and is lost");
    }
}

fn a_failure_is_told_to_all_who_wait() {
    let disk = SimDisk::new(0);
    let log = Arc::new(Log::start(options(&disk).build()).unwrap());
    let (call, effect) = [
        (Call::Write, Effect::Eio),
        (Call::SyncData, Effect::Eio),
        (Call::SyncData, Effect::SyncFails(AfterSync::KeptClean)),
        (Call::SyncData, Effect::SyncFails(AfterSync::Dropped)),
        (Call::SyncData, Effect::SyncFails(AfterSync::LaterSyncLies)),
    ][chosen(5) as usize];
    disk.fault(Fault::new(call, When::Once(chosen(4)), effect).on("seg-"));
    let told = three_commit(&log);
    check_durable(&disk, &told);
    count("failures", disk.struck().len() as u64);
    let causes: Vec<_> = told.iter().flat_map(|told| &told.causes).collect();
    if disk.struck().is_empty() {
        assert!(causes.is_empty());
        return;
    }
    let Err(Error::Poisoned { cause: first }) = log.flush() else { panic!("a flush after {:?}", disk.struck()) };
    assert!(matches!(log.write(b"more"), Err(Error::Poisoned { .. })));
    count("failures told to two and more", (causes.len() > 1).into());
    assert!(causes.iter().all(|cause| Arc::ptr_eq(cause, &first)), "{causes:?}");
    let log = Arc::into_inner(log).unwrap();
    assert!(matches!(log.close(), Err(Error::Poisoned { .. })));
}

/// The disk is full for one call: that is told to one, and everybody goes on.
fn a_full_disk_stops_nobody_for_good() {
    let disk = SimDisk::new(0);
    let log = Arc::new(Log::start(options(&disk).build()).unwrap());
    disk.fault(Fault::new(Call::Write, When::Once(chosen(4)), Effect::Enospc).on("seg-"));
    let told = three_commit(&log);
    count("full disks", disk.struck().len() as u64);
    assert!(told.iter().all(|told| told.durable.len() == 2 && told.causes.is_empty()));
    check_durable(&disk, &told);
    Arc::into_inner(log).unwrap().close().unwrap();
}

scenarios! {
    a_failure_is_told_to_all_who_wait,
    a_full_disk_stops_nobody_for_good,
}
