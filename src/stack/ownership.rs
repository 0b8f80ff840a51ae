//! On a cluster that is not ours: what of it we may change, and what of it we made.
//!
//! What lies outside the stack's own namespaces, and those namespaces themselves, may be somebody else's. `up` marks what
//! it makes, and refuses what was there before unless it is told to adopt it. `down` removes what bears the mark.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::discovery::ApiResource;
use kube::{Api, Client, ResourceExt};

use crate::cluster::{ClusterError, poll_until};

/// On what did not exist before we made it.
pub const MADE_LABEL: &str = "mettle.dev/made";
const MADE_BY: &str = "mettle";
/// The owner's consent, see `fault::guard`.
const CONSENT: (&str, &str) = ("mettle.dev/chaos", "allowed");
const GONE_DEADLINE: Duration = Duration::from_secs(180);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// It is not there: it will be ours.
    Make,
    /// We made it.
    Ours,
    /// Its owner lets us in, and it stays theirs.
    Consented,
    Foreign,
}

/// What may be done with an object, by the labels that it has in the cluster.
fn claim(kind: &str, live: Option<&BTreeMap<String, String>>) -> Claim {
    let Some(labels) = live else { return Claim::Make };
    let has = |key: &str, value: &str| labels.get(key).is_some_and(|found| found == value);
    if has(MADE_LABEL, MADE_BY) {
        Claim::Ours
    } else if kind == "Namespace" && has(CONSENT.0, CONSENT.1) {
        Claim::Consented
    } else {
        Claim::Foreign
    }
}

/// Namespaces, what belongs to no namespace, and what lies in a namespace that the stack does not bring along.
fn is_shared(object: &DynamicObject, own: &BTreeSet<String>) -> bool {
    object.namespace().is_none_or(|namespace| !own.contains(&namespace))
}

fn own_namespaces(objects: &[DynamicObject]) -> BTreeSet<String> {
    objects.iter().filter(|object| kind(object) == "Namespace").map(ResourceExt::name_any).collect()
}

fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}

fn named(object: &DynamicObject) -> String {
    match object.namespace() {
        Some(namespace) => format!("{}/{} in {namespace}", kind(object), object.name_any()),
        None => format!("{}/{}", kind(object), object.name_any()),
    }
}

fn api(client: &Client, object: &DynamicObject) -> Result<Api<DynamicObject>, ClusterError> {
    let types = object.types.clone().unwrap_or_default();
    let gvk = GroupVersionKind::try_from(&types)
        .map_err(|error| ClusterError::state(format!("read {}", named(object)), error.to_string()))?;
    let resource = ApiResource::from_gvk(&gvk);
    Ok(match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    })
}

async fn live(client: &Client, object: &DynamicObject) -> Result<Option<DynamicObject>, ClusterError> {
    let found = api(client, object)?.get_opt(&object.name_any()).await;
    found.map_err(ClusterError::api(format!("read {}", named(object))))
}

/// Marks what we are about to make; answers with what is somebody else's.
///
/// # Errors
/// When the API does not answer.
pub async fn mark(client: &Client, objects: &mut [DynamicObject]) -> Result<Vec<String>, ClusterError> {
    let own = own_namespaces(objects);
    let mut foreign = Vec::new();
    for object in objects.iter_mut().filter(|object| is_shared(object, &own)) {
        let there = live(client, object).await?;
        match claim(kind(object), there.as_ref().map(ResourceExt::labels)) {
            Claim::Make | Claim::Ours => {
                object.labels_mut().insert(MADE_LABEL.to_owned(), MADE_BY.to_owned());
            }
            Claim::Consented => {}
            Claim::Foreign => {
                // Who adopts a namespace may put a stack into it. To break things there is its owner's to allow.
                object.labels_mut().remove(CONSENT.0);
                foreign.push(named(object));
            }
        }
    }
    Ok(foreign)
}

/// What `down` would do.
#[derive(Debug, Default)]
pub struct Removal {
    remove: Vec<DynamicObject>,
    /// What was there before us, and what lies in such a namespace.
    pub kept: Vec<String>,
}

