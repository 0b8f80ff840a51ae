//! Trace context: W3C `traceparent`, else B3 (single or multi header), else a new trace. Both are passed on.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

pub const TRACEPARENT: &str = "traceparent";
pub const B3: &str = "b3";
pub const B3_TRACE: &str = "x-b3-traceid";
pub const B3_SPAN: &str = "x-b3-spanid";
pub const B3_SAMPLED: &str = "x-b3-sampled";
pub const B3_FLAGS: &str = "x-b3-flags";

/// The ids of one span. `Display` writes the value of `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: String,
    /// Our own span: never the caller's.
    pub span_id: String,
    pub parent_id: Option<String>,
    pub sampled: bool,
}

impl TraceContext {
    /// Continue the caller's trace, or start a new one. `header` gives the text of a header by its name.
    #[must_use]
    pub fn continue_or_start<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Self {
        header(TRACEPARENT).and_then(parse).or_else(|| parse_b3(&header)).unwrap_or_else(Self::start)
    }

    /// Continue what was stored as a `traceparent`, or start a new trace.
    #[must_use]
    pub fn resume(traceparent: Option<&str>) -> Self {
        traceparent.and_then(parse).unwrap_or_else(Self::start)
    }

    /// A span below this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            trace_id: self.trace_id.clone(),
            span_id: new_span_id(),
            parent_id: Some(self.span_id.clone()),
            sampled: self.sampled,
        }
    }

    /// Nobody asked for it, so nobody is sent its spans.
    fn start() -> Self {
        let trace_id = format!("{:016x}{:016x}", random_id(), random_id());
        Self { trace_id, span_id: new_span_id(), parent_id: None, sampled: false }
    }

    fn below(trace_id: String, parent_id: &str, sampled: bool) -> Self {
        Self { trace_id, span_id: new_span_id(), parent_id: Some(parent_id.to_owned()), sampled }
    }

    /// The headers that the next service gets: W3C and B3 alike.
    #[must_use]
    pub fn headers(&self) -> [(&'static str, String); 4] {
        [
            (TRACEPARENT, self.to_string()),
            (B3_TRACE, self.trace_id.clone()),
            (B3_SPAN, self.span_id.clone()),
            (B3_SAMPLED, u8::from(self.sampled).to_string()),
        ]
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// Versions after 00 may carry more fields; version ff and all-zero ids are invalid.
fn parse(header: &str) -> Option<TraceContext> {
    let mut fields = header.split('-');
    let version = fields.next().filter(|v| is_lower_hex(v, 2) && *v != "ff")?;
    let trace_id = fields.next().filter(|id| is_id(id, 32))?;
    let parent_id = fields.next().filter(|id| is_id(id, 16))?;
    let flags = fields.next().filter(|f| is_lower_hex(f, 2))?;
    if version == "00" && fields.next().is_some() {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some(TraceContext::below(trace_id.to_owned(), parent_id, flags & 1 == 1))
}

/// `b3: trace-span[-sampled[-parent]]`, else the headers `x-b3-*`. A trace id of 64 bits is filled up with zeros. Without
/// a decision we take it as sampled: whoever sends B3 leaves that open only to defer it.
fn parse_b3<'a>(header: &impl Fn(&str) -> Option<&'a str>) -> Option<TraceContext> {
    let (trace, span, sampled) = match header(B3) {
        Some(single) => {
            let mut fields = single.split('-');
            (fields.next()?, fields.next()?, fields.next())
        }
        None => (header(B3_TRACE)?, header(B3_SPAN)?, header(B3_SAMPLED)),
    };
    let debug = header(B3_FLAGS) == Some("1");
    let sampled = match sampled {
        None | Some("1" | "d" | "true") => true,
        Some("0" | "false") => debug,
        Some(_) => return None,
    };
    let trace_id = match trace.len() {
        16 if is_id(trace, 16) => format!("{trace:0>32}"),
        32 if is_id(trace, 32) => trace.to_owned(),
        _ => return None,
    };
    is_id(span, 16).then(|| TraceContext::below(trace_id, span, sampled))
}

fn is_id(text: &str, len: usize) -> bool {
    is_lower_hex(text, len) && text.bytes().any(|b| b != b'0')
}

fn is_lower_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn new_span_id() -> String {
    format!("{:016x}", random_id())
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

    fn of(pairs: &[(&str, &str)]) -> TraceContext {
        let pairs: Vec<(String, String)> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        TraceContext::continue_or_start(|name| pairs.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str()))
    }

    #[test]
    fn a_valid_header_is_continued_with_our_own_span() {
        let context = of(&[(TRACEPARENT, &format!("00-{TRACE}-{SPAN}-01"))]);
        assert_eq!(context.trace_id, TRACE);
        assert_ne!(context.span_id, SPAN);
        assert_eq!(context.parent_id.as_deref(), Some(SPAN));
        assert!(context.sampled);
        let below = context.child();
        assert_eq!((below.trace_id.as_str(), below.parent_id.as_ref()), (TRACE, Some(&context.span_id)));
        let stored = TraceContext::resume(Some(&context.to_string()));
        assert_eq!((stored.trace_id.as_str(), stored.parent_id.as_ref()), (TRACE, Some(&context.span_id)));
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
            let context = of(&[(TRACEPARENT, &header)]);
            assert_ne!(context.trace_id, TRACE);
            assert!(!context.sampled && context.parent_id.is_none());
            assert!(is_id(&context.trace_id, 32) && is_id(&context.span_id, 16));
        }
    }

    #[test]
    fn a_later_version_may_carry_more() {
        let context = parse(&format!("01-{TRACE}-{SPAN}-00-x")).unwrap();
        assert_eq!((context.trace_id.as_str(), context.sampled), (TRACE, false));
    }

    #[test]
    fn b3_counts_only_without_traceparent() {
        let other = "1".repeat(32);
        let both = of(&[(TRACEPARENT, &format!("00-{TRACE}-{SPAN}-00")), (B3, &format!("{other}-{SPAN}-1"))]);
        assert_eq!((both.trace_id.as_str(), both.sampled), (TRACE, false));
        for (pairs, trace, sampled) in [
            (vec![(B3, format!("{TRACE}-{SPAN}-1"))], TRACE, true),
            (vec![(B3, format!("{TRACE}-{SPAN}-0-{SPAN}"))], TRACE, false),
            (vec![(B3_TRACE, TRACE.into()), (B3_SPAN, SPAN.into()), (B3_SAMPLED, "0".into())], TRACE, false),
            (vec![(B3_TRACE, TRACE.into()), (B3_SPAN, SPAN.into())], TRACE, true),
            (
                vec![(B3_TRACE, SPAN.into()), (B3_SPAN, SPAN.into()), (B3_SAMPLED, "1".into())],
                "000000000000000000f067aa0ba902b7",
                true,
            ),
        ] {
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (*k, v.as_str())).collect();
            let context = of(&pairs);
            assert_eq!((context.trace_id.as_str(), context.sampled), (trace, sampled), "{pairs:?}");
            assert_eq!(context.parent_id.as_deref(), Some(SPAN));
        }
        assert!(of(&[(B3, "0")]).parent_id.is_none(), "a bare decision names no trace");
    }

    #[test]
    fn what_is_passed_on_is_understood() {
        let context = of(&[(B3, &format!("{TRACE}-{SPAN}-1"))]);
        let headers = context.headers();
        let pairs: Vec<(&str, &str)> = headers.iter().skip(1).map(|(k, v)| (*k, v.as_str())).collect();
        let next = of(&pairs);
        assert_eq!((&next.trace_id, next.parent_id.as_ref()), (&context.trace_id, Some(&context.span_id)));
    }

    #[test]
    fn new_traces_differ() {
        let ids: std::collections::HashSet<_> =
            (0..1_000).map(|_| of(&[])).flat_map(|context| [context.trace_id, context.span_id]).collect();
        assert_eq!(ids.len(), 2_000);
    }
}
