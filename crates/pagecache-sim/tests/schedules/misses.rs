//! Readers that miss the same page at once: they share its reads, and a read that fails is one reader's.

use std::sync::Arc;

use pagecache::Error;
use pagecache_sim::disk::{Call, Effect, Fault, SimDisk, When};

use crate::harness::{Store, chosen, count, join, options, scenarios};

fn a_page_that_many_miss_is_read_for_all() {
    let disk = SimDisk::new(0);
    let before: Arc<Store> = Store::start(&disk);
    let (id, made) = before.page(7);
    drop(before);
    let store: Arc<Store> = Store::with(options(&disk).cache_capacity(16 << 20), &disk);
    let failures = chosen(2);
    if failures > 0 {
        disk.fault(Fault::new(Call::Read, When::Once(0), Effect::Eio));
    }
    let readers = [(); 3].map(|()| {
        store.spawn(move |store, local| {
            let guard = local.pin();
            match store.pages.get(id, &guard) {
                Ok((page, token)) => {
                    assert_eq!((page.0.as_slice(), pagecache::version(token)), (&[7][..], made));
                    0
                }
                Err(Error::Io { .. }) => 1,
                Err(error) => panic!("{error}"),
            }
        })
    });
    let failed: u64 = join(readers).into_iter().sum();
    let (reads, shared) = (store.page_ins(), store.pages.stats().shared_reads);
    count("reads that failed", failed);
    count("reads that were shared", shared);
    assert_eq!(failed, failures, "readers that failed");
    // Who comes when the read has landed and the page is not there yet reads it too.
    assert!(reads > failures && reads + shared <= 3 + failures, "{reads} reads of the disk, {shared} shared");
}

scenarios! {
    a_page_that_many_miss_is_read_for_all,
}
