//! Evidence: one JSON object a line on standard output.

use std::io::Write;

/// What a work can say of itself now. The words are the same for every work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    pub event: &'static str,
    pub text: String,
}

impl Evidence {
    /// Measured: it bites right now.
    pub fn effect(text: impl Into<String>) -> Self {
        Self { event: "effect", text: text.into() }
    }

    /// It is in place, and nothing was bitten yet.
    pub fn waiting(text: impl Into<String>) -> Self {
        Self { event: "waiting", text: text.into() }
    }

    /// Neither: something to know.
    pub fn note(text: impl Into<String>) -> Self {
        Self { event: "note", text: text.into() }
    }

    /// It should bite and does not.
    pub fn failed(text: impl Into<String>) -> Self {
        Self { event: "failed", text: text.into() }
    }

    pub fn say(&self) {
        say(self.event, &self.text);
    }
}

/// One line of evidence. Nobody reading is no reason to stop undoing.
pub fn say(event: &str, text: &str) {
    let mut out = std::io::stdout().lock();
    let line = serde_json::json!({ "event": event, "text": text });
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
