//! What is done to the bare log, each operation whole in itself.

/// What becomes of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It becomes part of the log.
    Completed,
    /// It is given up.
    Aborted,
}

/// Which record is meant. An operation on a log without records means its tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// So many before the newest; the oldest where there are fewer.
    Newest(usize),
    /// The stable LSN: everything below is durable.
    Stable,
}

/// One operation on a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOp {
    /// A record of so many bytes.
    Write(u32),
    /// A reservation; while it is held, another record, and a flush that must be refused.
    Reserve {
        /// Bytes.
        len: u32,
        /// What becomes of it.
        end: End,
    },
    /// A reservation of another thread; while it is held, another record of `beside` bytes before and after, and a tick.
    HeldElsewhere {
        /// Bytes.
        len: u32,
        /// Bytes of the others.
        beside: u32,
        /// What becomes of it.
        end: End,
    },
    /// Records up to the segment's end, the last of which would end so many times 8 bytes over it.
    ToSegmentEnd(i16),
    /// Everything becomes durable.
    Flush,
    /// A record becomes durable.
    MakeStable(Which),
    /// Everything below is forgotten.
    Trim(Which),
    /// What the background would do.
    Tick,
    /// All is read and compared.
    Check,
}

/// Bytes of the smallest segment, which every log here has; its ring is as long.
pub const SEGMENT: u64 = 64 << 10;

/// Bytes of a block.
pub const BLOCK: u64 = 4096;

/// The longest record that is not an extent.
pub const INLINE_MAX: u32 = (SEGMENT / 4 - 128) as u32;

/// Bytes between an LSN and the end of the data of its segment.
pub(super) fn room_in_segment(lsn: pagecache::Lsn) -> u64 {
    (SEGMENT - BLOCK).saturating_sub(lsn.0 % SEGMENT)
}

/// Bytes of the body of a record that takes `len` bytes, if there is one.
pub(super) fn body_of_record(len: u64) -> Option<u32> {
    // A checksum of 4 bytes, a kind, and the body's length in 1, 2 or 3 bytes.
    let (length, body) = [1, 2, 3]
        .map(|length| (length, len.checked_sub(5 + length)))
        .into_iter()
        .find_map(|(length, body)| body.filter(|body| *body < 1 << (7 * length)).map(|body| (length, body)))?;
    debug_assert!(length <= 3);
    u32::try_from(body).ok().filter(|body| *body <= INLINE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagecache::Lsn;

    #[test]
    fn a_record_of_every_length_has_a_body() {
        for len in (8..16_000).step_by(8) {
            let body = u64::from(body_of_record(len).unwrap());
            let length = if body < 128 {
                1
            } else if body < 16_384 {
                2
            } else {
                3
            };
            assert_eq!((5 + length + body).next_multiple_of(8), len);
        }
        assert_eq!(body_of_record(0), None);
    }

    #[test]
    fn the_room_in_a_segment_ends_before_its_last_block() {
        assert_eq!(room_in_segment(Lsn(SEGMENT - BLOCK)), 0);
        assert_eq!(room_in_segment(Lsn(SEGMENT - 8)), 0);
        assert_eq!(room_in_segment(Lsn(SEGMENT - BLOCK - 8)), 8);
    }
}
