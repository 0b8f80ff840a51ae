//! Decisions: what the registry, the features and inference say, and what is left of it when one of them is away.
//!
//! | away | the decision stands on | `degraded` |
//! |---|---|---|
//! | nothing | the inference | false |
//! | registry | features say that the model exists, else it is taken for granted; the inference | true |
//! | inference | features: what is known of the model beforehand | true |
//! | inference, and no features | nothing: a human has to look (`review`) | true |

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::app::{App, absent};
use super::body::{JsonBody, OP_ID_RULE, Path, require};
use super::caller::Caller;
use super::error::ApiError;
use super::models::status_of;
use crate::deadline::Deadline;
use crate::http_client::{CallFault, Peer, Reply};
use crate::store::decisions::Decision;
use crate::store::predictions::infer;
use crate::stream::features::Features;
use crate::validate::is_op_id;

/// Kept back for the database.
const STORE_SHARE: f64 = 0.5;

#[derive(Deserialize)]
pub struct NewDecision {
    op_id: String,
    model_id: i64,
    input: Value,
}

/// What a decision stands on.
#[derive(Debug, Clone, PartialEq)]
enum Basis {
    Inference(Value),
    Features(Features),
    Nothing,
}

impl Basis {
    fn label(&self) -> &'static str {
        match self {
            Self::Inference(_) => "inference",
            Self::Features(_) => "features",
            Self::Nothing => "nothing",
        }
    }
}

/// `POST /api/v1/decisions`
///
/// # Errors
/// 400, 401, 404 (the registry says that there is no such model), 503, 504.
pub async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(new): JsonBody<NewDecision>,
) -> Result<Response, ApiError> {
    require(is_op_id(&new.op_id), "op_id", OP_ID_RULE)?;
    if app.relay.as_ref().is_some_and(|relay| relay.is_full()) {
        return Err(ApiError::Away("too many events wait for kafka".into()));
    }
    let deadline = app.deadline();
    let asking = Deadline::after(deadline.left().mul_f64(1.0 - STORE_SHARE));
    let (model, output) =
        tokio::join!(ask_registry(&app, new.model_id, asking), ask_inference(&app, &caller, &new, asking),);
    let mut away = Vec::new();
    let mut note = |fault: CallFault| {
        app.metrics.degraded.with_label_values(&[fault.dependency()]).inc();
        tracing::debug!(%fault, "deciding without it");
        away.push(fault.dependency());
    };
    match model? {
        Ok(known) if !known => return Err(ApiError::NotFound("model")),
        Ok(_) => {}
        Err(fault) => note(fault),
    }
    let features = app.features.as_ref().and_then(|features| features.get(new.model_id));
    let basis = match (output?, features) {
        (Ok(output), _) => Basis::Inference(output),
        (Err(fault), features) => {
            note(fault);
            features.map_or(Basis::Nothing, Basis::Features)
        }
    };
    let decision = decide(&new.op_id, new.model_id, &basis, &away);
    app.metrics.links.decisions.with_label_values(&[basis.label()]).inc();
    let recorded = app.database()?.record_decision(&decision, &new.input, deadline).await;
    if let Some(relay) = &app.relay {
        relay.wake();
    }
    let (decision, effect) = recorded?;
    Ok((status_of(effect), Json(decision)).into_response())
}

/// `GET /api/v1/decisions/{op_id}`
///
/// # Errors
/// 400, 401, 404, 503.
pub async fn get(
    State(app): State<Arc<App>>,
    _: Caller,
    Path(op_id): Path<String>,
) -> Result<Response, ApiError> {
    require(is_op_id(&op_id), "op_id", OP_ID_RULE)?;
    let found = app.database()?.decision(&op_id, app.deadline()).await?;
    Ok(Json(found.ok_or(ApiError::NotFound("decision"))?).into_response())
}

