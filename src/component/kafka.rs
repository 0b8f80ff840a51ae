//! Kafka: the metadata that every broker gives its clients. Who leads each partition and is in sync with it, and which
//! broker is the controller.
//!
//! Brokers hear of changes from the controller, and one that is cut off goes on telling what it knew. So for each
//! partition the word with the highest leader epoch counts; where words of one epoch differ, a replica is in sync only
//! when all of them say so. The controller is the one that most brokers name, unless it denies it.
//!
//! # Caveats
//! Metadata has no epoch of the controller. A leader that died leads until the controller has noticed: that is what
//! clients see, too. With ZooKeeper the epoch of a partition also rises when a follower leaves, without an election.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, StrBytes, encode_request_header_into_buffer,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::kept::{Ask, Kept, ask};
use super::{Leader, Member, Members};
use crate::cluster::{ClusterError, Dialer, PodAddress, Stream};
use crate::model::{Component, Role};

/// The first with leader epochs; older than the compact encodings.
const VERSION: i16 = 7;
const ANSWER_MAX: usize = 4 << 20;
/// The scope of the broker that leads the cluster.
const CONTROLLER: &str = "controller";

/// Connections to the brokers.
#[derive(Default)]
pub struct Brokers {
    kept: Kept<Box<dyn Stream>>,
}

/// What one broker knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct View {
    /// Id → the pod, by the name that it advertises.
    brokers: BTreeMap<i32, String>,
    controller: i32,
    partitions: BTreeMap<(String, i32), Partition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Partition {
    internal: bool,
    leader: i32,
    epoch: i32,
    replicas: BTreeSet<i32>,
    in_sync: BTreeSet<i32>,
}

/// Asks every broker.
pub async fn members(brokers: &Brokers, dialer: &Dialer, pods: &[PodAddress], deadline: Duration) -> Members {
    let views = join_all(pods.iter().map(|pod| ask(&Metadata, &brokers.kept, dialer, pod, deadline))).await;
    cluster(pods, views.into_iter().map(|view| view.map_err(|error| error.to_string())).collect())
}

fn cluster(pods: &[PodAddress], views: Vec<Result<View, String>>) -> Members {
    let partitions = merged(views.iter().flatten());
    let broker_of: BTreeMap<i32, &String> =
        views.iter().flatten().flat_map(|view| &view.brokers).map(|(id, pod)| (*id, pod)).collect();
    let id_of = |pod: &str| broker_of.iter().find(|(_, name)| name.as_str() == pod).map(|(id, _)| *id);
    let own = |id: i32| {
        let at = pods.iter().position(|pod| broker_of.get(&id).is_some_and(|name| **name == pod.name))?;
        views.get(at)?.as_ref().ok()
    };
    let controller = controller(&views, own).and_then(|id| broker_of.get(&id).copied().cloned());
    let mut leaders: Vec<(String, Leader)> = partitions
        .iter()
        .filter(|(_, partition)| !partition.internal)
        .map(|((topic, number), partition)| {
            let leader = broker_of.get(&partition.leader);
            let epoch = u64::try_from(partition.epoch).ok();
            (format!("{topic}/{number}"), leader.map(|pod| ((*pod).clone(), epoch)))
        })
        .collect();
    leaders.push((CONTROLLER.to_owned(), controller.clone().map(|pod| (pod, None))));
    let led = controller.is_some() && partitions.values().all(|p| broker_of.contains_key(&p.leader));
    let members = pods.iter().zip(&views).map(|(pod, view)| match view {
        Err(why) => Member::silent(&pod.name, why.clone()),
        Ok(_) => member(pod, id_of(&pod.name), controller.as_ref(), &partitions),
    });
    Members {
        component: Component::Kafka,
        members: members.collect(),
        leaders,
        led,
        writers: Vec::new(),
        archive: None,
        crowded: 0,
    }
}

