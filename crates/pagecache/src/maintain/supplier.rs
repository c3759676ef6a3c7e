//! Keeps segments ready ahead of the tail.

use crate::base::event::Woken;
use crate::log::core::LogCore;

pub(super) fn run(log: &LogCore) {
    while log.short.wait(None) != Woken::Over {
        super::shrug(log.extend_ahead());
    }
}
