//! `GET /healthz`: whether mail can be read and delivered right now.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use daemon::channel::CallError;
use serde::Serialize;
use tracing::warn;

use super::{Desk, Visitor};

/// `status` is `ok` or `unavailable`; `error` is there with the latter and says why.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) async fn report(
    State(desk): State<Desk>,
    Extension(visitor): Extension<Visitor>,
) -> Response {
    match desk.ask.check_health(visitor.context()).await {
        Ok(()) => Json(Health {
            status: "ok",
            error: None,
        })
        .into_response(),
        Err(error) => {
            warn!(%error, "not healthy");
            let health = Health {
                status: "unavailable",
                error: Some(explain(&error)),
            };
            (StatusCode::SERVICE_UNAVAILABLE, Json(health)).into_response()
        }
    }
}

fn explain(error: &CallError) -> String {
    match error {
        CallError::Refused(refusal) => format!("deliverd: {refusal}"),
        CallError::Unavailable => "deliverd does not answer".into(),
    }
}
