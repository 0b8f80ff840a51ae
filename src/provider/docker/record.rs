//! What `up` decided about a cluster of containers, and whether what stands under its name is that cluster.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use chrono::DateTime;
use serde::{Deserialize, Serialize};

use super::super::error::{ProviderError, Result, io};
use super::super::handle::ClusterHandle;
use super::super::host::Host;
use super::super::local::layout::Layout;
use super::super::local::lock::Lock;
use super::super::local::record::{read_json, write_json};
use super::engine::{self, Container};
use super::flavour::Flavour;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub name: String,
    pub provider: String,
    /// Written before the cluster is made: what is older is not ours.
    pub created: String,
    /// Empty until the cluster was made.
    pub members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    pub name: String,
    pub id: String,
    pub role: String,
}

/// Where the files of one cluster are.
#[derive(Debug, Clone)]
pub struct Place {
    pub flavour: Flavour,
    pub name: String,
    root: PathBuf,
}

impl Place {
    /// # Errors
    /// When the name is none for a cluster.
    pub fn new(host: &Host, flavour: Flavour, name: &str) -> Result<Self> {
        let name = Layout::new(name)?.name().to_owned();
        let root = host.clusters(flavour.name()).join(&name);
        Ok(Self { flavour, name, root })
    }

    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    pub fn lock(&self, patience: Duration) -> Result<Lock> {
        Lock::acquire(&self.root.with_extension("lock"), &self.name, patience)
    }

    pub fn load(&self) -> Result<Option<Record>> {
        read_json(&self.root.join("cluster.json"))
    }

    pub fn save(&self, record: &Record) -> Result<()> {
        write_json(&self.root.join("cluster.json"), record)
    }

    pub fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.root).map_err(io("remove", &self.root))
    }

    #[must_use]
    pub fn handle(&self, record: &Record) -> ClusterHandle {
        ClusterHandle {
            name: self.name.clone(),
            kind: self.flavour.provider(),
            kubeconfig: self.kubeconfig(),
            nodes: record.workers(self.flavour).map(|member| member.name.clone()).collect(),
            // The harness comes in by port-forward: the kubelet's runtime then dials `localhost` inside the pod's own
            // network namespace, where no NetworkPolicy applies. So no address of ours has to be let in.
            harness_source: None,
            service_source: None,
            service_cidr: None,
            pod_cidrs: Vec::new(),
        }
    }
}

impl Record {
    /// The nodes that are ours to kill: not the one that runs the API.
    pub fn workers(&self, flavour: Flavour) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.role == flavour.worker_role())
    }

    pub fn server(&self, flavour: Flavour) -> Option<&Member> {
        self.members.iter().find(|member| member.role == flavour.server_role())
    }
}

/// Only nodes are remembered: a program's helpers come and go.
#[must_use]
pub fn members(flavour: Flavour, containers: &[Container]) -> Vec<Member> {
    let roles = [flavour.server_role(), flavour.worker_role()];
    let nodes = containers.iter().filter(|one| roles.contains(&one.role.as_str()));
    nodes.map(|one| Member { name: one.name.clone(), id: one.id.clone(), role: one.role.clone() }).collect()
}

/// What stands under a cluster's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Nothing,
    Ours,
    /// An `up` of ours died while it was made.
    HalfMade,
    /// Somebody else's, and how we know.
    Foreign(String),
}

#[must_use]
pub fn standing(flavour: Flavour, record: Option<&Record>, containers: &[Container]) -> Standing {
    if containers.is_empty() {
        return Standing::Nothing;
    }
    let Some(record) = record else {
        return Standing::Foreign("mettle has no record of it".to_owned());
    };
    if record.members.is_empty() {
        let begun = DateTime::parse_from_rfc3339(&record.created).ok();
        let later = |one: &Container| DateTime::parse_from_rfc3339(&one.created).ok() >= begun;
        return if begun.is_some() && containers.iter().all(later) {
            Standing::HalfMade
        } else {
            Standing::Foreign("it is older than mettle's attempt to make it".to_owned())
        };
    }
    let now = members(flavour, containers);
    match now.iter().find(|member| !record.members.contains(member)) {
        Some(other) => Standing::Foreign(format!("mettle did not make its container {}", other.name)),
        None if now.len() < record.members.len() => {
            let gone = record.members.iter().find(|member| !now.contains(member));
            let gone = gone.map(|member| member.name.as_str()).unwrap_or_default();
            Standing::Foreign(format!("its container {gone} was removed by somebody else"))
        }
        None => Standing::Ours,
    }
}

