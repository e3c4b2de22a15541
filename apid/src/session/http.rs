//! All there is to ask for over HTTP, and what every answer has in common.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONNECTION, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::http::{Method, StatusCode};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{get, post};

use super::trouble::Trouble;
use super::{Desk, health, login};

/// What a connection can ask for, by where it comes from.
#[derive(Debug, Clone)]
pub struct Routes {
    /// Over TLS, or from this machine: everything.
    pub open: Router,
    /// In clear text from another machine: to be sent away, whatever it asks.
    pub closed: Router,
}

impl Routes {
    /// Answers with the help of `desk`.
    #[must_use]
    pub fn new(desk: Desk) -> Self {
        let open = Router::new()
            .route("/healthz", get(health::report))
            .route("/auth/login", post(login::log_in))
            .fallback(refuse_path)
            .method_not_allowed_fallback(refuse_method)
            .layer(map_response(mark))
            .with_state(desk);
        let closed = Router::new()
            .fallback(refuse_clear_text)
            .layer(map_response(mark));
        Self { open, closed }
    }
}

async fn refuse_path() -> Trouble {
    Trouble::new(
        StatusCode::NOT_FOUND,
        "nothing is here; this server answers GET /healthz and POST /auth/login",
    )
}

// RFC 9110 §15.5.6: the answer lists the methods there are; axum adds that Allow field.
async fn refuse_method(method: Method) -> Trouble {
    let text = format!("{method} is not a method of this resource; see the Allow header");
    Trouble::new(StatusCode::METHOD_NOT_ALLOWED, text)
}

async fn refuse_clear_text() -> ([(axum::http::HeaderName, &'static str); 1], Trouble) {
    let text = "this port takes clear text from this machine only, for a reverse proxy; use HTTPS on the secure port";
    (
        [(CONNECTION, "close")],
        Trouble::new(StatusCode::FORBIDDEN, text),
    )
}

// RFC 9111 §5.2.2.5: answers hold tokens and states of the moment; nobody may keep them.
async fn mark(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
