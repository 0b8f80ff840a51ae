//! Kafka's topics as they are set now: a topic's own setting outweighs the brokers'.

use std::time::Duration;

use super::{Row, Section, Seen, Site, all_of, unseen};
use crate::component::{TopicSettings, topic_settings};
use crate::model::Finding;

const DEADLINE: Duration = Duration::from_secs(15);
const CHECK: &str = "kafka: what a topic acknowledges survives any one broker";
/// The guide's numbers.
const REPLICAS_MIN: usize = 3;
const IN_SYNC_MIN: u32 = 2;

pub async fn row(site: &Site, seen: &Seen) -> Row {
    let read = topic_settings(&site.dialer, &seen.addresses(&site.namespace, "kafka"), DEADLINE).await;
    let finding = match read {
        Ok(topics) => judge(&topics),
        Err(why) => unseen(CHECK, why),
    };
    Row::new(Section::Members, &["K1/isr"], finding)
}

fn judge(topics: &[TopicSettings]) -> Finding {
    let wrong = topics.iter().filter_map(|one| {
        let name = &one.topic;
        if one.replicas < REPLICAS_MIN {
            Some(format!("{name} has a partition of {} replicas, not {REPLICAS_MIN}", one.replicas))
        } else if one.in_sync_min < IN_SYNC_MIN {
            Some(format!("{name} acknowledges with {} in sync, not {IN_SYNC_MIN}", one.in_sync_min))
        } else {
            one.unclean.then(|| format!("{name} may be led by a replica that lacks records"))
        }
    });
    all_of(CHECK, topics.len(), "topics", wrong.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict::{self, Fail, Inconclusive, Pass};

    #[test]
    fn one_weak_topic_is_enough() {
        let topic = |replicas, in_sync_min, unclean| TopicSettings {
            topic: "decisions".to_owned(),
            replicas,
            in_sync_min,
            unclean,
        };
        let good = || topic(3, 2, false);
        let cases: [(&[TopicSettings], Verdict, &str); 5] = [
            (&[good(), good()], Pass, "2 topics"),
            (&[good(), topic(2, 2, false)], Fail, "decisions has a partition of 2 replicas, not 3"),
            (&[topic(3, 1, false), good()], Fail, "decisions acknowledges with 1 in sync, not 2"),
            (&[topic(3, 2, true)], Fail, "decisions may be led by a replica that lacks records"),
            (&[], Inconclusive, "there are no topics"),
        ];
        for (topics, verdict, reason) in cases {
            let finding = judge(topics);
            assert_eq!((finding.verdict, finding.reason.as_str()), (verdict, reason));
        }
    }
}
