//! W3C trace context: accept `traceparent`, make one when it is absent or malformed.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// The ids of one request. `Display` writes the header's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: String,
    /// Our own span: never the caller's.
    pub span_id: String,
    pub sampled: bool,
}

impl TraceContext {
    /// Continue the caller's trace, or start a new one.
    #[must_use]
    pub fn continue_or_start(header: Option<&str>) -> Self {
        let (trace_id, sampled) = header
            .and_then(parse)
            .unwrap_or_else(|| (format!("{:016x}{:016x}", random_id(), random_id()), false));
        Self { trace_id, span_id: format!("{:016x}", random_id()), sampled }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// The trace id and the sampled flag of a valid `traceparent`.
///
/// Versions after 00 may carry more fields; version ff and all-zero ids are invalid.
fn parse(header: &str) -> Option<(String, bool)> {
    let mut fields = header.split('-');
    let version = fields.next().filter(|v| is_lower_hex(v, 2) && *v != "ff")?;
    let trace_id = fields.next().filter(|id| is_id(id, 32))?;
    fields.next().filter(|id| is_id(id, 16))?;
    let flags = fields.next().filter(|f| is_lower_hex(f, 2))?;
    if version == "00" && fields.next().is_some() {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some((trace_id.to_owned(), flags & 1 == 1))
}

fn is_id(text: &str, len: usize) -> bool {
    is_lower_hex(text, len) && text.bytes().any(|b| b != b'0')
}

fn is_lower_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The standard library's own source of randomness, which also works in a static binary without /dev: its
/// hasher gets random keys from the system, and new ones each time.
fn random_id() -> u64 {
    // Zero is the one invalid value.
    RandomState::new().hash_one(()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_valid_header_is_continued_with_our_own_span() {
        let context = TraceContext::continue_or_start(Some(&format!("00-{TRACE}-{SPAN}-01")));
        assert_eq!(context.trace_id, TRACE);
        assert_ne!(context.span_id, SPAN);
        assert!(context.sampled);
        let text = context.to_string();
        assert_eq!(parse(&text), Some((TRACE.to_owned(), true)));
    }

    #[test]
    fn malformed_headers_start_a_new_trace() {
        let zero_trace = "0".repeat(32);
        for header in [
            String::new(),
            "junk".into(),
            format!("00-{TRACE}-{SPAN}"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{zero_trace}-{SPAN}-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-0g"),
        ] {
            assert_eq!(parse(&header), None, "{header:?}");
            let context = TraceContext::continue_or_start(Some(&header));
            assert_ne!(context.trace_id, TRACE);
            assert!(is_id(&context.trace_id, 32) && is_id(&context.span_id, 16));
        }
    }

    #[test]
    fn a_later_version_may_carry_more() {
        assert_eq!(parse(&format!("01-{TRACE}-{SPAN}-00-x")), Some((TRACE.to_owned(), false)));
    }

    #[test]
    fn new_traces_differ() {
        let ids: std::collections::HashSet<_> = (0..1_000)
            .map(|_| TraceContext::continue_or_start(None))
            .flat_map(|context| [context.trace_id, context.span_id])
            .collect();
        assert_eq!(ids.len(), 2_000);
    }
}
