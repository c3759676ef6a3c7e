//! Bytes of memory that count among a store's buffers as long as who holds them lives.

use std::sync::Arc;

use super::core::LogCore;

pub(crate) struct Held {
    log: Arc<LogCore>,
    bytes: u64,
}

impl Held {
    pub(crate) fn none(log: &Arc<LogCore>) -> Held {
        Held { log: Arc::clone(log), bytes: 0 }
    }

    /// Takes note of what is held now.
    pub(crate) fn set(&mut self, bytes: u64) {
        if bytes != self.bytes {
            self.log.hold(&mut self.bytes, bytes);
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}
