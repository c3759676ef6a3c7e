//! Stores on a disk that fills up, fails, interrupts and decays: every outcome is typed, nothing acknowledged is lost,
//! nothing hangs.

mod damage;
mod failed_io;
mod failed_start;
mod full_disk;
mod harness;
mod transfers;
mod waiters;
