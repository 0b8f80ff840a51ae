//! The `local` provider: a cluster comes up, works, loses a node, loses everything, and leaves nothing.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Cluster, text, until};
use crate::machine::{difference, snapshot};

/// A web server on each node and a Service before them. Its image is the sandbox's, the only one that a bare cluster
/// has; its program is the machine's perl, which Debian never lacks, in a volume of the node.
const WEB: &str = include_str!("web.json");

#[test]
#[ignore = "needs root and minutes: `make test` runs it"]
fn a_cluster_from_nothing_to_nothing() {
    let cluster = Cluster { name: "e2e-local" };
    cluster.mettle(&["down"]);
    let before = snapshot(cluster.name);

    let started = Instant::now();
    cluster.mettle(&["up", "--only", "cluster"]);
    eprintln!("up: {:.1} s", started.elapsed().as_secs_f64());
    assert_eq!(cluster.ready_nodes(), ["n1", "n2", "n3"]);
    assert_private(&cluster);

    let addresses = web(&cluster);
    reachable(&cluster, &addresses);

    node_loss(&cluster);
    idempotent(&cluster);

    cluster.kill_everything();
    cluster.mettle(&["down"]);
    assert_eq!(difference(&before, &snapshot(cluster.name)), Vec::<String>::new());
    let status = cluster.try_mettle(&["status"]);
    assert_eq!(status.status.code(), Some(4), "{}", text(&status.stderr));
}

#[test]
#[ignore = "needs root and minutes: `make test` runs it"]
fn a_cluster_that_lost_everything_comes_up_again() {
    let cluster = Cluster { name: "e2e-again" };
    cluster.mettle(&["down"]);
    let before = snapshot(cluster.name);
    cluster.mettle(&["up", "--only", "cluster"]);
    cluster.kubectl(&["create", "configmap", "kept", "--from-literal=a=b"]);
    cluster.kill_everything();
    until("the processes to be gone", Duration::from_secs(10), || cluster.ready_nodes().is_empty());
    cluster.mettle(&["up", "--only", "cluster"]);
    assert_eq!(cluster.ready_nodes(), ["n1", "n2", "n3"]);
    assert_eq!(cluster.kubectl(&["get", "configmap", "kept", "-o", "jsonpath={.data.a}"]), "b");
    cluster.mettle(&["down"]);
    assert_eq!(difference(&before, &snapshot(cluster.name)), Vec::<String>::new());
}

fn assert_private(cluster: &Cluster) {
    use std::os::unix::fs::PermissionsExt;
    let mode =
        |path: &str| cluster.root().join(path).metadata().expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode("kubeconfig"), 0o600);
    assert_eq!(mode("pki"), 0o700);
    // Nobody is let in without a certificate.
    let anonymous = Command::new("curl")
        .args(["-sk", "-o", "/dev/null", "-w", "%{http_code}"])
        .arg(api(cluster))
        .output();
    assert_eq!(text(&anonymous.expect("curl").stdout), "401");
}

fn api(cluster: &Cluster) -> String {
    let server = "jsonpath={.clusters[0].cluster.server}";
    format!("{}/api", cluster.kubectl(&["config", "view", "-o", server]))
}

/// Starts the web servers; answers with the addresses of their pods.
fn web(cluster: &Cluster) -> BTreeSet<String> {
    let file = cluster.root().join("web.json");
    let pause = cluster.kubectl(&["get", "nodes", "n1", "-o", "jsonpath={.status.images[*].names[*]}"]);
    let image =
        pause.split_whitespace().find(|name| name.contains("/pause:")).expect("the sandbox image").to_owned();
    std::fs::write(&file, WEB.replace("IMAGE", &image)).expect("a file");
    cluster.kubectl(&["apply", "-f", &file.display().to_string()]);
    cluster.kubectl(&["rollout", "status", "daemonset/web", "--timeout=90s"]);
    let pods = cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.podIP}"]);
    let addresses: BTreeSet<String> = pods.split_whitespace().map(str::to_owned).collect();
    assert_eq!(addresses.len(), 3, "{pods}");
    addresses
}

