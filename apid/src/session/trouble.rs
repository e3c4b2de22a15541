//! An answer that says no: a status and `{"error":"text"}`.

use std::borrow::Cow;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Why a request is not answered as hoped, in words for whoever wrote the client.
#[derive(Debug)]
pub(crate) struct Trouble {
    status: StatusCode,
    error: Cow<'static, str>,
    retry_after: Option<u32>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
}

impl Trouble {
    pub(crate) fn new(status: StatusCode, error: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            error: error.into(),
            retry_after: None,
        }
    }

    /// The same, saying in how many seconds it may be otherwise.
    pub(crate) fn retry_after(self, seconds: u32) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let body = Json(Body { error: &self.error });
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        // RFC 9110 §15.5.2: a 401 says how to authenticate.
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"rmail\"");
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
