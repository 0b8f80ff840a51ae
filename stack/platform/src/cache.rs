//! The in-process cache: a short time to live and a fixed number of entries.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Entries leave in the order in which they came: with a time to live of seconds, a better policy
/// would not have time to pay off.
#[derive(Debug)]
pub struct LocalCache<K, V> {
    ttl: Duration,
    entries_max: usize,
    state: Mutex<State<K, V>>,
}

#[derive(Debug)]
struct State<K, V> {
    entries: HashMap<K, (Instant, V)>,
    order: VecDeque<(Instant, K)>,
}

impl<K: Clone + Eq + Hash, V: Clone> LocalCache<K, V> {
    #[must_use]
    pub fn new(ttl: Duration, entries_max: usize) -> Self {
        let state = Mutex::new(State { entries: HashMap::new(), order: VecDeque::new() });
        Self { ttl, entries_max, state }
    }

    pub fn get(&self, key: &K, now: Instant) -> Option<V> {
        self.get_within(key, now, self.ttl)
    }

    /// As [`Self::get`], with another age as the limit.
    pub fn get_within(&self, key: &K, now: Instant, age_max: Duration) -> Option<V> {
        let state = self.lock();
        let (stored, value) = state.entries.get(key)?;
        (now.saturating_duration_since(*stored) < age_max).then(|| value.clone())
    }

    pub fn remove(&self, key: &K) {
        self.lock().entries.remove(key);
    }

    pub fn put(&self, key: K, value: V, now: Instant) {
        if self.entries_max == 0 {
            return;
        }
        let mut state = self.lock();
        while state.order.len() >= self.entries_max {
            let Some((stored, old)) = state.order.pop_front() else { break };
            // A key that was stored again later has a younger line in `order`.
            if state.entries.get(&old).is_some_and(|(at, _)| *at == stored) {
                state.entries.remove(&old);
            }
        }
        state.entries.insert(key.clone(), (now, value));
        state.order.push_back((now, key));
    }

    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        // At worst an entry lacks its line in `order` and lives until it is overwritten.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(2);

    #[test]
    fn an_entry_lives_for_its_ttl() {
        let now = Instant::now();
        let cache = LocalCache::new(TTL, 10);
        assert!(cache.is_empty());
        cache.put(1, "a", now);
        assert_eq!(cache.get(&1, now + TTL / 2), Some("a"));
        assert_eq!(cache.get(&1, now + TTL), None);
        assert_eq!(cache.get(&2, now), None);
    }

    #[test]
    fn never_more_than_its_limit() {
        let now = Instant::now();
        let cache = LocalCache::new(TTL, 3);
        for step in 0..1_000_u32 {
            let key = i64::from(step % 7);
            cache.put(key, step, now + Duration::from_millis(u64::from(step)));
            assert!(cache.len() <= 3);
        }
        let last = now + Duration::from_millis(999);
        assert_eq!(cache.get(&(999 % 7), last), Some(999));
    }

    #[test]
    fn an_overwritten_key_is_not_evicted_by_its_old_line() {
        let now = Instant::now();
        let cache = LocalCache::new(TTL, 2);
        let step = Duration::from_millis(1);
        cache.put(1, "old", now);
        cache.put(1, "new", now + step);
        cache.put(2, "b", now + step * 2);
        assert_eq!(cache.get(&1, now + step * 2), Some("new"));
    }

    #[test]
    fn a_limit_of_zero_switches_it_off() {
        let now = Instant::now();
        let cache = LocalCache::new(TTL, 0);
        cache.put(1, "a", now);
        assert_eq!(cache.get(&1, now), None);
    }
}
