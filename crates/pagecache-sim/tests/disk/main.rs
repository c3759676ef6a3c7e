//! What the simulated disk promises: its claims one by one, and that it finds what is wrong with five wrong logs.

mod claims;
mod faults;
mod logs;
mod wrong_logs;
