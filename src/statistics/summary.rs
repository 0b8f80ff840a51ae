//! One sample: its median, and an interval for that of all runs there could be.
//!
//! The interval is the wider of two. The percentile bootstrap: 2,000 samples of the same size drawn with replacement,
//! and the 2.5 % and 97.5 % quantiles of their medians. And the order statistics: between the k-th smallest and the k-th
//! largest run lies the median with a probability that does not depend on the distribution; the largest k that keeps it
//! at 95 % or more. The first is known to be too narrow on small samples, the second never is. Fewer than six runs
//! cannot reach 95 %: the interval is then from the smallest to the largest, and says how sure that is
//! (two runs 50 %, three 75 %, five 93.75 %).

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::model::{Interval, Seed, Statistic};

use super::bootstrap::{Centre, middle, quantile, resampled};

const TAIL: f64 = 0.025;

/// The middle of a sample; an infinite one when half of it was not seen. NaN of nothing.
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn centre(of: Centre, sample: &[f64]) -> f64 {
    if sample.is_empty() {
        return f64::NAN;
    }
    match of {
        Centre::Mean => sample.iter().sum::<f64>() / sample.len() as f64,
        Centre::Median => {
            let mut sorted = sample.to_vec();
            sorted.sort_by(f64::total_cmp);
            middle(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
        }
    }
}

/// The statistic of a figure over several runs; `None` is a run in which it was not seen, and counts as more than any.
#[must_use]
pub fn statistic(values: &[Option<f64>], seed: Seed) -> Statistic {
    let mut sorted: Vec<f64> = values.iter().map(|value| value.unwrap_or(f64::INFINITY)).collect();
    sorted.sort_by(f64::total_cmp);
    Statistic {
        n: values.len() as u64,
        not_seen: values.iter().filter(|value| value.is_none()).count() as u64,
        min: sorted.first().copied().and_then(seen),
        median: seen(centre(Centre::Median, &sorted)),
        max: sorted.last().copied().and_then(seen),
        interval: interval(&sorted, seed),
    }
}

/// Four places: what is behind them is no figure of ours.
fn seen(value: f64) -> Option<f64> {
    value.is_finite().then(|| (value * 10_000.0).round() / 10_000.0)
}

/// Of the median of a sample that is in order.
fn interval(sorted: &[f64], seed: Seed) -> Option<Interval> {
    let count = sorted.len();
    if count < 2 {
        return None;
    }
    let (rank, tail) = rank(count);
    let mut random = ChaCha8Rng::seed_from_u64(seed.0);
    let medians = resampled(sorted, Centre::Median, &mut random);
    let low = quantile(&medians, TAIL).min(*sorted.get(rank)?);
    let high = quantile(&medians, 1.0 - TAIL).max(*sorted.get(count - 1 - rank)?);
    Some(Interval { low: seen(low), high: seen(high), confidence: (1.0 - 2.0 * tail).min(0.95) })
}

/// How many runs may lie outside on each side, and the probability that the median does on one.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
fn rank(count: usize) -> (usize, f64) {
    // The binomial distribution of how many runs are below the median, from 0 up.
    let mut probability = 0.5_f64.powi(count as i32);
    let (mut below, mut rank) = (probability, 0);
    while rank + 1 < count / 2 {
        probability *= (count - rank) as f64 / (rank + 1) as f64;
        if below + probability > TAIL {
            break;
        }
        below += probability;
        rank += 1;
    }
    (rank, below)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::{rank, statistic};
    use crate::model::Seed;

    fn of(values: &[f64]) -> crate::model::Statistic {
        statistic(&values.iter().copied().map(Some).collect::<Vec<_>>(), Seed(1))
    }

    #[test]
    fn few_runs_say_how_little_they_say() {
        let one = of(&[3.0]);
        assert_eq!(
            (one.n, one.min, one.median, one.max, one.interval),
            (1, Some(3.0), Some(3.0), Some(3.0), None)
        );
        for (count, confidence) in [(2, 0.5), (3, 0.75), (4, 0.875), (5, 0.9375), (6, 0.95), (30, 0.95)] {
            let interval = of(&(0..count).map(f64::from).collect::<Vec<_>>()).interval.expect("an interval");
            assert!((interval.confidence - confidence).abs() < 1e-9, "{count}: {interval:?}");
        }
        let nothing = statistic(&[], Seed(1));
        assert_eq!((nothing.n, nothing.median, nothing.interval), (0, None, None));
    }

    #[test]
    fn the_ranks_are_those_of_the_tables() {
        // Two-sided 95 % of the sign test: the k-th of n.
        for (count, expected) in [(2, 0), (5, 0), (6, 0), (8, 0), (9, 1), (12, 2), (15, 3), (20, 5), (25, 7)]
        {
            assert_eq!(rank(count).0, expected, "{count}");
        }
    }

    #[test]
    fn what_was_not_seen_is_longer_than_any() {
        let mixed = statistic(&[Some(1.0), None, Some(2.0)], Seed(1));
        assert_eq!((mixed.not_seen, mixed.min, mixed.median, mixed.max), (1, Some(1.0), Some(2.0), None));
        assert_eq!(mixed.interval.and_then(|interval| interval.high), None);
        let mostly = statistic(&[Some(1.0), None, None], Seed(1));
        assert_eq!((mostly.median, mostly.max), (None, None));
        assert_eq!(statistic(&[Some(1.0), None], Seed(1)).median, None);
    }

    /// Of 200 samples of each size and distribution, how many intervals hold the true median.
    #[test]
    fn an_interval_covers_the_median_as_often_as_it_says() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        type Draw = fn(f64) -> f64;
        let distributions: [(&str, Draw, f64); 4] = [
            ("uniform", |u| u, 0.5),
            ("exponential", |u| -(1.0 - u).ln(), std::f64::consts::LN_2),
            // Heavy tails: recoveries that now and then take ten times as long.
            ("pareto", |u| (1.0 - u).powf(-1.0 / 1.5), 2.0_f64.powf(1.0 / 1.5)),
            ("two humps", |u| if u < 0.5 { u } else { u + 10.0 }, 5.5),
        ];
        for (name, draw, median) in distributions {
            for count in [3, 6, 12] {
                let (mut covered, mut confidence) = (0, 0.0);
                for round in 0..200 {
                    let sample: Vec<Option<f64>> =
                        (0..count).map(|_| Some(draw(random.random_range(0.0..1.0)))).collect();
                    let interval = statistic(&sample, Seed(round)).interval.expect("an interval");
                    let (low, high) = (interval.low.expect("seen"), interval.high.expect("seen"));
                    covered += u32::from(low <= median && median <= high);
                    confidence = interval.confidence;
                }
                let share = f64::from(covered) / 200.0;
                // Three standard errors of 200 rounds.
                let least = confidence - 3.0 * (confidence * (1.0 - confidence) / 200.0).sqrt();
                assert!(share >= least, "{name}, {count} runs: {share} of {confidence}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn a_statistic_is_in_order_and_the_same_for_any_order(values in proptest::collection::vec(0.0..1e6_f64, 1..20)) {
            let statistic = of(&values);
            prop_assert!(statistic.min <= statistic.median && statistic.median <= statistic.max);
            if let Some(interval) = statistic.interval {
                prop_assert!(statistic.min <= interval.low && interval.low <= statistic.median);
                prop_assert!(statistic.median <= interval.high && interval.high <= statistic.max);
            }
            let mut turned = values.clone();
            turned.reverse();
            prop_assert_eq!(of(&turned), statistic);
        }
    }
}
