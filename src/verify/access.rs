//! What each service account may do, as the API server itself says, against the table in `stack/access.yaml`: nothing
//! more and nothing less.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt};
use k8s_openapi::api::authorization::v1::{ResourceRule, SelfSubjectRulesReview};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::{Row, Section, Site, all_of, unseen};
use crate::model::{Finding, Problem, read_yaml};

/// Where the stack has accounts, and one more where it must not be able to do anything.
const NAMESPACES: [&str; 3] = ["ai-platform", "istio-system", "kube-system"];
const ACCOUNTS_MAX: u32 = 200;
const AT_ONCE: usize = 8;

/// `namespace/account` → namespace in which it acts → what it may, a rule a line.
type Table = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

pub async fn row(site: &Site) -> Row {
    let check = "every service account may do what its table says, and no more";
    let none: Problem<Table> = |_| None;
    let finding = match (read_yaml(&site.access, none), granted(&site.client).await) {
        (Ok(wanted), Ok(granted)) => compare(check, &wanted, &granted),
        (Err(why), _) => unseen(check, why),
        (_, Err(why)) => unseen(check, why),
    };
    Row::new(Section::Access, &["X2"], finding)
}

fn compare(check: &str, wanted: &Table, granted: &Table) -> Finding {
    let mut wrong = Vec::new();
    let none = BTreeMap::new();
    let nothing = BTreeSet::new();
    for account in granted.keys().chain(wanted.keys()).collect::<BTreeSet<_>>() {
        let Some(granted) = granted.get(account) else {
            wrong.push(format!("{account} is in the table and not in the cluster"));
            continue;
        };
        let wanted = wanted.get(account).unwrap_or(&none);
        for namespace in granted.keys().chain(wanted.keys()).collect::<BTreeSet<_>>() {
            let has = granted.get(namespace).unwrap_or(&nothing);
            let should = wanted.get(namespace).unwrap_or(&nothing);
            wrong.extend(has.difference(should).map(|rule| format!("{account} may, in {namespace}: {rule}")));
            wrong.extend(
                should.difference(has).map(|rule| format!("{account} may not, in {namespace}: {rule}")),
            );
        }
    }
    all_of(check, granted.len(), "service accounts", wrong)
}

/// Every account of the stack's namespaces, asked for by impersonation. Accounts that may do nothing have an empty map.
async fn granted(client: &Client) -> Result<Table, kube::Error> {
    let mut accounts = Vec::new();
    for home in &NAMESPACES[..2] {
        let api = Api::<ServiceAccount>::namespaced(client.clone(), home);
        let list = api.list(&ListParams::default().limit(ACCOUNTS_MAX)).await?;
        accounts.extend(list.items.iter().map(|account| ((*home).to_owned(), account.name_any())));
    }
    let questions: Vec<(String, String, &str)> = accounts
        .iter()
        .flat_map(|(home, name)| NAMESPACES.map(|namespace| (home.clone(), name.clone(), namespace)))
        .collect();
    let answers: Vec<_> = stream::iter(questions)
        .map(|(home, name, namespace)| async move {
            let rules = rules(client, &home, &name, namespace).await?;
            Ok::<_, kube::Error>((format!("{home}/{name}"), namespace, rules))
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut table: Table =
        accounts.iter().map(|(home, name)| (format!("{home}/{name}"), BTreeMap::new())).collect();
    for answer in answers {
        let (account, namespace, rules) = answer?;
        if !rules.is_empty() {
            table.entry(account).or_default().insert(namespace.to_owned(), rules);
        }
    }
    Ok(table)
}

async fn rules(
    client: &Client,
    home: &str,
    name: &str,
    namespace: &str,
) -> Result<BTreeSet<String>, kube::Error> {
    let body = serde_json::json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": { "namespace": namespace } });
    let request = hyper::Request::post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews")
        .header("content-type", "application/json")
        .header("impersonate-user", format!("system:serviceaccount:{home}:{name}"))
        .header("impersonate-group", "system:serviceaccounts")
        .header("impersonate-group", format!("system:serviceaccounts:{home}"))
        .header("impersonate-group", "system:authenticated")
        .body(body.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    let review: SelfSubjectRulesReview = client.request(request).await?;
    let status = review.status.unwrap_or_default();
    Ok(status.resource_rules.iter().filter(|rule| !everybodys(rule)).map(line).collect())
}

/// Asking about oneself, which every authenticated user may.
fn everybodys(rule: &ResourceRule) -> bool {
    let groups = rule.api_groups.iter().flatten();
    rule.verbs == ["create"]
        && groups.clone().count() > 0
        && groups.clone().all(|group| group == "authorization.k8s.io" || group == "authentication.k8s.io")
        && rule.resources.iter().flatten().all(|resource| resource.starts_with("selfsubject"))
}

/// `get,list services,endpoints.discovery.k8s.io [one-name]`, each part sorted.
fn line(rule: &ResourceRule) -> String {
    let sorted = |list: &Option<Vec<String>>| {
        let mut list = list.clone().unwrap_or_default();
        list.sort();
        list
    };
    let mut verbs = rule.verbs.clone();
    verbs.sort();
    let mut resources: Vec<String> = Vec::new();
    for group in sorted(&rule.api_groups) {
        let of = |resource: &String| {
            if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") }
        };
        resources.extend(sorted(&rule.resources).iter().map(of));
    }
    let names = sorted(&rule.resource_names);
    let names = if names.is_empty() { String::new() } else { format!(" [{}]", names.join(",")) };
    format!("{} {}{names}", verbs.join(","), resources.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict::{Fail, Inconclusive, Pass};

    fn table(rules: &[&str]) -> Table {
        let rules: BTreeSet<String> = rules.iter().map(|rule| (*rule).to_owned()).collect();
        [("ns/a".to_owned(), [("ns".to_owned(), rules)].into())].into()
    }

    #[test]
    fn more_less_and_unknown_accounts_fail() {
        let wanted = table(&["get pods"]);
        assert_eq!(compare("x", &wanted, &table(&["get pods"])).verdict, Pass);
        assert_eq!(compare("x", &wanted, &table(&["get pods", "get secrets"])).verdict, Fail);
        assert_eq!(compare("x", &wanted, &table(&[])).verdict, Fail);
        assert_eq!(compare("x", &Table::new(), &table(&["get pods"])).verdict, Fail);
        assert_eq!(compare("x", &Table::new(), &Table::new()).verdict, Inconclusive);
        let two = Table::from([("ns/b".to_owned(), BTreeMap::new())]);
        assert_eq!(compare("x", &wanted, &two).verdict, Fail);
    }

    #[test]
    fn a_rule_is_one_line() {
        let rule = ResourceRule {
            verbs: vec!["list".into(), "get".into()],
            api_groups: Some(vec!["apps".into(), String::new()]),
            resources: Some(vec!["pods".into()]),
            resource_names: Some(vec!["one".into()]),
        };
        assert_eq!(line(&rule), "get,list pods,pods.apps [one]");
        let own = ResourceRule {
            verbs: vec!["create".into()],
            api_groups: Some(vec!["authorization.k8s.io".into()]),
            resources: Some(vec!["selfsubjectaccessreviews".into()]),
            resource_names: None,
        };
        assert!(everybodys(&own) && !everybodys(&rule));
    }
}
