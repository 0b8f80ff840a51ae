//! All that a check may look at.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Event, Fact, FaultKind, LedgerTotals, LoadSecond, Observation, Operation, Store, Target, WindowName,
};

/// A span of the timeline, `[start_ms, end_ms)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub start_ms: u64,
    pub end_ms: u64,
}

impl Window {
    #[must_use]
    pub fn contains_ms(self, at_ms: u64) -> bool {
        (self.start_ms..self.end_ms).contains(&at_ms)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    pub baseline: Window,
    /// From the first injection until the last revert began.
    pub fault: Window,
    /// From the end of the fault window until the load ended.
    pub recovery: Window,
}

/// One fault as it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultRecord {
    pub kind: FaultKind,
    pub targets: Vec<Target>,
    pub injected_ms: u64,
    /// When it was first seen to bite; absent: no evidence, so nothing may pass.
    pub effective_ms: Option<u64>,
    pub reverted_ms: Option<u64>,
    pub evidence: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Timeline {
    pub events: Vec<Event>,
    /// In the order in which they were done.
    pub operations: Vec<Operation>,
    pub windows: Windows,
    pub faults: Vec<FaultRecord>,
    /// Absent store: the ledger of it was not read back.
    pub ledger: BTreeMap<Store, LedgerTotals>,
}

impl Windows {
    #[must_use]
    pub fn get(&self, name: WindowName) -> Window {
        match name {
            WindowName::Baseline => self.baseline,
            WindowName::Fault => self.fault,
            WindowName::Recovery => self.recovery,
        }
    }
}

impl Timeline {
    /// Observations from `from_ms` on, in order.
    pub fn observations(&self, from_ms: u64) -> impl Iterator<Item = (u64, &Observation)> {
        self.events.iter().filter(move |event| event.at_ms >= from_ms).filter_map(|event| match &event.fact {
            Fact::Observed(observation) => Some((event.at_ms, observation)),
            _ => None,
        })
    }

    /// Operations whose intended time lies in the window: a request belongs to the moment its user wanted it.
    pub fn operations_in(&self, window: Window) -> impl Iterator<Item = &Operation> {
        self.operations.iter().filter(move |operation| window.contains_ms(operation.intended_us / 1000))
    }

    /// What the generator said of its own seconds.
    pub fn load_seconds(&self) -> impl Iterator<Item = &LoadSecond> {
        self.events.iter().filter_map(|event| match &event.fact {
            Fact::Load(second) => Some(second),
            _ => None,
        })
    }

    /// When the first fault was injected, or the load stepped up; every recovery time counts from here.
    #[must_use]
    pub fn injection_ms(&self) -> Option<u64> {
        let step = self.load_step().map(|(up_ms, _)| up_ms);
        self.faults.iter().map(|fault| fault.injected_ms).chain(step).min()
    }

    /// When the last fault was reverted. Absent: of one nothing shows that it was, or there was none.
    #[must_use]
    pub fn reverted_ms(&self) -> Option<u64> {
        let reverted: Option<Vec<u64>> = self.faults.iter().map(|fault| fault.reverted_ms).collect();
        reverted?.into_iter().max()
    }

    /// When the load stepped up, and down again.
    #[must_use]
    pub fn load_step(&self) -> Option<(u64, Option<u64>)> {
        let at = |wanted: bool| {
            let stepped = |event: &&Event| matches!(event.fact, Fact::LoadStepped { up, .. } if up == wanted);
            self.events.iter().find(stepped).map(|event| event.at_ms)
        };
        at(true).map(|up_ms| (up_ms, at(false)))
    }
}
