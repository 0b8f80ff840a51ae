//! What reads of lists saw, shortened to what is new in each. In the thread that writes, so that the order of the
//! differences is the order of the lines.

use std::collections::HashMap;

use crate::model::{ListName, OpId, Seen};

/// The last read of each list: eight bytes an element.
#[derive(Debug, Default)]
pub struct Lists(HashMap<ListName, Vec<OpId>>);

impl Lists {
    /// `seen` says all that a read saw; afterwards what it adds to the read before it.
    pub fn shorten(&mut self, seen: &mut Seen) {
        let last = self.0.entry(seen.list).or_default();
        let now = std::mem::take(&mut seen.then);
        *seen = Seen::since(seen.list, last, &now);
        last.truncate(seen.kept as usize);
        last.extend(&seen.then);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_read_says_what_is_new() {
        let mut lists = Lists::default();
        let mut shortened = |list: &str, ids: &[&str]| {
            let then = ids.iter().map(|id| OpId::new(id)).collect();
            let mut seen = Seen { list: list.into(), kept: 0, then };
            lists.shorten(&mut seen);
            (seen.kept, seen.then.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(shortened("u1", &["a-1", "a-2"]), (0, "a-1 a-2".into()));
        assert_eq!(shortened("u2", &["b-1"]), (0, "b-1".into()));
        assert_eq!(shortened("u1", &["a-1", "a-2", "a-3"]), (2, "a-3".into()));
        assert_eq!(shortened("u1", &["a-1", "a-4"]), (1, "a-4".into()));
        assert_eq!(shortened("u1", &["a-1", "a-4"]), (2, String::new()));
        assert_eq!(shortened("u1", &[]), (0, String::new()));
    }
}
