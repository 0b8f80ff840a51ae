//! What the members of one component say of themselves, in one look.

use crate::model::{Component, Role, RoleFact};

/// One member's own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub pod: String,
    /// Its server answered in time.
    pub answers: bool,
    pub role: Option<Role>,
    /// A primary always is; a replica when it streams from the present primary without a gap.
    pub in_sync: bool,
    /// Timeline or configuration epoch.
    pub epoch: Option<u64>,
    /// Redis: slots that it owns, or that its primary owns.
    pub slots: Vec<(u16, u16)>,
    /// Kafka, RabbitMQ: scopes that it leads, and those that it follows in sync.
    pub leads: Vec<String>,
    pub follows: Vec<String>,
    /// The words themselves, for the record.
    pub source: String,
}

impl Member {
    /// One that gave no answer.
    #[must_use]
    pub fn silent(pod: &str, why: String) -> Self {
        Self {
            pod: pod.to_owned(),
            answers: false,
            role: None,
            in_sync: false,
            epoch: None,
            slots: Vec::new(),
            leads: Vec::new(),
            follows: Vec::new(),
            source: why,
        }
    }
}

/// Who leads a scope, with the timeline or epoch where there is one; absent: nobody.
pub type Leader = Option<(String, Option<u64>)>;

/// What the one member that takes writes says of its archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archive {
    /// Files that it gave to the archive, in all; counted anew when the server lost its statistics.
    pub archived: u64,
    /// Files that wait, and the first of them by name.
    pub waiting: u64,
    pub first: Option<String>,
}

/// All members of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    pub component: Component,
    pub members: Vec<Member>,
    /// Scope (the cluster's name, the shard `slot:N` by its first slot, `topic/partition`, a queue) → the pod that leads it,
    /// with its epoch.
    pub leaders: Vec<(String, Leader)>,
    /// Everything has a leader: the cluster, every slot, every partition, every queue.
    pub led: bool,
    /// Scope → every member that itself says that it takes writes there, in order. More than one is a split brain; a scope
    /// of which nobody can be asked so is not named.
    pub writers: Vec<(String, Vec<String>)>,
    /// Absent where there is none, where it could not be asked, and while none or several take writes.
    pub archive: Option<(String, Archive)>,
    /// Members that are well, but stand where the loss of one node takes what they are there to outlast: they must move.
    pub crowded: u32,
}

impl Members {
    /// The roles that can be relied on: of members that answer.
    #[must_use]
    pub fn roles(&self) -> Vec<RoleFact> {
        let answering = self.members.iter().filter(|member| member.answers);
        answering
            .filter_map(|member| {
                Some(RoleFact {
                    component: self.component,
                    role: member.role?,
                    pod: member.pod.clone(),
                    slots: member.slots.clone(),
                    leads: member.leads.clone(),
                    follows: member.follows.clone(),
                    source: member.source.clone(),
                })
            })
            .collect()
    }
}

/// Members that answer and are in sync, less those that must move. Without a leader in some scope nobody is in sync with anything.
#[must_use]
pub fn redundancy(members: &Members) -> u32 {
    let good = members.members.iter().filter(|member| member.answers && member.in_sync).count();
    let good = u32::try_from(good).unwrap_or(u32::MAX).saturating_sub(members.crowded);
    if members.led { good } else { 0 }
}
