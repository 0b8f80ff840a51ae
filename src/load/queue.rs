//! Users who are due, waiting for a lane: first come, first served.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Semaphore;

/// One request that a user wants now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    pub intended_us: u64,
    pub user: u32,
    pub step: u32,
    /// Number of the intention in this process.
    pub sequence: u64,
    /// Follows from the seed, the user and the intention: decides what is drawn for it.
    pub draw: u64,
}

#[derive(Debug)]
pub struct DueQueue {
    waiting: Mutex<VecDeque<Due>>,
    /// One permit for each that waits.
    ready: Semaphore,
    /// Pushed and not settled: waiting, or being served.
    unsettled: AtomicUsize,
}

impl Default for DueQueue {
    fn default() -> Self {
        Self { waiting: Mutex::default(), ready: Semaphore::new(0), unsettled: AtomicUsize::new(0) }
    }
}

impl DueQueue {
    /// Takes all of `due`. At the timeout everybody leaves, so that at most rate × timeout wait.
    pub fn push(&self, due: &mut Vec<Due>) {
        let count = due.len();
        self.unsettled.fetch_add(count, Ordering::AcqRel);
        self.lock().extend(due.drain(..));
        self.ready.add_permits(count);
    }

    /// The next user; none after `close`.
    pub async fn next(&self) -> Option<Due> {
        loop {
            self.ready.acquire().await.ok()?.forget();
            // Empty when the dispatcher expired an entry whose permit we hold.
            if let Some(due) = self.lock().pop_front() {
                return Some(due);
            }
        }
    }

    /// Removes the longest waiting one if `leaves` says so.
    pub fn pop_if(&self, leaves: impl FnOnce(&Due) -> bool) -> Option<Due> {
        let due = self.lock().pop_front_if(|due| leaves(due))?;
        if let Ok(permit) = self.ready.try_acquire() {
            permit.forget();
        }
        Some(due)
    }

    /// Intended time of the longest waiting one.
    pub fn oldest_us(&self) -> Option<u64> {
        self.lock().front().map(|due| due.intended_us)
    }

    /// What `next` or `pop_if` gave has been recorded.
    pub fn settle(&self) {
        self.unsettled.fetch_sub(1, Ordering::AcqRel);
    }

    /// Nobody waits or is being served.
    pub fn is_settled(&self) -> bool {
        self.unsettled.load(Ordering::Acquire) == 0
    }

    /// Nobody is served any more.
    pub fn close(&self) {
        self.ready.close();
    }

    pub fn is_closed(&self) -> bool {
        self.ready.is_closed()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Due>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(sequence: u64) -> Due {
        Due { intended_us: sequence, user: 0, step: 0, sequence, draw: 0 }
    }

    #[tokio::test]
    async fn first_come_first_served_and_closed_means_none() {
        let queue = DueQueue::default();
        queue.push(&mut vec![due(1), due(2), due(3)]);
        assert_eq!(queue.pop_if(|due| due.intended_us > 1), None);
        assert_eq!(queue.pop_if(|due| due.intended_us == 1), Some(due(1)));
        assert_eq!(queue.next().await, Some(due(2)));
        assert_eq!(queue.oldest_us(), Some(3));
        assert_eq!(queue.next().await, Some(due(3)));
        assert!(!queue.is_settled());
        (0..3).for_each(|_| queue.settle());
        assert!(queue.is_settled());
        queue.close();
        assert_eq!(queue.next().await, None);
    }
}
