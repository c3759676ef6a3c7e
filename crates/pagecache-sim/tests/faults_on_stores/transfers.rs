//! Interruptions and short transfers are nobody's business; a failed read is one call's.

use pagecache::{Background, Error, Log, LogRead, Lsn};
use pagecache_sim::disk::{Call, Effect, Fault, SimDisk, When};

use crate::harness::{bytes, check, config, failed, fill, log, pages, records, text, within_a_minute};

#[test]
fn interruptions_and_short_transfers_are_invisible() {
    within_a_minute(|| {
        for seed in 0..20 {
            let disk = SimDisk::new(seed);
            for (call, one_in) in [(Call::Read, 2), (Call::Write, 2)] {
                disk.fault(Fault::new(call, When::Chance { one_in, seed }, Effect::Eintr));
                disk.fault(Fault::new(call, When::Chance { one_in, seed: seed + 100 }, Effect::Short));
            }
            let pc = crate::harness::Texts::start(config(&disk).cache_capacity(64 << 10).build()).unwrap();
            let all = fill(&pc, "page", 60, 1500);
            check(&pc, &all);
            pc.close().unwrap();
            let pc = pages(&disk);
            check(&pc, &all);
            drop(pc);
            check(&pages(&disk), &all);
            let logs = SimDisk::new(seed);
            logs.fault(Fault::new(Call::Write, When::Chance { one_in: 2, seed }, Effect::Short));
            let log = log(&logs);
            let written: Vec<_> = [5, 40_000, 0, 120_000, 16_000]
                .map(|len| (log.write(&bytes(len, len)).unwrap(), bytes(len, len)))
                .into();
            log.close().unwrap();
            logs.fault(Fault::new(Call::Read, When::Chance { one_in: 2, seed }, Effect::Short));
            logs.fault(Fault::new(Call::Read, When::Chance { one_in: 3, seed }, Effect::Eintr));
            assert!(records(&Log::start(config(&logs).build()).unwrap()) == written);
        }
    });
}

/// Class: read errors panic (sled 666); one transient EIO, then clean shutdown, then corruption (redb 857).
#[test]
fn a_failed_read_fails_its_call_and_the_next_one_succeeds() {
    let disk = SimDisk::new(21);
    let pc = pages(&disk);
    let all = fill(&pc, "page", 40, 3000);
    pc.close().unwrap();
    let pc = pages(&disk);
    let guard = pc.pin();
    for (turn, page) in all.iter().enumerate() {
        disk.fault(Fault::new(Call::Read, When::Once(0), Effect::Eio));
        let error = match turn % 3 {
            0 => pc.get(page.id, &guard).map(drop).unwrap_err(),
            1 => pc.fragments(page.id, &guard).map(drop).unwrap_err(),
            _ => {
                let (error, rejected) = failed(pc.link_at(page.id, page.at, "mine".into(), &guard));
                assert_eq!(rejected, "mine");
                error
            }
        };
        match error {
            Error::Io { op: "read", path, source } => {
                assert!(path.starts_with("seg-"));
                assert_eq!(source.raw_os_error(), Some(5));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(text(&pc, page.id).unwrap(), page.text);
    }
    // No reason to distrust the disk for writing.
    let at = pc.link_at(all[0].id, all[0].at, "+".into(), &guard).unwrap();
    assert!(pc.make_stable(at).unwrap() > Lsn(at.0));
    drop(guard);
    pc.close().unwrap();
    check(&pages(&disk), &all[1..]);
}

#[test]
fn a_failed_read_of_a_log_fails_its_call_and_the_next_one_succeeds() {
    let disk = SimDisk::new(22);
    let log = Log::start(config(&disk).background(Background::Caller).build()).unwrap();
    let written: Vec<_> = (0..40).map(|turn| (log.write(&bytes(turn, turn * 800)).unwrap(), turn)).collect();
    log.flush().unwrap();
    for (lsn, turn) in &written {
        disk.fault(Fault::new(Call::Read, When::Once(0), Effect::Eio));
        assert!(matches!(log.read(*lsn), Err(Error::Io { op: "read", .. })), "{turn}");
        assert!(log.read(*lsn).unwrap() == LogRead::Record(bytes(*turn, turn * 800)));
    }
    disk.fault(Fault::new(Call::Read, When::Once(0), Effect::Eio));
    let mut iter = log.iter_from(Lsn(0));
    assert!(matches!(iter.next(), Some(Err(Error::Io { .. }))));
    assert!(iter.next().is_none(), "an iterator ends at its error");
    let mut tail = log.tail_from(Lsn(0));
    disk.fault(Fault::new(Call::Read, When::Once(0), Effect::Eio));
    let mut next = || tail.next(std::time::Duration::ZERO);
    assert!(matches!(next(), Err(Error::Io { .. })));
    assert_eq!(next().unwrap(), pagecache::Tailed::Record(written[0].0, Vec::new()));
    assert_eq!(log.iter_from(Lsn(0)).filter(Result::is_ok).count(), written.len());
}
