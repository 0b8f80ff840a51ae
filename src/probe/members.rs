//! Asks every member of a component, over and over, what it is: leaders, members, redundancy.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Sink;
use crate::component::{Archive, Leader, Members, redundancy};
use crate::model::{Component, Observation};

const BEAT: Duration = Duration::from_secs(1);

/// Gives the members of one component as they are now, and how many there should be.
pub trait Source: Send + Sync + 'static {
    fn look(&self) -> impl Future<Output = Option<(Members, u32)>> + Send;
    fn name(&self) -> &'static str;
    /// Between two looks.
    fn every(&self) -> Duration;
}

/// Runs until `end`.
pub async fn observe_members<S: Sink>(source: impl Source, sink: S, end: CancellationToken) {
    let mut told = Told::default();
    let mut beat: Option<tokio::time::Instant> = None;
    let mut tick = tokio::time::interval(source.every());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = tick.tick() => {}
        }
        let Some((members, want)) = source.look().await else { continue };
        told.tell(&members, want, &sink);
        if beat.is_none_or(|last| last.elapsed() >= BEAT) {
            beat = Some(tokio::time::Instant::now());
            sink.observe(Observation::Heartbeat { probe: source.name().to_owned() });
        }
    }
}

/// What was said last, so that only changes are said.
#[derive(Default)]
struct Told {
    leaders: BTreeMap<String, Leader>,
    members: BTreeMap<String, (bool, bool)>,
    redundancy: Option<(u32, u32)>,
    writers: BTreeMap<String, Vec<String>>,
    archive: Option<(String, Archive)>,
}

impl Told {
    fn tell<S: Sink>(&mut self, members: &Members, want: u32, sink: &S) {
        let component = members.component;
        let mut scopes: BTreeMap<String, Leader> = members.leaders.iter().cloned().collect();
        // A scope that is no longer named has no leader now.
        for scope in self.leaders.keys() {
            scopes.entry(scope.clone()).or_insert(None);
        }
        for (scope, leader) in scopes {
            if self.leaders.get(&scope) != Some(&leader) {
                self.leaders.insert(scope.clone(), leader.clone());
                let (leader, epoch) = leader.unzip();
                sink.observe(Observation::Leader { component, scope, leader, epoch: epoch.flatten() });
            }
        }
        for member in &members.members {
            let said = (member.answers, member.in_sync);
            if self.members.insert(member.pod.clone(), said) != Some(said) {
                let (answers, in_sync) = said;
                sink.observe(Observation::Member { component, pod: member.pod.clone(), answers, in_sync });
            }
        }
        for (scope, pods) in self.writers_now(members) {
            sink.observe(Observation::Writers { component, scope, pods });
        }
        if self.archive != members.archive {
            self.archive.clone_from(&members.archive);
            sink.observe(archive(component, members.archive.clone()));
        }
        let said = (redundancy(members), want);
        if self.redundancy.replace(said) != Some(said) {
            sink.observe(Observation::Redundancy { component, have: said.0, want });
        }
    }
}

impl Told {
    /// Changes, and two of a scope at every look: that they said so at two looks in a row is what tells a split brain from
    /// a handover in the middle of a look.
    fn writers_now(&mut self, members: &Members) -> Vec<(String, Vec<String>)> {
        let mut scopes: BTreeMap<String, Vec<String>> = members.writers.iter().cloned().collect();
        for scope in self.writers.keys() {
            scopes.entry(scope.clone()).or_default();
        }
        scopes.retain(|scope, pods| pods.len() > 1 || self.writers.get(scope) != Some(pods));
        self.writers.extend(scopes.clone());
        scopes.into_iter().collect()
    }
}

fn archive(component: Component, said: Option<(String, Archive)>) -> Observation {
    let (pod, archive) = said.unzip();
    let Archive { archived, waiting, first } = archive.unwrap_or_default();
    Observation::Archive { component, pod, archived, waiting, first }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::component::Member;
    use crate::model::Role;

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<Observation>>>);

    impl Sink for Seen {
        fn observe(&self, observation: Observation) {
            self.0.lock().unwrap().push(observation);
        }
    }

    fn members(leader: Option<&str>) -> Members {
        let member = Member {
            answers: leader.is_some(),
            in_sync: true,
            role: Some(Role::Primary),
            ..Member::silent("p-0", String::new())
        };
        let leaders = vec![("db".to_owned(), leader.map(|name| (name.to_owned(), Some(1))))];
        let members = vec![member];
        Members {
            component: Component::Postgres,
            members,
            leaders,
            led: leader.is_some(),
            writers: Vec::new(),
            archive: None,
            crowded: 0,
        }
    }

    #[test]
    fn only_changes_are_told_and_no_leader_means_no_redundancy() {
        let (seen, mut told) = (Seen::default(), Told::default());
        told.tell(&members(Some("p-0")), 1, &seen);
        assert_eq!(seen.0.lock().unwrap().len(), 3);
        told.tell(&members(Some("p-0")), 1, &seen);
        assert_eq!(seen.0.lock().unwrap().len(), 3, "nothing new");
        told.tell(&members(None), 1, &seen);
        let all = seen.0.lock().unwrap();
        assert!(matches!(all.last(), Some(Observation::Redundancy { have: 0, want: 1, .. })));
        assert_eq!(all.len(), 6);
    }

    #[test]
    fn two_writers_are_told_at_every_look_and_one_only_when_it_changes() {
        let (seen, mut told) = (Seen::default(), Told::default());
        let mut look = |pods: &[&str]| {
            let pods: Vec<String> = pods.iter().map(|pod| (*pod).to_owned()).collect();
            let writers = vec![("db".to_owned(), pods)];
            told.tell(&Members { writers, ..members(Some("p-0")) }, 1, &seen);
            let writers = |seen: &&Observation| matches!(seen, Observation::Writers { .. });
            seen.0.lock().unwrap().iter().filter(writers).count()
        };
        assert_eq!(
            [look(&["a"]), look(&["a"]), look(&["a", "b"]), look(&["a", "b"]), look(&["b"])],
            [1, 1, 2, 3, 4]
        );
        assert_eq!([look(&["b"]), look(&[])], [4, 5]);
    }

    #[test]
    fn the_archive_is_told_when_it_changes_and_when_nobody_can_be_asked() {
        let (seen, mut told) = (Seen::default(), Told::default());
        let mut look = |said: Option<(&str, u64)>| {
            let archive =
                said.map(|(pod, archived)| (pod.to_owned(), Archive { archived, ..Archive::default() }));
            told.tell(&Members { archive, ..members(Some("p-0")) }, 1, &seen);
            let archives = |seen: &&Observation| matches!(seen, Observation::Archive { .. });
            seen.0.lock().unwrap().iter().filter(archives).count()
        };
        assert_eq!(
            [look(None), look(Some(("a", 1))), look(Some(("a", 1))), look(Some(("a", 2)))],
            [0, 1, 1, 2]
        );
        assert_eq!([look(Some(("b", 2))), look(None), look(None)], [3, 4, 4]);
    }
}
