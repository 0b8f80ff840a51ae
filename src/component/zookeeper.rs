//! ZooKeeper: each server's own `srvr`, and the leader's `mntr` for how many followers it counts as synced.
//!
//! # Caveats
//! The epoch is the high half of the last zxid that a server applied: a new leader shows the new epoch at once, a follower
//! with the first write after the election. A server that looks for a leader says that it does not serve; one that joins says so too,
//! until it is synced. The leader gives the number of its synced followers, not their names: where fewer are synced than
//! say that they follow, those with the highest zxid are taken.

use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Leader, Member, Members};
use crate::cluster::{ClusterError, Dialer, PodAddress, Stream};
use crate::model::{Component, Role};

const PORT: u16 = 2181;
const SCOPE: &str = "ensemble";
/// `mntr` is the longest word that we ask for: about 20 kB.
const ANSWER_MAX: u64 = 256 * 1024;

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    /// Absent: it is up, and neither leads nor follows.
    role: Option<Role>,
    zxid: u64,
    /// Of a leader: followers that it counts as synced.
    synced: Option<usize>,
    mode: String,
}

impl Word {
    fn epoch(&self) -> u64 {
        self.zxid >> 32
    }
}

/// Asks every server.
pub async fn members(dialer: &Dialer, pods: &[PodAddress], deadline: Duration) -> Members {
    let words = join_all(pods.iter().map(|pod| word_of(dialer, pod, deadline))).await;
    let words = words.into_iter().map(|word| word.map_err(|error| error.to_string()));
    ensemble(pods, words.collect())
}

fn ensemble(pods: &[PodAddress], words: Vec<Result<Word, String>>) -> Members {
    let leads = |word: &&Word| word.role == Some(Role::Primary);
    // Two that say they lead: the later epoch does, the other has not noticed yet.
    let leader = pods
        .iter()
        .zip(&words)
        .filter_map(|(pod, word)| Some((pod, word.as_ref().ok().filter(leads)?)))
        .max_by_key(|(_, word)| word.zxid);
    let synced = leader.and_then(|(_, word)| word.synced).unwrap_or(0);
    let mut follow: Vec<(u64, &str)> = pods
        .iter()
        .zip(&words)
        .filter_map(|(pod, word)| Some((pod, word.as_ref().ok()?)))
        .filter(|(_, word)| word.role == Some(Role::Replica))
        .map(|(pod, word)| (word.zxid, pod.name.as_str()))
        .collect();
    follow.sort_by(|a, b| b.cmp(a));
    follow.truncate(synced);
    let is_leader = |pod: &PodAddress| leader.is_some_and(|(leads, _)| leads.name == pod.name);
    let members = pods.iter().zip(&words).map(|(pod, word)| match word {
        Err(why) => Member::silent(&pod.name, why.clone()),
        Ok(word) => Member {
            answers: true,
            role: word.role,
            in_sync: is_leader(pod) || follow.iter().any(|(_, name)| *name == pod.name),
            epoch: word.role.map(|_| word.epoch()),
            source: format!("srvr: {}, zxid 0x{:x} (epoch {})", word.mode, word.zxid, word.epoch()),
            ..Member::silent(&pod.name, String::new())
        },
    });
    let members: Vec<Member> = members.collect();
    let lead = members.iter().filter(|member| member.role == Some(Role::Primary));
    let writers = vec![(SCOPE.to_owned(), lead.map(|member| member.pod.clone()).collect())];
    let leader: Leader = leader.map(|(pod, word)| (pod.name.clone(), Some(word.epoch())));
    let led = leader.is_some();
    let leaders = vec![(SCOPE.to_owned(), leader)];
    Members { component: Component::Zookeeper, members, leaders, led, writers, archive: None, crowded: 0 }
}

async fn word_of(dialer: &Dialer, pod: &PodAddress, deadline: Duration) -> Result<Word, ClusterError> {
    let what = format!("ask the zookeeper of {}", pod.name);
    let asking = async {
        let text = four_letters(dialer.dial(pod, PORT, deadline).await?, "srvr", &what).await?;
        let mut word = parse(&text)
            .ok_or_else(|| ClusterError::state(what.clone(), format!("its answer is none: {text:.80}")))?;
        if word.role == Some(Role::Primary) {
            let text = four_letters(dialer.dial(pod, PORT, deadline).await?, "mntr", &what).await?;
            word.synced = synced(&text);
        }
        Ok(word)
    };
    match tokio::time::timeout(deadline, asking).await {
        Ok(result) => result,
        Err(_) => Err(ClusterError::Deadline { what, seconds: deadline.as_secs().max(1) }),
    }
}

