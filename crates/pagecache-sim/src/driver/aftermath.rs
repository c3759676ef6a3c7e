//! What may come after a process stops: every image, recovery from it, a crash inside that, and life afterwards.

use super::{Checked, Tally, Violation, World, claim, must_open};
use crate::disk::Survival;

/// How much is looked at from one point.
#[derive(Clone, Copy, Debug)]
pub struct Explore {
    /// At most so many images of a point.
    pub images: usize,
    /// Of so many images, one is crashed at every call of its recovery; 0 is none.
    pub nested_every: u64,
    /// Of so many images, one is crashed at every call of its recovery, and then within the recovery from that, and within the
    /// recovery from that too; 0 is none.
    pub deep_every: u64,
    /// At most so many images of a point inside a recovery.
    pub nested_images: usize,
}

/// Crashes that lie inside one another, at most.
const DEEPEST: u32 = 3;

/// Everything that a stop of the process at this moment may lead to, within the limits. `looked` counts the images, and so says which of them are
/// crashed again.
///
/// # Errors
/// The first broken promise.
pub fn explore<W: World>(world: &W, limits: &Explore, seed: u64, looked: &mut u64, tally: &mut Tally) -> Checked {
    tally.points += 1;
    let disk = world.disk();
    for survival in disk.images(limits.images, seed) {
        tally.images += 1;
        let image = || world.over(disk.crash(survival));
        tally.explored += 1;
        *looked += 1;
        let is_due = |every: u64| every > 0 && looked.is_multiple_of(every);
        let depth = match (is_due(limits.deep_every), is_due(limits.nested_every)) {
            (true, _) => DEEPEST,
            (false, nested) => u32::from(nested),
        };
        tally.deep += u64::from(depth == DEEPEST);
        let checked = recover(image(), seed, tally).and_then(|()| match depth {
            0 => Ok(()),
            _ => crash_inside(&image, depth, limits.nested_images, seed, tally),
        });
        checked.map_err(|broken| after_a_crash(broken, survival))?;
    }
    // The process dies, the machine goes on.
    recover(world.over(disk.kill()), seed, tally).map_err(|broken| broken.within("the state after a kill"))
}

fn after_a_crash(broken: Violation, survival: Survival) -> Violation {
    broken.within(format!("the image {survival:?}"))
}

/// Recovers; then recovering again, from whatever a crash leaves now, changes nothing, and the store works.
///
/// # Errors
/// The first broken promise.
pub fn recover<W: World>(mut world: W, seed: u64, tally: &mut Tally) -> Checked {
    must_open(&mut world, tally)?;
    if world.trust().is_lost() {
        return Ok(());
    }
    world.disk().set_capacity(None);
    reopen_images(&world, 2, seed, tally).map_err(|broken| broken.within("a second recovery"))?;
    world.prove().map_err(|broken| broken.within("the store after its recovery"))?;
    claim(world.is_open(), || "a store was closed while nothing failed".to_owned())?;
    reopen_images(&world, 2, seed, tally).map_err(|broken| broken.within("a recovery after a recovery"))
}

/// Opens some images of an open world: all that it has shown must be there.
fn reopen_images<W: World>(world: &W, limit: usize, seed: u64, tally: &mut Tally) -> Checked {
    let disk = world.disk();
    for survival in disk.images(limit, seed) {
        tally.images += 1;
        let mut image = world.over(disk.crash(survival));
        must_open(&mut image, tally).map_err(|broken| after_a_crash(broken, survival))?;
    }
    Ok(())
}

/// Recovers, and shows that the store works.
///
/// # Errors
/// The first broken promise.
pub fn recover_briefly<W: World>(mut world: W, tally: &mut Tally) -> Checked {
    must_open(&mut world, tally)?;
    match world.trust().is_lost() {
        true => Ok(()),
        false => {
            // A full disk outlives a crash; what is proven here is the store.
            world.disk().set_capacity(None);
            world.prove().map_err(|broken| broken.within("the store after its recovery"))
        }
    }
}

/// Stops the recovery of an image at each of its calls and recovers from what that leaves; from every fourth call on `depth`
/// times over.
///
/// # Errors
/// The first broken promise.
pub fn crash_inside<W: World>(make: &dyn Fn() -> W, depth: u32, limit: usize, seed: u64, tally: &mut Tally) -> Checked {
    for call in 0.. {
        let mut world = make();
        world.disk().crash_at(call);
        tally.starts += 1;
        world.open()?;
        if !world.disk().crashed() {
            break;
        }
        tally.points += 1;
        let disk = world.disk();
        let inside = |broken: Violation| broken.within(format!("a recovery stopped at call {call}"));
        for survival in disk.images(limit, seed ^ call) {
            tally.images += 1;
            tally.nested += 1;
            let image = || world.over(disk.crash(survival));
            let deeper = |tally: &mut Tally| match depth > 1 && call % 4 == seed % 4 {
                true => crash_inside(&image, depth - 1, limit, seed / 4, tally),
                false => Ok(()),
            };
            let checked = recover_briefly(image(), tally).and_then(|()| deeper(tally));
            checked.map_err(|broken| inside(after_a_crash(broken, survival)))?;
        }
        recover_briefly(world.over(disk.kill()), tally)
            .map_err(|broken| inside(broken.within("the state after a kill")))?;
    }
    Ok(())
}
