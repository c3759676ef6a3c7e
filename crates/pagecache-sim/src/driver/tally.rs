//! What a driver did, in numbers: one that did nothing has shown nothing.

use std::fmt;
use std::ops::AddAssign;

/// Numbers that add up.
macro_rules! counts {
    ($(#[$of:meta])* $name:ident { $($(#[$what:meta])* $count:ident: $kind:ty,)* }) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$what])* pub $count: $kind,)*
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: $name) {
                $(self.$count += other.$count;)*
            }
        }
    };
}

counts! {
    /// What a driver did.
    Tally {
        /// Sequences or seeds.
        runs: u64,
        /// Points at which a process was stopped.
        points: u64,
        /// Images of a crash that were recovered from.
        images: u64,
        /// Of them, those of a crash inside a recovery.
        nested: u64,
        /// Images of a crash outside of any recovery that were explored.
        explored: u64,
        /// Of them, those whose recoveries were crashed three deep.
        deep: u64,
        /// Opens of the store.
        starts: u64,
        /// Operations of the world.
        operations: u64,
        /// Calls of the storage that a fault struck.
        faults: u64,
        /// Opens that were refused as damaged, after a disk that broke its word.
        refused: u64,
        /// What pages took to be kept, and what was looked at for it.
        upkeep: Upkeep,
    }
}

counts! {
    /// What pages took to be kept, and what was looked at for it. Nothing for a world without pages.
    Upkeep {
        /// Opened stores whose accounts were compared with their map.
        accounts: u64,
        /// Opened stores whose files were taken apart.
        spaces: u64,
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { runs, points, images, nested, explored, deep, starts, operations, faults, refused, upkeep } = self;
        write!(f, "{runs} runs, {points} points, {images} images ({nested} inside a recovery), ")?;
        write!(f, "{explored} explored ({deep} three deep), {starts} starts, ")?;
        write!(f, "{operations} operations, {faults} faults, {refused} stores rightly refused")?;
        if *upkeep != Upkeep::default() {
            write!(f, "; {upkeep}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Upkeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Upkeep { accounts, spaces } = self;
        write!(f, "accounts of {accounts} opened stores, parts of {spaces}")
    }
}