/// Whether there is such a model, or that the registry is away.
async fn ask_registry(
    app: &App,
    model_id: i64,
    deadline: Deadline,
) -> Result<Result<bool, CallFault>, ApiError> {
    let path = format!("/api/v1/registry/models/{model_id}");
    match peer(&app.registry)?.call(Method::GET, &path, None, None, deadline).await {
        Ok(Reply { status: 200, .. }) => Ok(Ok(true)),
        Ok(Reply { status: 404, .. }) => Ok(Ok(false)),
        Ok(reply) => Ok(Err(odd("model", &reply))),
        Err(fault) => Ok(Err(fault)),
    }
}

/// The inference's output, or that inference is away.
async fn ask_inference(
    app: &App,
    caller: &Caller,
    new: &NewDecision,
    deadline: Deadline,
) -> Result<Result<Value, CallFault>, ApiError> {
    let body = json!({ "model_id": new.model_id, "input": new.input });
    let authorization = Some(caller.authorization.as_str());
    let path = "/api/v1/infer/sync";
    match peer(&app.inference)?.call(Method::POST, path, authorization, Some(&body), deadline).await {
        Ok(reply) if reply.status == 200 && reply.json()["output"].is_object() => {
            Ok(Ok(reply.json()["output"].take()))
        }
        // It looks at the session more often than we do.
        Ok(Reply { status: 401, .. }) => Err(ApiError::Unauthorized),
        Ok(reply) => Ok(Err(odd("inference", &reply))),
        Err(fault) => Ok(Err(fault)),
    }
}

fn odd(dependency: &'static str, reply: &Reply) -> CallFault {
    CallFault::NoAnswer { dependency, reason: format!("unexpected status {}", reply.status) }
}

fn peer(peer: &Option<Peer>) -> Result<&Peer, ApiError> {
    peer.as_ref().ok_or_else(|| absent("peer"))
}

/// A pure function of what is known.
fn decide(op_id: &str, model_id: i64, basis: &Basis, away: &[&str]) -> Decision {
    let (output, features) = match basis {
        Basis::Inference(output) => (Some(output.clone()), None),
        // The stand-in for a prior: whatever the input, a framework has its leaning.
        Basis::Features(features) => (Some(infer(0, &json!(features.framework))), Some(features)),
        Basis::Nothing => (None, None),
    };
    let label = output.as_ref().and_then(|output| output["label"].as_str());
    let decision = match label {
        Some("positive") => "approve",
        Some("negative") => "reject",
        _ => "review",
    };
    Decision {
        op_id: op_id.to_owned(),
        model_id,
        decision: decision.to_owned(),
        degraded: !away.is_empty(),
        detail: json!({
            "basis": basis.label(),
            "away": away,
            "output": output,
            "framework": features.map(|features| &features.framework),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decision_follows_the_label() {
        for (label, decision) in [("positive", "approve"), ("neutral", "review"), ("negative", "reject")] {
            let made = decide("op", 1, &Basis::Inference(json!({ "label": label })), &[]);
            assert_eq!((made.decision.as_str(), made.degraded), (decision, false));
            assert_eq!(made.detail["basis"], "inference");
        }
    }

    #[test]
    fn with_less_to_stand_on_it_is_degraded_and_says_so() {
        let features = Features { name: "n".into(), framework: "onnx".into() };
        let made = decide("op", 1, &Basis::Features(features.clone()), &["inference"]);
        assert!(made.degraded);
        assert_eq!(made.detail["away"], json!(["inference"]));
        assert_eq!(made, decide("op", 1, &Basis::Features(features), &["inference"]));
        let made = decide("op", 1, &Basis::Nothing, &["model", "inference"]);
        assert_eq!((made.decision.as_str(), made.degraded), ("review", true));
        assert_eq!(made.detail["basis"], "nothing");
        let made = decide("op", 1, &Basis::Inference(json!({"label": "positive"})), &["model"]);
        assert_eq!((made.decision.as_str(), made.degraded), ("approve", true));
    }
}
