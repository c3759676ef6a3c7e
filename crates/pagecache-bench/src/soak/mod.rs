//! A soak: a store much larger than its memory under all kinds of updates, its memory and disk held against their bounds all the while.
//!
//! What is the bench's own and not the store's: the model of what pages hold, and the room for samples. Both are laid out in full, every
//! byte touched, before the empty store is measured, so they are in what is subtracted. A fragment that a thread is about to give, and a page that
//! it was given beside the cache, are not: they come out of the slack of the process. What the store says of its memory leaves them out, too: they are counted.

pub mod bounds;
pub mod content;
pub mod hold;
pub mod model;
pub mod options;
pub mod plot;
pub mod run;
pub mod sample;
pub mod trim;
pub mod work;