/// The server closes the connection after its answer.
async fn four_letters(mut stream: Box<dyn Stream>, word: &str, what: &str) -> Result<String, ClusterError> {
    let failed = |error: std::io::Error| ClusterError::state(what.to_owned(), error.to_string());
    stream.write_all(word.as_bytes()).await.map_err(failed)?;
    stream.flush().await.map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await.map_err(failed)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// `srvr`; absent when it is no answer of a ZooKeeper.
fn parse(text: &str) -> Option<Word> {
    let value = |name: &str| {
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.trim().to_owned()))
    };
    if text.contains("not currently serving") {
        return Some(Word { role: None, zxid: 0, synced: None, mode: "does not serve".to_owned() });
    }
    let mode = value("Mode")?;
    let role = match mode.as_str() {
        // A server alone is no ensemble, and still the one that takes writes.
        "leader" | "standalone" => Some(Role::Primary),
        "follower" => Some(Role::Replica),
        _ => None,
    };
    let zxid = value("Zxid")?;
    let zxid = u64::from_str_radix(zxid.strip_prefix("0x")?, 16).ok()?;
    Some(Word { role, zxid, synced: None, mode })
}

/// Of `mntr`: a whole number, written as one or as a decimal one.
fn synced(text: &str) -> Option<usize> {
    let value = text.lines().find_map(|line| line.strip_prefix("zk_synced_followers\t"))?.trim();
    let whole = value.strip_suffix(".0").unwrap_or(value);
    whole.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As 3.8.4 answers.
    const LEADER: &str = "Zookeeper version: 3.8.4-9316c2a7a97e1666d8f4593f34dd6fc36ecc436c, built on 2024-02-12 22:16 UTC\n\
Latency min/avg/max: 1/6.5769/26\nReceived: 27\nSent: 26\nConnections: 2\nOutstanding: 0\nZxid: 0x10000002c\nMode: leader\n\
Node count: 25\nProposal sizes last/min/max: 36/36/146\n";

    fn pods() -> Vec<PodAddress> {
        let pod =
            |i: usize| PodAddress { namespace: "n".into(), name: format!("zk-{i}"), ip: None, node: None };
        (0..3).map(pod).collect()
    }

    fn word(mode: &str, zxid: u64, synced: Option<usize>) -> Result<Word, String> {
        let text = LEADER.replace("Mode: leader", &format!("Mode: {mode}"));
        Ok(Word { zxid, synced, ..parse(&text).unwrap() })
    }

    fn in_sync(members: &Members) -> Vec<bool> {
        members.members.iter().map(|member| member.in_sync).collect()
    }

    #[test]
    fn a_server_is_read_from_its_own_words() {
        let leader = parse(LEADER).unwrap();
        assert_eq!((leader.role, leader.epoch(), leader.zxid), (Some(Role::Primary), 1, 0x1_0000_002c));
        let looking = parse("This ZooKeeper instance is not currently serving requests\n").unwrap();
        assert_eq!(looking.role, None);
        for text in ["", "HTTP/1.1 400 Bad Request", "Mode: leader\n", "Mode: leader\nZxid: 12\n"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(synced("zk_followers\t2\nzk_synced_followers\t2.0\n"), Some(2));
        assert_eq!(synced("zk_synced_followers\t2\n"), Some(2));
        assert_eq!(synced("zk_synced_followers\tNaN\n"), None);
    }

    #[test]
    fn followers_are_in_sync_as_far_as_the_leader_counts_them() {
        let with = |synced| {
            let words = vec![word("follower", 5, None), word("leader", 9, synced), word("follower", 7, None)];
            ensemble(&pods(), words)
        };
        assert_eq!(in_sync(&with(Some(2))), [true, true, true]);
        assert_eq!(in_sync(&with(Some(1))), [false, true, true], "the one that lags behind");
        assert_eq!(in_sync(&with(None)), [false, true, false], "the leader did not say");
    }

    #[test]
    fn nobody_leads_without_a_leaders_own_word() {
        let words = vec![word("follower", 5, None), Err("silent".into()), word("follower", 7, None)];
        let members = ensemble(&pods(), words);
        assert_eq!((members.led, super::super::redundancy(&members)), (false, 0));
        assert_eq!(members.leaders, [(SCOPE.to_owned(), None)]);
    }

    #[test]
    fn of_two_leaders_the_later_epoch_leads_and_both_say_that_they_do() {
        let words = vec![
            word("leader", 3 << 32, Some(1)),
            word("leader", 4 << 32, Some(1)),
            word("follower", 1, None),
        ];
        let members = ensemble(&pods(), words);
        assert_eq!(members.leaders, [(SCOPE.to_owned(), Some(("zk-1".to_owned(), Some(4))))]);
        assert_eq!(members.writers, [(SCOPE.to_owned(), vec!["zk-0".to_owned(), "zk-1".to_owned()])]);
        assert_eq!(in_sync(&members), [false, true, true]);
    }
}
