//! What a run must look at beyond what every run looks at: it follows from what it is judged by.

use std::collections::BTreeSet;

use super::{CheckKind, CheckSpec, Component};

/// Which further probes run. Each costs the stack a little, so none runs unasked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watch {
    /// Names of alerts.
    pub alerts: BTreeSet<String>,
    /// Whose callers' proxies are read.
    pub breakers: BTreeSet<Component>,
    /// Who is read how often it was asked.
    pub served: BTreeSet<Component>,
    /// Whose autoscalers are read.
    pub scales: BTreeSet<Component>,
    /// Whether what must be refused is tried.
    pub refusals: bool,
}

impl Watch {
    #[must_use]
    pub fn of(checks: &[CheckSpec]) -> Self {
        let mut watch = Self::default();
        for spec in checks {
            match spec.check {
                CheckKind::AlertFires => watch.alerts.extend(spec.alert.clone()),
                CheckKind::Amplification if spec.component.is_some_and(Component::counts_itself) => {
                    watch.served.extend(spec.component);
                }
                CheckKind::Breaker | CheckKind::Amplification => watch.breakers.extend(spec.component),
                CheckKind::Scales => watch.scales.extend(spec.component),
                CheckKind::StaysClosed => watch.refusals = true,
                _ => {}
            }
        }
        watch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_judged_is_watched() {
        assert_eq!(Watch::of(&[CheckSpec::new(CheckKind::ErrorRate)]), Watch::default());
        let alert = CheckSpec { alert: Some("BackendDown".into()), ..CheckSpec::new(CheckKind::AlertFires) };
        let breaker =
            CheckSpec { component: Some(Component::Inference), ..CheckSpec::new(CheckKind::Breaker) };
        let origin =
            CheckSpec { component: Some(Component::Frontend), ..CheckSpec::new(CheckKind::Amplification) };
        let watch = Watch::of(&[alert, breaker, origin, CheckSpec::new(CheckKind::StaysClosed)]);
        assert_eq!(watch.served, [Component::Frontend].into());
        assert_eq!(watch.alerts, ["BackendDown".to_owned()].into());
        assert_eq!(watch.breakers, [Component::Inference].into());
        assert!(watch.refusals);
    }
}
