//! What is known of each promise of the guide, from what stands in the stack and from reports of runs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::model::{Claim, Report, RunOutcome, Verdict};

/// What is known of a promise. The first that applies, from the worst.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "status")]
pub enum Standing {
    /// The newest judged run of an experiment that proves it did not pass.
    Failed { by: Vec<String> },
    /// A run passed, on these providers.
    Proven { providers: BTreeSet<String>, by: Vec<String> },
    /// Some of its parts are proven, and none failed.
    Partly { by: Vec<String>, open: Vec<String> },
    /// It is in the stack; no report that was read proves it.
    Built,
    /// These components, or its file, are not in the stack.
    NotBuilt { missing: Vec<String> },
}

/// What is in the stack: names of components and of the manifest files that are applied.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    pub components: BTreeSet<String>,
    pub files: BTreeSet<String>,
}

/// Judges every claim. Of each experiment and provider only the newest judged run counts: an old pass does not
/// outweigh a new failure, and a run that ended early or stayed inconclusive says nothing.
#[must_use]
pub fn standings(claims: &[Claim], inventory: &Inventory, reports: &[Report]) -> Vec<Standing> {
    let mut newest: BTreeMap<(&str, &str), (&str, Verdict, &[String])> = BTreeMap::new();
    for report in reports {
        let provider = report.cluster.split('/').next().unwrap_or_default();
        for experiment in &report.experiments {
            let judged =
                experiment.outcome == RunOutcome::Completed && experiment.verdict != Verdict::Inconclusive;
            let found = (report.started_at.as_str(), experiment.verdict, experiment.proves.as_slice());
            // Of several runs of one report the worst counts.
            let newer = newest
                .get(&(experiment.name.as_str(), provider))
                .is_none_or(|(at, verdict, _)| (*at, *verdict) <= (found.0, found.1));
            if judged && newer {
                newest.insert((&experiment.name, provider), found);
            }
        }
    }
    claims.iter().map(|claim| standing(claim, inventory, &newest)).collect()
}

