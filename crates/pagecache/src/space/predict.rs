//! What cleaning will cost at a fill, where pages are overwritten uniformly.

/// Bytes that cleaning copies for each byte that fills what it has cleaned, at this share in use: `(1 - E) / E`, where E, the part of a
/// segment that is dead by the time its turn comes, is the root of `E = 1 - exp(-E / fill)`. Nothing where nothing can be cleaned.
///
/// It holds for segments that are cleaned by age, which is as good as any order where all pages are overwritten equally often (Lomet and
/// Luo 2020).
pub(crate) fn moved_per_byte(fill: f64) -> Option<f64> {
    if !(fill > 0.0 && fill < 1.0) {
        return None;
    }
    let above = |dead: f64| 1.0 - (-dead / fill).exp() - dead;
    // Positive below the root and negative above. The root is above fill x (1 - fill), since it is near twice that where it is small.
    let (mut low, mut high) = (fill * (1.0 - fill), 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        match above(middle) > 0.0 {
            true => low = middle,
            false => high = middle,
        }
    }
    Some((1.0 - high) / high)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_known_figures_come_out() {
        for (fill, known) in [(0.5, 0.255), (0.7, 0.876), (0.8, 1.69), (0.9, 4.18)] {
            let moved = moved_per_byte(fill).unwrap();
            assert!((moved - known).abs() < 0.006, "{fill}: {moved}, not {known}");
        }
        assert!(moved_per_byte(0.01).unwrap() < 1e-9);
        assert!(moved_per_byte(0.9999).unwrap() > 1000.0);
        assert_eq!([0.0, 1.0, -1.0, f64::NAN].map(moved_per_byte), [None; 4]);
    }
}
