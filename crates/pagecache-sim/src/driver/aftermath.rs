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
    /// Crashes inside the recovery from a crash inside a recovery, and so on.
    pub depth: u32,
    /// At most so many images of a point inside a recovery.
    pub nested_images: usize,
}

/// Everything that a stop of the process at this moment may lead to, within the limits.
///
/// # Errors
/// The first broken promise.
pub fn explore<W: World>(world: &W, limits: &Explore, seed: u64, tally: &mut Tally) -> Checked {
    tally.points += 1;
    let disk = world.disk();
    for survival in disk.images(limits.images, seed) {
        tally.images += 1;
        let image = || world.over(disk.crash(survival));
        let nested = limits.nested_every > 0 && tally.images.is_multiple_of(limits.nested_every);
        let checked = recover(image(), seed, tally).and_then(|()| match nested {
            true => crash_inside(&image, limits.depth, limits.nested_images, seed, tally),
            false => Ok(()),
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
        if world.is_open() {
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
            let checked = recover(image(), seed, tally).and_then(|()| deeper(tally));
            checked.map_err(|broken| inside(after_a_crash(broken, survival)))?;
        }
        recover(world.over(disk.kill()), seed, tally)
            .map_err(|broken| inside(broken.within("the state after a kill")))?;
    }
    Ok(())
}
