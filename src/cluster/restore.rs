//! The data of a store: destroyed with their volumes, and made again by the stack's own restore Job.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use super::job::{self, State};
use super::read::{pod_info, set_info};
use super::{Applied, ClusterError, poll_until, run_job};
use crate::model::{ClaimRef, PodInfo, PodRef, Store, StoreRestore};

/// Less than the time that one change may take altogether.
const DESTROYED_DEADLINE: Duration = Duration::from_secs(50);
const JOB_DEADLINE: Duration = Duration::from_secs(900);
const READY_DEADLINE: Duration = Duration::from_secs(240);
/// Jobs that were tried and failed.
const TRIES_MAX: u32 = 9;
const PARAMETERS: &str = "ai-platform-restore";
const LIMIT: u32 = 2000;

fn set_of(store: Store) -> String {
    format!("ai-platform-{}", store.as_str())
}

fn claims_api(client: &Client, namespace: &str) -> Api<PersistentVolumeClaim> {
    Api::namespaced(client.clone(), namespace)
}

/// The members of a store: their pods, their claims, and how many there should be.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreMembers {
    pub pods: Vec<PodInfo>,
    pub claims: Vec<ClaimRef>,
    pub want: u32,
    pub ready: u32,
    /// Why new claims could not all be bound: an installation whose volumes are made by hand may have too few left.
    pub short_of_volumes: Option<String>,
}

/// Reads the members of a store.
///
/// # Errors
/// When the API does not answer, or the store is not there.
pub async fn store_members(
    client: &Client,
    namespace: &str,
    store: Store,
) -> Result<StoreMembers, ClusterError> {
    let name = set_of(store);
    let what = format!("read the members of {name}");
    let sets = Api::<StatefulSet>::namespaced(client.clone(), namespace);
    let set = sets.get(&name).await.map_err(ClusterError::api(what.clone()))?;
    let workload = set_info(&set);
    let by_name =
        ListParams::default().labels(&format!("app.kubernetes.io/name={}", store.as_str())).limit(LIMIT);
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let pods = pods.list(&by_name).await.map_err(ClusterError::api(what.clone()))?;
    let own = format!("StatefulSet/{name}");
    let pods: Vec<PodInfo> = pods.items.iter().map(pod_info).collect();
    let pods: Vec<PodInfo> =
        pods.into_iter().filter(|pod| pod.controller.as_deref() == Some(own.as_str())).collect();
    let every = ListParams::default().limit(LIMIT);
    let claims = claims_api(client, namespace).list(&every).await.map_err(ClusterError::api(what.clone()))?;
    let of_set = |claim: &PersistentVolumeClaim| {
        let ordinal = claim.name_any();
        let ordinal = ordinal.strip_prefix(&format!("data-{name}-")).map(str::to_owned);
        ordinal.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let claims: Vec<PersistentVolumeClaim> = claims.items.into_iter().filter(of_set).collect();
    let class = claims.first().and_then(|claim| claim.spec.as_ref()?.storage_class_name.clone());
    let refs = claims.iter().map(|claim| ClaimRef {
        namespace: namespace.to_owned(),
        name: claim.name_any(),
        uid: claim.uid().unwrap_or_default(),
    });
    let claims: Vec<ClaimRef> = refs.collect();
    let short_of_volumes = short_of_volumes(client, class.as_deref(), claims.len()).await?;
    let count = |number: i32| u32::try_from(number).unwrap_or(0);
    let (want, ready) = (count(workload.desired), count(workload.ready));
    Ok(StoreMembers { pods, claims, want, ready, short_of_volumes })
}

/// Volumes that no provisioner makes must be there beforehand.
async fn short_of_volumes(
    client: &Client,
    class: Option<&str>,
    wanted: usize,
) -> Result<Option<String>, ClusterError> {
    let Some(class) = class else { return Ok(None) };
    let what = format!("read storage class {class}");
    let found = Api::<StorageClass>::all(client.clone()).get_opt(class).await;
    let found = found.map_err(ClusterError::api(what.clone()))?;
    if found.is_none_or(|class| class.provisioner != "kubernetes.io/no-provisioner") {
        return Ok(None);
    }
    let volumes =
        Api::<PersistentVolume>::all(client.clone()).list(&ListParams::default().limit(LIMIT)).await;
    let volumes = volumes.map_err(ClusterError::api(what))?;
    let free = volumes.items.iter().filter(|volume| {
        let of_class =
            volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()) == Some(class);
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        of_class && phase == Some("Available")
    });
    let free = free.count();
    Ok((free < wanted)
        .then(|| format!("{free} volumes of storage class {class} are free, the new members need {wanted}")))
}

