//! What a promise gathers while it looks: facts that hold, facts that do not, and what it could not see.

use std::fmt::Display;

use crate::model::{Finding, Verdict};

#[derive(Debug, Default)]
pub(super) struct Case {
    held: usize,
    wrong: Vec<String>,
    unseen: Vec<String>,
    notes: Vec<String>,
}

impl Case {
    /// A fact that must be so.
    pub fn hold(&mut self, fact: impl Into<String>, is_so: bool) {
        if is_so {
            self.held += 1;
        } else {
            self.wrong.push(fact.into());
        }
    }

    /// A value that must be this one; one that cannot be read says nothing.
    pub fn want<T: PartialEq + Display>(&mut self, what: impl Display, found: Option<T>, wanted: &T) {
        match found {
            Some(found) => self.hold(format!("{what} is {found}, not {wanted}"), found == *wanted),
            None => self.unseen(format!("{what} cannot be read")),
        }
    }

    /// A number that must be this or more.
    pub fn at_least(&mut self, what: impl Display, found: Option<i64>, least: i64) {
        match found {
            Some(found) => self.hold(format!("{what} is {found}, under {least}"), found >= least),
            None => self.unseen(format!("{what} cannot be read")),
        }
    }

    pub fn unseen(&mut self, what: impl Into<String>) {
        self.unseen.push(what.into());
    }

    /// Takes the value, or notes that it cannot be seen.
    pub fn need<T>(&mut self, what: impl Display, found: Option<T>) -> Option<T> {
        if found.is_none() {
            self.unseen(format!("{what} is not there or cannot be read"));
        }
        found
    }

    /// Said beside a pass, so that nobody takes it for more than it is.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Wrong wins over unseen; nothing looked at at all is not a pass.
    pub fn finish(self, name: &str) -> Finding {
        let (verdict, facts) = if !self.wrong.is_empty() {
            (Verdict::Fail, self.wrong)
        } else if !self.unseen.is_empty() || self.held == 0 {
            (Verdict::Inconclusive, self.unseen)
        } else {
            (Verdict::Pass, Vec::new())
        };
        let more = facts.len().saturating_sub(1);
        let mut reason = match facts.first() {
            Some(first) if more > 0 => format!("{first}, and {more} more"),
            Some(first) => first.clone(),
            None if verdict == Verdict::Pass => format!("{} facts of the manifests hold", self.held),
            None => "the manifests hold nothing that this promise is about".to_owned(),
        };
        for note in &self.notes {
            reason += "; ";
            reason += note;
        }
        Finding::new(name, verdict, reason).with_evidence(facts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_wins_over_unseen_and_nothing_is_no_pass() {
        type Fill = fn(&mut Case);
        let cases: [(Fill, Verdict); 5] = [
            (|_| {}, Verdict::Inconclusive),
            (|case| case.hold("so", true), Verdict::Pass),
            (|case| case.want("n", Some(3), &2), Verdict::Fail),
            (
                |case| {
                    case.hold("so", true);
                    case.want("n", None, &2);
                },
                Verdict::Inconclusive,
            ),
            (
                |case| {
                    case.unseen("a");
                    case.at_least("n", Some(1), 2);
                },
                Verdict::Fail,
            ),
        ];
        for (at, (fill, verdict)) in cases.into_iter().enumerate() {
            let mut case = Case::default();
            fill(&mut case);
            assert_eq!(case.finish("x").verdict, verdict, "{at}");
        }
    }
}
