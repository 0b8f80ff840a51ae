//! One experiment's load over time: successes and errors a second, windows, faults and phases.

use std::fmt::Write as _;

use crate::model::{ExperimentReport, LoadSecond};

use super::html::escape;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 50.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 230.0;

struct Scale {
    end_ms: f64,
    per_second_max: f64,
}

#[allow(clippy::cast_precision_loss)]
impl Scale {
    fn x(&self, at_ms: u64) -> f64 {
        LEFT + (at_ms as f64).min(self.end_ms) / self.end_ms * (WIDTH - LEFT - 10.0)
    }

    fn y(&self, per_second: u64) -> f64 {
        BOTTOM - per_second as f64 / self.per_second_max * (BOTTOM - TOP)
    }
}

/// The picture; what it shows is in its text, too.
#[allow(clippy::cast_precision_loss)]
pub(super) fn picture(experiment: &ExperimentReport, seconds: &[LoadSecond]) -> String {
    let bad = |second: &LoadSecond| second.failed + second.indeterminate;
    let end_ms = seconds.iter().map(|second| second.at_ms + 1000).max().unwrap_or(1000);
    let end_ms = end_ms.max(experiment.windows.recovery.end_ms);
    let highest = seconds.iter().map(|second| second.ok.max(bad(second))).max().unwrap_or(0).max(1);
    let scale = Scale { end_ms: end_ms as f64, per_second_max: highest as f64 };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"load of {}\" font-size=\"11\">\n",
        escape(&experiment.name)
    );
    windows(&mut svg, experiment, &scale);
    for span in seconds.iter().filter_map(LoadSecond::limited_span) {
        let (x, width) = (scale.x(span.start_ms), scale.x(span.end_ms) - scale.x(span.start_ms));
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"#999\" fill-opacity=\"0.4\"><title>generator-limited</title></rect>",
            BOTTOM - TOP
        );
    }
    for (name, colour, value) in
        [("ok/s", "#1a6b2d", (|second| second.ok) as fn(&LoadSecond) -> u64), ("errors/s", "#b3181d", bad)]
    {
        let points = seconds.iter().map(|second| {
            // A second is drawn in its middle.
            format!("{:.1},{:.1}", scale.x(second.at_ms + 500), scale.y(value(second)))
        });
        let points = points.collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            svg,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"><title>{name}</title></polyline>"
        );
    }
    marks(&mut svg, experiment, &scale);
    let _ = writeln!(
        svg,
        "<text x=\"4\" y=\"{:.1}\">{highest}/s</text><text x=\"4\" y=\"{BOTTOM}\">0</text>\
         <text x=\"{LEFT}\" y=\"{HEIGHT}\" fill=\"#1a6b2d\">— ok/s</text>\
         <text x=\"{:.1}\" y=\"{HEIGHT}\" fill=\"#b3181d\">— errors/s</text>\
         <text x=\"{:.1}\" y=\"{HEIGHT}\" text-anchor=\"end\">{:.0} s</text>\n</svg>",
        TOP + 4.0,
        LEFT + 60.0,
        WIDTH - 10.0,
        scale.end_ms / 1000.0
    );
    svg
}

fn windows(svg: &mut String, experiment: &ExperimentReport, scale: &Scale) {
    let windows = &experiment.windows;
    for (name, colour, window) in [
        ("baseline", "#eef3ee", &windows.baseline),
        ("fault", "#f7dede", &windows.fault),
        ("recovery", "#e6edf7", &windows.recovery),
    ] {
        if window.end_ms <= window.start_ms {
            continue;
        }
        let (x, width) = (scale.x(window.start_ms), scale.x(window.end_ms) - scale.x(window.start_ms));
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#555\">{name}</text>",
            BOTTOM - TOP,
            x + 3.0,
            BOTTOM - 4.0
        );
    }
}

/// Injections, when each was seen to bite and was reverted, and the ends of the phases.
fn marks(svg: &mut String, experiment: &ExperimentReport, scale: &Scale) {
    let mut marks: Vec<(u64, String, &str)> = Vec::new();
    for fault in &experiment.faults {
        marks.push((fault.injected_ms, format!("{} injected", fault.kind), "#b3181d"));
        marks.extend(fault.effective_ms.map(|ms| (ms, format!("{} bit", fault.kind), "#b3181d")));
        marks.extend(fault.reverted_ms.map(|ms| (ms, format!("{} reverted", fault.kind), "#30569c")));
    }
    if let Some(injected_ms) = experiment.faults.iter().map(|fault| fault.injected_ms).min() {
        let phases = experiment.recovery_ms.named().into_iter().filter(|(name, _)| *name != "total");
        let ended = phases.filter_map(|(name, ms)| Some((injected_ms + ms?, name.to_owned(), "#6a3d9a")));
        marks.extend(ended);
    }
    marks.sort();
    for (index, (at_ms, name, colour)) in marks.into_iter().enumerate() {
        let x = scale.x(at_ms);
        // Names of neighbours are on different lines.
        let y = TOP - 24.0 + 11.0 * f64::from(u32::try_from(index % 3).unwrap_or(0));
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y:.1}\" y2=\"{BOTTOM}\" stroke=\"{colour}\" stroke-dasharray=\"3 3\"/>\
             <text x=\"{:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{}</text>",
            x + 2.0,
            escape(&name)
        );
    }
}
