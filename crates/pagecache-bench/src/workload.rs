//! The workloads: pages of bytes, ids drawn beforehand, uniform or zipf.

use pagecache::{Fragment, Materializer, PageBytes};
use pagecache_sim::rng::Rng;

/// Bytes that are stored as they are: no encoding stands between a bench and the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Blob(pub Vec<u8>);

/// From this length on a fragment's bytes go to the log from where they lie, aligned to 8; a shorter one is copied first and
/// saves the alignment.
const IN_PLACE: usize = 512;

impl Fragment for Blob {
    fn as_bytes(&self) -> Option<&[u8]> {
        (self.0.len() >= IN_PLACE).then_some(&self.0)
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(&self.0);
        Ok(())
    }

    fn decode(bytes: PageBytes) -> Result<Blob, String> {
        Ok(Blob(bytes.to_vec()))
    }

    fn heap_size(&self) -> usize {
        self.0.capacity()
    }
}

/// Pages are bytes, merged by appending and cut to the first 1 KiB: what a small record on a page costs.
pub struct Bytes;

impl Materializer for Bytes {
    type PageFrag = Blob;
    type Recovery = ();
    const RECOVERS: bool = false;

    fn new(_: &Option<()>) -> Self {
        Bytes
    }

    fn merge(&self, frags: &[&Blob]) -> Blob {
        let mut page = Vec::with_capacity(PAGE);
        for frag in frags {
            append_cut(&mut page, &frag.0);
        }
        Blob(page)
    }

    fn recover(&self, _: &Blob) -> Option<()> {
        None
    }
}

/// Bytes of a page in the rows of `get` and `link`.
pub const PAGE: usize = 1024;

/// Pages in the rows of `get`, `link` and `replace`.
pub const PAGES: u64 = 100_000;

/// Appends a fragment to a page, as far as there is room.
pub fn append_cut(page: &mut Vec<u8>, frag: &[u8]) {
    let room = PAGE.saturating_sub(page.len());
    page.extend_from_slice(frag.get(..frag.len().min(room)).unwrap_or_default());
}

/// All bytes, summed eight at a time.
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(0u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}

/// How ids are drawn: a seed, a number of pages, a number of draws.
pub type Draw = fn(u64, u64, usize) -> Vec<u64>;

/// Ids drawn uniformly below `pages`.
pub fn uniform(seed: u64, pages: u64, count: usize) -> Vec<u64> {
    let mut rng = Rng::new(seed);
    (0..count).map(|_| rng.below(pages)).collect()
}

/// Ids drawn by Zipf's law with exponent .99 (rank r with weight r^-.99), ranks scattered over the ids.
///
/// Inverse transform on the cumulated weights.
pub fn zipf(seed: u64, pages: u64, count: usize) -> Vec<u64> {
    let mut cumulated = Vec::with_capacity(pages as usize);
    let mut sum = 0.0;
    for rank in 1..=pages {
        sum += (rank as f64).powf(-0.99);
        cumulated.push(sum);
    }
    let mut rng = Rng::new(seed);
    let mut ids: Vec<u64> = (0..pages).collect();
    rng.shuffle(&mut ids);
    (0..count)
        .map(|_| {
            let at = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * sum;
            ids[cumulated.partition_point(|below| *below < at).min(ids.len() - 1)]
        })
        .collect()
}

/// Ids drawn uniformly, four of five from a fifth of them, which is scattered.
pub fn eighty_twenty(seed: u64, pages: u64, count: usize) -> Vec<u64> {
    let mut rng = Rng::new(seed);
    let mut ids: Vec<u64> = (0..pages).collect();
    rng.shuffle(&mut ids);
    let (hot, cold) = ids.split_at(ids.len() / 5);
    (0..count)
        .map(|_| {
            let of = if rng.below(5) < 4 { hot } else { cold };
            of[rng.below(of.len() as u64) as usize]
        })
        .collect()
}

/// Ids drawn uniformly, each by one thread only: those whose remainder by `threads` is `thread`.
pub fn own(thread: usize, threads: usize, pages: u64, count: usize) -> Vec<u64> {
    let (thread, threads) = (thread as u64, threads as u64);
    let each = pages / threads;
    uniform(thread, each, count).into_iter().map(|at| at * threads + thread).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_draws_few_pages_often_and_uniform_none() {
        let most = |ids: Vec<u64>| {
            let mut counts = vec![0u32; 1000];
            ids.into_iter().for_each(|id| counts[id as usize] += 1);
            counts.into_iter().max().unwrap_or(0)
        };
        assert!(most(zipf(1, 1000, 100_000)) > 10_000);
        assert!(most(uniform(1, 1000, 100_000)) < 200);
    }

    #[test]
    fn a_fifth_of_the_pages_gets_four_fifths_of_the_draws() {
        let mut counts = vec![0u32; 1000];
        eighty_twenty(1, 1000, 100_000).into_iter().for_each(|id| counts[id as usize] += 1);
        assert_eq!(counts.iter().filter(|count| **count > 200).count(), 200);
    }

    #[test]
    fn threads_draw_ids_of_their_own() {
        assert!(own(1, 3, 100, 1000).into_iter().all(|id| id % 3 == 1 && id < 100));
    }

    #[test]
    fn every_byte_is_in_the_sum() {
        let mut bytes = vec![0u8; 19];
        for at in 0..bytes.len() {
            bytes[at] = 1;
            assert_ne!(sum(&bytes), 0, "byte {at}");
            bytes[at] = 0;
        }
    }
}
