//! What must be refused, tried from inside the cluster by short-lived pods of our own. A stranger, whom no policy names,
//! tries every address; for each there is a friend, by whose label a policy lets it in, so that a refusal is the policy's
//! and not a dead server's. The pods are never ready (no Service sends them anything) and are taken away.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, LogParams, PostParams};
use serde_json::json;

use super::{Row, Section, Seen, Site, unseen};
use crate::cluster::{ClusterError, poll_until};
use crate::model::{Finding, Verdict};

const DEADLINE: Duration = Duration::from_secs(60);
/// An image of the stack's with Python in it, which is on every node already.
const IMAGE_OF: &str = "ai-platform-redis";

/// Connects, says what is asked for, prints a line an address: host, port, what came of it. Debian's smallest Python
/// has no JSON.
const SCRIPT: &str = r#"
import socket, sys
for address in sys.argv[1:]:
    host, port, path = address.split("|")
    word = "open"
    try:
        s = socket.create_connection((host, int(port)), timeout=3)
        if path:
            s.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            s.settimeout(3)
            first = s.recv(64)
            word = first.split(b"\r\n")[0].decode("latin-1") if first else "closed"
        s.close()
    except OSError as e:
        word = "refused: " + type(e).__name__
    print(host, port, word, sep="|", flush=True)
"#;

/// Host, port, and a path for a plain HTTP request.
type Address = (&'static str, u16, &'static str);

/// By the name whom a policy lets in: the addresses.
const FRIENDS: [(&str, &[Address]); 5] = [
    ("pgbouncer", &[("ai-platform-postgres", 5432, "")]),
    ("backend", &[("ai-platform-pgbouncer", 6432, ""), ("ai-platform-redis", 6379, "")]),
    (
        "inference",
        &[("ai-platform-auth", 80, ""), ("ai-platform-kafka", 9092, ""), ("ai-platform-rabbitmq", 5672, "")],
    ),
    ("kafka", &[("ai-platform-zookeeper", 2181, "")]),
    ("gateway", &[("ai-platform-backend", 80, "")]),
];

/// Plain text, by one whom the policies let in: to a service outside the mesh, and to two that are STRICT.
const SCRAPED: [Address; 3] = [
    ("ai-platform-backend", 80, "/metrics"),
    ("ai-platform-inference", 80, "/metrics"),
    ("ai-platform-decision", 80, "/metrics"),
];

pub async fn rows(site: &Site, seen: &Seen) -> Vec<Row> {
    let (policy, strict) =
        ("only whom a policy names gets through", "plain text to a STRICT service is refused");
    let image = seen.named("StatefulSet", IMAGE_OF);
    let image = image.and_then(|set| set["spec"]["template"]["spec"]["containers"][0]["image"].as_str());
    let Some(image) = image else {
        let why = format!("{IMAGE_OF}, whose image the probing pods use, is not there");
        return vec![
            Row::new(Section::Refusals, &["X1"], unseen(policy, &why)),
            Row::new(Section::Refusals, &["I3"], unseen(strict, why)),
        ];
    };
    let everything: Vec<Address> =
        FRIENDS.iter().flat_map(|(_, addresses)| addresses.iter().copied()).collect();
    let stranger = probe(site, image, "mettle-stranger", "mettle-stranger", &everything);
    let friends = FRIENDS.iter().map(|(label, addresses)| async move {
        probe(site, image, &format!("mettle-as-{label}"), label, addresses).await
    });
    // What may scrape has Prometheus' name.
    let scraper = probe(site, image, "mettle-as-prometheus", "prometheus", &SCRAPED);
    let (stranger, friends, scraper) = tokio::join!(stranger, futures::future::join_all(friends), scraper);
    let friends: Result<Vec<Words>, ClusterError> = friends.into_iter().collect();
    let friends = friends.map(|all| all.into_iter().flatten().collect::<Words>());
    let finding = match (stranger, friends) {
        (Ok(stranger), Ok(friends)) => refused(policy, &everything, &stranger, &friends),
        (Err(why), _) | (_, Err(why)) => unseen(policy, why),
    };
    let plain = scraper.map_or_else(|why| unseen(strict, why), |words| plain(strict, &words));
    vec![Row::new(Section::Refusals, &["X1"], finding), Row::new(Section::Refusals, &["I3"], plain)]
}

