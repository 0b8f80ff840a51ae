//! Whether we may do what we are going to do, as the API server says, before anything is done.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

const AT_ONCE: usize = 8;
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// One verb on one resource; on the whole cluster without a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    pub namespace: Option<String>,
    pub group: String,
    /// `pods/exec`: with its subresource.
    pub resource: String,
    pub verb: String,
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(f, "{} {}{dot}{}", self.verb, self.resource, self.group)?;
        match &self.namespace {
            Some(namespace) => write!(f, " in {namespace}"),
            None => write!(f, " in the whole cluster"),
        }
    }
}

/// Those to which the server says no. Where it says nothing, the request itself will tell.
pub async fn lacking(client: &Client, wanted: Vec<Wanted>) -> Vec<Wanted> {
    let asked = stream::iter(wanted).map(|one| async move { (may(client, &one).await == Some(false), one) });
    let answers: Vec<(bool, Wanted)> = asked.buffered(AT_ONCE).collect().await;
    answers.into_iter().filter_map(|(denied, one)| denied.then_some(one)).collect()
}

async fn may(client: &Client, wanted: &Wanted) -> Option<bool> {
    let (resource, subresource) = match wanted.resource.split_once('/') {
        Some((resource, sub)) => (resource.to_owned(), Some(sub.to_owned())),
        None => (wanted.resource.clone(), None),
    };
    let attributes = ResourceAttributes {
        namespace: wanted.namespace.clone(),
        group: Some(wanted.group.clone()),
        resource: Some(resource),
        subresource,
        verb: Some(wanted.verb.clone()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let reviews = Api::<SelfSubjectAccessReview>::all(client.clone());
    let answer = tokio::time::timeout(ANSWER_DEADLINE, reviews.create(&PostParams::default(), &review)).await;
    Some(answer.ok()?.ok()?.status?.allowed)
}

#[cfg(test)]
mod tests {
    use super::Wanted;

    #[test]
    fn a_right_reads_as_one_says_it() {
        let wanted = |namespace: Option<&str>, group: &str, resource: &str| Wanted {
            namespace: namespace.map(str::to_owned),
            group: group.to_owned(),
            resource: resource.to_owned(),
            verb: "create".to_owned(),
        };
        assert_eq!(wanted(Some("a"), "", "pods/eviction").to_string(), "create pods/eviction in a");
        assert_eq!(wanted(None, "apps", "x").to_string(), "create x.apps in the whole cluster");
    }
}
