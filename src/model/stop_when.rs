//! Bounds that end a run early: the stack was hurt more than anybody wants to see.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Component;

/// What a stop condition watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StopKind {
    ErrorRate,
    Latency,
    LostLeader,
}

impl StopKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ErrorRate => "error-rate",
            Self::Latency => "latency",
            Self::LostLeader => "lost-leader",
        }
    }
}

/// Broken for so long while faults are on, or in recovery: the run stops, reverts, and never passes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StopCondition {
    pub check: StopKind,
    /// `error-rate`: share of a second's requests that were not ok, in percent.
    #[serde(default)]
    pub max_percent: Option<f64>,
    /// `latency`: 0.5 or 0.99; the seconds of the load carry no other.
    #[serde(default)]
    pub quantile: Option<f64>,
    /// `latency`: bound in ms.
    #[serde(default)]
    pub max_ms: Option<f64>,
    /// `lost-leader`: whose.
    #[serde(default)]
    pub component: Option<Component>,
    /// How long it must be broken without a break.
    pub for_seconds: u32,
}

/// More would be a mistake.
pub const STOP_CONDITIONS_MAX: usize = 16;
const FOR_SECONDS_MAX: u32 = 3600;

impl StopCondition {
    /// The first thing that cannot be meant: field and sentence.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        use StopKind::{ErrorRate, Latency, LostLeader};
        let kind = self.check;
        let fields: [(&'static str, bool, StopKind); 4] = [
            ("maxPercent", self.max_percent.is_some(), ErrorRate),
            ("quantile", self.quantile.is_some(), Latency),
            ("maxMs", self.max_ms.is_some(), Latency),
            ("component", self.component.is_some(), LostLeader),
        ];
        for (field, given, of) in fields {
            if given && of != kind {
                return Some((field, format!("{} does not take it", kind.as_str())));
            }
            if !given && of == kind {
                return Some((field, format!("{} needs it", kind.as_str())));
            }
        }
        if !(1..=FOR_SECONDS_MAX).contains(&self.for_seconds) {
            return Some(("forSeconds", format!("must be 1 to {FOR_SECONDS_MAX}")));
        }
        if self.max_percent.is_some_and(|share| !(0.0..=99.9).contains(&share)) {
            return Some(("maxPercent", "must be 0 to 99.9: nothing can break another".to_owned()));
        }
        if self.quantile.is_some_and(|quantile| quantile != 0.5 && quantile != 0.99) {
            return Some(("quantile", "must be 0.5 or 0.99: a second of the load has no other".to_owned()));
        }
        if self.max_ms.is_some_and(|ms| !(0.001..=1e7).contains(&ms)) {
            return Some(("maxMs", "must be positive".to_owned()));
        }
        let led = |component| matches!(component, Component::Postgres | Component::Redis);
        if self.component.is_some_and(|component| !led(component)) {
            return Some((
                "component",
                "must be postgres or redis: nobody else is asked who leads".to_owned(),
            ));
        }
        None
    }

    /// For people: `error-rate above 50 % for 10 s`.
    #[must_use]
    pub fn describe(&self) -> String {
        let name = self.check.as_str();
        let bound = match self.check {
            StopKind::ErrorRate => format!("{name} above {} %", self.max_percent.unwrap_or_default()),
            StopKind::Latency => format!(
                "{name} (quantile {}) above {} ms",
                self.quantile.unwrap_or_default(),
                self.max_ms.unwrap_or_default()
            ),
            StopKind::LostLeader => {
                format!("{name} of {}", self.component.map_or("nobody", Component::as_str))
            }
        };
        format!("{bound} for {} s", self.for_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_told_with_its_field() {
        let problem = |yaml: &str| {
            let one: StopCondition = crate::model::parse_yaml(std::path::Path::new("x.yaml"), yaml).unwrap();
            one.problem().map_or_else(|| one.describe(), |(field, why)| format!("{field}: {why}"))
        };
        insta::assert_snapshot!(
            [
                problem("{check: error-rate, maxPercent: 50, forSeconds: 10}"),
                problem("{check: latency, quantile: 0.99, maxMs: 2000, forSeconds: 5}"),
                problem("{check: lost-leader, component: postgres, forSeconds: 30}"),
                problem("{check: error-rate, forSeconds: 10}"),
                problem("{check: error-rate, maxPercent: 100, forSeconds: 10}"),
                problem("{check: error-rate, maxPercent: 5, maxMs: 1, forSeconds: 10}"),
                problem("{check: latency, quantile: 0.9, maxMs: 2000, forSeconds: 5}"),
                problem("{check: latency, quantile: 0.5, maxMs: 0, forSeconds: 5}"),
                problem("{check: lost-leader, component: backend, forSeconds: 30}"),
                problem("{check: lost-leader, component: redis, forSeconds: 0}"),
            ]
            .join("\n"),
            @r"
        error-rate above 50 % for 10 s
        latency (quantile 0.99) above 2000 ms for 5 s
        lost-leader of postgres for 30 s
        maxPercent: error-rate needs it
        maxPercent: must be 0 to 99.9: nothing can break another
        maxMs: error-rate does not take it
        quantile: must be 0.5 or 0.99: a second of the load has no other
        maxMs: must be positive
        component: must be postgres or redis: nobody else is asked who leads
        forSeconds: must be 1 to 3600
        "
        );
    }
}
