//! What a direct read of a store gave, past every cache and pooler; in memory, and as a file.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::{ListName, OpId};

/// Ids of one line of a file.
const LINE_IDS: usize = 1000;

/// Eight bytes an operation, twice that in lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// As often as it is there, ascending.
    ids: Vec<OpId>,
    /// Of a store of lists: the elements of each, in its order.
    lists: BTreeMap<ListName, Vec<OpId>>,
    /// Sums and rules of the store that do not hold, one sentence each.
    pub extra_invariants: Vec<String>,
}

/// Why a file does not say what a store held.
#[derive(Debug, Error)]
pub enum FoundError {
    #[error("failed to read")]
    Read(#[from] io::Error),
    #[error("line {line} is not what was found in a store")]
    Parse {
        line: usize,
        #[source]
        source: serde_json::Error,
    },
    #[error("it ends after {lines} lines without its last one: it was cut")]
    Cut { lines: usize },
}

/// One line of a file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Ids(Vec<OpId>),
    /// The list's elements, or some more of them.
    List(ListName, Vec<OpId>),
    Violation(String),
    /// The last line: how many elements the file has. A cut file would show losses that are none.
    End(u64),
}

impl Found {
    /// Of tables or topics: each id as often as it is there.
    #[must_use]
    pub fn of_ids(mut ids: Vec<OpId>) -> Self {
        ids.sort_unstable();
        ids.shrink_to_fit();
        Self { ids, ..Self::default() }
    }

    #[must_use]
    pub fn of_lists(lists: BTreeMap<ListName, Vec<OpId>>) -> Self {
        let ids = lists.values().flatten().copied().collect();
        Self { lists, ..Self::of_ids(ids) }
    }

    #[must_use]
    pub fn with_violations(mut self, violations: impl IntoIterator<Item = String>) -> Self {
        self.extra_invariants.extend(violations);
        self
    }

    /// How often an operation is there.
    #[must_use]
    pub fn times(&self, id: OpId) -> u64 {
        let from = self.ids.partition_point(|known| *known < id);
        self.ids[from..].iter().take_while(|known| **known == id).count() as u64
    }

    /// Every id, as often as it is there, ascending.
    #[must_use]
    pub fn ids(&self) -> &[OpId] {
        &self.ids
    }

    #[must_use]
    pub fn lists(&self) -> &BTreeMap<ListName, Vec<OpId>> {
        &self.lists
    }

    /// As JSON lines, for a judgement at another time.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        let mut line = |line: &Line| {
            serde_json::to_writer(&mut out, line)?;
            out.write_all(b"\n")
        };
        if self.lists.is_empty() {
            for ids in self.ids.chunks(LINE_IDS) {
                line(&Line::Ids(ids.to_vec()))?;
            }
        }
        for (name, ids) in &self.lists {
            for ids in ids.chunks(LINE_IDS) {
                line(&Line::List(*name, ids.to_vec()))?;
            }
        }
        for violation in &self.extra_invariants {
            line(&Line::Violation(violation.clone()))?;
        }
        line(&Line::End(self.ids.len() as u64))?;
        out.flush()
    }

    /// What [`Self::write`] wrote, all of it.
    ///
    /// # Errors
    /// When it cannot be read, holds something else, or was cut.
    pub fn read(input: impl BufRead) -> Result<Self, FoundError> {
        let (mut ids, mut lists, mut violations) =
            (Vec::new(), BTreeMap::<ListName, Vec<OpId>>::new(), vec![]);
        let mut lines = 0;
        for text in input.lines() {
            let text = text?;
            let parsed = match serde_json::from_str(&text) {
                Ok(parsed) => parsed,
                Err(source) => return Err(FoundError::Parse { line: lines + 1, source }),
            };
            lines += 1;
            match parsed {
                Line::Ids(more) => ids.extend(more),
                Line::List(name, more) => {
                    ids.extend(&more);
                    lists.entry(name).or_default().extend(more);
                }
                Line::Violation(violation) => violations.push(violation),
                Line::End(count) if count == ids.len() as u64 => {
                    return Ok(Self { lists, ..Self::of_ids(ids) }.with_violations(violations));
                }
                Line::End(_) => break,
            }
        }
        Err(FoundError::Cut { lines })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(found: &Found) -> String {
        let mut text = Vec::new();
        found.write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn samples() -> [Found; 3] {
        let ids = |from: u32, to: u32| (from..to).map(|n| OpId::new(&format!("r-{n}"))).collect::<Vec<_>>();
        let lists = [("r-u1".into(), ids(0, 1500)), ("r-u2".into(), ids(7, 9))];
        let twice = ids(0, 3).into_iter().chain(ids(1, 2)).collect();
        [
            Found::default(),
            Found::of_ids(twice).with_violations(["sums differ".to_owned()]),
            Found::of_lists(lists.into()),
        ]
    }

    #[test]
    fn a_file_gives_back_what_was_written() {
        for found in samples() {
            assert_eq!(Found::read(written(&found).as_bytes()).unwrap(), found);
        }
        assert_eq!((samples()[1].times("r-1".into()), samples()[1].times("r-9".into())), (2, 0));
    }

    #[test]
    fn a_cut_or_damaged_file_is_no_answer() {
        for found in samples() {
            let text = written(&found);
            let lines: Vec<&str> = text.lines().collect();
            for kept in 0..lines.len() {
                let error = Found::read(lines[..kept].join("\n").as_bytes()).unwrap_err();
                assert!(matches!(error, FoundError::Cut { .. }), "{error}");
            }
            if lines.len() > 1 {
                let gap = lines[1..].join("\n");
                assert!(Found::read(gap.as_bytes()).is_err(), "a line is missing");
            }
        }
        let error = Found::read("{\"ids\":[\"r-1\"]}\nnonsense\n".as_bytes()).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
