//! One deadline a request, shared by every step of it.

use std::time::{Duration, Instant};

/// A point in time that no step of a request may pass.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    #[must_use]
    pub fn after(budget: Duration) -> Self {
        Self(Instant::now() + budget)
    }

    /// The time a step may take: its own limit, or what the request has left.
    #[must_use]
    pub fn cap(self, step_max: Duration) -> Duration {
        self.left().min(step_max)
    }

    #[must_use]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_gets_its_limit_or_what_is_left() {
        let deadline = Deadline::after(Duration::from_secs(60));
        assert_eq!(deadline.cap(Duration::from_secs(3)), Duration::from_secs(3));
        assert!(deadline.cap(Duration::from_secs(90)) <= Duration::from_secs(60));
        let over = Deadline::after(Duration::ZERO);
        assert_eq!(over.cap(Duration::from_secs(3)), Duration::ZERO);
    }
}
