//! Sabotage: the stack is made weak on purpose, one weakness a file of this directory, and the right check has to fail for
//! the right reason. And the stack as it is has to pass, under the same experiments, before and after.
//!
//! `make sabotage` runs all of it on a cluster of its own. `METTLE_SABOTAGE=a,b` picks some; `METTLE_SABOTAGE_CLUSTER=NAME` takes a
//! cluster that stands and leaves it standing; `METTLE_SABOTAGE_CLEAN=seen` leaves the experiments on the unharmed stack out.

#[path = "../e2e/harness.rs"]
#[allow(dead_code)]
mod harness;

mod live;
mod sabotage;
mod steps;

use std::collections::BTreeSet;
use std::path::Path;

use mettle::model::Experiment;

use sabotage::By;

/// A list that may grow, and never shrink.
const SABOTAGES_MIN: usize = 43;

#[test]
fn every_sabotage_names_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let claims = std::fs::read_to_string(root.join("stack/claims.yaml")).expect("the claims");
    let known: BTreeSet<&str> = claims.lines().filter_map(|line| line.strip_prefix("- id: ")).collect();
    let all = sabotage::all();
    assert!(all.len() >= SABOTAGES_MIN, "{} of {SABOTAGES_MIN}", all.len());
    for one in &all {
        for claim in &one.claims {
            assert!(known.contains(claim.as_str()), "{}: there is no claim {claim}", one.sabotage);
        }
        let Some(path) = one.seen.file.as_ref().filter(|_| one.seen.by == By::Run) else { continue };
        let experiment =
            Experiment::read(&root.join(path)).unwrap_or_else(|why| panic!("{}: {why}", one.sabotage));
        let kind = one.seen.check.split('(').next().unwrap_or_default();
        let asked = experiment.expect.iter().any(|spec| spec.check.as_str() == kind);
        assert!(asked, "{}: {} asks for no {kind}", one.sabotage, path.display());
    }
}

#[test]
#[ignore = "needs root and most of an hour: `make sabotage` runs it"]
fn the_right_check_fails_for_the_right_reason() {
    live::all();
}
