//! Whether the accounts say what is in use; for the kit's own drivers.

use std::collections::BTreeMap;

use super::Cleaner;
use crate::base::ids::{PageId, Sequence};
use crate::page::materialize::Materializer;
use crate::page::slot::Seen;

impl<M: Materializer> Cleaner<M> {
    /// Compares the accounts with what the map says is in use. For a store that nobody is using.
    ///
    /// # Errors
    /// The first segment where they differ.
    pub(crate) fn check_accounts(&self) -> Result<(), String> {
        let _images = self.images.lock();
        let (pages, log) = (&*self.pages, &*self.pages.log);
        pages.read_all_leaves().map_err(|error| error.to_string())?;
        let guard = pages.pin();
        let mut in_use: BTreeMap<Sequence, u64> = BTreeMap::new();
        let mut resident = 0;
        for id in (0..pages.ids.high_water()).map(PageId) {
            let Some(slot) = pages.table.get(id) else { continue };
            let word = slot.load();
            // SAFETY: loaded just now under `guard`, which is of this store's collector.
            resident += unsafe { word.list_bytes() };
            // SAFETY: as above.
            let pieces: Vec<_> = match unsafe { word.see::<M::PageFrag>() } {
                Seen::Resident(chain) => {
                    resident += chain.weight();
                    chain.pieces().iter().collect()
                }
                Seen::Cold(pieces) => pieces.to_vec(),
                Seen::ColdOne(piece) => vec![piece],
                _ => continue,
            };
            for piece in pieces {
                *in_use.entry(log.pool.sequence(piece)).or_default() += piece.len_max();
                let parts = log.pool.spans.parts(piece.address()).filter(|_| piece.is_long());
                if piece.is_long() && parts.is_none() {
                    return Err(format!("the parts of {id} are not known"));
                }
                for (sequence, bytes) in parts.iter().flat_map(|parts| parts.iter()) {
                    *in_use.entry(sequence).or_default() += bytes;
                }
            }
        }
        let counted = pages.budget.resident();
        if counted != resident as u64 {
            return Err(format!("{counted} bytes are counted as resident and {resident} are"));
        }
        drop(guard);
        for segment in log.pool.all() {
            let (sequence, live) = (segment.header.sequence, segment.account.live(log.raised(&segment)));
            let expected = in_use.remove(&sequence).unwrap_or(0);
            if live != expected {
                return Err(format!("{sequence}: {live} bytes are counted as in use and {expected} are"));
            }
        }
        match in_use.first_key_value() {
            Some((sequence, bytes)) => Err(format!("{sequence} is gone with {bytes} bytes that are in use")),
            None => Ok(()),
        }
    }
}
