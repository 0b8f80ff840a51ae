//! Redis Cluster: each node's own line of `CLUSTER NODES`, and its own replication link.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError};
use futures::future::join_all;

use super::crowded::crowded;
use super::{Leader, Member, Members};
use crate::cluster::{ClusterError, Dialer, PodAddress};
use crate::ledger::Found;
use crate::model::{Component, ListName, OpId, Role, RunId};

const PORT: u16 = 6379;
const SLOTS: u32 = 16384;
/// How the keys of the users' lists begin.
const SESSION: &str = "session:";
/// Keys of sessions that one node may hold of one run.
const KEYS_MAX: usize = 2_000_000;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Myself {
    id: String,
    role: Role,
    /// Its primary's id, of a replica.
    primary: Option<String>,
    epoch: u64,
    slots: Vec<(u16, u16)>,
    link_up: bool,
    /// It serves: a node that lost the majority refuses every command on keys.
    serves: bool,
}

/// Asks every node.
pub async fn members(dialer: &Dialer, pods: &[PodAddress], deadline: Duration) -> Members {
    let words = join_all(pods.iter().map(|pod| myself(dialer, pod, deadline))).await;
    let mut owners: BTreeMap<&str, &Myself> = BTreeMap::new();
    for myself in words.iter().flatten() {
        owners.insert(&myself.id, myself);
    }
    let members: Vec<Member> = pods
        .iter()
        .zip(&words)
        .map(|(pod, word)| match word {
            Err(why) => Member::silent(&pod.name, why.to_string()),
            Ok(myself) => member(pod, myself, &owners),
        })
        .collect();
    let (leaders, led) = leaders(&members);
    let said =
        pods.iter().zip(&words).filter_map(|(pod, word)| Some((pod.name.as_str(), word.as_ref().ok()?)));
    let writers = writers(&said.collect::<Vec<_>>());
    let crowded = crowded(pods, &members);
    Members { component: Component::Redis, members, leaders, led, writers, archive: None, crowded }
}

fn member(pod: &PodAddress, myself: &Myself, owners: &BTreeMap<&str, &Myself>) -> Member {
    let primary = myself.primary.as_deref().and_then(|id| owners.get(id));
    let slots = match myself.role {
        Role::Replica => primary.map(|primary| primary.slots.clone()).unwrap_or_default(),
        Role::Primary | Role::Any => myself.slots.clone(),
    };
    let in_sync = match myself.role {
        // Field note: a replica whose first sync still waits makes its primary's loss final.
        Role::Replica => myself.link_up,
        Role::Primary | Role::Any => !myself.slots.is_empty(),
    };
    Member {
        pod: pod.name.clone(),
        answers: true,
        role: Some(myself.role),
        in_sync,
        epoch: Some(myself.epoch),
        leads: Vec::new(),
        follows: Vec::new(),
        source: format!(
            "CLUSTER NODES: myself,{} epoch {} slots {}",
            myself.role.as_str(),
            myself.epoch,
            slots.iter().map(|(low, high)| format!("{low}-{high}")).collect::<Vec<_>>().join(" ")
        ),
        slots,
    }
}

/// Per range of slots the primary with the highest epoch; and whether every slot has one.
fn leaders(members: &[Member]) -> (Vec<(String, Leader)>, bool) {
    let mut owner_of: BTreeMap<u16, (u16, &str, u64)> = BTreeMap::new();
    for member in members.iter().filter(|member| member.role == Some(Role::Primary)) {
        let epoch = member.epoch.unwrap_or(0);
        for (low, high) in &member.slots {
            let known = owner_of.get(low).is_some_and(|(.., other)| *other >= epoch);
            if !known {
                owner_of.insert(*low, (*high, &member.pod, epoch));
            }
        }
    }
    let covered: u32 = owner_of.iter().map(|(low, (high, ..))| u32::from(*high) - u32::from(*low) + 1).sum();
    let leaders = owner_of
        .into_iter()
        .map(|(low, (_, pod, epoch))| (format!("slot:{low}"), Some((pod.to_owned(), Some(epoch)))))
        .collect();
    (leaders, covered >= SLOTS)
}

/// By the first slot of every range that is owned: the nodes that own it and serve.
fn writers(said: &[(&str, &Myself)]) -> Vec<(String, Vec<String>)> {
    let owners = || said.iter().filter(|(_, myself)| myself.role == Role::Primary && myself.serves);
    let first: BTreeSet<u16> = owners().flat_map(|(_, myself)| &myself.slots).map(|(low, _)| *low).collect();
    let of = |slot: u16| {
        let owns = |myself: &Myself| myself.slots.iter().any(|(low, high)| (*low..=*high).contains(&slot));
        let mut pods: Vec<String> =
            owners().filter(|(_, myself)| owns(myself)).map(|(pod, _)| (*pod).to_owned()).collect();
        pods.sort();
        pods
    };
    first.into_iter().map(|slot| (format!("slot:{slot}"), of(slot))).collect()
}

