//! RabbitMQ: each node's own tables of its quorum queues, read as a hidden Erlang node with the cluster's cookie. There
//! is no management plugin to ask, the command line tools cost a second of processor time a call, and the metrics of a queue
//! move to its new leader up to 5 s late; the tables are as they are now, and reading them costs nothing.
//!
//! A queue's leader is the member whose own state is `leader`. A node of which RabbitMQ is stopped, or paused in a
//! minority, has no such tables: it does not answer.
//!
//! # Caveats
//! A member is in sync when it leads or follows in every quorum queue: one that waits for entries or a snapshot says so,
//! but how many entries a follower lacks is not known. The term comes from statistics that are up to 5 s old. Only quorum
//! queues have members; classic queues and streams are not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use erl_dist::term::{List, Term, Tuple};
use futures::future::join_all;

use super::erlang::{Node, PORT, atom};
use super::kept::{Ask, Kept, ask};
use super::{Leader, Member, Members};
use crate::cluster::{ClusterError, Dialer, PodAddress, Stream};
use crate::model::{Component, Role};

/// Not a queue.
const COORDINATOR: &str = "rabbit_stream_coordinator";

/// Connections to the nodes.
pub struct Nodes {
    tables: Tables,
    kept: Kept<Node>,
}

impl Nodes {
    /// With the cookie, from the stack's secret; never printed.
    #[must_use]
    pub fn new(cookie: String) -> Self {
        Self { tables: Tables { cookie }, kept: Kept::default() }
    }
}

/// What one node holds of every quorum queue, by the queue's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct View {
    /// What the node calls itself.
    node: String,
    /// The state of its own member: `leader`, `follower`, …
    state: BTreeMap<String, String>,
    /// The node that leads as far as it knows.
    leader: BTreeMap<String, String>,
    term: BTreeMap<String, u64>,
}

/// Asks every node.
pub async fn members(nodes: &Nodes, dialer: &Dialer, pods: &[PodAddress], deadline: Duration) -> Members {
    let views = join_all(pods.iter().map(|pod| ask(&nodes.tables, &nodes.kept, dialer, pod, deadline))).await;
    queues(pods, views.into_iter().map(|view| view.map_err(|error| error.to_string())).collect())
}

fn queues(pods: &[PodAddress], views: Vec<Result<View, String>>) -> Members {
    let said: Vec<(&PodAddress, &View)> =
        pods.iter().zip(&views).filter_map(|(pod, view)| Some((pod, view.as_ref().ok()?))).collect();
    let names: BTreeSet<&String> =
        said.iter().flat_map(|(_, view)| view.state.keys().chain(view.leader.keys())).collect();
    let leaders: Vec<(String, Leader)> = names
        .iter()
        .map(|queue| {
            let leads = said.iter().filter(|(_, view)| view.state_of(queue) == Some("leader"));
            // Two that say they lead: the one that more follow, then the later term.
            let best = leads.max_by_key(|(_, view)| {
                let follow = said.iter().filter(|(_, other)| other.leader.get(*queue) == Some(&view.node));
                (follow.count(), view.term.get(*queue))
            });
            let term = |view: &View| view.term.get(*queue).copied().filter(|term| *term > 0);
            ((*queue).clone(), best.map(|(pod, view)| (pod.name.clone(), term(view))))
        })
        .collect();
    let led = !said.is_empty() && leaders.iter().all(|(_, leader)| leader.is_some());
    let members = pods.iter().zip(&views).map(|(pod, view)| match view {
        Err(why) => Member::silent(&pod.name, why.clone()),
        Ok(view) => member(pod, view, &leaders),
    });
    let members = members.collect();
    Members {
        component: Component::Rabbitmq,
        members,
        leaders,
        led,
        writers: Vec::new(),
        archive: None,
        crowded: 0,
    }
}

