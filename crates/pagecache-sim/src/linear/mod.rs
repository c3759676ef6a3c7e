//! Linearizability of small histories: is there one order of all calls, each between its begin and its end, that explains every
//! answer?
//!
//! - [`history`]: calls with the times at which they began and ended.
//! - [`search`]: looks for the order, for any object with a sequential specification (a [`Model`](search::Model)).
//! - [`page`]: the specification of one page. Pages are independent objects, so a history of many is checked page by page
//!   (Herlihy and Wing: linearizability is local).
//! - [`crash`]: what a store shows after a crash must be a cut through such an order, behind everything acknowledged.
//! - [`player`]: asks a page cache at random and writes the history down; the same in simulated and in real threads.

pub mod crash;
pub mod history;
pub mod page;
pub mod player;
pub mod search;