async fn myself(dialer: &Dialer, pod: &PodAddress, deadline: Duration) -> Result<Myself, ClusterError> {
    let what = format!("ask the redis of {}", pod.name);
    let asking = async {
        let mut connection = connect(dialer, pod, deadline).await?;
        let nodes: String =
            ::redis::cmd("CLUSTER").arg("NODES").query_async(&mut connection).await.map_err(said(&what))?;
        let info: String = ::redis::cmd("INFO")
            .arg("replication")
            .query_async(&mut connection)
            .await
            .map_err(said(&what))?;
        let state: String =
            ::redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await.map_err(said(&what))?;
        let says = |text: &str, line: &str| text.lines().any(|said| said.trim_end() == line);
        let link_up = says(&info, "master_link_status:up");
        parse(&nodes, link_up)
            .map(|myself| Myself { serves: says(&state, "cluster_state:ok"), ..myself })
            .ok_or_else(|| ClusterError::state(what.clone(), "its answer names no node as itself"))
    };
    match tokio::time::timeout(deadline, asking).await {
        Ok(result) => result,
        Err(_) => Err(ClusterError::Deadline { what, seconds: deadline.as_secs().max(1) }),
    }
}

pub(super) async fn connect(
    dialer: &Dialer,
    pod: &PodAddress,
    deadline: Duration,
) -> Result<MultiplexedConnection, ClusterError> {
    let stream = dialer.dial(pod, PORT, deadline).await?;
    let what = format!("speak to the redis of {}", pod.name);
    let plain = RedisConnectionInfo::default();
    let (connection, driver) =
        MultiplexedConnection::new_with_config(&plain, stream, AsyncConnectionConfig::default())
            .await
            .map_err(said(&what))?;
    // Ends with the connection.
    tokio::spawn(driver);
    Ok(connection)
}

pub(super) fn said(what: &str) -> impl FnOnce(RedisError) -> ClusterError + use<> {
    let what = what.to_owned();
    move |error| ClusterError::state(what, error.to_string())
}

/// `<id> <ip:port@cport[,host]> <flags> <primary|-> <ping> <pong> <epoch> <link> [slot…]`
fn parse(nodes: &str, link_up: bool) -> Option<Myself> {
    let line =
        nodes.lines().find(|line| line.split(' ').nth(2).is_some_and(|flags| flags.contains("myself")))?;
    let fields: Vec<&str> = line.split_whitespace().collect();
    let is_replica = fields.get(2)?.contains("slave");
    Some(Myself {
        id: (*fields.first()?).to_owned(),
        role: if is_replica { Role::Replica } else { Role::Primary },
        primary: is_replica.then(|| fields.get(3).map(|id| (*id).to_owned())).flatten(),
        epoch: fields.get(6)?.parse().ok()?,
        slots: fields.iter().skip(8).filter_map(|range| parse_range(range)).collect(),
        link_up,
        serves: false,
    })
}

/// `5`, `0-5460`; a migrating slot `[5->-id]` is still owned under its plain range.
fn parse_range(range: &str) -> Option<(u16, u16)> {
    match range.split_once('-') {
        Some((low, high)) => Some((low.parse().ok()?, high.parse().ok()?)),
        None => range.parse().ok().map(|slot| (slot, slot)),
    }
}

/// Every operation of `run` that the primaries' lists hold.
///
/// # Errors
/// When a shard has no primary, or one cannot be read: a ledger with a gap is none.
pub async fn found(
    dialer: &Dialer,
    pods: &[PodAddress],
    run: &RunId,
    deadline: Duration,
) -> Result<Found, ClusterError> {
    let what = format!("read the redis ledger of run {run}");
    let members = members(dialer, pods, Duration::from_secs(2)).await;
    let mut lists = BTreeMap::new();
    if !members.led {
        return Err(ClusterError::state(what, "some slots have no primary"));
    }
    let reading = async {
        let mut primaries = BTreeSet::new();
        for (scope, leader) in &members.leaders {
            let Some((leader, _)) = leader else {
                return Err(ClusterError::state(what.clone(), format!("{scope} has no primary")));
            };
            // One that owns several ranges is read once.
            primaries.insert(leader);
        }
        for leader in primaries {
            let Some(pod) = pods.iter().find(|pod| pod.name == *leader) else { continue };
            read_node(dialer, pod, run, &what, &mut lists).await?;
        }
        Ok(())
    };
    match tokio::time::timeout(deadline, reading).await {
        Ok(result) => result.map(|()| Found::of_lists(lists)),
        Err(_) => Err(ClusterError::Deadline { what, seconds: deadline.as_secs() }),
    }
}

