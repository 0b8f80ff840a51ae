//! What users remember between steps.

use std::sync::{Mutex, PoisonError, RwLock};

use crate::model::OpId;

/// The variables of one user, by index; absent until an answer gave a value.
type Held = Option<Box<[Option<Value>]>>;

/// An extracted value, and the write whose answer it was extracted from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    pub text: Box<str>,
    pub of: Option<OpId>,
}

/// Extracted values: each user's own, and the lists that `prepare` filled for all.
#[derive(Debug)]
pub struct Vars {
    own_count: usize,
    own: Mutex<Vec<Held>>,
    shared: RwLock<Vec<Vec<Value>>>,
}

impl Vars {
    #[must_use]
    pub fn new(users: u32, own_count: usize) -> Self {
        let held = if own_count == 0 { 0 } else { users as usize };
        Self { own_count, own: Mutex::new(vec![None; held]), shared: RwLock::default() }
    }

    pub fn set_own(&self, user: u32, index: u16, value: Value) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.own_count;
        if let Some(held) = own.get_mut(user as usize) {
            let values = held.get_or_insert_with(|| vec![None; count].into_boxed_slice());
            if let Some(slot) = values.get_mut(index as usize) {
                *slot = Some(value);
            }
        }
    }

    /// Appends the value to `out`, and says whose answer it was; none when there is none yet.
    pub fn own(&self, user: u32, index: u16, out: &mut String) -> Option<Option<OpId>> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let value = own.get(user as usize)?.as_ref()?.get(index as usize)?.as_ref()?;
        out.push_str(&value.text);
        Some(value.of)
    }

    /// Whether the user holds all of them.
    pub fn has_own(&self, user: u32, indices: &[u16]) -> bool {
        indices.iter().all(|index| self.own(user, *index, &mut String::new()).is_some())
    }

    /// After each step of `prepare`: the next one may stand on what the ones before extracted.
    pub fn share(&self, lists: Vec<Vec<Value>>) {
        *self.shared.write().unwrap_or_else(PoisonError::into_inner) = lists;
    }

    /// Draws from a list; one draw takes the same place in every list, so that what was extracted together
    /// stays together.
    pub fn shared(&self, index: u16, draw: u64, out: &mut String) -> Option<Option<OpId>> {
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        let list = shared.get(index as usize).filter(|list| !list.is_empty())?;
        let value = &list[(draw % list.len() as u64) as usize];
        out.push_str(&value.text);
        Some(value.of)
    }
}

/// A well mixed number (splitmix64's finaliser), so that choices follow from the seed and not from the order of answers.
#[must_use]
pub fn mix(seed: u64, a: u64, b: u64) -> u64 {
    let mut z = seed ^ a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xd1b5_4a32_d192_ed03);
    for _ in 0..2 {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
    }
    z
}

/// An exponentially distributed time with this mean, µs, of a uniform 64-bit number; at least 1 µs.
#[must_use]
pub fn exponential_us(mean_us: f64, uniform: u64) -> u64 {
    // 53 bits, in (0, 1].
    let u = ((uniform >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    (-mean_us * u.ln()).max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_hold_their_own_and_draw_from_the_shared() {
        let vars = Vars::new(2, 2);
        assert!(!vars.has_own(1, &[1]));
        let value = |text: &str, of: &str| Value { text: text.into(), of: Some(of.into()) };
        vars.set_own(1, 1, value("x", "r-1"));
        assert!(vars.has_own(1, &[1]) && !vars.has_own(1, &[0, 1]) && !vars.has_own(0, &[1]));
        let mut out = String::new();
        assert_eq!(vars.shared(0, 5, &mut out), None);
        vars.share(vec![vec![value("a", "r-2"), value("b", "r-3")], Vec::new()]);
        assert_eq!(vars.shared(0, 5, &mut out), Some(Some("r-3".into())));
        assert_eq!(vars.own(1, 1, &mut out), Some(Some("r-1".into())));
        assert_eq!(out, "bx");
        assert_eq!(vars.shared(1, 5, &mut out), None, "an empty list has nothing to draw");
        vars.set_own(9, 0, value("nobody", "r-4")); // no such user: ignored, not a panic
    }

    #[test]
    fn think_times_have_the_mean_asked_for_and_an_exponential_tail() {
        let n = 100_000;
        let times: Vec<u64> = (0..n).map(|i| exponential_us(1e6, mix(7, i, 3))).collect();
        let mean = times.iter().sum::<u64>() as f64 / n as f64;
        assert!((mean - 1e6).abs() < 2e4, "{mean}");
        let above_two = times.iter().filter(|t| **t > 2_000_000).count() as f64 / n as f64;
        assert!((above_two - 0.1353).abs() < 0.01, "{above_two}");
    }
}
