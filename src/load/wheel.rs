//! A hashed timer wheel: a million logical users in 16 bytes each.

/// Width of a slot, µs. Entries keep their exact time; the slot only sorts them roughly.
const SLOT_US: u64 = 1000;
/// About 16 s around. A user further ahead stays in its slot for another round.
const SLOTS: usize = 1 << 14;

/// One logical user, waiting for its next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// When the user wants it, µs on the run's clock.
    pub intended_us: u64,
    pub user: u32,
    /// The step that it will make.
    pub step: u32,
}

#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<Entry>>,
    /// The first slot that may still hold something due.
    cursor: u64,
    len: usize,
}

impl Wheel {
    /// An empty wheel whose time begins at `now_us`.
    #[must_use]
    pub fn new(now_us: u64) -> Self {
        Self { slots: vec![Vec::new(); SLOTS], cursor: now_us / SLOT_US, len: 0 }
    }

    /// An entry in the past is due at once.
    pub fn insert(&mut self, entry: Entry) {
        let slot = (entry.intended_us / SLOT_US).max(self.cursor);
        self.slots[slot as usize % SLOTS].push(entry);
        self.len += 1;
    }

    /// Moves the entries of the next slot with anything due by `now_us` to `due`, in order of their
    /// time; false when nothing is due. Slots come in order, so that an entry which is put back
    /// while slots are being taken still comes in its turn.
    pub fn pop_slot(&mut self, now_us: u64, due: &mut Vec<Entry>) -> bool {
        due.clear();
        while self.cursor <= now_us / SLOT_US {
            let slot_end_us = (self.cursor + 1) * SLOT_US;
            let until_us = now_us.min(slot_end_us - 1);
            let slot = &mut self.slots[self.cursor as usize % SLOTS];
            if !slot.is_empty() {
                slot.retain(|entry| {
                    let is_due = entry.intended_us <= until_us;
                    if is_due {
                        due.push(*entry);
                    }
                    !is_due
                });
            }
            if !due.is_empty() {
                self.len -= due.len();
                due.sort_unstable_by_key(|entry| (entry.intended_us, entry.user));
                return true;
            }
            if now_us < slot_end_us {
                return false; // the slot that time is in: more may come due in it
            }
            self.cursor += 1;
        }
        false
    }

    /// When the next entry is due, looking at most to `horizon_us`.
    #[must_use]
    pub fn next_due_us(&self, horizon_us: u64) -> u64 {
        let last = (horizon_us / SLOT_US).min(self.cursor + SLOTS as u64 - 1);
        for slot in self.cursor..=last {
            let in_slot = self.slots[slot as usize % SLOTS].iter();
            let first = in_slot.map(|entry| entry.intended_us).filter(|at| at / SLOT_US <= slot).min();
            if let Some(at_us) = first {
                return at_us.min(horizon_us);
            }
        }
        horizon_us
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_is_sixteen_bytes() {
        assert_eq!(size_of::<Entry>(), 16);
    }

    proptest! {
        /// Whatever the times and the steps of the clock, every entry comes out once, not early, in order.
        #[test]
        fn all_come_out_in_order(times in prop::collection::vec(0_u64..60_000_000, 1..200), step in 100_u64..5_000_000) {
            let mut wheel = Wheel::new(0);
            for (user, at) in times.iter().enumerate() {
                wheel.insert(Entry { intended_us: *at, user: user as u32, step: 0 });
            }
            let (mut out, mut due, mut now) = (Vec::new(), Vec::new(), 0);
            while wheel.len() > 0 {
                now += step;
                while wheel.pop_slot(now, &mut due) {
                    prop_assert!(due.iter().all(|entry| entry.intended_us <= now));
                    out.extend(due.iter().map(|entry| entry.intended_us));
                }
            }
            let mut sorted = times.clone();
            sorted.sort_unstable();
            prop_assert_eq!(out, sorted);
        }

        /// The next due time is the smallest one, if it lies before the horizon.
        #[test]
        fn next_due_is_the_smallest(times in prop::collection::vec(0_u64..40_000_000, 1..50), horizon in 1_u64..16_000_000) {
            let mut wheel = Wheel::new(0);
            for at in &times {
                wheel.insert(Entry { intended_us: *at, user: 0, step: 0 });
            }
            let smallest = times.iter().copied().min().unwrap_or(horizon);
            prop_assert_eq!(wheel.next_due_us(horizon), smallest.min(horizon));
        }
    }

    #[test]
    fn an_entry_put_back_while_popping_comes_in_its_turn() {
        let mut wheel = Wheel::new(0);
        wheel.insert(Entry { intended_us: 1_500, user: 1, step: 0 });
        wheel.insert(Entry { intended_us: 9_000, user: 2, step: 0 });
        let (mut due, mut order) = (Vec::new(), Vec::new());
        while wheel.pop_slot(10_000, &mut due) {
            for entry in std::mem::take(&mut due) {
                order.push((entry.user, entry.intended_us));
                if entry.user == 1 && entry.intended_us < 4_000 {
                    wheel.insert(Entry { intended_us: entry.intended_us + 1_000, ..entry });
                }
            }
        }
        assert_eq!(order, [(1, 1_500), (1, 2_500), (1, 3_500), (1, 4_500), (2, 9_000)]);
    }
}
