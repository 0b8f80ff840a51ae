//! What a run is judged by: `expect` in a file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Component, Leadership, RecoveryPhase, Store, TripsBy, WindowName};

macro_rules! checks {
    ($($variant:ident $name:literal;)*) => {
        /// The checks. Each has a file in `check/`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum CheckKind {
            $($variant,)*
        }

        impl CheckKind {
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant,)*];

            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

checks! {
    ErrorRate "error-rate";
    Latency "latency";
    RecoveryTime "recovery-time";
    LostWrites "lost-writes";
    DuplicatedWrites "duplicated-writes";
    ReplicasRestored "replicas-restored";
    StaleReads "stale-reads";
    DirtyReads "dirty-reads";
    ReorderedWrites "reordered-writes";
    SingleWriter "single-writer";
    ArchiveCurrent "archive-current";
    AlertFires "alert-fires";
    Breaker "breaker";
    Degraded "degraded";
    Amplification "amplification";
    StaysClosed "stays-closed";
    Scales "scales";
}

impl CheckKind {
    /// Why it has nothing to judge in that store.
    fn cannot_judge(self, store: Store) -> Option<&'static str> {
        match self {
            Self::ReorderedWrites if !store.keeps_order() => {
                Some("must be redis: no other store promises an order")
            }
            Self::StaleReads | Self::DirtyReads if store == Store::Kafka => {
                Some("must be one that clients read: postgres, redis or jobs")
            }
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckSpec {
    pub check: CheckKind,
    /// `error-rate`, `latency`, `degraded`, `amplification`: which window is judged.
    #[serde(default)]
    pub window: Option<WindowName>,
    /// `error-rate`: at most this share of requests was not ok, in percent.
    #[serde(default)]
    pub max_percent: Option<f64>,
    /// `latency`: the quantile, for example 0.99.
    #[serde(default)]
    pub quantile: Option<f64>,
    /// `latency`: bound in ms.
    #[serde(default)]
    pub max_ms: Option<f64>,
    /// `latency`: the least that the quantile may be, in ms: a delay that was asked for is there.
    #[serde(default)]
    pub min_ms: Option<f64>,
    /// `latency`: bound as a multiple of the same quantile of the baseline.
    #[serde(default)]
    pub max_ratio_to_baseline: Option<f64>,
    /// `recovery-time`, `replicas-restored`, `alert-fires`: bound from injection. `single-writer`: how long two may take
    /// writes; not at all when absent. `archive-current`: how long a file may be the first that waits.
    #[serde(default)]
    pub max_seconds: Option<f64>,
    /// `recovery-time`: how long it must hold to count.
    #[serde(default)]
    pub stable_for_seconds: Option<f64>,
    /// `recovery-time`: which phase is bounded; `client` when absent.
    #[serde(default)]
    pub phase: Option<RecoveryPhase>,
    /// `lost-writes`, `duplicated-writes`, `reordered-writes`, `stale-reads`, `dirty-reads`.
    #[serde(default)]
    pub store: Option<Store>,
    /// With `store`: how many are allowed; 0 when absent.
    #[serde(default)]
    pub max: Option<u64>,
    /// `replicas-restored`, `single-writer`: which component; that of the fault's target when absent. `alert-fires`: only alerts with this
    /// label `app`. `breaker`, `amplification`, `scales`: whose callers, or whose
    /// replicas, are read.
    #[serde(default)]
    pub component: Option<Component>,
    /// `alert-fires`: its name.
    #[serde(default)]
    pub alert: Option<String>,
    /// `alert-fires`: bound from the last revert until the alert is over.
    #[serde(default)]
    pub resolved_max_seconds: Option<f64>,
    /// `breaker`: what opens it; `ejection` when absent.
    #[serde(default)]
    pub by: Option<TripsBy>,
    /// `breaker`: bound from injection.
    #[serde(default)]
    pub opens_within_seconds: Option<f64>,
    /// `breaker`: bound from the last revert.
    #[serde(default)]
    pub closes_within_seconds: Option<f64>,
    /// `degraded`, `amplification`: the step whose requests count, `journey.step` or `step`.
    #[serde(default)]
    pub step: Option<String>,
    /// `degraded`: share of requests that were answered with less, in percent. `error-rate`: at least this share was not
    /// ok: an abort that was asked for is there.
    #[serde(default)]
    pub min_percent: Option<f64>,
    /// `amplification`: bound as a multiple of the baseline's.
    #[serde(default)]
    pub max_ratio: Option<f64>,
    /// `amplification`: calls for each request of users.
    #[serde(default)]
    pub max_per_request: Option<f64>,
    /// `scales`: bound from the start of the load's step until more replicas are ready.
    #[serde(default)]
    pub out_within_seconds: Option<f64>,
    /// `scales`: bound from the end of the load's step until no more are wanted than before it.
    #[serde(default)]
    pub in_within_seconds: Option<f64>,
    /// `scales`: how often the wish may turn beyond once up and once down; 0 when absent.
    #[serde(default)]
    pub max_flaps: Option<u32>,
}

/// A field, whether it was given, which checks take it, and which of them need it.
type Field = (&'static str, bool, &'static [CheckKind], &'static [CheckKind]);

impl CheckSpec {
    /// A check without any of its fields.
    #[must_use]
    pub fn new(check: CheckKind) -> Self {
        Self {
            check,
            window: None,
            max_percent: None,
            quantile: None,
            max_ms: None,
            min_ms: None,
            max_ratio_to_baseline: None,
            max_seconds: None,
            stable_for_seconds: None,
            phase: None,
            store: None,
            max: None,
            component: None,
            alert: None,
            resolved_max_seconds: None,
            by: None,
            opens_within_seconds: None,
            closes_within_seconds: None,
            step: None,
            min_percent: None,
            max_ratio: None,
            max_per_request: None,
            out_within_seconds: None,
            in_within_seconds: None,
            max_flaps: None,
        }
    }

    fn fields(&self) -> [Field; 24] {
        use CheckKind::{
            AlertFires, Amplification, ArchiveCurrent, Breaker, Degraded, DirtyReads, DuplicatedWrites,
            ErrorRate, Latency, LostWrites, RecoveryTime, ReorderedWrites, ReplicasRestored, Scales,
            SingleWriter, StaleReads,
        };
        const WINDOWED: &[CheckKind] = &[ErrorRate, Latency, Degraded, Amplification];
        const STORED: &[CheckKind] = &[LostWrites, DuplicatedWrites, ReorderedWrites, StaleReads, DirtyReads];
        const MAY_BE_TIMED: &[CheckKind] =
            &[RecoveryTime, ReplicasRestored, AlertFires, SingleWriter, ArchiveCurrent];
        const TIMED: &[CheckKind] = &[RecoveryTime, ReplicasRestored, AlertFires, ArchiveCurrent];
        const OF_ONE: &[CheckKind] =
            &[ReplicasRestored, SingleWriter, AlertFires, Breaker, Amplification, Scales];
        const ONE: &[CheckKind] = &[Breaker, Amplification, Scales];
        [
            ("window", self.window.is_some(), WINDOWED, WINDOWED),
            ("maxPercent", self.max_percent.is_some(), &[ErrorRate], &[ErrorRate]),
            ("quantile", self.quantile.is_some(), &[Latency], &[Latency]),
            ("maxMs", self.max_ms.is_some(), &[Latency], &[]),
            ("minMs", self.min_ms.is_some(), &[Latency], &[]),
            ("maxRatioToBaseline", self.max_ratio_to_baseline.is_some(), &[Latency], &[]),
            ("maxSeconds", self.max_seconds.is_some(), MAY_BE_TIMED, TIMED),
            ("stableForSeconds", self.stable_for_seconds.is_some(), &[RecoveryTime], &[]),
            ("phase", self.phase.is_some(), &[RecoveryTime], &[]),
            ("store", self.store.is_some(), STORED, STORED),
            ("max", self.max.is_some(), STORED, &[]),
            ("component", self.component.is_some(), OF_ONE, ONE),
            ("alert", self.alert.is_some(), &[AlertFires], &[AlertFires]),
            ("resolvedMaxSeconds", self.resolved_max_seconds.is_some(), &[AlertFires], &[AlertFires]),
            ("by", self.by.is_some(), &[Breaker], &[]),
            ("opensWithinSeconds", self.opens_within_seconds.is_some(), &[Breaker], &[Breaker]),
            ("closesWithinSeconds", self.closes_within_seconds.is_some(), &[Breaker], &[Breaker]),
            ("step", self.step.is_some(), &[Degraded, Amplification], &[Degraded]),
            ("minPercent", self.min_percent.is_some(), &[Degraded, ErrorRate], &[Degraded]),
            ("maxRatio", self.max_ratio.is_some(), &[Amplification], &[]),
            ("maxPerRequest", self.max_per_request.is_some(), &[Amplification], &[]),
            ("outWithinSeconds", self.out_within_seconds.is_some(), &[Scales], &[Scales]),
            ("inWithinSeconds", self.in_within_seconds.is_some(), &[Scales], &[Scales]),
            ("maxFlaps", self.max_flaps.is_some(), &[Scales], &[]),
        ]
    }

    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        let kind = self.check;
        let fields = self.fields();
        if let Some((field, ..)) = fields.iter().find(|(_, given, takes, _)| *given && !takes.contains(&kind))
        {
            return Some((field, format!("{} does not take it", kind.as_str())));
        }
        let needs = |field: &'static str| Some((field, format!("{} needs it", kind.as_str())));
        if let Some((field, ..)) = fields.iter().find(|(_, given, _, need)| !*given && need.contains(&kind)) {
            return needs(field);
        }
        let bounds = [self.max_ms, self.min_ms, self.max_ratio_to_baseline];
        if kind == CheckKind::Latency && bounds.iter().all(Option::is_none) {
            return needs("maxMs");
        }
        if kind == CheckKind::Amplification && self.max_ratio.is_none() && self.max_per_request.is_none() {
            return needs("maxRatio");
        }
        let written = self.component.is_none_or(|one| one.leadership() == Leadership::Whole);
        if kind == CheckKind::SingleWriter && !written {
            let message = "must be one whose members say who takes writes: postgres, redis, zookeeper";
            return Some(("component", message.to_owned()));
        }
        if let Some(message) = self.store.and_then(|store| kind.cannot_judge(store)) {
            return Some(("store", message.to_owned()));
        }
        let compared = matches!(kind, CheckKind::Degraded | CheckKind::Amplification);
        if compared && self.window == Some(WindowName::Baseline) {
            return Some((
                "window",
                "must be fault or recovery: the baseline is what it is compared with".into(),
            ));
        }
        self.out_of_range()
    }

    /// A bound that nothing can break, or that nothing can keep, is a mistake.
    fn out_of_range(&self) -> Option<(&'static str, String)> {
        let outside =
            |value: Option<f64>, low: f64, high: f64| value.is_some_and(|v| !(v >= low && v <= high));
        let nothing_breaks =
            |range: &str| format!("must be {range}: a bound that nothing can break proves nothing");
        if outside(self.max_percent, 0.0, 99.9) {
            return Some(("maxPercent", nothing_breaks("0 to 99.9")));
        }
        if outside(self.min_percent, 10.0, 100.0) {
            return Some(("minPercent", nothing_breaks("10 to 100")));
        }
        if outside(self.quantile, 0.01, 0.9999) {
            return Some(("quantile", "must be 0.01 to 0.9999".to_owned()));
        }
        for (field, least, most) in
            [("minPercent", self.min_percent, self.max_percent), ("minMs", self.min_ms, self.max_ms)]
        {
            if least.zip(most).is_some_and(|(least, most)| least >= most) {
                return Some((field, "must be below the most that is allowed".to_owned()));
            }
        }
        let positive = [
            ("minMs", self.min_ms),
            ("maxMs", self.max_ms),
            ("maxRatioToBaseline", self.max_ratio_to_baseline),
            ("maxSeconds", self.max_seconds),
            ("stableForSeconds", self.stable_for_seconds),
            ("resolvedMaxSeconds", self.resolved_max_seconds),
            ("opensWithinSeconds", self.opens_within_seconds),
            ("closesWithinSeconds", self.closes_within_seconds),
            ("maxRatio", self.max_ratio),
            ("maxPerRequest", self.max_per_request),
            ("outWithinSeconds", self.out_within_seconds),
            ("inWithinSeconds", self.in_within_seconds),
        ];
        positive
            .into_iter()
            .find(|(_, value)| outside(*value, 0.001, 1e7))
            .map(|(field, _)| (field, "must be positive".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(yaml: &str) -> String {
        let spec: CheckSpec = crate::model::parse_yaml(std::path::Path::new("x.yaml"), yaml).unwrap();
        spec.problem().map_or_else(|| "none".to_owned(), |(field, message)| format!("{field}: {message}"))
    }

    #[test]
    fn a_check_takes_what_is_its_own_and_needs_its_bounds() {
        let cases = [
            "{check: error-rate, window: fault, maxPercent: 5}",
            "{check: error-rate, window: fault, maxPercent: 100}",
            "{check: error-rate, window: fault, maxPercent: 36, minPercent: 24}",
            "{check: error-rate, window: fault, maxPercent: 20, minPercent: 24}",
            "{check: latency, window: fault, quantile: 0.9}",
            "{check: latency, window: fault, quantile: 0.9, minMs: 800}",
            "{check: latency, window: fault, quantile: 0.9, minMs: 800, maxMs: 800}",
            "{check: recovery-time, phase: route, maxSeconds: 9}",
            "{check: replicas-restored, phase: route, maxSeconds: 9}",
            "{check: alert-fires, alert: ServiceDown, component: inference, maxSeconds: 60, resolvedMaxSeconds: 90}",
            "{check: alert-fires, alert: ServiceDown, maxSeconds: 60}",
            "{check: breaker, component: inference, opensWithinSeconds: 10, closesWithinSeconds: 0}",
            "{check: breaker, component: inference, by: overflow, opensWithinSeconds: 10, closesWithinSeconds: 9}",
            "{check: breaker, opensWithinSeconds: 10, closesWithinSeconds: 9}",
            "{check: degraded, step: decide, window: fault, minPercent: 80}",
            "{check: degraded, step: decide, window: baseline, minPercent: 80}",
            "{check: degraded, step: decide, window: fault, minPercent: 1}",
            "{check: amplification, component: inference, window: fault, maxRatio: 1.5}",
            "{check: amplification, component: frontend, window: recovery, maxPerRequest: 0.05}",
            "{check: amplification, component: frontend, window: recovery}",
            "{check: archive-current, maxSeconds: 10}",
            "{check: archive-current}",
            "{check: archive-current, maxSeconds: 10, component: postgres}",
            "{check: stays-closed, max: 1}",
            "{check: stale-reads, store: jobs}",
            "{check: stale-reads, store: kafka}",
            "{check: dirty-reads, max: 1}",
            "{check: reordered-writes, store: postgres}",
            "{check: reordered-writes, store: redis, max: 2}",
            "{check: scales, component: edge, outWithinSeconds: 60, inWithinSeconds: 120, maxFlaps: 1}",
        ];
        let said: Vec<String> = cases.iter().map(|yaml| format!("{yaml}\n  {}", problem(yaml))).collect();
        insta::assert_snapshot!(said.join("\n"));
    }
}
