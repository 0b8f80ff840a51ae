//! `latency`: a quantile of one window against a bound, from the *intended* time.
//!
//! Definition: the exact nearest-rank quantile over requests that were answered (ok) and requests that
//! timed out. One that timed out is slower than every bound. One that failed at once has no latency and
//! takes no part: `error-rate` is there for it. So that a few survivors never speak for a window,
//! a pass needs at least half of its requests ok, and 1 / (1 - quantile) of them.
//! With `minMs` the quantile must be at least that: a delay of a share of the requests is judged by two quantiles, one that
//! it must not reach and one that it must.
//! Read in both ways of [`crate::model::Samples`], like the error rate.

use crate::model::{
    CheckSpec, Finding, Latencies, LoadSpec, Quantile, Samples, Timeline, Verdict, WindowName,
};

use super::text::{bound, finding, inconclusive, us_as_ms};

pub(super) fn judge(spec: &CheckSpec, load: &LoadSpec, timeline: &Timeline) -> Finding {
    let (Some(window), Some(quantile)) = (spec.window, bound(spec.quantile).filter(|q| *q < 1.0)) else {
        return inconclusive(spec, "window and quantile are needed");
    };
    let samples = timeline.samples(timeline.windows.get(window));
    if let Some(why) = samples.unusable(load.requests_min) {
        return inconclusive(spec, why);
    }
    let limits = match limits(spec, load, timeline, quantile) {
        Ok(limits) => limits,
        Err(why) => return inconclusive(spec, why),
    };
    let max_us = limits.iter().map(|limit| limit.max_us).reduce(f64::min);
    let least = bound(spec.min_ms);
    if max_us.is_none() && least.is_none() {
        return inconclusive(spec, "maxMs, minMs or maxRatioToBaseline is needed");
    }
    let bounds = limits.iter().map(|limit| limit.text.as_str()).collect::<Vec<_>>().join(" and ");
    let bounds = [
        least.map(|min_ms| format!("at least {min_ms} ms is wanted")),
        max_us.map(|_| format!("at most {bounds} is allowed")),
    ];
    let bounds = bounds.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let breaks_max = |latencies| max_us.is_some_and(|max_us| breaks(latencies, quantile, max_us));
    let below = least.is_some_and(|ms| is_below(&samples.counted.latencies, quantile, ms * 1000.0));
    let figure = describe(&samples.counted.latencies, quantile);
    if below || breaks_max(&samples.counted.latencies) {
        return finding(spec, Verdict::Fail, format!("{figure}, {bounds}"));
    }
    if let Some(why) = too_few(&samples, quantile) {
        return inconclusive(spec, why);
    }
    if breaks_max(&samples.all.latencies) {
        return inconclusive(
            spec,
            format!(
                "{figure} without the generator's own limits, but {} with them: {bounds}",
                describe(&samples.all.latencies, quantile)
            ),
        );
    }
    finding(spec, Verdict::Pass, format!("{figure}, {bounds}"))
}

struct Limit {
    max_us: f64,
    text: String,
}

#[allow(clippy::cast_precision_loss)]
fn limits(spec: &CheckSpec, load: &LoadSpec, timeline: &Timeline, q: f64) -> Result<Vec<Limit>, String> {
    let mut limits = Vec::new();
    if let Some(max_ms) = bound(spec.max_ms) {
        limits.push(Limit { max_us: max_ms * 1000.0, text: format!("{max_ms} ms") });
    }
    if let Some(ratio) = bound(spec.max_ratio_to_baseline) {
        let baseline = timeline.samples(timeline.windows.get(WindowName::Baseline));
        let unusable = baseline.unusable(load.requests_min).or_else(|| too_few(&baseline, q));
        if let Some(why) = unusable {
            return Err(format!("the baseline cannot be compared with: {why}"));
        }
        // The smaller of both readings: the generator's limits must not make the bound more generous.
        let readings = [&baseline.counted, &baseline.all].map(|tally| match tally.latencies.quantile(q) {
            Quantile::Us(us) if us > 0 => Some(us),
            _ => None,
        });
        let us = readings.into_iter().flatten().min();
        let us = us.ok_or("the baseline has no such latency to compare with")?;
        limits.push(Limit {
            max_us: us as f64 * ratio,
            text: format!("{ratio} times the baseline's {:.1} ms", us_as_ms(us)),
        });
    }
    Ok(limits)
}

/// Why a good quantile would say nothing.
#[allow(clippy::cast_precision_loss)]
fn too_few(samples: &Samples, quantile: f64) -> Option<String> {
    let tally = &samples.counted;
    let answered = tally.latencies.answered();
    if answered * 2 < tally.requests {
        return Some(format!(
            "only {answered} of {} requests were answered: survivors do not speak for the rest",
            tally.requests
        ));
    }
    // The small term forgives 1 / (1 - 0.99) = 100.000…1.
    let needed = 1.0 / (1.0 - quantile) - 1e-6;
    ((answered as f64) < needed).then(|| {
        format!("{answered} requests were answered, the quantile {quantile} needs {:.0}", needed.ceil())
    })
}

