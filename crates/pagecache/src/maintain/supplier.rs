//! Keeps segments ready ahead of the tail.

use crate::base::event::Woken;
use crate::log::core::LogCore;

pub(super) fn run(log: &LogCore) {
    while log.short.wait(None) != Woken::Over {
        let mut outcome = Ok(());
        while outcome.is_ok() && log.wants_extension() && !log.is_paced_out() {
            outcome = log.extend_ahead();
        }
        super::shrug(outcome);
    }
}
