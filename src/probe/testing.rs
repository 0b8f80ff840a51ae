//! A sink that keeps what it is told.

use std::sync::{Arc, Mutex};

use super::Sink;
use crate::model::Observation;

#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<Observation>>>);

impl Sink for Seen {
    fn observe(&self, observation: Observation) {
        self.0.lock().unwrap().push(observation);
    }
}

impl Seen {
    /// Everything since the last time.
    pub fn take(&self) -> Vec<Observation> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}