#[allow(clippy::cast_precision_loss)]
fn breaks(latencies: &Latencies, quantile: f64, max_us: f64) -> bool {
    match latencies.quantile(quantile) {
        Quantile::NoSamples => false,
        Quantile::Us(us) => us as f64 > max_us,
        Quantile::Unanswered(_) => true,
    }
}

#[allow(clippy::cast_precision_loss)]
fn is_below(latencies: &Latencies, quantile: f64, min_us: f64) -> bool {
    match latencies.quantile(quantile) {
        // What timed out is slower than anything that was asked for.
        Quantile::NoSamples | Quantile::Unanswered(_) => false,
        Quantile::Us(us) => (us as f64) < min_us,
    }
}

fn describe(latencies: &Latencies, quantile: f64) -> String {
    match latencies.quantile(quantile) {
        Quantile::NoSamples => format!("no quantile {quantile}"),
        Quantile::Us(us) => format!("quantile {quantile} is {:.1} ms", us_as_ms(us)),
        Quantile::Unanswered(us) => {
            format!(
                "quantile {quantile} is above {:.1} ms: it lies among requests that timed out",
                us_as_ms(us)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, verdicts};
    use crate::model::ErrorClass::{ConnectionRefused, Timeout};
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{CheckKind, CheckSpec, WindowName};

    fn spec() -> CheckSpec {
        CheckSpec {
            window: Some(WindowName::Fault),
            quantile: Some(0.99),
            max_ms: Some(100.0),
            ..CheckSpec::new(CheckKind::Latency)
        }
    }

    #[test]
    fn judges_the_quantile_from_the_intended_time() {
        verdicts(
            &spec(),
            [
                ("all at 10 ms", Build::steady(), Pass),
                ("slow for a second", Build::steady().slow(13_000, 14_000, 400), Fail),
                ("slow for 50 ms", Build::steady().slow(13_000, 13_050, 400), Pass),
                ("2 % timed out", Build::steady().errors(13_000, 13_300, Timeout), Fail),
                ("some were refused", Build::steady().errors(13_000, 14_000, ConnectionRefused), Pass),
                (
                    "most were refused",
                    Build::steady().errors(12_000, 20_000, ConnectionRefused),
                    Inconclusive,
                ),
                ("all were refused", Build::steady().errors(12_000, 24_000, ConnectionRefused), Inconclusive),
                ("nothing at all", Build::empty(), Inconclusive),
                ("load stopped", Build::steady().silence(12_000, 24_000), Inconclusive),
                (
                    "slow only while the generator was the limit",
                    Build::steady().slow(13_000, 14_000, 400).limited(13_000, 14_000),
                    Inconclusive,
                ),
            ],
        );
    }

    #[test]
    fn the_ratio_needs_a_baseline() {
        let spec = CheckSpec { max_ms: None, max_ratio_to_baseline: Some(3.0), ..spec() };
        verdicts(
            &spec,
            [
                ("the same", Build::steady(), Pass),
                ("40 times", Build::steady().slow(13_000, 14_000, 400), Fail),
                ("no baseline", Build::steady().silence(0, 12_000), Inconclusive),
            ],
        );
    }

    #[test]
    fn a_delay_that_was_asked_for_is_there() {
        let slow = |to| Build::steady().slow(12_000, to, 400);
        let least = CheckSpec { quantile: Some(0.4), max_ms: None, min_ms: Some(300.0), ..spec() };
        verdicts(
            &least,
            [
                ("all of it", slow(24_000), Pass),
                ("most of it", slow(20_000), Pass),
                ("half a second", slow(12_500), Fail),
                ("nothing slow", Build::steady(), Fail),
                ("nothing answered", Build::steady().errors(12_000, 24_000, ConnectionRefused), Inconclusive),
                ("nothing at all", Build::empty(), Inconclusive),
            ],
        );
        let between = CheckSpec { max_ms: Some(600.0), ..least };
        verdicts(
            &between,
            [
                ("within", slow(24_000), Pass),
                ("slower", Build::steady().slow(12_000, 24_000, 700), Fail),
                ("faster", Build::steady(), Fail),
            ],
        );
    }

    #[test]
    fn a_check_that_cannot_be_meant_is_inconclusive() {
        let bad = [
            CheckSpec { window: None, ..spec() },
            CheckSpec { quantile: None, ..spec() },
            CheckSpec { quantile: Some(1.0), ..spec() },
            CheckSpec { max_ms: None, ..spec() },
            // 1,440 requests cannot tell the quantile 0.9999.
            CheckSpec { quantile: Some(0.9999), ..spec() },
        ];
        for spec in bad {
            verdicts(&spec, [("steady", Build::steady(), Inconclusive)]);
        }
    }
}
