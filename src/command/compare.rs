//! `mettle compare`: whether a later run is worse than an earlier one.

use crate::cli::{CompareArgs, Global};
use crate::command::{CommandResult, report as report_command};
use crate::exit::Exit;
use crate::model::{Margins, Verdict};
use crate::report;

pub fn execute(global: &Global, args: &CompareArgs) -> CommandResult {
    let before = report::read(&args.before).map_err(report_command::failure)?;
    let after = report::read(&args.after).map_err(report_command::failure)?;
    let margins = Margins {
        margin_percent: args.margin,
        floor_seconds: args.floor_seconds,
        floor_percent: args.floor_percent,
        floor_ms: args.floor_ms,
    };
    let comparison = report::compare(&before, &after, margins);
    let (exit, meaning) = match comparison.verdict {
        Verdict::Pass => (Exit::Pass, "no figure is worse by more than is allowed"),
        Verdict::Fail => (Exit::Fail, "a figure is worse by more than is allowed"),
        Verdict::Inconclusive => (Exit::Inconclusive, "the runs do not tell whether it is worse"),
    };
    if global.json {
        println!("{}", serde_json::to_string_pretty(&comparison).map_err(anyhow::Error::from)?);
    } else {
        print!("{}", report::render_comparison(&comparison, &format!("exit {}: {meaning}", exit as u8)));
    }
    Ok(exit)
}
