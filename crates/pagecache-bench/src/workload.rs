//! The workloads: pages of bytes, ids drawn beforehand, uniform or zipf.

use pagecache::Materializer;
use pagecache_sim::rng::Rng;

/// Pages are bytes, merged by appending and cut to the first 1 KiB: what a small record on a page costs.
pub struct Bytes;

impl Materializer for Bytes {
    type PageFrag = Vec<u8>;
    type Recovery = ();
    const RECOVERS: bool = false;

    fn new(_: &Option<()>) -> Self {
        Bytes
    }

    fn merge(&self, frags: &[&Vec<u8>]) -> Vec<u8> {
        let mut page = Vec::with_capacity(1024);
        for frag in frags {
            let room = 1024usize.saturating_sub(page.len());
            page.extend_from_slice(frag.get(..frag.len().min(room)).unwrap_or_default());
        }
        page
    }

    fn recover(&self, _: &Vec<u8>) -> Option<()> {
        None
    }
}

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
