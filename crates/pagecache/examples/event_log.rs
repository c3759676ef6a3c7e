//! An event log: a shop writes orders, a follower tails them as they become durable, falls behind, and goes on where it was.
//!
//! `cargo run -p pagecache --example event_log`

use std::time::Duration;

use pagecache::{ConfigBuilder, Error, Log, LogRead, Lsn, Tailed};

const ORDERS: u32 = 1000;

/// What a follower keeps: how far it has read, and what it made of it. Both would be stored together.
#[derive(Debug)]
struct Follower {
    position: Lsn,
    orders: u32,
    total: u64,
}

impl Follower {
    /// Reads until there is nothing new for a while, or the log is closed, or `most` orders were read.
    fn follow(&mut self, log: &Log, most: u32) -> Result<(), Error> {
        let mut tail = log.tail_from(self.position);
        let until = self.orders + most;
        while self.orders < until {
            match tail.next(Duration::from_secs(5))? {
                Tailed::Record(_, record) => {
                    self.total += u64::from(price(&record));
                    self.orders += 1;
                    self.position = tail.position();
                }
                Tailed::TimedOut | Tailed::Closed => break,
            }
        }
        Ok(())
    }
}

fn order(number: u32) -> Vec<u8> {
    format!("order {number} for {}", number % 100).into_bytes()
}

fn price(record: &[u8]) -> u32 {
    let text = std::str::from_utf8(record).expect("orders are text");
    text.rsplit(' ').next().and_then(|price| price.parse().ok()).expect("an order ends in its price")
}

pub fn main() -> Result<(), Error> {
    let log = Log::start(ConfigBuilder::new().temporary(true).segment_size(64 << 10).build())?;
    let mut follower = Follower { position: Lsn(0), orders: 0, total: 0 };

    std::thread::scope(|scope| -> Result<(), Error> {
        let shop = scope.spawn(|| -> Result<Lsn, Error> {
            let mut last = Lsn(0);
            for number in 0..ORDERS {
                last = log.write(&order(number))?;
                // Every tenth order is waited for; the nine before it are durable by the same sync.
                if number % 10 == 9 {
                    log.make_stable(last)?;
                }
            }
            Ok(last)
        });
        // The follower reads while the shop writes, and stops early.
        follower.follow(&log, ORDERS / 4)?;
        let last = shop.join().expect("no panic")?;
        assert_eq!(log.read(last)?, LogRead::Record(order(ORDERS - 1)));
        Ok(())
    })?;
    println!("the follower saw {} orders while they were written", follower.orders);
    assert_eq!(follower.orders, ORDERS / 4);

    // It goes on later, where it was: nothing is missed, nothing comes twice.
    follower.follow(&log, ORDERS - follower.orders)?;
    let expected: u64 = (0..ORDERS).map(|number| u64::from(number % 100)).sum();
    println!("then the rest: {} orders, {} in all", follower.orders, follower.total);
    assert_eq!((follower.orders, follower.total), (ORDERS, expected));

    // An order that is given up leaves nothing to read.
    let reserved = log.reserve(b"an order that is cancelled")?;
    let cancelled = reserved.lsn();
    reserved.abort();
    assert_eq!(log.read(cancelled)?, LogRead::Aborted);

    // Everyone has read all of it: it can go.
    let (before, kept) = (log.disk_bytes(), log.trim(log.stable_lsn())?);
    println!("trimmed to {}: {} of {before} bytes of disk are left", kept.0, log.disk_bytes());
    assert_eq!(log.iter_from(Lsn(0)).count(), 0, "all orders are forgotten");
    log.close()
}
