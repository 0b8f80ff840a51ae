//! `NetworkChaos`.

use super::fields::Fields;
use super::quantity::{self, MILLISECONDS, Rounded};
use super::selector::{self, Scope};
use super::{Out, fault_of};
use crate::model::{Direction, FaultKind, FaultSpec};

/// What no action of ours does.
const NO_SUCH: [(&str, &str); 3] = [
    ("duplicate", "mettle does not duplicate packets: net-loss is the nearest"),
    (
        "corrupt",
        "mettle does not corrupt packets: a corrupt packet is dropped by its receiver, as in net-loss",
    ),
    ("reorder", "mettle does not reorder packets: net-delay with jitter is the nearest"),
];

const NO_PORT: &str = "mettle delays connections of one port, and NetworkChaos names none: give it in the annotation \
                       mettle.dev/port of the document";

pub fn fault(fields: &mut Fields, scope: &Scope, out: &mut Out) -> Option<FaultSpec> {
    for key in ["device", "targetDevice"] {
        fields.refuse_given(key, "mettle works on every device of the pod: take it out", out);
    }
    fields.refuse_given(
        "externalTargets",
        "mettle's peers are pods of the stack: use target, or leave it out for everybody",
        out,
    );
    let path = fields.at("action");
    match fields.text("action", out) {
        Some("delay") => Some(delay(fields, scope, out)),
        Some("loss") => Some(loss(fields, scope, out)),
        Some("partition") => {
            let mut fault = fault_of(FaultKind::NetPartition);
            between(&mut fault, fields, scope, true, out);
            Some(fault)
        }
        Some("bandwidth") => Some(bandwidth(fields, scope, out)),
        Some(other) => {
            let known = NO_SUCH.iter().find(|(name, _)| *name == other).map(|(_, why)| (*why).to_owned());
            let known = known.unwrap_or_else(|| {
                format!("{other:?} is no action that mettle knows: use delay, loss, partition or bandwidth, one each")
            });
            out.refuse(path, known);
            None
        }
        None => {
            out.refuse(path, "is missing");
            None
        }
    }
}

fn delay(fields: &mut Fields, scope: &Scope, out: &mut Out) -> FaultSpec {
    let mut fault = fault_of(FaultKind::NetDelay);
    on_port(&mut fault, fields, scope, out);
    match fields.below("delay", out) {
        Some(mut delay) => {
            fault.with.delay_ms = delay.duration("latency", MILLISECONDS, out);
            fault.with.jitter_ms = delay.duration("jitter", MILLISECONDS, out).filter(|ms| *ms > 0);
            delay.needs("latency", "is missing", out);
            if fault.with.jitter_ms.is_some() {
                let why = "mettle adds up to so much, and never takes any away";
                out.note(delay.at("jitter"), why);
            }
            correlation(&mut delay, out);
            delay.refuse_given("reorder", NO_SUCH[2].1, out);
            let why = "mettle delays each way of a connection: a round trip is slower by twice as much; handshakes and \
                       UDP are not";
            out.note(delay.at("latency"), why);
            delay.finish(out);
        }
        None => out.refuse(fields.at("delay"), "is missing"),
    }
    fault
}

fn loss(fields: &mut Fields, scope: &Scope, out: &mut Out) -> FaultSpec {
    let mut fault = fault_of(FaultKind::NetLoss);
    between(&mut fault, fields, scope, false, out);
    match fields.below("loss", out) {
        Some(mut loss) => {
            fault.with.percent = loss.percent("loss", out);
            loss.needs("loss", "is missing", out);
            correlation(&mut loss, out);
            loss.finish(out);
        }
        None => out.refuse(fields.at("loss"), "is missing"),
    }
    fault
}

fn bandwidth(fields: &mut Fields, scope: &Scope, out: &mut Out) -> FaultSpec {
    let mut fault = fault_of(FaultKind::NetBandwidth);
    on_port(&mut fault, fields, scope, out);
    let Some(mut limit) = fields.below("bandwidth", out) else {
        out.refuse(fields.at("bandwidth"), "is missing");
        return fault;
    };
    let path = limit.at("rate");
    let word = limit.word("rate", out).unwrap_or_default();
    match quantity::kibibytes_a_second(&word) {
        Some(rate) => {
            fault.with.rate_kib = Some(rate.value());
            let exactly = if matches!(rate, Rounded::Up(_)) { "rounded up to " } else { "" };
            let kib = rate.value();
            out.note(
                path,
                format!("{word} is {exactly}{kib} KiB/s, and mettle bounds each way of a connection"),
            );
        }
        None => out.refuse(path, format!("{word:?} is no rate like 1mbps or 500kbit")),
    }
    for key in ["limit", "buffer", "peakrate", "minburst"] {
        limit.note_given(key, "mettle's proxy has no token bucket: it queues by itself", out);
    }
    limit.finish(out);
    fault
}

fn correlation(fields: &mut Fields, out: &mut Out) {
    let Some(word) = fields.word("correlation", out) else { return };
    if !quantity::is_zero(&word) {
        out.refuse(fields.at("correlation"), "mettle draws each by itself: use 0, or take it out");
    }
}

/// A proxy on one port: it knows no peers.
fn on_port(fault: &mut FaultSpec, fields: &mut Fields, scope: &Scope, out: &mut Out) {
    let kind = fault.kind.as_str();
    fault.with.port = scope.port;
    if scope.port.is_none() {
        out.refuse(fields.at("action"), NO_PORT);
    }
    let why = format!("{kind} is on a port of the target, whoever calls: take it out");
    fields.refuse_given("target", &why, out);
    if let Some(direction) = fields.text("direction", out).filter(|direction| *direction != "to") {
        out.refuse(
            fields.at("direction"),
            format!("{direction:?} needs a target, which {kind} does not take"),
        );
    }
}

/// Packets between the selected pods and the target's, or everybody.
fn between(fault: &mut FaultSpec, fields: &mut Fields, scope: &Scope, alone: bool, out: &mut Out) {
    let path = fields.at("direction");
    let direction = match fields.text("direction", out).unwrap_or("to") {
        "to" => Some(Direction::Out),
        "from" => Some(Direction::In),
        "both" => Some(Direction::Both),
        other => {
            out.refuse(&path, format!("{other:?} is none of to, from and both"));
            None
        }
    };
    fault.with.direction = direction;
    match fields.below("target", out) {
        Some(mut target) => {
            fault.with.peers = Some(selector::peers(&mut target, scope, out));
            target.finish(out);
        }
        None if !alone && direction != Some(Direction::Out) => {
            out.refuse(path, "from and both need a target: Chaos Mesh refuses it, too");
        }
        None => {}
    }
}
