//! Places where a run can be stopped dead, counted: each journal append, and each call of the world before and
//! after it took effect.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use mettle::run::{Entry, Hook};
use tokio::sync::Notify;

/// What to do at one of the points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trip {
    None,
    /// Never go on after the point of this number, from 1.
    KillAt(usize),
    /// Panic at the nth point of this name.
    Panic {
        name: &'static str,
        nth: usize,
    },
}

/// Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Points {
    trip: Trip,
    passed: Arc<Mutex<Vec<String>>>,
    killed: Arc<Notify>,
}

impl Points {
    pub fn new(trip: Trip) -> Self {
        Self { trip, passed: Arc::default(), killed: Arc::default() }
    }

    pub async fn pass(&self, name: &str) {
        let (number, nth) = {
            let mut passed = self.passed.lock().expect("no panic holds it");
            passed.push(name.to_owned());
            (passed.len(), passed.iter().filter(|one| *one == name).count())
        };
        match &self.trip {
            Trip::KillAt(at) if *at == number => {
                self.killed.notify_one();
                pending::<()>().await;
            }
            Trip::Panic { name: at, nth: when } if *at == name && *when == nth => {
                panic!("the world panics at {name} {nth}");
            }
            _ => {}
        }
    }

    /// Resolves when the run stands at the point where it is killed.
    pub async fn killed(&self) {
        self.killed.notified().await;
    }

    /// Their names, in the order in which they were passed.
    pub fn passed(&self) -> Vec<String> {
        self.passed.lock().expect("no panic holds it").clone()
    }

    pub fn count(&self, name: &str) -> usize {
        self.passed().iter().filter(|one| *one == name).count()
    }

    pub fn hook(&self) -> Hook {
        let points = self.clone();
        Arc::new(move |entry: &Entry| {
            let points = points.clone();
            let name = match entry {
                Entry::Opened { .. } => "journal:opened",
                Entry::Intended { .. } => "journal:intended",
                Entry::Applied { .. } => "journal:applied",
                Entry::ApplyFailed { .. } => "journal:apply-failed",
                Entry::Reverted { .. } => "journal:reverted",
                Entry::Closed => "journal:closed",
            };
            Box::pin(async move { points.pass(name).await }) as Pin<Box<dyn Future<Output = ()> + Send>>
        })
    }
}