fn member(
    pod: &PodAddress,
    id: Option<i32>,
    controller: Option<&String>,
    partitions: &BTreeMap<(String, i32), Partition>,
) -> Member {
    let silent = Member::silent(&pod.name, String::new());
    let Some(id) = id else {
        return Member { answers: true, source: "metadata: not registered".to_owned(), ..silent };
    };
    let scopes = |of: &dyn Fn(&Partition) -> bool| -> Vec<String> {
        let scopes = partitions.iter().filter(|(_, partition)| !partition.internal && of(partition));
        scopes.map(|((topic, number), _)| format!("{topic}/{number}")).collect()
    };
    let mut leads = scopes(&|partition| partition.leader == id);
    let mut follows = scopes(&|partition| partition.leader != id && partition.in_sync.contains(&id));
    match controller {
        Some(controller) if *controller == pod.name => leads.push(CONTROLLER.to_owned()),
        Some(_) => follows.push(CONTROLLER.to_owned()),
        None => {}
    }
    let held = partitions.values().filter(|partition| partition.replicas.contains(&id));
    let behind = held.filter(|partition| !partition.in_sync.contains(&id)).count();
    Member {
        answers: true,
        role: Some(Role::Any),
        in_sync: behind == 0,
        source: format!(
            "metadata: broker {id} leads {} and follows {} scopes, {behind} replicas are behind",
            leads.len(),
            follows.len()
        ),
        leads,
        follows,
        ..silent
    }
}

/// The one that most name; not one that itself names another.
fn controller<'a>(views: &[Result<View, String>], own: impl Fn(i32) -> Option<&'a View>) -> Option<i32> {
    let mut votes: BTreeMap<i32, usize> = BTreeMap::new();
    for view in views.iter().flatten().filter(|view| view.brokers.contains_key(&view.controller)) {
        *votes.entry(view.controller).or_insert(0) += 1;
    }
    votes.retain(|id, _| own(*id).is_none_or(|view| view.controller == *id));
    votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(id, _)| id)
}

fn merged<'a>(views: impl Iterator<Item = &'a View>) -> BTreeMap<(String, i32), Partition> {
    let mut merged: BTreeMap<(String, i32), Partition> = BTreeMap::new();
    for (name, said) in views.flat_map(|view| &view.partitions) {
        match merged.get_mut(name) {
            Some(known) if known.epoch > said.epoch => {}
            Some(known) if known.epoch == said.epoch => {
                known.in_sync.retain(|id| said.in_sync.contains(id));
            }
            _ => {
                merged.insert(name.clone(), said.clone());
            }
        }
    }
    merged
}

struct Metadata;

impl Ask for Metadata {
    type Connection = Box<dyn Stream>;
    type Answer = View;
    const PORT: u16 = 9092;

    async fn open(&self, stream: Box<dyn Stream>, _: &str) -> Result<Self::Connection, ClusterError> {
        Ok(stream)
    }

    async fn ask(&self, stream: &mut Self::Connection, what: &str) -> Result<View, ClusterError> {
        let failed = |why: String| ClusterError::state(what.to_owned(), why);
        let broken = |error: std::io::Error| failed(error.to_string());
        let number = rand::random();
        let question = question(number).map_err(failed)?;
        stream.write_all(&question).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let length = stream.read_i32().await.map_err(broken)?;
        let length = usize::try_from(length).ok().filter(|length| (4..=ANSWER_MAX).contains(length));
        let length = length.ok_or_else(|| failed("its answer has no sensible length".to_owned()))?;
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await.map_err(broken)?;
        answer(number, &bytes).map_err(failed)
    }
}

/// With its length before it.
fn question(number: i32) -> Result<Vec<u8>, String> {
    let header = RequestHeader::default()
        .with_request_api_key(ApiKey::Metadata as i16)
        .with_request_api_version(VERSION)
        .with_correlation_id(number)
        .with_client_id(Some(StrBytes::from_static_str("mettle")));
    let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
    let mut bytes = Vec::new();
    encode_request_header_into_buffer(&mut bytes, &header).map_err(|error| error.to_string())?;
    request.encode(&mut bytes, VERSION).map_err(|error| error.to_string())?;
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    Ok([&length[..], &bytes].concat())
}

