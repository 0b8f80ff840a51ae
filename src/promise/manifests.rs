//! Reading rendered objects.

use serde_json::Value;

const NAME: &str = "app.kubernetes.io/name";
const TIER: &str = "app.kubernetes.io/component";
pub(super) const WORKLOADS: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];
pub(super) const PREFIX: &str = "ai-platform-";

pub(super) struct Manifests<'a>(&'a [Value]);

impl<'a> Manifests<'a> {
    pub fn new(objects: &'a [Value]) -> Self {
        Self(objects)
    }

    pub fn all(&self) -> &'a [Value] {
        self.0
    }

    pub fn kind(&self, kind: &'static str) -> impl Iterator<Item = &'a Value> + use<'a> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    pub fn get(&self, kind: &'static str, name: &str) -> Option<&'a Value> {
        self.kind(kind).find(|object| object["metadata"]["name"] == name)
    }

    pub fn workloads(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        self.0.iter().filter(|object| WORKLOADS.iter().any(|kind| object["kind"] == *kind))
    }

    /// The workload whose pods bear this name.
    pub fn workload(&self, app: &str) -> Option<&'a Value> {
        self.workloads().find(|workload| pod_app(workload) == app)
    }

    /// One file of a ConfigMap.
    pub fn config(&self, name: &str, key: &str) -> Option<&'a str> {
        self.get("ConfigMap", name)?["data"][key].as_str()
    }

    pub fn config_yaml(&self, name: &str, key: &str) -> Option<Value> {
        serde_saphyr::from_str(self.config(name, key)?).ok()
    }

    pub fn autoscaler(&self, workload: &Value) -> Option<&'a Value> {
        self.kind("HorizontalPodAutoscaler").find(|scaler| {
            let target = &scaler["spec"]["scaleTargetRef"];
            target["name"] == workload["metadata"]["name"] && target["kind"] == workload["kind"]
        })
    }

    /// The fewest and the most copies of a workload.
    pub fn copies(&self, workload: &Value) -> Option<(i64, i64)> {
        if let Some(scaler) = self.autoscaler(workload) {
            return Some((scaler["spec"]["minReplicas"].as_i64()?, scaler["spec"]["maxReplicas"].as_i64()?));
        }
        let copies = workload["spec"]["replicas"].as_i64()?;
        Some((copies, copies))
    }
}

pub(super) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or("?")
}

pub(super) fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// `Deployment ai-platform-backend`.
pub(super) fn title(object: &Value) -> String {
    format!("{} {}", object["kind"].as_str().unwrap_or("?"), name(object))
}

pub(super) fn pod(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]
}

pub(super) fn pod_labels(workload: &Value) -> &Value {
    &workload["spec"]["template"]["metadata"]["labels"]
}

/// The name that a workload's pods bear.
pub(super) fn pod_app(workload: &Value) -> &str {
    pod_labels(workload)[NAME].as_str().unwrap_or_default()
}

pub(super) fn tier(workload: &Value) -> &str {
    pod_labels(workload)[TIER].as_str().unwrap_or_default()
}

pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(super) fn texts(value: &Value) -> impl Iterator<Item = &str> {
    list(value).filter_map(Value::as_str)
}

/// Containers that run as long as the pod does: the ordinary ones, and sidecars among the init containers.
pub(super) fn long_running(workload: &Value) -> impl Iterator<Item = &Value> {
    let sidecars = list(&pod(workload)["initContainers"]).filter(|one| one["restartPolicy"] == "Always");
    list(&pod(workload)["containers"]).chain(sidecars)
}

pub(super) fn every_container(workload: &Value) -> impl Iterator<Item = &Value> {
    list(&pod(workload)["containers"]).chain(list(&pod(workload)["initContainers"]))
}

pub(super) fn env<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    list(&container["env"]).find(|one| one["name"] == name)?["value"].as_str()
}

/// Is a pod of this workload chosen by such a selector? An empty one chooses all.
pub(super) fn selects(selector: &Value, workload: &Value) -> bool {
    let labels = pod_labels(workload);
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let told = equal.into_iter().all(|(key, value)| labels[key] == *value);
    told && list(&selector["matchExpressions"]).all(|one| {
        let value = one["key"].as_str().map_or(&Value::Null, |key| &labels[key]);
        let among = list(&one["values"]).any(|wanted| wanted == value);
        match one["operator"].as_str() {
            Some("In") => among,
            Some("NotIn") => !among,
            Some("Exists") => !value.is_null(),
            Some("DoesNotExist") => value.is_null(),
            _ => false,
        }
    })
}

/// The value of a setting in a file of lines like `name = value`, `name value` or `name=value`; the last one counts.
pub(super) fn setting<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| {
        let rest = line.trim().strip_prefix(name)?;
        rest.starts_with(['=', ' ', '\t']).then(|| rest.trim_start_matches(['=', ' ', '\t']).trim())
    };
    text.lines().filter_map(value).next_back()
}

pub(super) fn number(text: &str, name: &str) -> Option<i64> {
    setting(text, name)?.parse().ok()
}

/// Bytes of a Kubernetes quantity or of Redis' way of writing them.
pub(super) fn bytes(text: &str) -> Option<i64> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(at);
    let factor = match unit {
        "" => 1,
        "Ki" | "kb" => 1 << 10,
        "Mi" | "mb" => 1 << 20,
        "Gi" | "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_whole_words_and_the_last_counts() {
        let text = "maxmemory-policy allkeys-lru\n  pool = 20\npool_max=3\n# pool 7\npool = 21\n";
        assert_eq!(setting(text, "pool"), Some("21"));
        assert_eq!(number(text, "pool_max"), Some(3));
        assert_eq!((setting(text, "maxmemory"), setting(text, "none")), (None, None));
    }

    #[test]
    fn quantities() {
        for (text, wanted) in
            [("2gb", Some(2 << 30)), ("2560Mi", Some(2560 << 20)), ("7", Some(7)), ("2xb", None), ("", None)]
        {
            assert_eq!(bytes(text), wanted, "{text}");
        }
    }
}
