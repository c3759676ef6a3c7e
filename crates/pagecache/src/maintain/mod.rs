//! Background work: the only threads of the kit.

pub(crate) mod flusher;