type Words = BTreeMap<(String, u16), String>;

fn refused(check: &str, addresses: &[Address], stranger: &Words, friends: &Words) -> Finding {
    let mut wrong = Vec::new();
    for (host, port, _) in addresses {
        let key = ((*host).to_owned(), *port);
        let (Some(stranger), Some(friend)) = (stranger.get(&key), friends.get(&key)) else {
            return unseen(check, format!("nothing was heard of {host}:{port}"));
        };
        // A name that is not found refuses everybody.
        if stranger == "refused: gaierror" || friend == "refused: gaierror" {
            return unseen(check, format!("{host} is no name"));
        }
        if !stranger.starts_with("refused") {
            wrong.push(format!("a stranger reaches {host}:{port}"));
        }
        if friend != "open" {
            wrong.push(format!("{host}:{port} is closed to whom a policy names: {friend}"));
        }
    }
    super::all_of(check, addresses.len(), "addresses, each open to a friend and closed to a stranger", wrong)
}

/// Proof that the asker is let in at all comes first: the service outside the mesh must answer it.
fn plain(check: &str, words: &Words) -> Finding {
    let word = |host: &str| words.get(&(host.to_owned(), 80)).map_or("silent", String::as_str);
    let [control, strict @ ..] = SCRAPED;
    if !word(control.0).contains(" 200") {
        return unseen(check, format!("{}, which takes plain text, answered {}", control.0, word(control.0)));
    }
    let answers: Vec<String> = strict.iter().map(|(host, ..)| format!("{host}: {}", word(host))).collect();
    let cut = |(host, ..): &Address| matches!(word(host), "closed" | "refused: ConnectionResetError");
    let silent = strict.iter().any(|(host, ..)| word(host) == "silent" || word(host).contains("gaierror"));
    let verdict = if strict.iter().all(cut) {
        Verdict::Pass
    } else if silent {
        Verdict::Inconclusive
    } else {
        Verdict::Fail
    };
    Finding::new(check, verdict, format!("{}; {} answered 200", answers.join(", "), control.0))
}

/// Runs the script in a pod of this name and label, and takes the pod away whatever comes of it.
async fn probe(
    site: &Site,
    image: &str,
    name: &str,
    label: &str,
    to: &[Address],
) -> Result<Words, ClusterError> {
    let pods = Api::<Pod>::namespaced(site.client.clone(), &site.namespace);
    remove(&pods, name).await?;
    let done = run(&pods, name, &pod(name, label, image, to)?).await;
    let removed = remove(&pods, name).await;
    let words = done?;
    removed?;
    Ok(words)
}

async fn run(pods: &Api<Pod>, name: &str, pod: &Pod) -> Result<Words, ClusterError> {
    pods.create(&PostParams::default(), pod)
        .await
        .map_err(ClusterError::api(format!("create pod {name}")))?;
    let what = format!("the end of pod {name}");
    let ended = poll_until(&what, DEADLINE, || async {
        let pod = pods.get(name).await.map_err(ClusterError::api(format!("read pod {name}")))?;
        let phase = pod.status.and_then(|status| status.phase).unwrap_or_default();
        Ok(if matches!(phase.as_str(), "Succeeded" | "Failed") { Ok(()) } else { Err(phase) })
    });
    ended.await?;
    let log = pods.logs(name, &LogParams::default()).await;
    let log = log.map_err(ClusterError::api(format!("read the log of pod {name}")))?;
    let words = parse(&log);
    if words.is_empty() {
        let last = log.lines().last().unwrap_or("nothing").to_owned();
        return Err(ClusterError::state(format!("read the log of pod {name}"), format!("it says {last}")));
    }
    Ok(words)
}

fn parse(log: &str) -> Words {
    let lines = log.lines().filter_map(|line| {
        let mut parts = line.splitn(3, '|');
        let (host, port) = (parts.next()?, parts.next()?.parse().ok()?);
        Some(((host.to_owned(), port), parts.next()?.to_owned()))
    });
    lines.collect()
}

