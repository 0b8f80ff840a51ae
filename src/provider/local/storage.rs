//! Real PersistentVolumes: directories of each node, bound to it as a disk of the machine would be.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::super::error::{ProviderError, Result, exec, io};
use super::bootstrap::{apply_list, empty_dir, kubectl};
use super::layout::{Layout, node_name};
use super::net::NODES;

pub const VOLUMES_A_NODE: u8 = 12;

fn volume_name(node: &str, index: u8) -> String {
    format!("local-{node}-{index}")
}

fn volume(layout: &Layout, node: &str, index: u8) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": { "name": volume_name(node, index), "labels": { "kubernetes.io/hostname": node } },
        "spec": {
            "capacity": { "storage": "2Gi" },
            "accessModes": ["ReadWriteOnce"],
            // Nothing in a cluster deletes what is on a local disk: `up` cleans a volume that was released.
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "local",
            "volumeMode": "Filesystem",
            "local": { "path": layout.volume(node, index) },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                { "key": "kubernetes.io/hostname", "operator": "In", "values": [node] },
            ] }] } },
        },
    })
}

fn every_volume() -> impl Iterator<Item = (String, u8)> {
    (1..=NODES).map(node_name).flat_map(|node| (1..=VOLUMES_A_NODE).map(move |index| (node.clone(), index)))
}

/// The storage class and every volume.
pub fn objects(layout: &Layout) -> Vec<Value> {
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": { "name": "local", "annotations": { "storageclass.kubernetes.io/is-default-class": "true" } },
        "provisioner": "kubernetes.io/no-provisioner",
        "reclaimPolicy": "Retain",
        "volumeBindingMode": "WaitForFirstConsumer",
    });
    let volumes = every_volume().map(|(node, index)| volume(layout, &node, index));
    std::iter::once(class).chain(volumes).collect()
}

/// Directories behind the volumes. Any user may write, as on a disk that was just formatted for a pod.
pub fn make_dirs(layout: &Layout) -> Result<()> {
    for (node, index) in every_volume() {
        let dir = layout.volume(&node, index);
        if !dir.exists() {
            fs::create_dir_all(&dir).map_err(io("create", &dir))?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).map_err(io("open up", &dir))?;
        }
    }
    Ok(())
}

/// Names of our volumes in `kubectl get pv -o json` that no claim has any more.
fn released(list: &str) -> Result<Vec<String>, serde_json::Error> {
    let list: Value = serde_json::from_str(list)?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let names = items.iter().filter_map(|item| {
        let phase = item["status"]["phase"].as_str()?;
        let name = item["metadata"]["name"].as_str()?;
        let over = matches!(phase, "Released" | "Failed") && name.starts_with("local-");
        over.then(|| name.to_owned())
    });
    Ok(names.collect())
}

/// Cleans released volumes, and makes them anew. Answers with how many.
pub fn recycle(layout: &Layout) -> Result<usize> {
    let list = kubectl(layout).args(["get", "pv", "-o", "json"]).run().map_err(exec("list volumes"))?;
    let released = released(&list)
        .map_err(|source| ProviderError::Parse { path: "the list of volumes".into(), source })?;
    let mut renewed = Vec::new();
    for (node, index) in every_volume() {
        let name = volume_name(&node, index);
        if released.contains(&name) {
            kubectl(layout)
                .args(["delete", "pv", &name, "--timeout=15s"])
                .run()
                .map_err(exec(format!("delete volume {name}")))?;
            empty_dir(&layout.volume(&node, index))?;
            renewed.push(volume(layout, &node, index));
        }
    }
    let count = renewed.len();
    if count > 0 {
        apply_list(layout, renewed)?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_released_volumes_are_cleaned() {
        let item =
            |name: &str, phase: &str| json!({ "metadata": { "name": name }, "status": { "phase": phase } });
        let items = [
            item("local-n1-1", "Bound"),
            item("local-n1-2", "Released"),
            item("local-n2-1", "Failed"),
            item("local-n2-2", "Available"),
            item("theirs", "Released"),
        ];
        let list = json!({ "items": items }).to_string();
        assert_eq!(released(&list).unwrap(), ["local-n1-2", "local-n2-1"]);
    }

    #[test]
    fn one_volume() {
        insta::assert_json_snapshot!(volume(&Layout::new("dev").unwrap(), "n1", 1));
    }
}
