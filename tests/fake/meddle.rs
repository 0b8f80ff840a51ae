//! What becomes of a target while a fault is on, by nobody's fault.

use mettle::model::Change;

use super::state::{Happening, Pod, State};

const SOON_MS: u64 = 1000;
const CREATE_MS: u64 = 300;
const ELECT_MS: u64 = 2000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meddling {
    /// Its container is started again: new processes, and the agent died with the old ones.
    Restarts,
    /// Its pod is deleted, and its controller makes another.
    Replaced,
    /// Its node is gone for good; controllers make its pods elsewhere.
    NodeGone,
}

impl Meddling {
    pub const ALL: [Self; 3] = [Self::Restarts, Self::Replaced, Self::NodeGone];
}

impl State {
    /// A second after a change took effect. A node that is off is gone already.
    pub fn meddle_soon(&mut self, how: Meddling, change: &Change) {
        let node = match change {
            Change::NodePower { node, .. } => Some(node),
            Change::Edit { object, .. } if object.kind == "Node" => Some(&object.name),
            _ => None,
        };
        let on_node = |pod: &&Pod| Some(&pod.node) == node;
        let named = |pod: &&Pod| change.pod().is_some_and(|target| pod.uid == target.uid);
        let found = self.pods.iter().find(named).or_else(|| self.pods.iter().find(on_node));
        let Some(pod) = found.or(self.pods.first()) else { return };
        if matches!(change, Change::NodePower { .. }) && how == Meddling::NodeGone {
            return;
        }
        let (uid, node) = (pod.uid.clone(), pod.node.clone());
        self.after(SOON_MS, Happening::Meddled { how, uid, node });
    }

    pub fn meddled(&mut self, how: Meddling, uid: &str, node: &str) {
        match how {
            Meddling::Restarts => self.restarted(uid),
            // Or it is gone by now.
            Meddling::Replaced => drop(self.delete(uid)),
            Meddling::NodeGone => self.node_gone(node),
        }
    }

    fn restarted(&mut self, uid: &str) {
        let lives = |pod: &&Pod| pod.uid == uid && !pod.terminating && self.node_on(&pod.node);
        if !self.pods.iter().any(|pod| lives(&pod)) {
            return;
        }
        let Some(pod) = self.by_uid(uid) else { return };
        (pod.running, pod.ready, pod.paused) = (false, false, false);
        pod.incarnation += 1;
        self.agents.retain(|_, of| of != uid);
        self.after(CREATE_MS, Happening::PodStarted(uid.to_owned()));
        self.miss_leaders(ELECT_MS);
    }

    fn node_gone(&mut self, node: &str) {
        self.nodes.retain(|known| known.name != node);
        self.objects.retain(|object, _| object.kind != "Node" || object.name != node);
        let other = self.nodes.iter().find(|other| other.on).map(|other| other.name.clone());
        let other = other.expect("one of three is left");
        let (gone, kept): (Vec<Pod>, Vec<Pod>) =
            std::mem::take(&mut self.pods).into_iter().partition(|pod| pod.node == node);
        self.pods = kept;
        for pod in gone {
            self.forget_pod(&pod.uid);
            // One that was being replaced has its successor on the way.
            if !pod.terminating {
                let uid = format!("{}+", pod.uid);
                let (ready, paused, incarnation) = (false, false, pod.incarnation + 1);
                let next =
                    Pod { uid, node: other.clone(), ready, paused, running: false, incarnation, ..pod };
                self.after(CREATE_MS, Happening::PodCreate(Box::new(next)));
            }
        }
        self.miss_leaders(ELECT_MS);
    }

    /// What lives and dies with a pod.
    pub fn forget_pod(&mut self, uid: &str) {
        self.agents.retain(|_, of| of != uid);
        self.commands.retain(|(of, _)| of != uid);
    }
}