/// From this machine and from a pod: every pod, the Service by address and by name.
fn reachable(cluster: &Cluster, addresses: &BTreeSet<String>) {
    let service = cluster.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    for address in addresses {
        assert!(answers(&format!("http://{address}:8080/")), "{address} from this machine");
    }
    let url = format!("http://{service}/");
    let took = until("the Service from this machine", Duration::from_secs(60), || answers(&url));
    eprintln!("Service from this machine: {:.1} s after the pods", took.as_secs_f64());
    let pod = cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}"]);
    let urls = addresses.iter().map(|address| format!("http://{address}:8080/"));
    for url in urls.chain([url, "http://web/".to_owned(), "http://web.default.svc.cluster.local/".to_owned()])
    {
        let said =
            cluster.kubectl(&["exec", &pod, "--", "/usr/bin/perl", "-MIO::Socket::INET", "-e", GET, &url]);
        assert!(said.contains("200"), "{url} from a pod: {said}");
    }
    let missing = cluster.try_kubectl(&[
        "exec",
        &pod,
        "--",
        "/usr/bin/perl",
        "-MIO::Socket::INET",
        "-e",
        GET,
        "http://web.nowhere/",
    ]);
    assert!(missing.is_err(), "a name that does not exist");
    until("metrics of the nodes", Duration::from_secs(90), || {
        cluster.try_kubectl(&["top", "nodes", "--no-headers"]).is_ok_and(|list| list.lines().count() == 3)
    });
}

const GET: &str = r#"my ($h, $p) = $ARGV[0] =~ m{//([^:/]+):?(\d*)};
my $c = IO::Socket::INET->new(PeerAddr => $h, PeerPort => $p || 80, Timeout => 5) or die "$h: $@\n";
print $c "GET / HTTP/1.0\r\n\r\n"; print <$c>"#;

fn answers(url: &str) -> bool {
    let args = ["-s", "-o", "/dev/null", "--max-time", "3", "--fail", url];
    Command::new("curl").args(args).status().is_ok_and(|status| status.success())
}

fn node_loss(cluster: &Cluster) {
    cluster.mettle(&["node", "kill", "n2"]);
    let took =
        until("n2 to be called not ready", Duration::from_secs(40), || cluster.ready_nodes() == ["n1", "n3"]);
    eprintln!("node killed: not ready after {:.1} s", took.as_secs_f64());
    // A killed node stays killed, and is silent.
    cluster.mettle(&["node", "kill", "n2"]);
    assert!(cluster.mettle(&["node", "list"]).contains("n2  off"));
    cluster.mettle(&["node", "start", "n2"]);
    cluster.mettle(&["node", "start", "n2"]);
    let took = until("n2 to be ready again", Duration::from_secs(60), || cluster.ready_nodes().len() == 3);
    eprintln!("node started: ready after {:.1} s", took.as_secs_f64());
    let list = ["get", "daemonset", "web", "-o", "jsonpath={.status.numberReady}"];
    until("its pod to be back", Duration::from_secs(60), || cluster.kubectl(&list) == "3");
    let unknown = cluster.try_mettle(&["node", "kill", "n9"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", text(&unknown.stderr));
}

/// A second `up` changes nothing that runs.
fn idempotent(cluster: &Cluster) {
    let pids = || -> Vec<String> {
        let status: serde_json::Value =
            serde_json::from_str(&cluster.mettle(&["status", "--json"])).expect("JSON");
        let members = status["members"].as_array().cloned().unwrap_or_default();
        members.iter().map(|member| member["processes"].to_string()).flat_map(|text| pids_in(&text)).collect()
    };
    let first = pids();
    assert!(first.len() >= 16, "{first:?}");
    cluster.mettle(&["up", "--only", "cluster"]);
    assert_eq!(pids(), first);
}

fn pids_in(processes: &str) -> Vec<String> {
    let list: serde_json::Value = serde_json::from_str(processes).unwrap_or_default();
    let list = list.as_array().cloned().unwrap_or_default();
    list.iter().map(|process| format!("{}={}", process["name"], process["pid"])).collect()
}
