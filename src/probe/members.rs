//! Asks every member of a component, over and over, what it is: leaders, members, redundancy.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Sink;
use crate::component::{Members, redundancy};
use crate::model::Observation;

/// Between two looks. Short enough for phases of a second, long enough for two cores.
const EVERY: Duration = Duration::from_millis(300);
const BEAT: Duration = Duration::from_secs(1);

/// Gives the members of one component as they are now, and how many there should be.
pub trait Source: Send + Sync + 'static {
    fn look(&self) -> impl Future<Output = Option<(Members, u32)>> + Send;
    fn name(&self) -> &'static str;
}

/// Runs until `end`.
pub async fn observe_members<S: Sink>(source: impl Source, sink: S, end: CancellationToken) {
    let mut told = Told::default();
    let mut beat: Option<tokio::time::Instant> = None;
    let mut tick = tokio::time::interval(EVERY);
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
    leaders: BTreeMap<String, Option<(String, u64)>>,
    members: BTreeMap<String, (bool, bool)>,
    redundancy: Option<(u32, u32)>,
}

impl Told {
    fn tell<S: Sink>(&mut self, members: &Members, want: u32, sink: &S) {
        let component = members.component;
        let mut scopes: BTreeMap<String, Option<(String, u64)>> = members.leaders.iter().cloned().collect();
        // A scope that is no longer named has no leader now.
        for scope in self.leaders.keys() {
            scopes.entry(scope.clone()).or_insert(None);
        }
        for (scope, leader) in scopes {
            if self.leaders.get(&scope) != Some(&leader) {
                self.leaders.insert(scope.clone(), leader.clone());
                let (leader, epoch) = leader.unzip();
                sink.observe(Observation::Leader { component, scope, leader, epoch });
            }
        }
        for member in &members.members {
            let said = (member.answers, member.in_sync);
            if self.members.insert(member.pod.clone(), said) != Some(said) {
                let (answers, in_sync) = said;
                sink.observe(Observation::Member { component, pod: member.pod.clone(), answers, in_sync });
            }
        }
        let said = (redundancy(members), want);
        if self.redundancy.replace(said) != Some(said) {
            sink.observe(Observation::Redundancy { component, have: said.0, want });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::component::Member;
    use crate::model::{Component, Role};

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
        let leaders = vec![("db".to_owned(), leader.map(|name| (name.to_owned(), 1)))];
        Members { component: Component::Postgres, members: vec![member], leaders, led: leader.is_some() }
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
}
