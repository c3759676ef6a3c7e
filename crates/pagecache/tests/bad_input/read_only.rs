//! `read_only`: not a byte is written, and every update says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pagecache::{Create, Error, Log, LogRead, Lsn, PageState, Rejected, Version};

use crate::harness::{Dir, Texts, check, config, copy, fill, filled, seen, small};

#[test]
fn a_reader_writes_not_a_byte_and_every_update_answers_read_only() {
    let dir = Dir::new();
    let expected = filled(&dir.store());
    fs::set_permissions(dir.store(), fs::Permissions::from_mode(0o555)).unwrap();
    let before = seen(&dir.store());
    let one = Texts::start(small(&dir.store()).read_only(true).cache_capacity(64 << 10).build()).unwrap();
    // Two readers at once, with and without background threads.
    let two = Texts::start(pagecache::ConfigBuilder::new().path(dir.store()).read_only(true).build()).unwrap();
    for pc in [&one, &two] {
        check(pc, &expected);
        let guard = pc.pin();
        let (id, content, at) = &expected[7];
        match pc.link_at(*id, *at, "mine".into(), &guard) {
            Err(Rejected::Failed { error: Error::ReadOnly, rejected }) => assert_eq!(rejected, "mine"),
            other => panic!("{other:?}"),
        }
        match pc.replace_at(*id, *at, "y".repeat(1 << 20), &guard) {
            Err(Rejected::Failed { error: Error::ReadOnly, rejected }) => assert_eq!(rejected.len(), 1 << 20),
            other => panic!("{other:?}"),
        }
        assert!(matches!(pc.free_at(*id, *at, &guard), Err(Rejected::Failed { error: Error::ReadOnly, .. })));
        let new = pc.allocate(&guard);
        let linked = pc.link_at(new, Version::NONE, "new".into(), &guard);
        assert!(matches!(linked, Err(Rejected::Failed { error: Error::ReadOnly, .. })), "{linked:?}");
        assert_eq!(pc.state(new, &guard).unwrap(), PageState::Empty);
        assert!(pc.get(*id, &guard).unwrap().0 == *content);
        // Everything there is is stable, so there is nothing to refuse.
        assert_eq!(pc.flush().unwrap(), pc.stable_lsn());
        assert!(pc.make_stable(*at).unwrap() > Lsn(at.0));
    }
    one.close().unwrap();
    two.close().unwrap();
    assert!(seen(&dir.store()) == before, "something was written");
}

#[test]
fn a_reader_of_a_log_writes_not_a_byte_either() {
    let dir = Dir::new();
    let log = Log::start(small(&dir.store()).segment_size(64 << 10).build()).unwrap();
    let written: Vec<_> = (0..100u8).map(|at| (log.write(&vec![at; 5000]).unwrap(), at)).collect();
    log.flush().unwrap();
    log.trim(written[10].0).unwrap();
    log.close().unwrap();
    fs::set_permissions(dir.store(), fs::Permissions::from_mode(0o555)).unwrap();
    let before = seen(&dir.store());
    let log = Log::start(small(&dir.store()).read_only(true).build()).unwrap();
    assert!(matches!(log.write(b"x"), Err(Error::ReadOnly)));
    assert!(matches!(log.write(&vec![0; 100_000]), Err(Error::ReadOnly)));
    assert!(matches!(log.reserve(b"x"), Err(Error::ReadOnly)));
    assert!(matches!(log.trim(written[20].0), Err(Error::ReadOnly)));
    for (lsn, at) in written.iter().skip(10) {
        assert!(log.read(*lsn).unwrap() == LogRead::Record(vec![*at; 5000]), "record {at}");
    }
    assert!(log.read(written[9].0).unwrap() == LogRead::Trimmed { first: written[10].0 });
    assert_eq!(log.iter_from(Lsn(0)).count(), 90);
    log.close().unwrap();
    assert!(seen(&dir.store()) == before, "something was written");
}

#[test]
fn a_reader_of_a_store_that_was_not_closed_cuts_its_tail_in_memory_only() {
    let dir = Dir::new();
    let pc = Texts::start(small(&dir.store()).segment_size(64 << 10).build()).unwrap();
    let expected = fill(&pc, "page");
    copy(&dir.store(), &dir.join("copy"));
    drop(pc);
    let before = seen(&dir.join("copy"));
    for _ in 0..2 {
        let pc = Texts::start(small(&dir.join("copy")).read_only(true).build()).unwrap();
        check(&pc, &expected);
        assert!(!pc.stats().clean_start);
        pc.close().unwrap();
    }
    assert!(seen(&dir.join("copy")) == before, "something was written");
    check(&Texts::start(config(&dir.join("copy"))).unwrap(), &expected);
}

#[test]
fn without_its_lock_file_a_store_is_not_found_by_readers_and_opened_by_writers() {
    let dir = Dir::new();
    let expected = filled(&dir.store());
    fs::remove_file(dir.store().join("LOCK")).unwrap();
    let before = seen(&dir.store());
    match Texts::start(small(&dir.store()).read_only(true).build()) {
        Err(Error::NotFound { path }) => assert_eq!(path, dir.store().display().to_string()),
        other => panic!("{other:?}"),
    }
    assert!(seen(&dir.store()) == before);
    check(&Texts::start(small(&dir.store()).create(Create::Existing).build()).unwrap(), &expected);
    check(&Texts::start(small(&dir.store()).read_only(true).build()).unwrap(), &expected);
}
