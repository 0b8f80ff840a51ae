//! What the child says on its standard output: one JSON object a line.

use serde::{Deserialize, Serialize};

use crate::model::LoadSecond;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// All `prepare` steps succeeded; how many requests were acknowledged.
    Prepared(u64),
    /// A second is over. In order of time, none left out, from the child's start on.
    Second(LoadSecond),
    /// The last line of a child that ended as it was told to.
    Ended(Totals),
}

/// Written operations, so that a reader can tell that the file is complete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub operations: u64,
    pub ok: u64,
    pub failed: u64,
    pub indeterminate: u64,
    /// Requests that the generator itself could not make.
    pub generators_own: u64,
    /// Users' intentions that the clock produced; equals `operations` less the preparing ones.
    pub intended: u64,
    /// Lanes whose task was lost; anything above 0 is a bug.
    pub lanes_lost: u64,
}