fn member(pod: &PodAddress, view: &View, leaders: &[(String, Leader)]) -> Member {
    let (mut leads, mut follows, mut neither) = (Vec::new(), Vec::new(), Vec::new());
    for (queue, leader) in leaders {
        let is_leader = leader.as_ref().is_some_and(|(name, _)| *name == pod.name);
        match view.state_of(queue) {
            Some("leader") if is_leader => leads.push(queue.clone()),
            Some("follower") => follows.push(queue.clone()),
            Some(state) => neither.push(format!("{queue} {state}")),
            None => neither.push(format!("{queue} no member")),
        }
    }
    let mut source = format!("ra_state: leads [{}], follows [{}]", leads.join(", "), follows.join(", "));
    if !neither.is_empty() {
        source = format!("{source}, neither [{}]", neither.join(", "));
    }
    Member {
        answers: true,
        role: Some(Role::Any),
        in_sync: neither.is_empty(),
        leads,
        follows,
        source,
        ..Member::silent(&pod.name, String::new())
    }
}

impl View {
    fn state_of(&self, queue: &str) -> Option<&str> {
        self.state.get(queue).map(String::as_str)
    }

    /// From the rows of `ra_state`, `ra_leaderboard` and `ra_metrics`.
    fn of(node: String, states: &Term, leaders: &Term, metrics: &Term) -> Option<Self> {
        let mut view = Self { node, ..Self::default() };
        // A row's internal name is made of the virtual host and the name: the metrics have both apart.
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for row in rows(metrics)? {
            let (Some(Term::Tuple(key)), Some(term)) = (row.first(), row.get(1)) else { continue };
            let [_, Term::Binary(host), _, Term::Binary(name)] = key.elements.as_slice() else { continue };
            let (host, name) = (text(&host.bytes), text(&name.bytes));
            let (internal, shown) = match host.as_str() {
                "/" => (format!("%2F_{name}"), name),
                _ => (format!("{host}_{name}"), format!("{host}/{name}")),
            };
            if let Some(term) = number(term) {
                view.term.insert(shown.clone(), term);
            }
            names.insert(internal, shown);
        }
        let shown = |internal: &str| {
            let known = names.get(internal).cloned();
            known.unwrap_or_else(|| internal.strip_prefix("%2F_").unwrap_or(internal).to_owned())
        };
        for row in rows(states)? {
            if let [Term::Atom(name), Term::Atom(state), ..] = row
                && name.name != COORDINATOR
            {
                view.state.insert(shown(&name.name), state.name.clone());
            }
        }
        for row in rows(leaders)? {
            if let [Term::Atom(name), Term::Tuple(leader), ..] = row
                && let [_, Term::Atom(node)] = leader.elements.as_slice()
                && name.name != COORDINATOR
            {
                view.leader.insert(shown(&name.name), node.name.clone());
            }
        }
        Some(view)
    }
}

