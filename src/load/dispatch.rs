//! The dispatcher: one task that turns the wheel. It lives in the lanes' runtime: a thread of its own would cost two context
//! switches and a wake-up of the runtime for every request (measured: 15 µs and more of CPU each).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::lane::unserved;
use super::limits::{LATE_LIMITED_US, Waiting, judge_wait};
use super::queue::Due;
use super::shared::Shared;
use super::vars::{exponential_us, mix};
use super::wheel::{Entry, Wheel};
use crate::model::ErrorClass;

/// The longest sleep: waits are judged, a stop is seen, and the runtime shows that it lives, this often, µs.
const NAP_MAX_US: u64 = 20_000;
/// Users want things at multiples of this, so that one wake-up serves all who are due, µs. The
/// runtime's timers are no finer than 1 ms anyway.
const GRID_US: u64 = 2000;

/// Ends, and closes the queue, when `stopping` is set and nobody waits or is being served.
pub async fn dispatch(shared: Arc<Shared>) {
    let mut dispatcher = Dispatcher::new(Arc::clone(&shared));
    loop {
        let now_us = shared.clock.now_us();
        shared.gauges.beat_us.store(now_us, Ordering::Relaxed);
        let stopping = shared.gauges.stopping.load(Ordering::Relaxed);
        if !stopping {
            dispatcher.release(now_us);
        }
        dispatcher.judge_waiting(now_us).await;
        if stopping && shared.queue.is_settled() {
            shared.queue.close();
            return;
        }
        let horizon_us = now_us + NAP_MAX_US;
        let wake_us = if stopping { horizon_us } else { dispatcher.wheel.next_due_us(horizon_us) };
        tokio::time::sleep(shared.clock.until(wake_us)).await;
        let woke_us = shared.clock.now_us();
        dispatcher.late = woke_us > wake_us + LATE_LIMITED_US;
        if dispatcher.late {
            shared.gauges.board.limit(wake_us, woke_us);
        }
    }
}

struct Dispatcher {
    shared: Arc<Shared>,
    wheel: Wheel,
    /// When the load began. Choices count from here, so that they do not depend on the day.
    start_us: u64,
    sequence: u64,
    popped: Vec<Entry>,
    due: Vec<Due>,
    /// The last wake-up came late: the process had no CPU.
    late: bool,
    /// The further users of the load's step are in the wheel.
    stepped: bool,
}

impl Dispatcher {
    fn new(shared: Arc<Shared>) -> Self {
        let now_us = shared.clock.now_us();
        let mut dispatcher = Self {
            wheel: Wheel::new(now_us),
            start_us: now_us,
            sequence: 0,
            popped: Vec::new(),
            due: Vec::new(),
            late: false,
            stepped: false,
            shared,
        };
        dispatcher.seat(0, dispatcher.shared.spec.users, now_us);
        dispatcher
    }

    /// Users of these numbers begin, dealt to the journeys by themselves.
    fn seat(&mut self, first: u32, end: u32, now_us: u64) {
        let shared = &self.shared;
        let (seed, mean) = (shared.spec.seed.0, shared.script.think_mean_us);
        for user in first..end {
            // As if they had been thinking for ever: the rate is whole from the first second on.
            let wait_us = exponential_us(mean, mix(seed, u64::from(user), 0));
            let step = shared.script.first_step(user - first, end - first);
            self.wheel.insert(Entry { intended_us: now_us + on_grid(wait_us), user, step });
        }
    }

    /// More users come, or those who came leave with their next intention. A load steps up once.
    fn follow_step(&mut self, now_us: u64) {
        let stepped = self.shared.gauges.stepped.load(Ordering::Relaxed);
        if stepped && !self.stepped {
            self.seat(self.shared.spec.users, self.shared.spec.users_most(), now_us);
        }
        self.stepped = stepped;
    }

    fn users(&self) -> u32 {
        if self.stepped { self.shared.spec.users_most() } else { self.shared.spec.users }
    }

    /// Sends everybody who is due to the lanes, and back into the wheel with their next intention. The next one
    /// follows from the seed, the user and this one: neither answers nor lateness change it.
    fn release(&mut self, now_us: u64) {
        self.follow_step(now_us);
        let users = self.users();
        let shared = &self.shared;
        let (seed, mean) = (shared.spec.seed.0, shared.script.think_mean_us);
        while self.wheel.pop_slot(now_us, &mut self.popped) {
            for entry in self.popped.drain(..).filter(|entry| entry.user < users) {
                self.sequence += 1;
                let Entry { intended_us, user, step } = entry;
                let draw = mix(seed, u64::from(user), intended_us - self.start_us);
                self.due.push(Due { intended_us, user, step, sequence: self.sequence, draw });
                shared.gauges.board.intend(intended_us);
                let think_us = on_grid(exponential_us(mean, draw));
                let step = shared.script.next_step(step);
                self.wheel.insert(Entry { intended_us: intended_us + think_us, user, step });
            }
            shared.queue.push(&mut self.due);
        }
        shared.gauges.intended.store(self.sequence, Ordering::Relaxed);
    }

    /// Judges those who wait for a lane, the longest waiting first (see `limits`).
    async fn judge_waiting(&self, now_us: u64) {
        let shared = &self.shared;
        let Some(oldest_us) = shared.queue.oldest_us() else { return };
        let timeout_us = shared.script.timeout_us;
        let view = shared.gauges.lane_view(now_us, shared.spec.rate_per_second(self.users()));
        let short = view.lanes_are_short() || self.late;
        let judge = |intended_us: u64| judge_wait(now_us.saturating_sub(intended_us), timeout_us, short);
        if judge(oldest_us) == Waiting::Limited {
            shared.gauges.board.limit(oldest_us, now_us);
        }
        let leaves = |due: &Due| matches!(judge(due.intended_us), Waiting::NotSent | Waiting::TimedOut);
        while let Some(due) = shared.queue.pop_if(leaves) {
            if short {
                shared.gauges.board.limit(due.intended_us, now_us);
            }
            let class = if short { ErrorClass::NotSent } else { ErrorClass::Timeout };
            shared.recorder.record(unserved(shared, &due, class, now_us)).await;
            shared.queue.settle();
        }
    }
}

/// To the next multiple of the grid; at least one.
fn on_grid(time_us: u64) -> u64 {
    time_us.max(1).next_multiple_of(GRID_US)
}