/// Without its length.
fn answer(number: i32, mut bytes: &[u8]) -> Result<View, String> {
    let header = ResponseHeader::decode(&mut bytes, MetadataResponse::header_version(VERSION));
    let header = header.map_err(|error| error.to_string())?;
    if header.correlation_id != number {
        return Err("the answer to another question".to_owned());
    }
    let response = MetadataResponse::decode(&mut bytes, VERSION).map_err(|error| error.to_string())?;
    let ids = |ids: &[kafka_protocol::messages::BrokerId]| ids.iter().map(|id| id.0).collect();
    let mut view = View { controller: response.controller_id.0, ..View::default() };
    for broker in &response.brokers {
        // It advertises the name that its headless service gives the pod.
        let pod = broker.host.split('.').next().unwrap_or_default();
        view.brokers.insert(broker.node_id.0, pod.to_owned());
    }
    for topic in response.topics.iter().filter(|topic| topic.error_code == 0) {
        let Some(name) = &topic.name else { continue };
        for partition in &topic.partitions {
            let said = Partition {
                internal: topic.is_internal,
                leader: partition.leader_id.0,
                epoch: partition.leader_epoch,
                replicas: ids(&partition.replica_nodes),
                in_sync: ids(&partition.isr_nodes),
            };
            view.partitions.insert((name.0.to_string(), partition.partition_index), said);
        }
    }
    Ok(view)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> Vec<PodAddress> {
        let pod =
            |i: usize| PodAddress { namespace: "n".into(), name: format!("kafka-{i}"), ip: None, node: None };
        (0..3).map(pod).collect()
    }

    /// `(number, leader, epoch, in sync)` of `decisions`, every partition on all three.
    fn view(controller: i32, partitions: &[(i32, i32, i32, &[i32])]) -> View {
        let brokers = (0..3).map(|id| (id, format!("kafka-{id}"))).collect();
        let partition = |leader, epoch, in_sync: &[i32]| Partition {
            internal: false,
            leader,
            epoch,
            replicas: (0..3).collect(),
            in_sync: in_sync.iter().copied().collect(),
        };
        let named = partitions
            .iter()
            .map(|(n, leader, epoch, isr)| (("decisions".to_owned(), *n), partition(*leader, *epoch, isr)));
        View { brokers, controller, partitions: named.collect() }
    }

    fn leader<'a>(members: &'a Members, scope: &str) -> Option<(&'a str, Option<u64>)> {
        let (_, leader) = members.leaders.iter().find(|(of, _)| of == scope).unwrap();
        leader.as_ref().map(|(pod, epoch)| (pod.as_str(), *epoch))
    }

    const WHOLE: &[(i32, i32, i32, &[i32])] = &[(0, 0, 4, &[0, 1, 2]), (1, 1, 4, &[0, 1, 2])];

    #[test]
    fn a_whole_cluster_has_a_leader_everywhere_and_three_in_sync() {
        let members = cluster(&pods(), vec![Ok(view(2, WHOLE)), Ok(view(2, WHOLE)), Ok(view(2, WHOLE))]);
        assert_eq!(leader(&members, "decisions/1"), Some(("kafka-1", Some(4))));
        assert_eq!(leader(&members, "controller"), Some(("kafka-2", None)));
        assert_eq!((members.led, super::super::redundancy(&members)), (true, 3));
        assert_eq!(members.members[0].leads, ["decisions/0"]);
        assert_eq!(members.members[2].leads, ["controller"]);
        assert_eq!(members.members[0].follows, ["decisions/1", "controller"]);
    }

    #[test]
    fn a_broker_that_was_cut_off_is_not_believed() {
        // It still thinks that it leads and that all is well; the others went on without it.
        let new: &[(i32, i32, i32, &[i32])] = &[(0, 1, 5, &[1, 2]), (1, 1, 5, &[1, 2])];
        let members = cluster(&pods(), vec![Ok(view(0, WHOLE)), Ok(view(2, new)), Ok(view(2, new))]);
        assert_eq!(leader(&members, "decisions/0"), Some(("kafka-1", Some(5))));
        assert_eq!(leader(&members, "controller"), Some(("kafka-2", None)));
        assert_eq!(members.members.iter().map(|m| m.in_sync).collect::<Vec<_>>(), [false, true, true]);
        assert!(members.members[0].leads.is_empty() && members.members[0].follows == ["controller"]);
    }

    #[test]
    fn in_sync_is_what_every_word_of_an_epoch_says() {
        let shrunk: &[(i32, i32, i32, &[i32])] = &[(0, 0, 4, &[0, 1]), (1, 1, 4, &[0, 1, 2])];
        for views in [[view(2, WHOLE), view(2, shrunk)], [view(2, shrunk), view(2, WHOLE)]] {
            let [a, b] = views;
            let members = cluster(&pods(), vec![Ok(a), Ok(b), Err("silent".into())]);
            assert_eq!(super::super::redundancy(&members), 2);
            assert_eq!(members.members[2].source, "silent");
        }
    }

    #[test]
    fn a_partition_whose_leader_left_has_none() {
        let lost: &[(i32, i32, i32, &[i32])] = &[(0, -1, 6, &[0]), (1, 1, 5, &[1, 2])];
        let without = |id| {
            let mut view = view(2, lost);
            view.brokers.remove(&0);
            view.controller = id;
            view
        };
        let members = cluster(&pods(), vec![Err(String::new()), Ok(without(2)), Ok(without(2))]);
        assert_eq!(leader(&members, "decisions/0"), None);
        assert_eq!((members.led, super::super::redundancy(&members)), (false, 0));
        // The controller that they name is not registered any more.
        let members = cluster(&pods(), vec![Err(String::new()), Ok(without(0)), Ok(without(0))]);
        assert_eq!(leader(&members, "controller"), None);
    }

    #[test]
    fn a_controller_that_denies_it_is_none() {
        let members = cluster(&pods(), vec![Ok(view(1, WHOLE)), Ok(view(2, WHOLE)), Ok(view(1, WHOLE))]);
        assert_eq!(leader(&members, "controller"), None, "1 names 2, and 2 names 1");
        let nobody = cluster(&pods(), vec![Err(String::new()), Err(String::new()), Err(String::new())]);
        assert_eq!((nobody.led, leader(&nobody, "controller")), (false, None));
    }

    fn string(text: &str) -> Vec<u8> {
        [&i16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
    }

    fn ids(ids: &[i32]) -> Vec<u8> {
        let length = i32::try_from(ids.len()).unwrap();
        std::iter::once(&length).chain(ids).flat_map(|id| id.to_be_bytes()).collect()
    }

    /// Version 7, by the published schema.
    fn response(number: i32) -> Vec<u8> {
        let int = |value: i32| value.to_be_bytes().to_vec();
        let partition = [vec![0, 0], int(3), int(1), int(9), ids(&[0, 1]), ids(&[1]), ids(&[])];
        [
            vec![
                int(number),
                int(0),
                int(1),
                int(1),
                string("kafka-1.kafka-pods"),
                int(9092),
                vec![0xff, 0xff],
            ],
            vec![string("cluster"), int(1), int(2)],
            vec![vec![0, 0], string("decisions"), vec![0], int(1), partition.concat()],
            vec![vec![0, 3], string("gone"), vec![0], int(0)],
        ]
        .concat()
        .concat()
    }

    #[test]
    fn an_answer_is_read_and_a_foreign_or_broken_one_refused() {
        let view = answer(7, &response(7)).unwrap();
        assert_eq!((view.controller, view.brokers), (1, [(1, "kafka-1".to_owned())].into()));
        let expected =
            Partition { internal: false, leader: 1, epoch: 9, replicas: [0, 1].into(), in_sync: [1].into() };
        assert_eq!(view.partitions, [(("decisions".to_owned(), 3), expected)].into());
        assert!(answer(8, &response(7)).is_err());
        for length in 0..response(7).len() {
            assert!(answer(7, &response(7)[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn the_question_asks_for_every_topic_and_makes_none() {
        let bytes = question(1).unwrap();
        let header = [&[0, 3, 0, 7, 0, 0, 0, 1][..], &string("mettle")].concat();
        let body = [&header[..], &[0xff; 4], &[0]].concat();
        assert_eq!(bytes, [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat());
    }
}
