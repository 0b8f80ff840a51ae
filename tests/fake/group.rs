//! One replicated store, or one shard of it: members, a leader, and what was acknowledged.

use mettle::model::{Component, ListName, OpId, RunId};

pub struct Group {
    pub component: Component,
    pub scope: String,
    pub slots: Vec<(u16, u16)>,
    pub members: Vec<String>,
    pub leader: Option<String>,
    pub epoch: u64,
    /// Of the leader's processes.
    incarnation: u64,
    /// What the leader holds: id, when it was written, how often.
    log: Vec<(OpId, u64, u64)>,
    /// Acknowledged once, and gone.
    pub lost: Vec<OpId>,
    /// Replicas have it before it is acknowledged.
    pub synchronous: bool,
    pub lag_ms: u64,
    /// A member that starts anew finds what it had.
    pub persistent: bool,
    /// When the leader stopped serving, while an election is due.
    pub headless_since_ms: Option<u64>,
}

impl Group {
    pub fn new(component: Component, scope: &str, members: Vec<String>) -> Self {
        Self {
            component,
            scope: scope.to_owned(),
            slots: Vec::new(),
            leader: members.first().cloned(),
            members,
            epoch: 1,
            incarnation: 1,
            log: Vec::new(),
            lost: Vec::new(),
            synchronous: true,
            lag_ms: 0,
            persistent: true,
            headless_since_ms: None,
        }
    }

    pub fn write(&mut self, id: OpId, at_ms: u64, times: u64) {
        self.log.push((id, at_ms, times));
    }

    /// The one list that a shard holds of a run.
    pub fn list(&self, run: &RunId) -> ListName {
        ListName::new(&format!("{run}-{}", self.scope))
    }

    /// What it holds, in its order.
    pub fn ids(&self) -> impl Iterator<Item = OpId> {
        self.log.iter().flat_map(|(id, _, times)| (0..*times).map(|_| *id))
    }

    /// Whether it holds what was written last, or a little before.
    pub fn holds(&self, id: OpId) -> bool {
        self.log.iter().rev().take(100).any(|(known, ..)| *known == id)
    }

    /// Another member takes over: it has what had reached it.
    pub fn take_over(&mut self, by: &str, incarnation: u64) {
        if !self.synchronous
            && let Some(since_ms) = self.headless_since_ms
        {
            let lag_ms = self.lag_ms;
            self.lose(|at_ms| at_ms + lag_ms > since_ms);
        }
        self.leader = Some(by.to_owned());
        self.incarnation = incarnation;
        self.epoch += 1;
        self.headless_since_ms = None;
    }

    /// The same member leads on, in a new process or in the old one.
    pub fn lead_on(&mut self, incarnation: u64) {
        if self.incarnation != incarnation {
            self.incarnation = incarnation;
            self.epoch += 1;
            if !self.persistent {
                self.lose(|_| true);
            }
        }
        self.headless_since_ms = None;
    }

    fn lose(&mut self, gone: impl Fn(u64) -> bool) {
        let log = std::mem::take(&mut self.log);
        let (gone, kept): (Vec<_>, Vec<_>) = log.into_iter().partition(|(_, at_ms, _)| gone(*at_ms));
        self.log = kept;
        self.lost.extend(gone.into_iter().map(|(id, ..)| id));
    }
}