async fn read_node(
    dialer: &Dialer,
    pod: &PodAddress,
    run: &RunId,
    what: &str,
    lists: &mut BTreeMap<ListName, Vec<OpId>>,
) -> Result<(), ClusterError> {
    let mut connection = connect(dialer, pod, Duration::from_secs(5)).await?;
    let mut keys: Vec<String> = Vec::new();
    let mut cursor: u64 = 0;
    loop {
        let (next, page): (u64, Vec<String>) = ::redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(format!("{SESSION}{run}-*"))
            .arg("COUNT")
            .arg(1000)
            .query_async(&mut connection)
            .await
            .map_err(said(what))?;
        keys.extend(page);
        if keys.len() > KEYS_MAX {
            return Err(ClusterError::state(
                what,
                format!("{} holds more than {KEYS_MAX} keys of it", pod.name),
            ));
        }
        if next == 0 {
            break;
        }
        cursor = next;
    }
    // SCAN may name a key twice.
    keys.sort();
    keys.dedup();
    for key in keys {
        let list: Vec<String> = ::redis::cmd("LRANGE")
            .arg(&key)
            .arg(0)
            .arg(-1)
            .query_async(&mut connection)
            .await
            .map_err(said(what))?;
        let name = ListName::new(key.strip_prefix(SESSION).unwrap_or(&key));
        // A slot that moved during the scan would show the same list on two nodes.
        if lists.insert(name, list.iter().map(|id| OpId::new(id)).collect()).is_some() {
            return Err(ClusterError::state(what, format!("{key} is on two primaries")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "\
07c37df 10.0.0.1:6379@16379,redis-0 master - 0 1426238317239 4 connected 0-5460 9000\n\
e7d1eec 10.0.0.2:6379@16379,redis-1 myself,slave 07c37df 0 0 2 connected\n";

    #[test]
    fn a_node_is_read_from_its_own_line() {
        let replica = parse(NODES, true).unwrap();
        assert_eq!((replica.role, replica.primary.as_deref()), (Role::Replica, Some("07c37df")));
        let primary =
            parse(&NODES.replace("master -", "myself,master -").replace("myself,slave", "slave"), false)
                .unwrap();
        assert_eq!(
            (primary.role, primary.epoch, primary.slots),
            (Role::Primary, 4, vec![(0, 5460), (9000, 9000)])
        );
        assert_eq!(parse("", true), None);
    }

    fn pod(name: &str) -> PodAddress {
        PodAddress { namespace: "n".into(), name: name.into(), ip: None, node: None }
    }

    /// The field note: `cluster_state:ok` says nothing of a replica whose first sync still waits.
    #[test]
    fn a_replica_whose_link_is_not_up_is_not_in_sync() {
        for link_up in [true, false] {
            let replica = parse(NODES, link_up).unwrap();
            assert_eq!(member(&pod("r"), &replica, &BTreeMap::new()).in_sync, link_up);
        }
    }

    #[test]
    fn two_nodes_that_own_a_slot_and_serve_are_two_writers() {
        let owner = |slots: &[(u16, u16)], serves| Myself {
            slots: slots.to_vec(),
            serves,
            ..parse(&NODES.replace("master -", "myself,master -").replace("myself,slave", "slave"), false)
                .unwrap()
        };
        let of = |second: Myself| {
            let first = owner(&[(0, 5460)], true);
            writers(&[("b", &first), ("a", &second)])
        };
        let scope = |slot: u16, pods: &[&str]| {
            (format!("slot:{slot}"), pods.iter().map(|pod| (*pod).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(of(owner(&[(5461, 9000)], true)), [scope(0, &["b"]), scope(5461, &["a"])]);
        assert_eq!(of(owner(&[(0, 5460)], true)), [scope(0, &["a", "b"])]);
        assert_eq!(of(owner(&[(100, 200)], true)), [scope(0, &["b"]), scope(100, &["a", "b"])]);
        assert_eq!(of(owner(&[(0, 5460)], false)), [scope(0, &["b"])], "it lost the majority");
    }

    #[test]
    fn the_higher_epoch_owns_a_slot_and_a_gap_has_no_leader() {
        let primary = |name: &str, epoch, slots: &[(u16, u16)]| Member {
            role: Some(Role::Primary),
            epoch: Some(epoch),
            slots: slots.to_vec(),
            answers: true,
            in_sync: true,
            ..Member::silent(name, String::new())
        };
        let old_and_new = [
            primary("old", 1, &[(0, 5460)]),
            primary("new", 7, &[(0, 5460)]),
            primary("b", 2, &[(5461, 16383)]),
        ];
        let led = |scope: &str, pod: &str, epoch| (scope.to_owned(), Some((pod.to_owned(), Some(epoch))));
        assert_eq!(leaders(&old_and_new), (vec![led("slot:0", "new", 7), led("slot:5461", "b", 2)], true));
        assert!(!leaders(&old_and_new[..2]).1, "slots that nobody owns");
    }
}
