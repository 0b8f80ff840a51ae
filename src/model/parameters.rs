//! What a fault takes beyond its target and its time: `with` in a file.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fault_spec::{Problem, TargetSpec, given, target_details};

/// Which packets of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    In,
    Out,
    Both,
}

impl Direction {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Both => "both",
        }
    }
}

/// Parameters of a fault. `docs/faults.md` says which fault takes which.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parameters {
    /// Pods that are left; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Busy threads; one for each processor when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mib: Option<u32>,
    /// Free space that is left, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leave_mib: Option<u32>,
    /// A directory as the target sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Only traffic with these pods; with everybody when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<TargetSpec>,
    /// Traffic with the API server too: the store of Patroni, the discovery of RabbitMQ.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub api_server: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Share of packets, connections or requests, 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_ms: Option<u32>,
    /// KiB a second, each way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_kib: Option<u32>,
    /// HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Names under this suffix; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// Name of a Secret with `tls.crt` and `tls.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Only requests with these headers, each of exactly this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub header: BTreeMap<String, String>,
}

/// Every field of `with` by its name in a file, with its path.
const FIELDS: [(&str, &str); 19] = [
    ("replicas", "with.replicas"),
    ("workers", "with.workers"),
    ("mib", "with.mib"),
    ("leaveMib", "with.leaveMib"),
    ("path", "with.path"),
    ("port", "with.port"),
    ("connections", "with.connections"),
    ("peers", "with.peers"),
    ("apiServer", "with.apiServer"),
    ("direction", "with.direction"),
    ("percent", "with.percent"),
    ("delayMs", "with.delayMs"),
    ("jitterMs", "with.jitterMs"),
    ("rateKib", "with.rateKib"),
    ("status", "with.status"),
    ("domain", "with.domain"),
    ("address", "with.address"),
    ("secret", "with.secret"),
    ("header", "with.header"),
];

pub(super) fn field_of(name: &str) -> &'static str {
    FIELDS.iter().find(|(field, _)| *field == name).map_or("with", |(_, path)| path)
}

impl Parameters {
    /// Names of the fields that were given.
    pub(super) fn given(&self) -> Vec<&'static str> {
        // What is not given is not written.
        let value = serde_json::to_value(self).unwrap_or_default();
        FIELDS.iter().map(|(field, _)| *field).filter(|field| value.get(field).is_some()).collect()
    }

    pub(super) fn problem(&self) -> Problem {
        let bad = |field: &'static str, message: &str| Some((field, message.to_owned()));
        if self.percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
            return bad("with.percent", "must be 1 to 100");
        }
        if self.port == Some(0) {
            return bad("with.port", "must be 1 to 65535");
        }
        if self.status.is_some_and(|status| !(200..=599).contains(&status)) {
            return bad("with.status", "must be 200 to 599");
        }
        if self.delay_ms.is_some_and(|ms| !(1..=60_000).contains(&ms)) {
            return bad("with.delayMs", "must be 1 to 60000");
        }
        if self.rate_kib == Some(0) {
            return bad("with.rateKib", "must be at least 1");
        }
        if self.mib.is_some_and(|mib| !(1..=65_536).contains(&mib)) {
            return bad("with.mib", "must be 1 to 65536");
        }
        if self.connections.is_some_and(|count| !(1..=20_000).contains(&count)) {
            return bad("with.connections", "must be 1 to 20000");
        }
        // It is a path within the target's own files.
        let path = self.path.as_deref();
        if path.is_some_and(|path| !path.starts_with('/') || path.split('/').any(|part| part == "..")) {
            return bad("with.path", "must be absolute and without '..'");
        }
        let peers = self.peers.as_ref()?;
        if given(peers) != 1 || peers.node.is_some() || peers.zone.is_some() {
            return bad("with.peers", "needs exactly one of component, labels");
        }
        target_details(peers).map(|(_, message)| ("with.peers", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FaultKind;

    #[test]
    fn every_parameter_has_its_place_in_the_list_and_a_fault_that_takes_it() {
        let all = Parameters {
            replicas: Some(1),
            workers: Some(1),
            mib: Some(1),
            leave_mib: Some(1),
            path: Some("/".to_owned()),
            port: Some(1),
            connections: Some(1),
            peers: Some(TargetSpec::default()),
            api_server: true,
            direction: Some(Direction::In),
            percent: Some(1),
            delay_ms: Some(1),
            jitter_ms: Some(1),
            rate_kib: Some(1),
            status: Some(503),
            domain: Some("x".to_owned()),
            address: Some(Ipv4Addr::LOCALHOST),
            secret: Some("s".into()),
            header: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        };
        let written = serde_json::to_value(&all).unwrap();
        assert_eq!(written.as_object().unwrap().len(), FIELDS.len());
        assert_eq!(all.given().len(), FIELDS.len());
        for (field, _) in FIELDS {
            assert!(FaultKind::ALL.iter().any(|kind| kind.shape().takes.contains(&field)), "{field}");
        }
        for kind in FaultKind::ALL {
            for field in kind.shape().takes {
                assert!(FIELDS.iter().any(|(known, _)| known == field), "{}: {field}", kind.as_str());
            }
        }
    }
}
