//! A directory as one short input: names, lengths, and the stretches of each file that are not zero.
//!
//! ```text
//! file:     kind: 1 byte, name | length: 4 | count: 2 | stretches
//! name:     of kind 0 segment and 1 scratch: number: 8; of 2 any other: length: 1, bytes; of 3 a copy of the superblock: which: 1
//! stretch:  offset: 4 | length: 2 | bytes
//! ```
//!
//! Every input is a directory: what ends too early ends there, and lengths and counts are cut to the bounds below.

use crate::disk::Files;
use crate::input::Input;
use crate::sparse::stretches;

/// The longest file: 16 segments of the smallest size.
const FILE_MAX: usize = 1 << 20;
const FILES_MAX: usize = 12;
const NAME_MAX: usize = 24;

/// The names of the superblock's copies.
pub const SUPERBLOCKS: [&str; 2] = ["super-a", "super-b"];

pub fn unpack(input: &[u8]) -> Files {
    let mut input = Input::new(input);
    let mut files = Files::new();
    while !input.is_empty() && files.len() < FILES_MAX {
        let name = match input.u8() % 4 {
            0 => format!("seg-{:016x}", input.u64()),
            1 => format!("tmp-{:016x}", input.u64()),
            3 => SUPERBLOCKS[usize::from(input.u8()) % 2].to_owned(),
            _ => {
                let len = usize::from(input.u8()) % NAME_MAX;
                // What a storage may list: plain ASCII without separators.
                let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'\\');
                let name = input.bytes(len).iter().filter(|byte| plain(byte));
                format!("x{}", name.map(|byte| char::from(*byte)).collect::<String>())
            }
        };
        let mut bytes = vec![0; input.u32() as usize % (FILE_MAX + 1)];
        for _ in 0..input.u16() {
            if input.is_empty() {
                break;
            }
            let (offset, len) = (input.u32() as usize, usize::from(input.u16()));
            let piece = input.bytes(len);
            let from = offset.min(bytes.len());
            let to = (from + piece.len()).min(bytes.len());
            bytes[from..to].copy_from_slice(&piece[..to - from]);
        }
        files.insert(name, bytes);
    }
    files
}

pub fn pack(files: &Files) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in files {
        let number = |prefix| name.strip_prefix(prefix).and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let copy = SUPERBLOCKS.iter().position(|copy| copy == name);
        match (number("seg-"), number("tmp-")) {
            _ if copy.is_some() => out.extend([3, copy.unwrap_or_default() as u8]),
            (Some(number), _) => {
                out.push(0);
                out.extend(number.to_le_bytes());
            }
            (_, Some(number)) => {
                out.push(1);
                out.extend(number.to_le_bytes());
            }
            _ => {
                let name = name.strip_prefix('x').unwrap_or(name);
                out.extend([2, name.len() as u8]);
                out.extend(name.as_bytes());
            }
        }
        let stretches = stretches(bytes);
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend((stretches.len() as u16).to_le_bytes());
        for (offset, piece) in stretches {
            out.extend((offset as u32).to_le_bytes());
            out.extend((piece.len() as u16).to_le_bytes());
            out.extend(piece);
        }
    }
    out
}
