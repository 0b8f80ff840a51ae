//! The backend's logs, scanned for errors.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use serde_json::Value;

use super::seen::{Seen, name};
use super::{Row, Section, Site, all_of, unseen};

const SERVICE: &str = "backend";
/// What happened in the last minutes; what went wrong while the stack started is not what it is now.
const SINCE_S: i64 = 300;
const LINES_MAX: i64 = 5000;

pub async fn rows(site: &Site, seen: &Seen) -> Vec<Row> {
    let check = "the backend logs no error";
    let pods = Api::<Pod>::namespaced(site.client.clone(), &site.namespace);
    let params = LogParams {
        container: Some(SERVICE.to_owned()),
        since_seconds: Some(SINCE_S),
        tail_lines: Some(LINES_MAX),
        ..LogParams::default()
    };
    let mut wrong = Vec::new();
    let of = |pod: &&Value| pod["metadata"]["labels"]["app.kubernetes.io/name"] == SERVICE;
    let backends: Vec<&Value> = seen.of("Pod").iter().filter(of).collect();
    for pod in &backends {
        match pods.logs(name(pod), &params).await {
            Ok(log) => wrong.extend(errors(&log).into_iter().map(|line| format!("{}: {line}", name(pod)))),
            Err(error) => return vec![Row::new(Section::Logs, &["D4"], unseen(check, first_line(&error)))],
        }
    }
    let noun = "backends, no line of level ERROR or a panic within 5 min";
    vec![Row::new(Section::Logs, &["D4"], all_of(check, backends.len(), noun, wrong))]
}

/// The API's own sentence, without the object that it stands in.
fn first_line(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    }
}

/// Lines of level ERROR, and those that are no JSON and speak of a panic.
fn errors(log: &str) -> Vec<String> {
    let bad = |line: &&str| match serde_json::from_str::<Value>(line) {
        Ok(entry) => entry["level"].as_str().is_some_and(|level| level.eq_ignore_ascii_case("error")),
        Err(_) => line.contains("panicked at"),
    };
    log.lines().filter(bad).take(20).map(|line| line.chars().take(300).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_panics_are_found_and_words_are_not() {
        for (log, found) in [
            ("", 0),
            (r#"{"level":"INFO","message":"no error here"}"#, 0),
            (r#"{"level":"ERROR","message":"x"}"#, 1),
            ("thread 'main' panicked at src/x.rs", 1),
            ("an error that is only text", 0),
        ] {
            assert_eq!(errors(log).len(), found, "{log}");
        }
    }
}
