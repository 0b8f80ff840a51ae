//! Progress of long work on standard error: bars on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// One step of a longer work.
#[derive(Debug)]
pub struct Step {
    label: String,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Step {
    /// A step whose length is unknown.
    pub fn spinner(label: impl Into<String>) -> Self {
        Self::start(label.into(), None)
    }

    /// A step of `total` parts.
    pub fn counted(label: impl Into<String>, total: u64) -> Self {
        Self::start(label.into(), Some(total))
    }

    fn start(label: String, total: Option<u64>) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let template = match total {
                Some(_) => "{spinner} {prefix} {wide_bar} {pos}/{len} {elapsed} (about {eta} left) {msg}",
                None => "{spinner} {prefix} {elapsed} {wide_msg}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(label.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("{label} …");
        }
        Self { label, started: Instant::now(), bar }
    }

    pub fn position(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    pub fn message(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// A plain line beside the bar.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("  {text}"),
        }
    }

    /// A line where there is no bar to look at.
    pub fn note(&self, text: &str) {
        if self.bar.is_none() {
            eprintln!("  {text}");
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends the step well, and says how long it took.
    pub fn done(self, detail: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        let gap = if detail.is_empty() { "" } else { ": " };
        let text = format!("{}{gap}{detail} ({seconds:.1} s)", self.label);
        match &self.bar {
            Some(bar) => {
                bar.finish_and_clear();
                eprintln!("✓ {text}");
            }
            None => eprintln!("  {text}"),
        }
    }
}
