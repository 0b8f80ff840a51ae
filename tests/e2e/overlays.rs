//! Every overlay before a real API server: all its objects are accepted, each of their fields is known, no pod would break the
//! restricted profile, and what is broken on purpose is refused.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Cluster, until};

const OVERLAYS: [&str; 3] = ["local", "kind", "full"];
/// What an object of another kind needs to be there: a dry run makes nothing.
const FIRST: [&str; 2] = ["CustomResourceDefinition", "Namespace"];

#[test]
#[ignore = "needs root and minutes: `make test` runs it"]
fn every_overlay_is_accepted_by_the_api() {
    let cluster = Cluster { name: "e2e-overlays" };
    cluster.mettle(&["down"]);
    cluster.mettle(&["up", "--only", "cluster"]);
    let files = tempfile::tempdir().expect("a directory");
    for overlay in OVERLAYS {
        let objects = render(&cluster, overlay);
        assert!(objects.len() > 150, "{overlay} renders to {} objects", objects.len());
        definitions(&cluster, files.path(), &objects);
        let accepted =
            dry_run(&cluster, files.path(), &objects).unwrap_or_else(|why| panic!("{overlay}: {why}"));
        assert_eq!(accepted, objects.len(), "{overlay}");
        eprintln!("{overlay}: {accepted} objects accepted");
        broken_ones_are_refused(&cluster, files.path(), overlay, &objects);
    }
    // A dry run leaves nothing behind.
    assert_eq!(
        cluster.kubectl(&[
            "get",
            "deployments,hpa",
            "-A",
            "-o",
            "name",
            "-l",
            "app.kubernetes.io/part-of=ai-platform"
        ]),
        ""
    );
    cluster.mettle(&["down"]);
}

fn render(cluster: &Cluster, overlay: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("stack/overlays").join(overlay);
    let text = cluster.kubectl(&["kustomize", &path.display().to_string()]);
    serde_saphyr::from_multiple(&text).expect("objects")
}

fn write(directory: &Path, name: &str, objects: &[Value]) -> String {
    let path = directory.join(name);
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    std::fs::write(&path, list.to_string()).expect("a file");
    path.display().to_string()
}

/// Kinds and namespaces, really: without them the rest is not even looked at.
fn definitions(cluster: &Cluster, directory: &Path, objects: &[Value]) {
    let first: Vec<Value> =
        objects.iter().filter(|object| FIRST.iter().any(|kind| object["kind"] == *kind)).cloned().collect();
    let file = write(directory, "first.json", &first);
    cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", &file]);
    for crd in first.iter().filter(|object| object["kind"] == FIRST[0]) {
        let name = format!("crd/{}", crd["metadata"]["name"].as_str().expect("a name"));
        cluster.kubectl(&["wait", "--for=condition=Established", &name, "--timeout=30s"]);
    }
    // Discovery follows the definitions.
    until("the kinds to be served", Duration::from_secs(30), || {
        cluster
            .try_kubectl(&["get", "virtualservices,peerauthentications,telemetries", "-n", "ai-platform"])
            .is_ok()
    });
}

/// How many objects the server would take; the error, or the warning about a pod that breaks the restricted profile.
fn dry_run(cluster: &Cluster, directory: &Path, objects: &[Value]) -> Result<usize, String> {
    let file = write(directory, "all.json", objects);
    let mut command = Command::new(cluster.root().join("bin/kubectl"));
    command.arg("--kubeconfig").arg(cluster.root().join("kubeconfig"));
    command.args([
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        &file,
    ]);
    let output = command.output().map_err(|error| error.to_string())?;
    let (said, complaints) = (crate::harness::text(&output.stdout), crate::harness::text(&output.stderr));
    if !output.status.success() || complaints.contains("would violate PodSecurity") {
        return Err(complaints);
    }
    Ok(said.lines().filter(|line| line.ends_with("(server dry run)")).count())
}

/// The dry run can fail: a number that contradicts another, a field that nobody knows, a kind's own rule.
fn broken_ones_are_refused(cluster: &Cluster, directory: &Path, overlay: &str, objects: &[Value]) {
    type Change = fn(&mut Value);
    let breaks: [(&str, &str, Change, &str); 4] = [
        (
            "HorizontalPodAutoscaler",
            "ai-platform-backend",
            |object| object["spec"]["maxReplicas"] = json!(1),
            "maxReplicas",
        ),
        (
            "Deployment",
            "ai-platform-backend",
            |object| object["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = json!("x"),
            "imagePolicy",
        ),
        (
            "Deployment",
            "ai-platform-backend",
            |object| object["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] = json!(false),
            "would violate PodSecurity",
        ),
        (
            "DestinationRule",
            "ai-platform-auth",
            |object| object["spec"]["trafficPolicy"]["outlierDetection"]["interval"] = json!("soon"),
            "interval",
        ),
    ];
    for (kind, name, change, word) in breaks {
        let wanted = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        let mut object = objects.iter().find(wanted).expect("the object").clone();
        change(&mut object);
        let refused = dry_run(cluster, directory, &[object]).expect_err("a refusal");
        assert!(refused.contains(word), "{overlay}: {kind} {name}: {refused}");
    }
}
