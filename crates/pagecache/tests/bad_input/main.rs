//! Bad input: whatever is at the path, in the files, in a fragment or in user code has a typed outcome; nothing is lost,
//! nothing hangs.
#![cfg(all(not(loom), unix))]

mod asking;
mod checkpoints;
mod copies;
mod crafted;
mod directories;
mod few_files;
mod files;
mod fragments;
mod harness;
mod leaks;
mod openers;
mod read_only;
mod user_code;
