//! How Kafka keeps its topics, by a broker's own word: what was set on a topic counts, whatever the brokers' files say.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{ApiKey, DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::describe;
use crate::cluster::{ClusterError, Dialer, PodAddress};

/// Kafka 2.0 knows it.
const DESCRIBE_CONFIGS_VERSION: i16 = 2;
const OF_A_TOPIC: i8 = 2;
const IN_SYNC_MIN: &str = "min.insync.replicas";
const UNCLEAN: &str = "unclean.leader.election.enable";

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    pub topic: String,
    /// Of the partition that has fewest.
    pub replicas: usize,
    /// What `acks=all` waits for.
    pub in_sync_min: u32,
    /// Whether a replica that lacks acknowledged records may lead.
    pub unclean: bool,
}

/// Every topic that is not Kafka's own.
///
/// # Errors
/// When no broker answers, or one leaves something out.
pub async fn settings(
    dialer: &Dialer,
    pods: &[PodAddress],
    deadline: Duration,
) -> Result<Vec<TopicSettings>, ClusterError> {
    let what = "read the settings of kafka's topics";
    match tokio::time::timeout(deadline, ask(dialer, pods)).await {
        Ok(read) => read.map_err(|why| ClusterError::state(what, why)),
        Err(_) => Err(ClusterError::Deadline { what: what.to_owned(), seconds: deadline.as_secs() }),
    }
}

async fn ask(dialer: &Dialer, pods: &[PodAddress]) -> Result<Vec<TopicSettings>, String> {
    let (cluster, mut broker) = describe(dialer, pods, None).await?;
    let topics: Vec<_> = cluster.topics.iter().filter(|topic| !topic.is_internal).collect();
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let answer: DescribeConfigsResponse =
        broker.ask(ApiKey::DescribeConfigs, DESCRIBE_CONFIGS_VERSION, &question(&topics)).await?;
    topics.into_iter().map(|topic| read(topic, &answer.results)).collect()
}

fn question(topics: &[&MetadataResponseTopic]) -> DescribeConfigsRequest {
    let keys = [IN_SYNC_MIN, UNCLEAN].map(StrBytes::from_static_str);
    let names = topics.iter().filter_map(|topic| topic.name.clone());
    let resources = names.map(|name| {
        DescribeConfigsResource::default()
            .with_resource_type(OF_A_TOPIC)
            .with_resource_name(name.0)
            .with_configuration_keys(Some(keys.to_vec()))
    });
    DescribeConfigsRequest::default().with_resources(resources.collect())
}

fn read(topic: &MetadataResponseTopic, results: &[DescribeConfigsResult]) -> Result<TopicSettings, String> {
    let name = topic.name.as_ref().map(|name| name.0.to_string()).unwrap_or_default();
    if topic.error_code != 0 {
        return Err(format!("{name}: error {}", topic.error_code));
    }
    let result = results.iter().find(|result| result.resource_name.as_str() == name);
    let result = result.ok_or_else(|| format!("nothing is said of {name}"))?;
    if result.error_code != 0 {
        return Err(format!("{name}: error {}", result.error_code));
    }
    let values: BTreeMap<&str, &str> =
        result.configs.iter().filter_map(|one| Some((one.name.as_str(), one.value.as_deref()?))).collect();
    Ok(TopicSettings {
        replicas: topic.partitions.iter().map(|one| one.replica_nodes.len()).min().unwrap_or(0),
        in_sync_min: value(&values, &name, IN_SYNC_MIN)?,
        unclean: value(&values, &name, UNCLEAN)?,
        topic: name,
    })
}

fn value<T: FromStr>(values: &BTreeMap<&str, &str>, topic: &str, key: &str) -> Result<T, String> {
    let text = values.get(key).ok_or_else(|| format!("{topic} has no {key}"))?;
    text.parse().map_err(|_| format!("{key} is something else"))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::BrokerId;
    use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
    use kafka_protocol::messages::metadata_response::MetadataResponsePartition;

    use super::super::topic_name;
    use super::*;

    fn topic(replicas: &[i32]) -> MetadataResponseTopic {
        let partition = |count: &i32| {
            MetadataResponsePartition::default().with_replica_nodes((0..*count).map(BrokerId).collect())
        };
        MetadataResponseTopic::default()
            .with_name(Some(topic_name("decisions")))
            .with_partitions(replicas.iter().map(partition).collect())
    }

    fn result(name: &str, values: &[(&'static str, &'static str)]) -> DescribeConfigsResult {
        let value = |(key, value): &(&'static str, &'static str)| {
            DescribeConfigsResourceResult::default()
                .with_name(StrBytes::from_static_str(key))
                .with_value(Some(StrBytes::from_static_str(value)))
        };
        DescribeConfigsResult::default()
            .with_resource_name(StrBytes::from_string(name.to_owned()))
            .with_configs(values.iter().map(value).collect())
    }

    #[test]
    fn a_topic_is_as_weak_as_its_weakest_partition() {
        let found = read(&topic(&[3, 2]), &[result("decisions", &[(IN_SYNC_MIN, "2"), (UNCLEAN, "false")])]);
        let topic = "decisions".to_owned();
        assert_eq!(found, Ok(TopicSettings { topic, replicas: 2, in_sync_min: 2, unclean: false }));
    }

    #[test]
    fn what_is_not_said_is_no_answer() {
        for (results, why) in [
            (vec![], "nothing is said of decisions"),
            (vec![result("other", &[])], "nothing is said of decisions"),
            (vec![result("decisions", &[(UNCLEAN, "false")])], "decisions has no min.insync.replicas"),
            (
                vec![result("decisions", &[(IN_SYNC_MIN, "many"), (UNCLEAN, "false")])],
                "min.insync.replicas is something else",
            ),
            (vec![result("decisions", &[]).with_error_code(29)], "decisions: error 29"),
        ] {
            assert_eq!(read(&topic(&[3]), &results).unwrap_err(), why);
        }
        let away = topic(&[]).with_error_code(5);
        assert_eq!(read(&away, &[]).unwrap_err(), "decisions: error 5");
    }
}
