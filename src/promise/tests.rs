//! The promises against the real overlays, as kustomize renders them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::breaks::BREAKS;
use super::{PROMISES, Profile, judge};
use crate::model::Verdict;

/// Each overlay, and what it must keep.
const OVERLAYS: [(&str, Profile); 3] =
    [("local", Profile::Every), ("kind", Profile::Every), ("full", Profile::Full)];

/// kubectl as `METTLE_KUBECTL` names it, in PATH, or in mettle's cache. Without one these tests fail: they would
/// otherwise prove nothing and say nothing.
fn kubectl() -> PathBuf {
    if let Some(given) = std::env::var_os("METTLE_KUBECTL") {
        return given.into();
    }
    let found = |program: &Path| Command::new(program).args(["kustomize", "--help"]).output().is_ok();
    let in_path = PathBuf::from("kubectl");
    if found(&in_path) {
        return in_path;
    }
    let cache = PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache/mettle/bin");
    let versions = std::fs::read_dir(&cache).into_iter().flatten().flatten();
    let cached = versions.map(|version| version.path().join("kubectl")).find(|program| found(program));
    cached.expect(
        "kubectl renders the overlays: `mettle up --only cache` gets it, or name one in METTLE_KUBECTL",
    )
}

fn render(overlay: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("stack/overlays").join(overlay);
    let output = Command::new(kubectl()).arg("kustomize").arg(&path).output().expect("kubectl");
    assert!(output.status.success(), "{overlay}: {}", String::from_utf8_lossy(&output.stderr));
    serde_saphyr::from_multiple(&String::from_utf8(output.stdout).expect("text")).expect("objects")
}

fn full() -> &'static [Value] {
    static FULL: OnceLock<Vec<Value>> = OnceLock::new();
    FULL.get_or_init(|| render("full"))
}

#[test]
fn every_overlay_keeps_its_promises() {
    let mut wrong = Vec::new();
    for (overlay, profile) in OVERLAYS {
        let objects = render(overlay);
        let judged = judge(&objects, profile);
        assert!(judged.len() >= 25, "{overlay}: {}", judged.len());
        for one in judged.into_iter().filter(|one| one.finding.verdict != Verdict::Pass) {
            wrong
                .push(format!("{overlay}: {} {}: {:#?}", one.claim, one.finding.check, one.finding.evidence));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn nothing_at_all_proves_nothing() {
    for one in judge(&[], Profile::Full) {
        assert_eq!(one.finding.verdict, Verdict::Inconclusive, "{one:?}");
    }
}

#[test]
fn every_promise_sees_its_breaks() {
    let mut wrong = Vec::new();
    for one in BREAKS {
        let promise = PROMISES.iter().find(|promise| promise.name == one.promise);
        let promise = promise.unwrap_or_else(|| panic!("no promise is called {}", one.promise));
        let mut objects = full().to_vec();
        (one.change)(&mut objects);
        assert_ne!(objects, full(), "{}: {} changes nothing", one.promise, one.what);
        let finding = judge(&objects, Profile::Full)
            .into_iter()
            .find(|judged| judged.claim == promise.claim && judged.finding.check == promise.name)
            .expect("a finding")
            .finding;
        if finding.verdict != Verdict::Fail {
            wrong.push(format!("{}: {}: {:?}: {}", one.promise, one.what, finding.verdict, finding.reason));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_promise_has_a_break_and_a_claim() {
    let claims = Path::new(env!("CARGO_MANIFEST_DIR")).join("stack/claims.yaml");
    let claims = std::fs::read_to_string(claims).expect("the claims");
    for promise in PROMISES {
        assert!(BREAKS.iter().any(|one| one.promise == promise.name), "{} has no break", promise.name);
        assert!(claims.contains(&format!("- id: {}\n", promise.claim)), "{} is no claim", promise.claim);
        let same = PROMISES.iter().filter(|other| other.name == promise.name).count();
        assert_eq!(same, 1, "two promises are called {}", promise.name);
    }
}

/// The profile says which are judged, and the object that is gone is not taken for a broken promise.
#[test]
fn the_profile_chooses_and_what_is_gone_is_inconclusive() {
    let names = |profile| judge(full(), profile).into_iter().map(|one| one.finding.check).collect::<Vec<_>>();
    let (every, all) = (names(Profile::Every), names(Profile::Full));
    assert_eq!(all.len(), PROMISES.len());
    assert!(!every.contains(&"backend-autoscaling".to_owned()) && every.contains(&"probes".to_owned()));
    let gone: [(&str, &str, &str); 6] = [
        ("HorizontalPodAutoscaler", "ai-platform-backend", "backend-autoscaling"),
        ("ConfigMap", "ai-platform-redis", "redis-cluster"),
        ("StatefulSet", "ai-platform-kafka", "kafka-cluster"),
        ("ConfigMap", "ai-platform-pgbouncer", "connection-pool"),
        ("Namespace", "ai-platform", "namespace"),
        ("ConfigMap", "ai-platform-dashboards", "dashboards"),
    ];
    for (kind, name, promise) in gone {
        let mut objects = full().to_vec();
        let before = objects.len();
        objects.retain(|object| object["kind"] != kind || object["metadata"]["name"] != name);
        assert!(objects.len() < before, "{kind} {name}");
        let judged = judge(&objects, Profile::Full);
        let finding = &judged.iter().find(|one| one.finding.check == promise).expect("a finding").finding;
        assert_eq!(finding.verdict, Verdict::Inconclusive, "{promise}: {}", finding.reason);
    }
}