async fn remove(pods: &Api<Pod>, name: &str) -> Result<(), ClusterError> {
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    match pods.delete(name, &at_once).await.map_err(ClusterError::api(format!("delete pod {name}"))) {
        Ok(_) => {}
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error),
    }
    let what = format!("the removal of pod {name}");
    poll_until(&what, DEADLINE, || async {
        let found = pods.get_opt(name).await.map_err(ClusterError::api(format!("read pod {name}")))?;
        Ok(if found.is_none() { Ok(()) } else { Err("it is still there".to_owned()) })
    })
    .await
}

fn pod(name: &str, label: &str, image: &str, to: &[Address]) -> Result<Pod, ClusterError> {
    let mut command = vec!["python3".to_owned(), "-c".to_owned(), SCRIPT.to_owned()];
    command.extend(to.iter().map(|(host, port, path)| format!("{host}|{port}|{path}")));
    let value = json!({
        "metadata": { "name": name, "labels": {
            "app.kubernetes.io/part-of": "mettle", "app.kubernetes.io/name": label,
            "sidecar.istio.io/inject": "false" } },
        "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": false, "activeDeadlineSeconds": 55,
            "enableServiceLinks": false,
            "securityContext": { "runAsNonRoot": true, "runAsUser": 10099, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "probe", "image": image, "imagePullPolicy": "IfNotPresent",
                "command": command,
                // Never ready: it bears the name of others, and must not be sent their requests.
                "readinessProbe": { "exec": { "command": ["false"] }, "initialDelaySeconds": 3600 },
                "resources": { "requests": { "cpu": "1m", "memory": "16Mi" }, "limits": { "memory": "64Mi" } },
                "securityContext": { "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] } },
            }],
        },
    });
    serde_json::from_value(value)
        .map_err(|error| ClusterError::state(format!("make pod {name}"), error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict::{Fail, Inconclusive, Pass};

    fn words(all: &[(&str, u16, &str)]) -> Words {
        all.iter().map(|(host, port, word)| (((*host).to_owned(), *port), (*word).to_owned())).collect()
    }

    #[test]
    fn a_stranger_who_gets_in_fails_and_so_does_a_door_that_is_closed_to_all() {
        let to = [("a", 1, "")];
        let timeout = "refused: TimeoutError";
        for (stranger, friend, verdict) in [
            (timeout, "open", Pass),
            ("open", "open", Fail),
            (timeout, timeout, Fail),
            ("refused: gaierror", "refused: gaierror", Inconclusive),
        ] {
            let (stranger, friend) = (words(&[("a", 1, stranger)]), words(&[("a", 1, friend)]));
            assert_eq!(refused("x", &to, &stranger, &friend).verdict, verdict, "{stranger:?}");
        }
        assert_eq!(refused("x", &to, &words(&[]), &words(&[])).verdict, Inconclusive);
        assert_eq!(refused("x", &[], &words(&[]), &words(&[])).verdict, Inconclusive);
    }

    #[test]
    fn strict_needs_a_control_that_answers() {
        let heard = |control: &'static str, strict: &'static str| {
            words(&[
                ("ai-platform-backend", 80, control),
                ("ai-platform-inference", 80, strict),
                ("ai-platform-decision", 80, "closed"),
            ])
        };
        assert_eq!(plain("x", &heard("HTTP/1.0 200 OK", "refused: ConnectionResetError")).verdict, Pass);
        assert_eq!(plain("x", &heard("HTTP/1.0 200 OK", "HTTP/1.0 200 OK")).verdict, Fail);
        assert_eq!(plain("x", &heard("refused: TimeoutError", "closed")).verdict, Inconclusive);
        assert_eq!(plain("x", &words(&[])).verdict, Inconclusive);
    }

    #[test]
    fn the_log_is_read_line_by_line() {
        assert_eq!(parse("a|1|open\nnoise\n"), words(&[("a", 1, "open")]));
    }
}