pub fn foreign(flavour: Flavour, name: &str, why: String) -> ProviderError {
    ProviderError::Foreign { program: flavour.name(), cluster: flavour.cluster(name), why }
}

/// The cluster of that name, when the container that runs its API does.
pub fn open(host: &Host, flavour: Flavour, name: &str) -> Result<ClusterHandle> {
    let place = Place::new(host, flavour, name)?;
    let not_standing = || ProviderError::NotStanding { name: name.to_owned() };
    let record = place.load()?.ok_or_else(not_standing)?;
    engine::engine(host)?;
    let containers = engine::containers(host, flavour, name)?;
    match standing(flavour, Some(&record), &containers) {
        Standing::Foreign(why) => return Err(foreign(flavour, name, why)),
        Standing::Nothing | Standing::HalfMade => return Err(not_standing()),
        Standing::Ours => {}
    }
    let serves = |one: &Container| one.running && one.role == flavour.server_role();
    if containers.iter().any(serves) { Ok(place.handle(&record)) } else { Err(not_standing()) }
}

/// Names of the clusters that one provider has a record of.
pub fn names(host: &Host, flavour: Flavour) -> Result<Vec<String>> {
    let root = host.clusters(flavour.name());
    if !root.exists() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&root).map_err(io("read", &root))? {
        let entry = entry.map_err(io("read", &root))?;
        if entry.path().join("cluster.json").is_file() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, id: &str, role: &str) -> Container {
        let (name, id, role) = (name.to_owned(), id.to_owned(), role.to_owned());
        Container { name, id, role, running: true, pid: 1, created: "2026-01-02T00:00:05.5Z".to_owned() }
    }

    fn record(ids: &[(&str, &str)]) -> Record {
        let members = ids.iter().map(|(name, id)| Member {
            name: (*name).to_owned(),
            id: (*id).to_owned(),
            role: "worker".to_owned(),
        });
        let (name, provider) = ("x".to_owned(), "kind".to_owned());
        Record { name, provider, created: "2026-01-02T00:00:00Z".to_owned(), members: members.collect() }
    }

    #[test]
    fn whose_cluster_it_is() {
        let stands = [container("a", "1", "worker"), container("b", "2", "worker")];
        let ours = record(&[("a", "1"), ("b", "2")]);
        let of =
            |record: Option<&Record>, containers: &[Container]| standing(Flavour::Kind, record, containers);
        assert_eq!(of(None, &[]), Standing::Nothing);
        assert_eq!(of(Some(&ours), &[]), Standing::Nothing);
        assert_eq!(of(Some(&ours), &stands), Standing::Ours);
        let helper = [stands.to_vec(), vec![container("tools", "9", "noRole")]].concat();
        assert_eq!(of(Some(&ours), &helper), Standing::Ours, "a helper is nobody's node");
        assert_eq!(of(Some(&record(&[])), &stands), Standing::HalfMade);
        for (what, record, containers) in [
            ("no record", None, &stands[..]),
            ("made anew by somebody", Some(record(&[("a", "7"), ("b", "2")])), &stands[..]),
            ("one is gone", Some(ours.clone()), &stands[..1]),
            ("one more", Some(record(&[("a", "1")])), &stands[..]),
            ("older", Some(Record { created: "2026-01-03T00:00:00Z".into(), ..record(&[]) }), &stands[..]),
            ("no time", Some(Record { created: "yesterday".into(), ..record(&[]) }), &stands[..]),
        ] {
            let found = of(record.as_ref(), containers);
            assert!(matches!(found, Standing::Foreign(_)), "{what}: {found:?}");
        }
    }
}