fn rows(table: &Term) -> Option<Vec<&[Term]>> {
    let Term::List(List { elements }) = table else { return None };
    let rows = elements.iter().filter_map(|row| match row {
        Term::Tuple(Tuple { elements }) => Some(elements.as_slice()),
        _ => None,
    });
    Some(rows.collect())
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn number(term: &Term) -> Option<u64> {
    match term {
        Term::FixInteger(small) => u64::try_from(small.value).ok(),
        Term::BigInteger(big) => big.value.to_string().parse().ok(),
        _ => None,
    }
}

struct Tables {
    cookie: String,
}

impl Ask for Tables {
    type Connection = Node;
    type Answer = View;
    const PORT: u16 = PORT;

    async fn open(&self, stream: Box<dyn Stream>, what: &str) -> Result<Node, ClusterError> {
        Node::open(stream, &self.cookie, what).await
    }

    async fn ask(&self, node: &mut Node, what: &str) -> Result<View, ClusterError> {
        let mut tables = Vec::new();
        for table in ["ra_state", "ra_leaderboard", "ra_metrics"] {
            tables.push(node.call("ets", "tab2list", vec![atom(table)], what).await?);
        }
        let view = match tables.as_slice() {
            [states, leaders, metrics] => View::of(node.name.clone(), states, leaders, metrics),
            _ => None,
        };
        view.ok_or_else(|| ClusterError::state(what.to_owned(), "its tables are no lists"))
    }
}

#[cfg(test)]
mod tests {
    use erl_dist::term::{Binary, FixInteger};

    use super::*;

    fn pods() -> Vec<PodAddress> {
        let pod =
            |i: usize| PodAddress { namespace: "n".into(), name: format!("mq-{i}"), ip: None, node: None };
        (0..3).map(pod).collect()
    }

    fn row(elements: Vec<Term>) -> Term {
        Tuple::from(elements).into()
    }

    fn list(rows: Vec<Term>) -> Term {
        List::from(rows).into()
    }

    /// As 3.10.8 has them.
    fn view(node: usize, jobs: &str, leader: usize, term: i32) -> Result<View, String> {
        let name = |node: usize| format!("rabbit@mq-{node}.pods");
        let binary = |text: &str| Term::from(Binary { bytes: text.as_bytes().to_vec() });
        let states = list(vec![
            row(vec![atom("%2F_inference.jobs"), atom(jobs)]),
            row(vec![atom(COORDINATOR), atom("leader")]),
        ]);
        let leads = row(vec![atom("%2F_inference.jobs"), atom(&name(leader))]);
        let leaders = list(vec![row(vec![atom("%2F_inference.jobs"), leads, list(vec![])])]);
        let key = row(vec![atom("resource"), binary("/"), atom("queue"), binary("inference.jobs")]);
        let metrics = list(vec![row(vec![key, FixInteger::from(term).into(), FixInteger::from(0).into()])]);
        Ok(View::of(name(node), &states, &leaders, &metrics).unwrap())
    }

    fn led_by(members: &Members) -> Vec<(&str, Option<&str>)> {
        let leaders = members.leaders.iter();
        leaders
            .map(|(queue, leader)| (queue.as_str(), leader.as_ref().map(|(pod, _)| pod.as_str())))
            .collect()
    }

    #[test]
    fn a_queue_is_led_by_the_member_that_says_so() {
        let views = vec![view(0, "follower", 1, 3), view(1, "leader", 1, 3), view(2, "follower", 1, 3)];
        let members = queues(&pods(), views);
        assert_eq!(led_by(&members), [("inference.jobs", Some("mq-1"))]);
        assert_eq!(members.leaders[0].1, Some(("mq-1".to_owned(), Some(3))));
        assert_eq!(super::super::redundancy(&members), 3);
        assert_eq!(
            (&members.members[1].leads, &members.members[0].follows),
            (&vec!["inference.jobs".to_owned()], &vec!["inference.jobs".to_owned()])
        );
    }

    #[test]
    fn a_dead_leader_leaves_its_queue_without_one_and_nobody_in_sync() {
        let views = vec![view(0, "follower", 1, 3), Err("silent".into()), view(2, "candidate", 1, 3)];
        let members = queues(&pods(), views);
        assert_eq!(led_by(&members), [("inference.jobs", None)]);
        assert_eq!((members.led, super::super::redundancy(&members)), (false, 0));
        assert_eq!(members.members.iter().map(|m| m.in_sync).collect::<Vec<_>>(), [true, false, false]);
        assert!(!queues(&pods(), vec![Err(String::new()), Err(String::new()), Err(String::new())]).led);
    }

    #[test]
    fn of_two_leaders_the_one_leads_whom_others_follow() {
        let views = vec![view(0, "leader", 0, 3), view(1, "leader", 1, 4), view(2, "follower", 1, 4)];
        let members = queues(&pods(), views);
        assert_eq!(led_by(&members), [("inference.jobs", Some("mq-1"))]);
        assert!(!members.members[0].in_sync, "it leads by its own word only");
    }

    #[test]
    fn a_node_without_a_member_of_a_queue_is_not_in_sync() {
        let nothing = View { node: "rabbit@mq-2.pods".to_owned(), ..View::default() };
        let members = queues(&pods(), vec![view(0, "leader", 0, 1), view(1, "follower", 0, 1), Ok(nothing)]);
        assert_eq!(super::super::redundancy(&members), 2);
        assert!(members.members[2].source.contains("inference.jobs no member"));
    }

    #[test]
    fn queues_of_other_virtual_hosts_bear_their_name() {
        let binary = |text: &str| Term::from(Binary { bytes: text.as_bytes().to_vec() });
        let key = row(vec![atom("resource"), binary("shop"), atom("queue"), binary("orders")]);
        let metrics = list(vec![row(vec![key, FixInteger::from(1).into()])]);
        let states = list(vec![row(vec![atom("shop_orders"), atom("leader")])]);
        let view = View::of("a@b".into(), &states, &list(vec![]), &metrics).unwrap();
        assert_eq!(view.state_of("shop/orders"), Some("leader"));
        assert_eq!(View::of("a@b".into(), &atom("undefined"), &states, &metrics), None);
    }
}
