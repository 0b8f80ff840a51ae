//! What a person sees while a run goes on: one line, made from the same events that the reports are made from.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use crate::model::{Component, Event, Fact, Leadership, LoadSecond, Observation, Phase};

/// Follows the events until their sender is gone or the task is aborted.
pub fn follow(experiment: &str, mut events: Receiver<Event>) -> JoinHandle<()> {
    let mut view = View::new(experiment);
    tokio::spawn(async move {
        loop {
            match events.recv().await {
                Ok(event) => view.take(&event),
                // Too slow for the terminal: what was missed is in the timeline.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break,
            }
        }
        view.bar.finish_and_clear();
    })
}

struct View {
    experiment: String,
    bar: ProgressBar,
    terminal: bool,
    phase: &'static str,
    load: String,
    /// What was seen to have a leader, or none.
    led: BTreeSet<(Component, String)>,
}

impl View {
    fn new(experiment: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        let led = BTreeSet::new();
        Self { experiment: experiment.to_owned(), bar, terminal, phase: "", load: String::new(), led }
    }

    fn take(&mut self, event: &Event) {
        match &event.fact {
            Fact::PhaseStarted { phase } => {
                self.phase = phase_name(*phase);
                self.line(event.at_ms, self.phase);
            }
            Fact::Load(second) => self.load = load_text(second),
            Fact::FaultInjected { kind, target, .. } => {
                let role = target.role.map_or("", |role| role.as_str());
                self.line(event.at_ms, &format!("inject {kind} into {} {role}", target.object));
            }
            Fact::FaultReverted { fault } => self.line(event.at_ms, &format!("fault {fault} is reverted")),
            Fact::Observed(Observation::Leader { component, scope, leader, .. }) => {
                // A broker leads dozens of partitions: who leads each at first is in the timeline.
                let first = self.led.insert((*component, scope.clone()));
                if first && leader.is_some() && component.leadership() == Leadership::Parts {
                    return;
                }
                let leader = leader.as_deref().unwrap_or("nobody");
                self.line(event.at_ms, &format!("{component} {scope} is led by {leader}"));
            }
            Fact::Observed(Observation::Node { name, ready }) => {
                let state = if *ready { "Ready" } else { "not Ready" };
                self.line(event.at_ms, &format!("node {name} is {state}"));
            }
            Fact::Observed(Observation::Redundancy { component, have, want }) => {
                self.line(event.at_ms, &format!("{component} has {have} of {want} members"));
            }
            Fact::Stop { reason } => self.line(event.at_ms, reason),
            Fact::Note { text } => self.line(event.at_ms, text),
            _ => {}
        }
        self.bar.set_message(format!("{}: {} {}", self.experiment, self.phase, self.load));
    }

    fn line(&self, at_ms: u64, text: &str) {
        let line = format!("{:>7.1} s  {}: {text}", at_ms as f64 / 1000.0, self.experiment);
        if self.terminal {
            self.bar.println(line);
        } else {
            eprintln!("{line}");
        }
    }
}

fn load_text(second: &LoadSecond) -> String {
    let limited = if second.generator_limited { ", generator-limited" } else { "" };
    format!(
        "{} ok/s, {} errors/s, p99 {:.0} ms{limited}",
        second.ok,
        second.failed + second.indeterminate,
        second.p99_us as f64 / 1000.0
    )
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Prepare => "prepare",
        Phase::Warm => "warm up",
        Phase::Baseline => "baseline",
        Phase::Gate => "gate",
        Phase::Fault => "fault",
        Phase::Revert => "revert",
        Phase::Recovery => "recovery",
        Phase::Drain => "drain",
        Phase::Judge => "judge",
    }
}
