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
        /// Checkpoints.
        checkpoints: u64,
        /// Pages that were moved by turns that were asked for.
        moved: u64,
        /// Bytes written for pages that were moved out of the log.
        fold_bytes: u64,
        /// Bytes written for pages that were moved before.
        survivor_bytes: u64,
        /// Segments that were given back.
        given_back: u64,
        /// Times that disk was held against what is promised.
        bounded: u64,
        /// Stores that had settled after a fault or a full disk, and were held against it again from then on.
        calmed: u64,
        /// Copies under a pin of files that were opened.
        copied: u64,
        /// Updates that a cap on disk refused.
        capped: u64,
        /// Stores that took updates again after such a refusal.
        lifted: u64,
        /// Other ways to open a store whose pages were compared.
        ways: u64,
        /// Those that nothing can be expected of.
        barred: u64,
        /// Stores whose copies of the superblock differed.
        differing: u64,
    }
}

impl Upkeep {
    /// Whether checkpoints were written, pages moved, segments given back, and disk held against its bound.
    pub fn is_whole(&self) -> bool {
        [self.checkpoints, self.moved, self.fold_bytes, self.given_back, self.bounded].iter().all(|count| *count > 0)
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
        let Upkeep { accounts, spaces, checkpoints, moved, fold_bytes, survivor_bytes, .. } = self;
        let Upkeep { given_back, bounded, calmed, copied, capped, lifted, ways, barred, differing, .. } = self;
        write!(f, "accounts of {accounts} opened stores, parts of {spaces}; {checkpoints} checkpoints, ")?;
        write!(f, "{moved} pages moved, {fold_bytes} bytes of folds, {survivor_bytes} of survivors, ")?;
        write!(
            f,
            "{given_back} segments given back, {bounded} times within the bound, {calmed} settled after a fault, {copied} copies; opened in {ways} other ways ({barred} barred), "
        )?;
        write!(f, "{differing} with superblocks that differ")?;
        if *capped > 0 {
            write!(f, "; {capped} updates refused by a cap, {lifted} stores that took more after one")?;
        }
        Ok(())
    }
}
