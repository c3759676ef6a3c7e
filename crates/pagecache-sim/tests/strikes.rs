//! Every fault at every call of every operation, once and for good: the fault table, row by row.

use std::time::Instant;

use pagecache::inspect::verify;
use pagecache::{Config, Error};
use pagecache_sim::disk::{Call, Effect, Fault, SimDisk, When};
use pagecache_sim::driver::strikes::{Case, Row, strike_everywhere};
use pagecache_sim::driver::{Tally, World};
use pagecache_sim::log_driver::{self, LogOp, LogWorld};
use pagecache_sim::page_driver::{self, PageWorld};

/// Runs the cases and prints the table. Operations named here make no call of the disk.
fn table<W: World>(cases: &[Case<W::Op>], silent: &[&str]) {
    let begun = Instant::now();
    let (mut all, mut tally) = (Row::default(), Tally::default());
    println!("operation | {}", Row::heads());
    for case in cases {
        let row = strike_everywhere::<W>(case, &mut tally).unwrap_or_else(|broken| panic!("{broken}"));
        println!("{} | {row}", case.name);
        assert_eq!(row.runs() == 0, silent.contains(&case.name), "{}: {} runs", case.name, row.runs());
        all.struck.iter_mut().flatten().zip(row.struck.iter().flatten()).for_each(|(sum, struck)| *sum += struck);
        (all.told, all.poisoned) = (all.told + row.told, all.poisoned + row.poisoned);
        (all.silent, all.images) = (all.silent + row.silent, all.images + row.images);
        all.refused += row.refused;
    }
    println!("in all, {} runs | {all}", all.runs());
    println!("{tally}, {:.1?}", begun.elapsed());
    // Only an interruption is never for good.
    let empty = all.struck.iter().flatten().filter(|struck| **struck == 0).count();
    assert_eq!(empty, 1, "{all}");
    assert!(all.told > 0 && all.poisoned > 0 && all.images > 0 && all.refused > 0, "{all}");
}

#[test]
fn every_fault_at_every_call_of_a_log_keeps_the_table() {
    table::<LogWorld>(&log_driver::cases(), &[]);
}

#[test]
fn every_fault_at_every_call_of_pages_keeps_the_table() {
    table::<PageWorld>(&page_driver::cases(), &["allocate", "free of a cold page"]);
}

/// A verification that cannot read says so, and one that is only disturbed sees what it would have seen.
#[test]
fn every_fault_at_every_read_of_a_verification_is_told_or_invisible() {
    let mut log = LogWorld::new(SimDisk::new(1), 1);
    log.open().unwrap();
    for op in [LogOp::Write(300), LogOp::Flush, LogOp::Write(70_000), LogOp::Write(70_000)] {
        log.apply(&op).unwrap();
    }
    log.close().unwrap();
    let pages = page_driver::closed_store().unwrap();
    verify_everywhere("a log", log.disk(), log_driver::config);
    verify_everywhere("pages", pages.disk(), |disk| page_driver::builder(disk).build());
}

fn verify_everywhere(name: &str, disk: &SimDisk, config: fn(&SimDisk) -> Config) {
    let undisturbed = format!("{:?}", verify(config(disk)).unwrap());
    let (mut told, mut invisible) = (0, 0);
    for effect in [Effect::Eio, Effect::Short, Effect::Eintr] {
        for sticky in [false, true] {
            for nth in 0.. {
                let when = if sticky { When::From(nth) } else { When::Once(nth) };
                if sticky && effect == Effect::Eintr {
                    break;
                }
                let before = disk.struck().len();
                disk.fault(Fault::new(Call::Read, when, effect));
                let verified = verify(config(disk));
                disk.clear_faults();
                match (effect, verified) {
                    (Effect::Eio, Err(Error::Io { op: "read", .. })) => told += 1,
                    (_, Ok(report)) => {
                        assert_eq!(format!("{report:?}"), undisturbed, "{effect:?} {when:?}");
                        if disk.struck().len() == before {
                            break;
                        }
                        assert_ne!(effect, Effect::Eio, "a read that failed is not missed: {when:?}");
                        invisible += 1;
                    }
                    (_, Err(other)) => panic!("{effect:?} {when:?}: {other}"),
                }
            }
        }
    }
    println!("verify of {name}: {told} told, {invisible} invisible");
    assert!(told > 0 && invisible > told && disk.io_count() > 0);
}
