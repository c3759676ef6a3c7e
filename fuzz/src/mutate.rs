//! Mutators that know what they change. Half of the time the checksums are made right afterwards: else everything behind a
//! checksum would never be met.

use pagecache::fuzzing;

use crate::archive::{SUPERBLOCKS, pack, unpack};
use crate::disk::Files;
use crate::sparse::stretches;

/// libFuzzer's own mutator: buffer, length of the input in it, longest length allowed; returns the new length.
pub type Plain = fn(&mut [u8], usize, usize) -> usize;

/// Numbers that follow from a seed (xorshift, G. Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn new(seed: u32) -> Dice {
        Dice(u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `sides`.
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % sides.max(1) as u64) as usize
    }
}

/// A plain mutation, then, half of the time, a repair of what the target will decode.
pub fn decoder(data: &mut [u8], size: usize, max: usize, seed: u32, plain: Plain, repair: fn(&mut [u8])) -> usize {
    let size = plain(data, size, max);
    if Dice::new(seed).roll(2) == 0 {
        repair(&mut data[..size]);
    }
    size
}

/// A directory: bytes within a file, whole files, or the input as it is; then, half of the time, the checksums.
pub fn directory(data: &mut [u8], size: usize, max: usize, seed: u32, plain: Plain) -> usize {
    let mut dice = Dice::new(seed);
    let how = dice.roll(8);
    if how == 0 {
        return plain(data, size, max);
    }
    let mut files = unpack(&data[..size]);
    match how {
        1 => rearrange(&mut files, &mut dice),
        2 => copy_a_stretch(&mut files, &mut dice),
        _ => change_bytes(&mut files, &mut dice, plain),
    }
    if dice.roll(2) == 0 {
        for (name, bytes) in &mut files {
            match SUPERBLOCKS.contains(&&**name) {
                true => fuzzing::repair_superblock(bytes),
                false => fuzzing::repair_segment(bytes),
            }
        }
    }
    let packed = pack(&files);
    if packed.len() > max {
        return plain(data, size, max);
    }
    data[..packed.len()].copy_from_slice(&packed);
    packed.len()
}

/// A file by chance.
fn any<'a>(files: &'a mut Files, dice: &mut Dice) -> Option<&'a mut Vec<u8>> {
    let at = dice.roll(files.len());
    files.values_mut().nth(at)
}

/// A few bytes of a stretch that is not zero.
fn window(bytes: &[u8], dice: &mut Dice) -> Option<(usize, usize)> {
    let stretches = stretches(bytes);
    let (offset, piece) = stretches.get(dice.roll(stretches.len()))?;
    let from = dice.roll(piece.len());
    Some((offset + from, (piece.len() - from).min(1 + dice.roll(48))))
}

fn change_bytes(files: &mut Files, dice: &mut Dice, plain: Plain) {
    for _ in 0..=dice.roll(3) {
        let Some(bytes) = any(files, dice) else { return };
        let Some((at, len)) = window(bytes, dice) else { continue };
        // A little behind the stretch too: where nothing was written yet.
        let end = (at + len + dice.roll(2) * 8).min(bytes.len());
        let target = &mut bytes[at..end];
        plain(target, end - at, end - at);
    }
}

/// Bytes of one place, well formed or not, at another: as after a misdirected write, or in a file that is used again.
fn copy_a_stretch(files: &mut Files, dice: &mut Dice) {
    let Some(from) = any(files, dice) else { return };
    let all = stretches(from);
    let Some((offset, piece)) = all.get(dice.roll(all.len())).map(|(at, piece)| (*at, piece.to_vec())) else { return };
    let Some(to) = any(files, dice) else { return };
    let at = match dice.roll(3) {
        0 => offset,
        1 => offset + 8 * dice.roll(1024),
        _ => dice.roll(to.len()) / 8 * 8,
    };
    let end = (at + piece.len()).min(to.len());
    if at < end {
        to[at..end].copy_from_slice(&piece[..end - at]);
    }
}

fn rearrange(files: &mut Files, dice: &mut Dice) {
    let names: Vec<String> = files.keys().cloned().collect();
    let Some(name) = names.get(dice.roll(names.len())).cloned() else { return };
    let Some(bytes) = files.remove(&name) else { return };
    let other = match dice.roll(5) {
        0 => "xforeign".to_owned(),
        1 => format!("tmp-{:016x}", dice.roll(9)),
        2 => SUPERBLOCKS[dice.roll(2)].to_owned(),
        _ => format!("seg-{:016x}", dice.roll(9)),
    };
    match dice.roll(6) {
        0 => {}
        1 => {
            files.insert(other, bytes);
        }
        2 => {
            files.insert(other, bytes.clone());
            files.insert(name, bytes);
        }
        3 => {
            let len = dice.roll(bytes.len() + 1);
            files.insert(name, bytes[..len].to_vec());
        }
        4 => {
            let mut longer = bytes;
            longer.resize(longer.len() + dice.roll(1 << 17), 0);
            files.insert(name, longer);
        }
        _ => {
            let changed =
                names.get(dice.roll(names.len())).and_then(|other| files.insert(other.clone(), bytes.clone()));
            files.insert(name, changed.unwrap_or(bytes));
        }
    }
}
