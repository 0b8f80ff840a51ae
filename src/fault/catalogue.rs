//! What the catalogue says of each fault. The words are those of docs/faults.md: that page is the catalogue.

use super::rights;
use crate::model::FaultKind;

const PAGE: &str = include_str!("../../docs/faults.md");

/// What the catalogue says of a fault.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FaultInfo {
    pub name: &'static str,
    pub level: &'static str,
    pub does: &'static str,
    pub undone_by: &'static str,
    pub evidence: &'static str,
    /// Beyond the rights, what it cannot do without.
    pub needs: &'static str,
    /// Its undo puts back what was; else the cluster heals by itself, and the undo waits for that.
    pub reversible: bool,
    /// Others of the same target that may be on at the same time.
    pub combines_with: &'static str,
    /// RBAC rules: `verb,verb resource.group`.
    pub rights: Vec<String>,
    /// Fields of `with`; those that it cannot do without bear a star.
    pub with: Vec<String>,
}

#[must_use]
pub fn info(kind: FaultKind) -> FaultInfo {
    let [level, does, undone_by, evidence, needs] = words(kind.as_str());
    let shape = kind.shape();
    let rights = rights::rights(kind).into_iter().map(|right| {
        let dot = if right.group.is_empty() { "" } else { "." };
        format!("{} {}{dot}{}", right.verbs.join(","), right.resource, right.group)
    });
    let star = |name: &&'static str| {
        let star = if shape.needs.contains(name) { "*" } else { "" };
        format!("{name}{star}")
    };
    FaultInfo {
        name: kind.as_str(),
        level,
        does,
        undone_by,
        evidence,
        needs,
        reversible: shape.held,
        combines_with: combines(level),
        rights: rights.collect(),
        with: shape.takes.iter().map(star).collect(),
    }
}

/// An object carries one edit at a time; everything else stacks.
fn combines(level: &str) -> &'static str {
    match level {
        "workload" | "mesh" => "every fault that does not edit the same object",
        "control-plane" => "every fault that needs no answer of that server while it is on",
        _ => "every fault",
    }
}

/// Level, what it does, what undoes it, what proves it, what it needs: the cells of its row.
fn words(name: &str) -> [&'static str; 5] {
    let of_fault =
        |line: &&str| line.split('|').nth(1).is_some_and(|cell| cell.trim() == format!("`{name}`"));
    let mut words = [""; 5];
    if let Some(row) = PAGE.lines().find(of_fault) {
        words.iter_mut().zip(row.split('|').skip(2)).for_each(|(word, cell)| *word = cell.trim());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_row_and_every_row_its_fault() {
        let rows: Vec<&str> =
            PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let kinds: Vec<&str> = FaultKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(rows, kinds, "in this order");
        for kind in FaultKind::ALL {
            let info = info(*kind);
            for word in [info.level, info.does, info.undone_by, info.evidence, info.needs] {
                assert!(!word.is_empty(), "{}: an empty cell", kind.as_str());
            }
        }
    }
}
