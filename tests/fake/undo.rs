//! Undoing in the in-memory cluster: as the real one does it, idempotent and tolerant.

use std::time::Duration;

use mettle::model::{OnConflict, PodRef, Restored, Undo, restore};
use mettle::run::{Undone, WorldError};

use super::Undoing;
use super::cluster::FakeWorld;
use super::object::key;
use super::state::State;

const EVERY: Duration = Duration::from_millis(250);
const DEADLINE: Duration = Duration::from_secs(150);

pub async fn undo(world: &FakeWorld, undo: &Undo, on_conflict: OnConflict) -> Result<Undone, WorldError> {
    match world.with(|state| state.behaviour.undoing) {
        Undoing::Works => {}
        Undoing::Fails => return Err(WorldError::new("the API does not answer")),
        Undoing::Conflict => return Ok(Undone::Conflict("somebody replaced it".to_owned())),
    }
    match undo {
        Undo::AwaitReplaced { pod, controller } => {
            until(world, &undo.describe(), |state| replaced(state, pod, controller)).await
        }
        Undo::RestoreNode { node, .. } => {
            world.with(|state| state.start_node(node));
            until(world, &undo.describe(), |state| {
                let ready = state.nodes.iter().any(|known| known.name == *node && known.ready);
                // The pods on it as well, so that a revert leaves the cluster as it was.
                let pods =
                    state.pods.iter().filter(|pod| pod.node == *node).all(|pod| pod.ready && pod.running);
                (ready && pods).then(|| Undone::Reverted(format!("node {node} is ready")))
            })
            .await
        }
        Undo::EndAgent { pod, agent, .. } => {
            // One that lost its process cannot be told: it ends by itself, and is waited for.
            world.with(|state| {
                if !state.orphans.contains(agent) {
                    state.resume(agent);
                }
            });
            until(world, &undo.describe(), |state| {
                let of_pod = state.pods.iter().filter(|known| known.uid == pod.uid);
                let ready = !state.agents.contains_key(agent) && of_pod.into_iter().all(|known| known.ready);
                ready.then(|| Undone::Reverted(format!("agent {agent} has ended")))
            })
            .await
        }
        Undo::AwaitReady { pod, .. } => {
            until(world, &undo.describe(), |state| {
                let ready = state.pods.iter().filter(|known| known.uid == pod.uid).all(|known| known.ready);
                ready.then(|| Undone::Reverted(format!("pod {} is ready", pod.name)))
            })
            .await
        }
        Undo::Restore { object } => world.with(|state| {
            let Some(value) = state.objects.get_mut(object) else {
                return Ok(Undone::AlreadyClean(format!("{object} was never edited")));
            };
            match restore(value, on_conflict).map_err(WorldError::new)? {
                Restored::Done => Ok(Undone::Reverted(format!("{object} is as it was"))),
                Restored::Clean => Ok(Undone::AlreadyClean(format!("{object} bears no edit"))),
                Restored::Conflict(why) => Ok(Undone::Conflict(why)),
                Restored::Overwrote(what) => Ok(Undone::Reverted(format!("forced: {}", what.join("; ")))),
                Restored::Accepted(why) => Ok(Undone::Reverted(format!("abandoned: {why}"))),
            }
        }),
        Undo::AwaitRollout { object } => world.with(|state| {
            // Its edit stays; what else is compared does not look at it.
            state.objects.remove(object);
            Ok(Undone::Reverted(format!("the rollout of {object} is over")))
        }),
        Undo::Delete { object } => world.with(|state| {
            state.made.remove(object);
            Ok(Undone::Reverted(format!("{object} is gone")))
        }),
        Undo::Exec { command } => world.with(|state| {
            if state.pods.iter().all(|pod| pod.uid != command.pod.uid) {
                return Ok(Undone::AlreadyClean(format!("pod {} is gone", command.pod)));
            }
            state.commands.remove(&key(command));
            Ok(Undone::Reverted("the inverse command ran".to_owned()))
        }),
        Undo::ResumeControlPlane { part } => world.with(|state| {
            state.stopped.remove(part);
            Ok(Undone::Reverted(format!("{} goes on", part.as_str())))
        }),
        Undo::RestoreStore { .. } => Err(WorldError::new("this cluster has no backups")),
    }
}

async fn until(
    world: &FakeWorld,
    what: &str,
    done: impl Fn(&State) -> Option<Undone>,
) -> Result<Undone, WorldError> {
    let end = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(undone) = world.with(|state| done(state)) {
            return Ok(undone);
        }
        if tokio::time::Instant::now() >= end {
            return Err(WorldError::new(format!("{what}: not within {} s", DEADLINE.as_secs())));
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn replaced(state: &State, pod: &PodRef, controller: &str) -> Option<Undone> {
    match state.pod(&pod.name) {
        Some(same) if same.uid == pod.uid => (same.ready && !same.terminating)
            .then(|| Undone::AlreadyClean(format!("pod {} was never deleted", pod.name))),
        Some(other) => {
            other.ready.then(|| Undone::Reverted(format!("pod {} is ready under another uid", pod.name)))
        }
        None if controller.starts_with("StatefulSet/") => None,
        None => {
            let workloads = state.workloads();
            let full = workloads.iter().any(|one| one.name == controller && one.ready >= one.desired);
            full.then(|| Undone::Reverted(format!("{controller} is full")))
        }
    }
}