/// Deletes the claims, then, all at once and without grace, the pods that hold them; returns when the claims are gone. In
/// this order the set cannot start a new pod on an old volume.
pub async fn destroy(client: &Client, claims: &[ClaimRef], pods: &[PodRef]) -> Result<String, ClusterError> {
    let of = |uid: &str, grace: Option<u32>| DeleteParams {
        grace_period_seconds: grace,
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    let mut pods = pods.to_vec();
    pods.extend(finished_users(client, claims).await?);
    for claim in claims {
        let api = claims_api(client, &claim.namespace);
        let what = format!("delete claim {}/{}", claim.namespace, claim.name);
        api.delete(&claim.name, &of(&claim.uid, None)).await.map_err(ClusterError::api(what))?;
    }
    let deleting = pods.iter().map(|pod| async move {
        let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace);
        match api.delete(&pod.name, &of(&pod.uid, Some(0))).await {
            Ok(_) => Ok(()),
            // It went by itself meanwhile.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(ClusterError::api(format!("delete pod {pod}"))(error)),
        }
    });
    futures::future::try_join_all(deleting).await?;
    poll_until("that the volumes are gone", DESTROYED_DEADLINE, || async {
        let left = there(client, claims).await?;
        let names: Vec<&str> = left.iter().map(|(claim, _)| claim.name.as_str()).collect();
        Ok(if names.is_empty() { Ok(()) } else { Err(format!("still there: {}", names.join(", "))) })
    })
    .await?;
    let names: Vec<&str> = claims.iter().map(|claim| claim.name.as_str()).collect();
    Ok(format!("claims {} are gone with their volumes", names.join(", ")))
}

/// Pods that have ended and still hold a claim, as those of earlier restores do.
async fn finished_users(client: &Client, claims: &[ClaimRef]) -> Result<Vec<PodRef>, ClusterError> {
    let mut users = Vec::new();
    for namespace in claims.iter().map(|claim| &claim.namespace).collect::<BTreeSet<_>>() {
        let pods = Api::<Pod>::namespaced(client.clone(), namespace);
        let pods = pods.list(&ListParams::default().limit(LIMIT)).await;
        let pods = pods.map_err(ClusterError::api(format!("list the pods of {namespace}")))?;
        let of_claim = |pod: &&Pod| {
            let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
            volumes.into_iter().flatten().any(|volume| {
                let used = volume.persistent_volume_claim.as_ref().map(|source| &source.claim_name);
                used.is_some_and(|used| {
                    claims.iter().any(|claim| claim.namespace == *namespace && claim.name == *used)
                })
            })
        };
        let ended = |pod: &&Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        users.extend(pods.items.iter().filter(ended).filter(of_claim).map(|pod| PodRef {
            namespace: namespace.clone(),
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
        }));
    }
    Ok(users)
}

/// Those of the claims that are there, under the uid that is meant, and whether each is being deleted.
async fn there(client: &Client, claims: &[ClaimRef]) -> Result<Vec<(ClaimRef, bool)>, ClusterError> {
    let mut left = Vec::new();
    for namespace in claims.iter().map(|claim| &claim.namespace).collect::<BTreeSet<_>>() {
        let listed = claims_api(client, namespace).list(&ListParams::default().limit(LIMIT)).await;
        let listed = listed.map_err(ClusterError::api(format!("list the claims of {namespace}")))?;
        let found = listed.items.iter().filter_map(|found| {
            let uid = found.uid()?;
            let claim = claims.iter().find(|claim| claim.uid == uid)?;
            Some((claim.clone(), found.metadata.deletion_timestamp.is_some()))
        });
        left.extend(found);
    }
    Ok(left)
}

