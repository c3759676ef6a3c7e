//! Fewer steps that still fail: greedy removal of ever smaller stretches.

/// Removes what is not needed for `fails`, asking it at most `attempts` times. The given steps fail.
pub fn shrink<T: Clone>(steps: &[T], attempts: usize, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut steps = steps.to_vec();
    let mut left = attempts;
    let mut stretch = steps.len().div_ceil(2);
    while stretch > 0 {
        let mut at = 0;
        let before = steps.len();
        while at < steps.len() && left > 0 {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + stretch).min(steps.len()));
            left -= 1;
            match fails(&fewer) {
                true => steps = fewer,
                false => at += stretch,
            }
        }
        // Single steps are tried again for as long as one can go.
        stretch = if stretch == 1 && steps.len() < before && left > 0 { 1 } else { stretch / 2 };
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fails_together_is_left() {
        let steps: Vec<u32> = (0..200).collect();
        let shrunk = shrink(&steps, 10_000, |steps| [3, 77, 150].iter().all(|step| steps.contains(step)));
        assert_eq!(shrunk, [3, 77, 150]);
    }

    #[test]
    fn attempts_are_bounded_and_the_result_still_fails() {
        let steps: Vec<u32> = (0..200).collect();
        let mut asked = 0;
        let shrunk = shrink(&steps, 5, |steps| {
            asked += 1;
            steps.len() >= 10
        });
        assert!(asked <= 5 && shrunk.len() >= 10);
    }
}