impl Removal {
    /// Names, in the order in which they go.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.remove.iter().map(named).collect()
    }

    /// Finds what of the rendered objects is there and ours. `inside`: also the stack's objects in namespaces that are
    /// not ours, as far as we applied them.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn plan(
        client: &Client,
        objects: &[DynamicObject],
        inside: bool,
    ) -> Result<Self, ClusterError> {
        let own = own_namespaces(objects);
        let mut removal = Self::default();
        let mut kept_namespaces = BTreeSet::new();
        for object in objects.iter().filter(|object| is_shared(object, &own)) {
            let Some(there) = live(client, object).await? else { continue };
            if claim(kind(object), Some(there.labels())) == Claim::Ours {
                removal.remove.push(with_types(there, object));
            } else {
                removal.kept.push(named(object));
                kept_namespaces.extend((kind(object) == "Namespace").then(|| object.name_any()));
            }
        }
        let theirs = |object: &&DynamicObject| {
            object.namespace().is_some_and(|namespace| kept_namespaces.contains(&namespace))
        };
        for object in objects.iter().filter(theirs).filter(|_| inside) {
            match live(client, object).await {
                Ok(Some(there)) if applied_by_us(&there) => removal.remove.push(with_types(there, object)),
                Ok(_) => {}
                // A kind whose definition is gone has no objects.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        removal.remove.sort_by_key(|object| order(kind(object)));
        Ok(removal)
    }

    /// Deletes, each pinned to the uid that was looked at, and waits until all are gone.
    ///
    /// # Errors
    /// When the API refuses, or something is still there after the deadline.
    pub async fn carry_out(&self, client: &Client) -> Result<(), ClusterError> {
        for group in self.remove.chunk_by(|a, b| order(kind(a)) == order(kind(b))) {
            for object in group {
                let parameters = DeleteParams {
                    preconditions: Some(Preconditions { uid: object.uid(), resource_version: None }),
                    propagation_policy: Some(PropagationPolicy::Background),
                    ..DeleteParams::default()
                };
                let deleted = api(client, object)?.delete(&object.name_any(), &parameters).await;
                match deleted.map_err(ClusterError::api(format!("delete {}", named(object)))) {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
            for object in group {
                self.await_gone(client, object).await?;
            }
        }
        Ok(())
    }

    async fn await_gone(&self, client: &Client, object: &DynamicObject) -> Result<(), ClusterError> {
        poll_until(&format!("{} to be gone", named(object)), GONE_DEADLINE, || async {
            let there = live(client, object).await?;
            Ok(match there.filter(|there| there.uid() == object.uid()) {
                None => Ok(()),
                Some(_) => Err("it is still there".to_owned()),
            })
        })
        .await
    }
}

fn with_types(mut live: DynamicObject, rendered: &DynamicObject) -> DynamicObject {
    live.types.clone_from(&rendered.types);
    live
}

/// Server-side apply remembers who applied.
fn applied_by_us(live: &DynamicObject) -> bool {
    live.managed_fields().iter().any(|entry| {
        entry.manager.as_deref() == Some(super::apply::MANAGER) && entry.operation.as_deref() == Some("Apply")
    })
}

/// An aggregated API whose server is gone holds up the end of every namespace; a webhook without its server holds up
/// pods. Definitions go last: with them goes every object of their kind.
fn order(kind: &str) -> u8 {
    match kind {
        "APIService" => 0,
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => 1,
        "Namespace" => 3,
        "CustomResourceDefinition" => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_an_object_is() {
        let labels = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let made = labels(MADE_LABEL, MADE_BY);
        let consent = labels(CONSENT.0, CONSENT.1);
        let other = labels("app.kubernetes.io/part-of", "ai-platform");
        for (what, kind, live, expected) in [
            ("not there", "Namespace", None, Claim::Make),
            ("ours", "Namespace", Some(&made), Claim::Ours),
            ("ours too", "ClusterRole", Some(&made), Claim::Ours),
            ("let in", "Namespace", Some(&consent), Claim::Consented),
            ("consent is for namespaces", "ClusterRole", Some(&consent), Claim::Foreign),
            ("a common label proves nothing", "Namespace", Some(&other), Claim::Foreign),
            ("somebody else's mark", "Namespace", Some(&labels(MADE_LABEL, "them")), Claim::Foreign),
            ("no label", "CustomResourceDefinition", Some(&BTreeMap::new()), Claim::Foreign),
        ] {
            assert_eq!(claim(kind, live), expected, "{what}");
        }
    }

    fn object(kind: &str, name: &str, namespace: Option<&str>) -> DynamicObject {
        let value = serde_json::json!({
            "apiVersion": "v1", "kind": kind, "metadata": { "name": name, "namespace": namespace },
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_may_be_somebody_elses() {
        let objects = [
            object("Namespace", "a", None),
            object("ConfigMap", "inside", Some("a")),
            object("RoleBinding", "reader", Some("kube-system")),
            object("ClusterRole", "r", None),
        ];
        let own = own_namespaces(&objects);
        let shared: Vec<String> = objects.iter().filter(|one| is_shared(one, &own)).map(named).collect();
        assert_eq!(shared, ["Namespace/a", "RoleBinding/reader in kube-system", "ClusterRole/r"]);
    }

    #[test]
    fn only_what_we_applied_is_ours_inside_a_namespace_of_others() {
        let by = |manager: &str, operation: &str| {
            let mut one = object("ConfigMap", "c", Some("a"));
            let entry = serde_json::json!([{ "manager": manager, "operation": operation }]);
            one.metadata.managed_fields = serde_json::from_value(entry).unwrap();
            applied_by_us(&one)
        };
        assert!(by("mettle", "Apply"));
        assert!(!by("helm", "Apply"));
        assert!(!by("mettle", "Update"));
        assert!(!applied_by_us(&object("ConfigMap", "c", None)));
    }

    #[test]
    fn definitions_go_last_and_aggregated_apis_first() {
        let mut kinds = ["CustomResourceDefinition", "Namespace", "ClusterRole", "APIService"];
        kinds.sort_by_key(|kind| order(kind));
        assert_eq!(kinds, ["APIService", "ClusterRole", "Namespace", "CustomResourceDefinition"]);
    }
}
