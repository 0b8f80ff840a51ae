//! How findings are named and figures are written, the same in every check.

use crate::model::{CheckSpec, Finding, Verdict};

/// `error-rate(fault)`, `latency(fault, q 0.99)`, `lost-writes(redis)`, `recovery-time`.
pub(super) fn name(spec: &CheckSpec) -> String {
    let parts: Vec<String> = [
        spec.window.map(|window| window.as_str().to_owned()),
        spec.quantile.map(|q| format!("q {q}")),
        spec.phase.map(|phase| phase.as_str().to_owned()),
        spec.store.map(|store| store.as_str().to_owned()),
        spec.component.map(|component| component.as_str().to_owned()),
        spec.alert.clone(),
        spec.by.map(|by| by.as_str().to_owned()),
        spec.step.clone(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let check = spec.check.as_str();
    if parts.is_empty() { check.to_owned() } else { format!("{check}({})", parts.join(", ")) }
}

pub(super) fn inconclusive(spec: &CheckSpec, reason: impl Into<String>) -> Finding {
    Finding::new(name(spec), Verdict::Inconclusive, reason)
}

pub(super) fn finding(spec: &CheckSpec, verdict: Verdict, reason: impl Into<String>) -> Finding {
    Finding::new(name(spec), verdict, reason)
}

/// One part of a judgement that has several.
pub(super) struct Part {
    pub verdict: Verdict,
    pub text: String,
    /// Absent: it was not seen.
    pub figure: Option<u64>,
}

impl Part {
    pub(super) fn new(verdict: Verdict, text: impl Into<String>) -> Self {
        Self { verdict, text: text.into(), figure: None }
    }

    pub(super) fn measured(verdict: Verdict, figure: u64, text: impl Into<String>) -> Self {
        Self { figure: Some(figure), ..Self::new(verdict, text) }
    }
}

/// The worst part is the verdict and gives the reason; what went well beside it is for the evidence. Each part stands beside
/// the name of its figure.
pub(super) fn of_parts(spec: &CheckSpec, subject: &str, parts: &[(&str, Part)]) -> Finding {
    let verdict = Verdict::worst(parts.iter().map(|(_, part)| part.verdict));
    let of_worst =
        parts.iter().filter(|(_, part)| part.verdict == verdict).map(|(_, part)| part.text.as_str());
    let reason = format!("{subject} {}", of_worst.collect::<Vec<_>>().join(", "));
    parts.iter().fold(finding(spec, verdict, reason), |finding, (name, part)| {
        finding.with_figure(name, part.figure.map(number))
    })
}

pub(super) fn texts(parts: &[(&str, Part)]) -> Vec<String> {
    parts.iter().map(|(_, part)| part.text.clone()).collect()
}

#[allow(clippy::cast_precision_loss)]
fn number(figure: u64) -> f64 {
    figure as f64
}

/// A bound that can be compared with; one that is absent or not a number bounds nothing.
pub(super) fn bound(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite() && *value >= 0.0)
}

/// ms, for people: `3.4 s`.
#[allow(clippy::cast_precision_loss)]
pub(super) fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}

#[allow(clippy::cast_precision_loss)]
pub(super) fn us_as_ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// Seconds of a bound as whole ms, rounded down: never more generous than was asked for.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn bound_ms(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}
