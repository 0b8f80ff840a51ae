//! The in-memory cluster as a [`World`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mettle::ledger::Found;
use mettle::model::{Change, Component, Observation, OnConflict, OpId, RunId, Snapshot, Store, Undo, Watch};
use mettle::run::{Recorder, Undone, World, WorldError};
use tokio_util::sync::CancellationToken;

use super::group::Group;
use super::points::{Points, Trip};
use super::state::State;
use super::{Behaviour, undo, watch};

pub struct FakeWorld {
    state: Arc<Mutex<State>>,
    points: Points,
}

impl FakeWorld {
    pub fn new(behaviour: Behaviour, points: Points) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(behaviour))), points }
    }

    /// The same cluster, as another process finds it.
    pub fn attach(&self) -> Self {
        // Without looking: the clock that it knows is gone with its process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner).attach();
        Self { state: self.state.clone(), points: Points::new(Trip::None) }
    }

    pub fn state(&self) -> Arc<Mutex<State>> {
        self.state.clone()
    }

    pub fn points(&self) -> &Points {
        &self.points
    }

    /// With everything done that is due.
    pub fn with<T>(&self, see: impl FnOnce(&mut State) -> T) -> T {
        see(&mut lock(&self.state))
    }

    pub fn look(&self) -> Snapshot {
        self.with(|state| state.snapshot())
    }

    /// What the stores acknowledged and then lost, as they know it.
    pub fn lost(&self, store: Store) -> usize {
        let of = |component: mettle::model::Component| component.as_str() == store.as_str();
        self.with(|state| {
            state.groups.iter().filter(|group| of(group.component)).map(|group| group.lost.len()).sum()
        })
    }
}

pub fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.sync();
    state
}

impl World for FakeWorld {
    async fn snapshot(&self) -> Result<Snapshot, WorldError> {
        self.points.pass("snapshot:before").await;
        let snapshot = self.look();
        self.points.pass("snapshot:after").await;
        Ok(snapshot)
    }

    async fn apply(&self, run: &RunId, change: &Change, recorder: &Recorder) -> Result<(), WorldError> {
        self.points.pass("apply:before").await;
        let refused = self.with(|state| {
            let asked = state.applied.len() as u64 + 1;
            let refused = state.behaviour.refuses_from.is_some_and(|from| asked >= from);
            if refused && !state.behaviour.refuses_after_effect {
                return Err("the API refused it".to_owned());
            }
            state.apply(run, change)?;
            // Of the first change only: more than one node is never lost.
            if let Some(how) = state.behaviour.meddling.filter(|_| state.applied.len() == 1) {
                state.meddle_soon(how, change);
            }
            if refused { Err("the answer was lost".to_owned()) } else { Ok(()) }
        });
        if refused.is_ok() && !self.with(|state| state.behaviour.ignores_changes) {
            let text = "effect: it is seen, and the victim is gone".to_owned();
            Recorder::observe(recorder, Observation::Agent { agent: change.reporter(), text });
        }
        self.points.pass("apply:after").await;
        refused.map_err(WorldError::new)
    }

    async fn undo(&self, undo: &Undo, on_conflict: OnConflict) -> Result<Undone, WorldError> {
        self.points.pass("undo:before").await;
        let undone = undo::undo(self, undo, on_conflict).await;
        self.points.pass("undo:after").await;
        undone
    }

    async fn residue(&self) -> Result<Vec<String>, WorldError> {
        self.points.pass("residue:before").await;
        let residue = self.with(|state| {
            let off =
                state.nodes.iter().filter(|node| !node.on).map(|node| format!("node {} is off", node.name));
            let agents = state.agents.keys().map(|agent| format!("agent {agent} is alive"));
            let edited = state.objects.iter().filter(|(_, value)| {
                !value["metadata"]["annotations"][mettle::model::UNDO_ANNOTATION].is_null()
            });
            let edited = edited.map(|(object, _)| format!("{object} bears an edit of ours"));
            let made = state.made.iter().map(|object| format!("{object} is ours"));
            let stopped = state.stopped.iter().map(|part| format!("{} is stopped", part.as_str()));
            off.chain(agents).chain(edited).chain(made).chain(stopped).collect()
        });
        self.points.pass("residue:after").await;
        Ok(residue)
    }

    async fn observe(&self, _: Watch, recorder: Recorder, end: CancellationToken) {
        watch::observe(self, recorder, end).await;
    }

    async fn found(&self, store: Store, run: &RunId) -> Result<Found, WorldError> {
        self.points.pass("found:before").await;
        let found = self.with(|state| {
            if !state.behaviour.ledger_readable {
                return Err(WorldError::new(format!("{} does not answer", store.as_str())));
            }
            // Results and events follow from the database's rows.
            let (component, lists) = match store {
                Store::Redis => (Component::Redis, true),
                Store::Postgres | Store::Jobs | Store::Kafka => (Component::Postgres, false),
            };
            let groups = state.groups.iter().filter(|group| group.component == component);
            let prefix = format!("{run}-");
            let mine = |group: &Group| -> Vec<OpId> {
                group.ids().filter(|id| id.to_string().starts_with(&prefix)).collect()
            };
            Ok(if lists {
                Found::of_lists(groups.map(|group| (group.list(run), mine(group))).collect())
            } else {
                Found::of_ids(groups.flat_map(mine).collect())
            })
        });
        self.points.pass("found:after").await;
        found
    }
}
