//! What was played so far: shared with the caller, so that it is known after a panic too.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::time::Instant;

use crate::model::{Activity, Within};

/// When something was played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Before,
    Method,
    After,
    Rollbacks,
}

/// How an activity ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Succeeded,
    /// Who was asked does not answer, or says no; or it could not be done.
    Failed,
    /// Nobody could be asked.
    Unknown,
    /// It did not come to its end: a stop, or a panic.
    Cut,
}

/// One activity as it was played. What nobody may read is not in it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub part: Part,
    /// In its list.
    pub position: usize,
    pub activity: Activity,
    pub started: DateTime<Utc>,
    pub begun: Instant,
    pub ended: Option<DateTime<Utc>>,
    pub took_ms: u64,
    pub status: Status,
    pub output: Value,
    /// Why it did not succeed.
    pub why: String,
    /// Of a probe of the hypothesis that was answered.
    pub within: Option<Within>,
}

#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Entry>>>);

impl Log {
    fn with<T>(&self, see: impl FnOnce(&mut Vec<Entry>) -> T) -> T {
        see(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Its number is for [`Self::end`].
    pub fn begin(&self, part: Part, position: usize, activity: &Activity) -> usize {
        let entry = Entry {
            part,
            position,
            activity: activity.clone(),
            started: Utc::now(),
            begun: Instant::now(),
            ended: None,
            took_ms: 0,
            status: Status::Cut,
            output: Value::Null,
            why: "it did not come to its end".to_owned(),
            within: None,
        };
        self.with(|entries| {
            entries.push(entry);
            entries.len() - 1
        })
    }

    pub fn end(&self, number: usize, status: Status, output: Value, why: String, within: Option<Within>) {
        self.with(|entries| {
            if let Some(entry) = entries.get_mut(number) {
                entry.ended = Some(Utc::now());
                entry.took_ms = u64::try_from(entry.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                (entry.status, entry.output, entry.why, entry.within) = (status, output, why, within);
            }
        });
    }

    /// In the order in which they began.
    pub fn entries(&self) -> Vec<Entry> {
        self.with(|entries| entries.clone())
    }
}

impl Entry {
    /// Answered, and what it must be.
    pub fn is_met(&self) -> bool {
        self.status == Status::Succeeded && self.within == Some(Within::Yes)
    }
}
