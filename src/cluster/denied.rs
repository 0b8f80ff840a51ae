//! Whether the API server still allows whom a binding names what its role allows, by its own word: an access review.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, ResourceAttributes, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::Value;

use super::object;
use crate::model::ObjectRef;

const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// A few of a role's rights are enough to see that they are gone.
const QUESTIONS_MAX: usize = 8;

/// A right that somebody has.
#[derive(Debug, Clone)]
pub struct Question(SubjectAccessReviewSpec);

/// What the binding allows now, as the server confirms it. Empty when that cannot be read: then nothing can be proven.
pub async fn allowed(client: &Client, binding: &ObjectRef) -> Vec<Question> {
    let mut allowed = Vec::new();
    for question in questions_of(client, binding).await.unwrap_or_default() {
        if may(client, &question).await == Some(true) {
            allowed.push(question);
        }
    }
    allowed
}

/// The first of them to which the server says no.
pub async fn first_denied(client: &Client, allowed: &[Question]) -> Option<String> {
    for question in allowed {
        if may(client, question).await == Some(false) {
            return Some(describe(&question.0));
        }
    }
    None
}

async fn questions_of(client: &Client, binding: &ObjectRef) -> Option<Vec<Question>> {
    let read = async {
        let bound = object::api(client, binding).get(&binding.name).await.ok()?.data;
        let (role, namespace) = (&bound["roleRef"], binding.namespace.as_deref()?);
        let kind = role["kind"].as_str()?;
        let home = (kind == "Role").then_some(namespace);
        let role = ObjectRef::new(&binding.api_version, kind, home, role["name"].as_str()?);
        let rules = object::api(client, &role).get(&role.name).await.ok()?.data;
        Some(questions(&bound["subjects"], &rules["rules"], namespace))
    };
    tokio::time::timeout(ANSWER_DEADLINE, read).await.ok()?
}

/// Every service account that is bound, with each thing that it may do to each resource.
fn questions(subjects: &Value, rules: &Value, namespace: &str) -> Vec<Question> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let words = |value: &Value| -> Vec<String> {
        list(value).iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let mut questions = Vec::new();
    for subject in list(subjects).iter().filter(|subject| subject["kind"] == "ServiceAccount") {
        let home = subject["namespace"].as_str().unwrap_or(namespace);
        let Some(name) = subject["name"].as_str() else { continue };
        let spec = SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{home}:{name}")),
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{home}"),
                "system:authenticated".to_owned(),
            ]),
            ..SubjectAccessReviewSpec::default()
        };
        for rule in list(rules) {
            let names = words(&rule["resourceNames"]);
            for (group, resource, verb) in triples(&rule, words) {
                let (resource, subresource) = match resource.split_once('/') {
                    Some((resource, sub)) => (resource.to_owned(), Some(sub.to_owned())),
                    None => (resource, None),
                };
                let attributes = ResourceAttributes {
                    namespace: Some(namespace.to_owned()),
                    group: Some(group),
                    resource: Some(resource),
                    subresource,
                    verb: Some(verb),
                    name: names.first().cloned(),
                    ..ResourceAttributes::default()
                };
                let spec = SubjectAccessReviewSpec { resource_attributes: Some(attributes), ..spec.clone() };
                questions.push(Question(spec));
            }
        }
    }
    questions.truncate(QUESTIONS_MAX);
    questions
}

fn triples(rule: &Value, words: impl Fn(&Value) -> Vec<String>) -> Vec<(String, String, String)> {
    let mut triples = Vec::new();
    for group in words(&rule["apiGroups"]) {
        for resource in words(&rule["resources"]) {
            triples.extend(
                words(&rule["verbs"]).into_iter().map(|verb| (group.clone(), resource.clone(), verb)),
            );
        }
    }
    triples
}

/// The server's word; `None` when it gives none.
async fn may(client: &Client, Question(spec): &Question) -> Option<bool> {
    let namespace = spec.resource_attributes.as_ref()?.namespace.clone()?;
    let mut review = LocalSubjectAccessReview { spec: spec.clone(), ..LocalSubjectAccessReview::default() };
    review.metadata.namespace = Some(namespace.clone());
    let reviews = Api::<LocalSubjectAccessReview>::namespaced(client.clone(), &namespace);
    let answer = tokio::time::timeout(ANSWER_DEADLINE, reviews.create(&PostParams::default(), &review)).await;
    Some(answer.ok()?.ok()?.status?.allowed)
}

fn describe(spec: &SubjectAccessReviewSpec) -> String {
    let user = spec.user.as_deref().unwrap_or_default();
    let attributes = spec.resource_attributes.clone().unwrap_or_default();
    let (verb, resource) = (attributes.verb.unwrap_or_default(), attributes.resource.unwrap_or_default());
    let sub = attributes.subresource.map(|sub| format!("/{sub}")).unwrap_or_default();
    format!("{user} may no longer {verb} {resource}{sub}, as the API server says")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_role_is_asked_right_by_right_for_its_service_accounts() {
        let subjects = json!([
            { "kind": "ServiceAccount", "name": "postgres" },
            { "kind": "User", "name": "somebody" },
        ]);
        let rules = json!([
            { "apiGroups": [""], "resources": ["pods", "pods/exec"], "verbs": ["get", "patch"] },
            { "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"], "verbs": ["get"] },
        ]);
        let said: Vec<String> =
            questions(&subjects, &rules, "a").iter().map(|one| describe(&one.0)).collect();
        assert_eq!(said.len(), 5);
        insta::assert_snapshot!(said[3], @"system:serviceaccount:a:postgres may no longer patch pods/exec, as the API server says");
        let named = questions(&subjects, &rules, "a")[4].0.resource_attributes.clone().unwrap();
        assert_eq!(named.name.as_deref(), Some("one"));
        assert!(
            questions(&json!([]), &rules, "a").is_empty()
                && questions(&subjects, &json!(null), "a").is_empty()
        );
    }
}
