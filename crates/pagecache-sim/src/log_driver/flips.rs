//! Bits turned over in the files of a log that is not open: the right records or a typed refusal, never anything else.

use std::fmt;

use pagecache::{Error, Log, Lsn};

use super::builder;
use crate::disk::SimDisk;
use crate::driver::{Checked, Violation, claim};
use crate::log_model::Found;

/// What a damaged log answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All records, as written.
    Right,
    /// The first records, as written, and no word of the others.
    Shorter,
    /// `Corrupt`, from the start or from the walk over the records.
    Corrupt,
    /// `Incompatible`, from the start.
    Incompatible,
}

/// How often each answer came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flips {
    /// Bits turned over.
    pub tried: u64,
    /// [`Outcome::Right`].
    pub right: u64,
    /// [`Outcome::Shorter`].
    pub shorter: u64,
    /// [`Outcome::Corrupt`].
    pub corrupt: u64,
    /// [`Outcome::Incompatible`].
    pub incompatible: u64,
}

impl fmt::Display for Flips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Flips { tried, right, shorter, corrupt, incompatible } = self;
        write!(f, "{tried} flips: {right} right, {shorter} shorter, {corrupt} corrupt, {incompatible} incompatible")
    }
}

/// Turns over each of these bits of a file, one at a time, opens the log read only and reads all of it. `expected` is what it
/// holds undamaged, of which the first `proven` records must never be missing without an error. `flips` is counted up.
///
/// # Errors
/// Other records, a silent loss of proven ones, or another error.
pub fn flip_bits(
    disk: &SimDisk,
    name: &str,
    bits: impl IntoIterator<Item = u64>,
    expected: &Found,
    proven: usize,
    flips: &mut Flips,
) -> Checked {
    for bit in bits {
        if !disk.flip_bit(name, bit) {
            break;
        }
        flips.tried += 1;
        let outcome = read_all(disk, expected, proven);
        disk.flip_bit(name, bit);
        match outcome.map_err(|broken| broken.within(format!("bit {} of byte {} of {name}", bit % 8, bit / 8)))? {
            Outcome::Right => flips.right += 1,
            Outcome::Shorter => flips.shorter += 1,
            Outcome::Corrupt => flips.corrupt += 1,
            Outcome::Incompatible => flips.incompatible += 1,
        }
    }
    Ok(())
}

fn read_all(disk: &SimDisk, expected: &Found, proven: usize) -> Result<Outcome, Violation> {
    let log = match Log::start(builder(disk).read_only(true).build()) {
        Ok(log) => log,
        Err(Error::Corrupt(_)) => return Ok(Outcome::Corrupt),
        Err(Error::Incompatible { .. }) => return Ok(Outcome::Incompatible),
        Err(other) => return Err(Violation::new(format!("a damaged log answers {other}"))),
    };
    let mut count = 0;
    for found in log.iter_from(Lsn(0)) {
        match found {
            Ok((lsn, bytes)) => same(expected.get(count), lsn, &bytes)?,
            Err(Error::Corrupt(_)) => return Ok(Outcome::Corrupt),
            Err(other) => return Err(Violation::new(format!("a damaged record answers {other}"))),
        }
        count += 1;
    }
    claim(count >= proven, || format!("{count} records and no error, where {proven} are proven"))?;
    Ok(if count == expected.len() { Outcome::Right } else { Outcome::Shorter })
}

fn same(expected: Option<&(Lsn, Vec<u8>)>, lsn: Lsn, bytes: &[u8]) -> Checked {
    let right = expected.is_some_and(|(at, body)| *at == lsn && body == bytes);
    claim(right, || format!("{lsn} is shown, {} bytes, which nobody wrote", bytes.len()))
}
