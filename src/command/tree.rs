//! What comes up, as a tree: a line a workload on a terminal, a line a change elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::stack::Row;

const TICK: Duration = Duration::from_millis(200);

pub struct Tree {
    started: Instant,
    bars: Option<MultiProgress>,
    head: ProgressBar,
    shown: Mutex<BTreeMap<String, Shown>>,
}

struct Shown {
    bar: ProgressBar,
    ready: i32,
}

impl Tree {
    pub fn new() -> Self {
        let bars = stderr().is_terminal().then(MultiProgress::new);
        let head = bars.as_ref().map_or_else(ProgressBar::hidden, |bars| {
            let head = bars.add(ProgressBar::new_spinner());
            head.set_style(style("{spinner} stack {elapsed} {wide_msg}"));
            head.enable_steady_tick(TICK);
            head
        });
        Self { started: Instant::now(), bars, head, shown: Mutex::default() }
    }

    pub fn show(&self, text: &str, rows: &[Row]) {
        let waiting = rows.iter().filter(|row| !row.is_ready()).count();
        self.head.set_message(if rows.is_empty() {
            text.to_owned()
        } else {
            format!("{} of {} workloads ready", rows.len() - waiting, rows.len())
        });
        let mut shown = self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for row in rows {
            let line =
                shown.entry(format!("{}/{}", row.namespace, row.workload)).or_insert_with(|| self.line(row));
            line.bar.set_message(row.to_string());
            line.bar.set_position(u64::try_from(row.ready.max(0)).unwrap_or(0));
            if row.ready == line.ready {
                continue;
            }
            line.ready = row.ready;
            if row.is_ready() {
                line.bar.finish_and_clear();
                self.say(&format!("✓ {row} ({:.1} s)", self.started.elapsed().as_secs_f64()));
            }
        }
    }

    fn say(&self, text: &str) {
        match &self.bars {
            Some(bars) => drop(bars.println(text)),
            None => eprintln!("  {text}"),
        }
    }

    fn line(&self, row: &Row) -> Shown {
        let length = u64::try_from(row.desired.max(0)).unwrap_or(0);
        let bar = self.bars.as_ref().map_or_else(ProgressBar::hidden, |bars| {
            let bar = bars.add(ProgressBar::new(length));
            bar.set_style(style("  {spinner} {bar:12} {wide_msg}"));
            bar.enable_steady_tick(TICK);
            bar
        });
        Shown { bar, ready: -1 }
    }

    /// Takes every line away; answers with the seconds that it took.
    pub fn finish(&self) -> f64 {
        let shown = self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shown.values().for_each(|line| line.bar.finish_and_clear());
        self.head.finish_and_clear();
        self.started.elapsed().as_secs_f64()
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
