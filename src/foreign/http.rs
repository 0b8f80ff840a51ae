//! `HTTPChaos`.

use serde_json::Value;

use super::fields::Fields;
use super::quantity::MILLISECONDS;
use super::{Out, fault_of};
use crate::model::{FaultKind, FaultSpec};

pub fn fault(fields: &mut Fields, out: &mut Out) -> Option<FaultSpec> {
    let given: Vec<&str> =
        ["abort", "delay", "replace", "patch"].into_iter().filter(|key| is_given(fields, key)).collect();
    let mut fault = match given[..] {
        ["abort"] => {
            out.note(fields.at("abort"), "mettle resets the connection; what is under way on it is cut, too");
            fault_of(FaultKind::NetReset)
        }
        ["delay"] => delay(fields, out),
        ["replace"] => replace(fields, out)?,
        ["patch"] => {
            let why = "mettle does not change what a message says: http-respond answers with a status";
            out.refuse(fields.at("patch"), why);
            return None;
        }
        [] => {
            out.refuse(fields.path(), "asks for nothing: use abort, delay or replace");
            return None;
        }
        _ => {
            let why = format!("asks for {} at once: make a document of each", given.join(" and "));
            out.refuse(fields.path(), why);
            return None;
        }
    };
    only_all(fields, out);
    side(fields, fault.kind, out);
    fault.with.port = fields.port("port", out);
    fields.needs("port", "is missing", out);
    Some(fault)
}

/// `abort: false` asks for nothing.
fn is_given(fields: &mut Fields, key: &str) -> bool {
    fields.get(key).is_some_and(|value| *value != Value::Bool(false))
}

fn delay(fields: &mut Fields, out: &mut Out) -> FaultSpec {
    let mut fault = fault_of(FaultKind::NetDelay);
    fault.with.delay_ms = fields.duration("delay", MILLISECONDS, out);
    let why = "mettle delays each way of a connection: a request and its answer are late by twice as much";
    out.note(fields.at("delay"), why);
    fault
}

fn replace(fields: &mut Fields, out: &mut Out) -> Option<FaultSpec> {
    let mut replace = fields.below("replace", out)?;
    for key in ["body", "headers", "path", "method", "queries"] {
        let why = "mettle replaces the status of an answer, and nothing else: take it out";
        replace.refuse_given(key, why, out);
    }
    let path = replace.at("code");
    let status = replace.status("code", out);
    replace.needs("code", "is missing: mettle replaces the status of an answer, and nothing else", out);
    out.note(
        path,
        "mettle answers itself: the server does not see the request, and the answer has no body of its own",
    );
    replace.finish(out);
    let mut fault = fault_of(FaultKind::HttpRespond);
    fault.with.status = status;
    Some(fault)
}

/// A filter that is not kept would hit more than was asked for.
fn only_all(fields: &mut Fields, out: &mut Out) {
    for key in ["path", "method"] {
        if let Some(value) = fields.text(key, out).filter(|value| *value != "*") {
            let why = format!(
                "mettle hits every request to the port, not only {value}: take it out, or use mesh-abort"
            );
            out.refuse(fields.at(key), why);
        }
    }
    for key in ["code", "request_headers", "response_headers"] {
        let why =
            "mettle hits every request to the port: take it out, or use mesh-abort, which picks by header";
        fields.refuse_given(key, why, out);
    }
    fields.refuse_given("tls", "mettle does not open TLS: use mesh-abort or mesh-delay", out);
}

fn side(fields: &mut Fields, kind: FaultKind, out: &mut Out) {
    let path = fields.at("target");
    match (fields.text("target", out), kind) {
        (Some("Request"), FaultKind::HttpRespond) => {
            out.refuse(path, "a request has no status: replace code of Response");
        }
        (Some("Response"), FaultKind::NetReset) => {
            out.note(path, "mettle resets before the server has the request, not after it answered");
        }
        (Some("Request" | "Response"), _) => {}
        _ => out.refuse(path, "must be Request or Response"),
    }
}
