//! `StressChaos` and `DNSChaos`.

use serde_json::Value;

use super::fields::Fields;
use super::quantity::{self, Rounded};
use super::{Out, fault_of};
use crate::model::{FaultKind, FaultSpec};

pub fn fault(fields: &mut Fields, out: &mut Out) -> Option<FaultSpec> {
    let why = "mettle has no stress-ng: use stressors with cpu or memory";
    fields.refuse_given("stressngStressors", why, out);
    let path = fields.at("stressors");
    let Some(mut stressors) = fields.below("stressors", out) else {
        out.refuse(path, "is missing: use cpu or memory");
        return None;
    };
    let (cpu, memory) = (stressors.below("cpu", out), stressors.below("memory", out));
    let fault = match (cpu, memory) {
        (Some(_), Some(_)) => {
            let why =
                "a rehearsal takes one fault after another: make two documents, one of cpu and one of memory";
            out.refuse(path, why);
            None
        }
        (Some(cpu), None) => Some(processor(cpu, out)),
        (None, Some(memory)) => Some(held_memory(memory, out)),
        (None, None) => {
            out.refuse(path, "names neither cpu nor memory");
            None
        }
    };
    stressors.finish(out);
    fault
}

fn processor(mut cpu: Fields, out: &mut Out) -> FaultSpec {
    let mut fault = fault_of(FaultKind::CpuStress);
    fault.with.workers = workers(&mut cpu, out);
    if let Some(load) = cpu.whole("load", out).filter(|load| *load != 100) {
        let why = format!(
            "mettle's threads are busy all the time, not {load} % of it: use fewer workers with load 100"
        );
        out.refuse(cpu.at("load"), why);
    }
    cpu.refuse_given("options", "mettle has no stress-ng: take them out", out);
    cpu.finish(out);
    fault
}

fn held_memory(mut memory: Fields, out: &mut Out) -> FaultSpec {
    let mut fault = fault_of(FaultKind::MemoryStress);
    if workers(&mut memory, out).is_some_and(|workers| workers > 1) {
        let why = "mettle holds size in all with one process; a version of Chaos Mesh that takes it for each worker needs \
                   the product in size";
        out.note(memory.at("workers"), why);
    }
    let path = memory.at("size");
    match memory.word("size", out) {
        Some(size) if size.trim().ends_with('%') => {
            out.refuse(path, "a share of the memory is not known without a cluster: use a size like 256MB");
        }
        Some(size) => match quantity::mebibytes(&size) {
            Some(rounded) => {
                fault.with.mib = Some(rounded.value());
                let up = if matches!(rounded, Rounded::Up(_)) { "rounded up to " } else { "" };
                out.note(path, format!("{size} is {up}{} MiB", rounded.value()));
            }
            None => out.refuse(path, format!("{size:?} is no size like 256MB or 1GiB")),
        },
        None => out.refuse(path, "is missing: Chaos Mesh would take all memory; memory-oom is that"),
    }
    memory.refuse_given("options", "mettle has no stress-ng: take them out", out);
    if memory.word("oomScoreAdj", out).is_some_and(|score| !quantity::is_zero(&score)) {
        out.refuse(memory.at("oomScoreAdj"), "mettle leaves the score as it is: take it out");
    }
    memory.finish(out);
    fault
}

/// None are no stress at all.
fn workers(fields: &mut Fields, out: &mut Out) -> Option<u32> {
    let workers = fields.whole("workers", out);
    if matches!(workers, Some(0) | None) {
        out.refuse(fields.at("workers"), "must be at least 1: without workers there is no stress");
    }
    workers
}

/// Names that a resolver is asked for.
pub fn names(fields: &mut Fields, out: &mut Out) -> Option<FaultSpec> {
    let path = fields.at("action");
    match fields.text("action", out) {
        Some("error") => out.note(&path, "mettle answers that there is no such name (NXDOMAIN)"),
        Some("random") => {
            let why = "mettle gives no random address: dns-wrong answers with one that you choose";
            out.refuse(path, why);
            return None;
        }
        _ => {
            out.refuse(path, "must be error");
            return None;
        }
    }
    let mut fault = fault_of(FaultKind::DnsFail);
    let path = fields.at("patterns");
    match fields.get("patterns") {
        Some(Value::Array(list)) => match list.as_slice() {
            [] => {}
            [Value::String(pattern)] => match suffix(pattern) {
                Some(domain) => {
                    out.note(&path, format!("{pattern} is every name under {domain}, and {domain} itself"));
                    fault.with.domain = Some(domain.to_owned());
                }
                None => out.refuse(
                    format!("{path}[0]"),
                    format!("{pattern:?}: mettle takes every name under a suffix, as in *.example.com"),
                ),
            },
            [_] => out.refuse(format!("{path}[0]"), "must be text"),
            _ => out.refuse(path, "mettle takes one suffix a fault: make a document of each"),
        },
        Some(_) => out.refuse(path, "must be a list"),
        None => {}
    }
    Some(fault)
}

/// `x.y` of `*.x.y`.
fn suffix(pattern: &str) -> Option<&str> {
    let suffix = pattern.strip_prefix("*.")?;
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    suffix.split('.').all(label).then_some(suffix)
}
