//! Which members of Redis Cluster stand where the loss of one Kubernetes node takes more than it may.

use std::collections::{BTreeMap, BTreeSet};

use super::Member;
use crate::cluster::PodAddress;
use crate::model::Role;

/// Who must move to another Kubernetes node before one may be lost. Of the primaries, those by which one node has too many for
/// the others to be a majority, without which nobody elects another. And a shard of which all that answer are on one node. Where there are too few nodes to
/// do better, nobody.
pub(super) fn crowded(pods: &[PodAddress], members: &[Member]) -> u32 {
    let homes: BTreeMap<&str, &str> =
        pods.iter().filter_map(|pod| Some((pod.name.as_str(), pod.node.as_deref()?))).collect();
    let placed = members.iter().filter(|member| member.answers && !member.slots.is_empty());
    let placed: Vec<(&Member, &str)> =
        placed.filter_map(|member| Some((member, *homes.get(member.pod.as_str())?))).collect();
    let nodes: BTreeSet<&str> = placed.iter().map(|(_, node)| *node).collect();
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    let mut shards: BTreeMap<&[(u16, u16)], Vec<&str>> = BTreeMap::new();
    for (member, node) in &placed {
        *held.entry(node).or_default() += usize::from(member.role == Some(Role::Primary));
        shards.entry(&member.slots).or_default().push(node);
    }
    let primaries = held.values().sum::<usize>();
    let most = primaries.div_ceil(2).saturating_sub(1).max(1);
    let over = |count: &usize| count.saturating_sub(most);
    let over = if primaries <= most * nodes.len() { held.values().map(over).sum() } else { 0 };
    let alone = |homes: &&Vec<&str>| homes.len() > 1 && homes.iter().all(|home| *home == homes[0]);
    let alone = if nodes.len() > 1 { shards.values().filter(alone).count() } else { 0 };
    u32::try_from(over + alone).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_of_primaries_on_one_node_and_a_shard_on_one_must_move() {
        // Of three shards the node of the primary, and that of the replica.
        let of = |homes: [(&str, &str); 3]| {
            let (mut pods, mut members) = (Vec::new(), Vec::new());
            for (low, (primary, replica)) in [0, 5461, 10922].into_iter().zip(homes) {
                for (role, node) in [(Role::Primary, primary), (Role::Replica, replica)] {
                    let name = format!("{low}-{}", role.as_str());
                    let home = Some(node.to_owned()).filter(|node| !node.is_empty());
                    pods.push(PodAddress { node: home, namespace: "n".into(), name: name.clone(), ip: None });
                    members.push(Member {
                        role: Some(role),
                        slots: vec![(low, low + 5460)],
                        answers: node != "gone",
                        in_sync: true,
                        ..Member::silent(&name, String::new())
                    });
                }
            }
            crowded(&pods, &members)
        };
        for (homes, want, why) in [
            ([("n1", "n2"), ("n2", "n3"), ("n3", "n1")], 0, "even"),
            ([("n1", "n2"), ("n1", "n3"), ("n3", "n2")], 1, "two of three primaries on one node"),
            ([("n1", "n2"), ("n1", "n3"), ("n1", "n2")], 2, "all three"),
            ([("n1", "n1"), ("n2", "n3"), ("n3", "n2")], 1, "a shard on one node"),
            ([("n1", "n2"), ("n1", "n2"), ("n2", "n1")], 0, "two nodes cannot do better"),
            ([("n1", "n1"), ("n1", "n1"), ("n1", "n1")], 0, "nor can one"),
            ([("n1", "gone"), ("n1", "n2"), ("n2", "gone")], 0, "while a node is away it is no better"),
            ([("", ""), ("", ""), ("", "")], 0, "nobody knows where they are"),
        ] {
            assert_eq!(of(homes), want, "{why}");
        }
    }
}
