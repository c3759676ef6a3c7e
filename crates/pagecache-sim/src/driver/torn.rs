//! The last flush of a store, torn at every byte, with all that may stand behind the tear.

use super::aftermath::{recover, recover_briefly};
use super::{Tally, Violation, World, claim, must_open};
use crate::disk::{Rest, SimDisk, Survival};

/// Does the steps, stops at the sync of a file with this number in the last one, and recovers from every image that tears a pending write at any of
/// its bytes: with the file's old bytes behind the tear, with zeros, and with garbage. Returns how many bytes were torn at.
///
/// # Errors
/// The first broken promise.
pub fn torn_everywhere<W: World>(
    steps: &[W::Op],
    last: &W::Op,
    sync: u64,
    tally: &mut Tally,
) -> Result<u64, Violation> {
    let mut world = W::new(SimDisk::new(7), 7);
    must_open(&mut world, tally)?;
    for step in steps {
        world.apply(step)?;
    }
    let disk = world.disk().clone();
    disk.crash_at_sync(sync);
    world.apply(last)?;
    claim(disk.crashed(), || format!("{last:?} has no sync {sync}"))?;
    let mut torn = 0;
    for (event, len) in disk.pending_writes() {
        for bytes in 0..=len {
            torn += 1;
            for rest in [Rest::Absent, Rest::Zeros, Rest::Garbage(bytes as u64)] {
                let survival = Survival::Torn { event, bytes, rest };
                tally.images += 1;
                let image = world.over(disk.crash(survival));
                // What comes after a recovery is looked at in some of them.
                let recovered = match bytes % 16 {
                    0 => recover(image, bytes as u64, tally),
                    _ => recover_briefly(image, tally),
                };
                recovered.map_err(|broken| broken.within(format!("the image {survival:?}")))?;
            }
        }
    }
    Ok(torn)
}
