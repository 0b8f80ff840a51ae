//! Two samples: how much larger the centre of one is than that of the other.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::model::Seed;

/// With fewer on either side a bootstrap promises more than it knows.
pub const SAMPLES_MIN: usize = 5;
const RESAMPLES: usize = 2000;
const TAIL: f64 = 0.05;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Centre {
    Median,
    /// For what is rare: a median does not see one loss in five runs.
    Mean,
}

/// One-sided 95 % bounds each: the difference is at least `low`, and at most `high`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    pub low: f64,
    pub high: f64,
}

/// By how much the centre of `after` exceeds that of `before`, by the percentile bootstrap of the difference. Absent with
/// fewer than five runs on either side.
#[must_use]
pub fn difference(before: &[f64], after: &[f64], of: Centre, seed: Seed) -> Option<Bounds> {
    if before.len() < SAMPLES_MIN || after.len() < SAMPLES_MIN {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed.0);
    let sorted = |sample: &[f64]| {
        let mut sorted = sample.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted
    };
    let before = draws(&sorted(before), of, &mut random);
    let after = draws(&sorted(after), of, &mut random);
    // Where neither was seen nothing is known of the difference: it may be anything.
    let bounded = |unknown: f64| {
        let pairs = before.iter().zip(&after).map(|(before, after)| after - before);
        let mut all: Vec<f64> = pairs.map(|one| if one.is_nan() { unknown } else { one }).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    Some(Bounds {
        low: quantile(&bounded(f64::NEG_INFINITY), TAIL),
        high: quantile(&bounded(f64::INFINITY), 1.0 - TAIL),
    })
}

/// Centres of samples of the same size, drawn with replacement from one that is in order.
#[allow(clippy::cast_precision_loss)]
fn draws(sorted: &[f64], of: Centre, random: &mut ChaCha8Rng) -> Vec<f64> {
    let count = sorted.len();
    // How often each was drawn: the middle is found by counting, without a sort for each sample.
    let mut drawn = vec![0_usize; count];
    let mut one = || {
        drawn.fill(0);
        (0..count).for_each(|_| drawn[random.random_range(0..count)] += 1);
        let nth = |n: usize| {
            let mut seen = 0;
            let at = drawn.iter().position(|times| {
                seen += times;
                seen > n
            });
            at.map_or(f64::NAN, |at| sorted[at])
        };
        match of {
            Centre::Mean => {
                let sum: f64 = drawn.iter().zip(sorted).map(|(times, value)| *times as f64 * value).sum();
                sum / count as f64
            }
            Centre::Median => middle(nth((count - 1) / 2), nth(count / 2)),
        }
    };
    (0..RESAMPLES).map(|_| one()).collect()
}

/// Of the two in the middle.
pub(super) fn middle(low: f64, high: f64) -> f64 {
    if low == high { low } else { f64::midpoint(low, high) }
}

/// The same, in order.
pub(super) fn resampled(sample: &[f64], of: Centre, random: &mut ChaCha8Rng) -> Vec<f64> {
    let mut centres = draws(sample, of, random);
    centres.sort_by(f64::total_cmp);
    centres
}

/// The smallest that at least the share `q` does not exceed.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = ((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len().max(1));
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::{Centre, difference};
    use crate::model::Seed;

    #[test]
    fn too_few_give_no_bounds() {
        let five = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(difference(&five[..4], &five, Centre::Median, Seed(1)), None);
        assert_eq!(difference(&five, &five[..4], Centre::Median, Seed(1)), None);
        assert!(difference(&five, &five, Centre::Median, Seed(1)).is_some());
    }

    #[test]
    fn a_shift_is_seen_and_its_size_bounded() {
        let before = [10.0, 10.2, 9.9, 10.1, 10.0, 9.8];
        let after = before.map(|value| value + 5.0);
        let bounds = difference(&before, &after, Centre::Median, Seed(1)).expect("bounds");
        assert!(
            4.5 < bounds.low && bounds.low <= 5.0 && 5.0 <= bounds.high && bounds.high < 5.5,
            "{bounds:?}"
        );
        let same = difference(&[3.0; 5], &[3.0; 5], Centre::Median, Seed(1)).expect("bounds");
        assert_eq!((same.low, same.high), (0.0, 0.0));
    }

    #[test]
    fn a_single_loss_is_seen_by_the_mean_only() {
        let (none, one) = ([0.0; 9], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        assert!(difference(&none, &one, Centre::Mean, Seed(1)).expect("bounds").high > 0.0);
        assert!(difference(&none, &one, Centre::Median, Seed(1)).expect("bounds").high == 0.0);
    }

    #[test]
    fn what_was_never_seen_is_beyond_any_bound() {
        let (seen, never) = ([1.0; 5], [f64::INFINITY; 5]);
        let worse = difference(&seen, &never, Centre::Median, Seed(1)).expect("bounds");
        assert_eq!((worse.low, worse.high), (f64::INFINITY, f64::INFINITY));
        let unknown = difference(&never, &never, Centre::Median, Seed(1)).expect("bounds");
        assert_eq!((unknown.low, unknown.high), (f64::NEG_INFINITY, f64::INFINITY));
    }

    /// Of 200 pairs of samples whose medians differ by exactly 1, how often is a difference of more than 1 claimed.
    #[test]
    fn a_shift_of_just_the_margin_is_rarely_called_larger() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        type Draw = fn(f64) -> f64;
        let distributions: [(&str, Draw); 3] =
            [("uniform", |u| u), ("exponential", |u| -(1.0 - u).ln()), ("pareto", |u| (1.0 - u).powf(-0.66))];
        for (name, draw) in distributions {
            for count in [5, 12] {
                let mut claimed = 0;
                for round in 0..200 {
                    let mut sample = |shift: f64| -> Vec<f64> {
                        (0..count).map(|_| shift + draw(random.random_range(0.0..1.0))).collect()
                    };
                    let (before, after) = (sample(0.0), sample(1.0));
                    let bounds = difference(&before, &after, Centre::Median, Seed(round)).expect("bounds");
                    claimed += u32::from(bounds.low > 1.0);
                }
                // 5 % and three standard errors of 200 rounds.
                let share = f64::from(claimed) / 200.0;
                assert!(share < 0.1, "{name}, {count} runs: {share}");
            }
        }
    }
}