/// Runs the restore Job and waits until every member is ready. Idempotent: a Job that has done its work is not run again,
/// one that runs is waited for, after one that failed another is started, which takes what there is.
pub async fn run(client: &Client, restore: &StoreRestore) -> Result<Applied, ClusterError> {
    let (name, retried, state) = next_job(client, restore).await?;
    if !restore.claims.is_empty() && state == State::Absent && !retried {
        let left = there(client, &restore.claims).await?;
        if left.len() == restore.claims.len() && left.iter().all(|(_, going)| !going) {
            return Ok(Applied::AlreadyClean(format!("no volume of {} was lost", restore.store.as_str())));
        }
        if !left.is_empty() {
            // Interrupted half way: a volume that goes with the next restart of its pod is no place to restore to.
            let left: Vec<ClaimRef> = left.into_iter().map(|(claim, _)| claim).collect();
            let members = store_members(client, &restore.namespace, restore.store).await?;
            let pods: Vec<PodRef> = members.pods.iter().map(pinned).collect();
            destroy(client, &left, &pods).await?;
        }
    }
    let said = if state == State::Complete {
        format!("job {name} had restored it before")
    } else {
        if state == State::Absent {
            before_job(client, restore, retried).await?;
        }
        let cron = format!("{}-restore", set_of(restore.store));
        run_job(client, &restore.namespace, &cron, &name, JOB_DEADLINE).await?
    };
    await_members(client, restore).await?;
    Ok(Applied::Done(said))
}

fn pinned(pod: &PodInfo) -> PodRef {
    PodRef { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() }
}

/// The first Job that has not failed, and whether another has.
async fn next_job(client: &Client, restore: &StoreRestore) -> Result<(String, bool, State), ClusterError> {
    for number in 1..=TRIES_MAX {
        let name = match number {
            1 => restore.job.clone(),
            again => format!("{}-{again}", restore.job),
        };
        let state = job::state(client, &restore.namespace, &name).await?;
        if state != State::Failed {
            return Ok((name, number > 1, state));
        }
    }
    let why = format!("{TRIES_MAX} jobs have failed: look at their logs, and delete them");
    Err(ClusterError::state(format!("restore {}", restore.store.as_str()), why))
}

/// The Job's parameters; and a Redis Cluster must have found itself together before it can take keys.
async fn before_job(client: &Client, restore: &StoreRestore, retried: bool) -> Result<(), ClusterError> {
    if restore.store == Store::Redis {
        await_members(client, restore).await?;
    }
    let data = if retried { &restore.fallback } else { &restore.parameters };
    let maps = Api::<ConfigMap>::namespaced(client.clone(), &restore.namespace);
    let patch = serde_json::json!({ "data": data });
    let patched = maps.patch(PARAMETERS, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.map(drop).map_err(ClusterError::api(format!(
        "set the parameters in configmap {}/{PARAMETERS} (`mettle up --only stack --overlay stack/restore` makes it)",
        restore.namespace
    )))
}

async fn await_members(client: &Client, restore: &StoreRestore) -> Result<(), ClusterError> {
    let name = set_of(restore.store);
    let sets = Api::<StatefulSet>::namespaced(client.clone(), &restore.namespace);
    poll_until(&format!("the members of {name}"), READY_DEADLINE, || async {
        let set = sets.get(&name).await.map_err(ClusterError::api(format!("read {name}")))?;
        let workload = set_info(&set);
        Ok(if workload.desired > 0 && workload.ready >= workload.desired {
            Ok(())
        } else {
            Err(format!("{} of {} are ready", workload.ready, workload.desired))
        })
    })
    .await
}