fn standing(
    claim: &Claim,
    inventory: &Inventory,
    newest: &BTreeMap<(&str, &str), (&str, Verdict, &[String])>,
) -> Standing {
    let mut missing: Vec<String> =
        claim.components.iter().filter(|name| !inventory.components.contains(*name)).cloned().collect();
    if !inventory.files.contains(&claim.file) {
        missing.push(claim.file.clone());
    }
    if !missing.is_empty() {
        return Standing::NotBuilt { missing };
    }
    let prefix = format!("{}/", claim.id);
    let is_about = |proved: &String| *proved == claim.id || proved.starts_with(&prefix);
    let about = newest.iter().filter(|(_, (_, _, proves))| proves.iter().any(is_about));
    let (passed, failed): (Vec<_>, Vec<_>) =
        about.partition(|(_, (_, verdict, _))| *verdict == Verdict::Pass);
    if !failed.is_empty() {
        let by = failed.iter().map(|((experiment, provider), _)| format!("{experiment} on {provider}"));
        return Standing::Failed { by: by.collect() };
    }
    if passed.is_empty() {
        return Standing::Built;
    }
    let proves =
        |wanted: &str| passed.iter().any(|(_, (_, _, proves))| proves.iter().any(|one| one == wanted));
    let open: Vec<String> =
        claim.parts.iter().filter(|part| !proves(&format!("{prefix}{part}"))).cloned().collect();
    // An experiment that names the whole promise has proven the whole of it.
    let whole = proves(&claim.id);
    if !whole && (!open.is_empty() || claim.parts.is_empty()) {
        let by = passed.iter().map(|((experiment, _), _)| (*experiment).to_owned()).collect();
        return Standing::Partly { by, open };
    }
    Standing::Proven {
        providers: passed.iter().map(|((_, provider), _)| (*provider).to_owned()).collect(),
        by: passed.iter().map(|((experiment, _), _)| (*experiment).to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(id: &str, components: &[&str]) -> Claim {
        let components = components.iter().map(|name| (*name).to_owned()).collect();
        Claim {
            id: id.to_owned(),
            promise: String::new(),
            file: "a.yaml".to_owned(),
            components,
            parts: Vec::new(),
            reason: None,
        }
    }

    fn inventory() -> Inventory {
        Inventory { components: ["redis".to_owned()].into(), files: ["a.yaml".to_owned()].into() }
    }

    fn report(provider: &str, at: &str, verdict: Verdict) -> Report {
        let mut report = crate::report::sample::report();
        report.cluster = format!("{provider}/x");
        at.clone_into(&mut report.started_at);
        report.experiments.truncate(1);
        report.experiments[0].proves = vec!["R1".to_owned()];
        report.experiments[0].verdict = verdict;
        report.experiments[0].outcome = RunOutcome::Completed;
        report
    }

    fn of(reports: &[Report]) -> Standing {
        standings(&[claim("R1", &["redis"])], &inventory(), reports).remove(0)
    }

    #[test]
    fn a_pass_proves_and_nothing_else_does() {
        assert_eq!(of(&[]), Standing::Built);
        assert_eq!(of(&[report("local", "1", Verdict::Inconclusive)]), Standing::Built);
        let mut stopped = report("local", "1", Verdict::Pass);
        stopped.experiments[0].outcome = RunOutcome::Stopped("x".to_owned());
        assert_eq!(of(&[stopped]), Standing::Built);
        let proven = of(&[report("local", "1", Verdict::Pass), report("kind", "1", Verdict::Pass)]);
        assert!(matches!(proven, Standing::Proven { providers, .. } if providers.len() == 2));
    }

    #[test]
    fn a_part_proves_a_part() {
        let mut claim = claim("R1", &["redis"]);
        claim.parts = vec!["spec".to_owned(), "scales".to_owned()];
        let part = |part: &str| {
            let mut report = report("local", "1", Verdict::Pass);
            report.experiments[0].name = part.to_owned();
            report.experiments[0].proves = vec![format!("R1/{part}")];
            report
        };
        let judge =
            |reports: &[Report]| standings(std::slice::from_ref(&claim), &inventory(), reports).remove(0);
        assert!(matches!(judge(&[part("spec")]), Standing::Partly { open, .. } if open == ["scales"]));
        assert!(matches!(judge(&[part("spec"), part("scales")]), Standing::Proven { .. }));
        assert!(matches!(judge(&[report("local", "1", Verdict::Pass)]), Standing::Proven { .. }));
        let mut broken = part("scales");
        broken.experiments[0].verdict = Verdict::Fail;
        assert!(matches!(judge(&[part("spec"), broken]), Standing::Failed { .. }));
    }

    #[test]
    fn the_newest_run_counts_whatever_the_order() {
        let (old, new) = (report("local", "1", Verdict::Pass), report("local", "2", Verdict::Fail));
        for reports in [[old.clone(), new.clone()], [new, old]] {
            assert_eq!(
                of(&reports),
                Standing::Failed { by: vec!["postgres-primary-loss on local".to_owned()] }
            );
        }
    }

    #[test]
    fn of_several_runs_the_worst_counts() {
        let mut several = report("local", "1", Verdict::Pass);
        for verdict in [Verdict::Fail, Verdict::Pass] {
            let mut another = several.experiments[0].clone();
            another.verdict = verdict;
            several.experiments.push(another);
        }
        assert!(matches!(of(&[several]), Standing::Failed { .. }));
    }

    #[test]
    fn what_is_not_in_the_stack_is_not_built_whatever_was_proven() {
        let found =
            standings(&[claim("R1", &["kong"])], &inventory(), &[report("local", "1", Verdict::Pass)])
                .remove(0);
        assert_eq!(found, Standing::NotBuilt { missing: vec!["kong".to_owned()] });
    }
}
