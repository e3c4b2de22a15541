//! One connection: HTTP/1.1 requests one after the other, each within its time.

pub mod http;

mod health;
mod login;
mod trouble;

use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use daemon::Stop;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ipc::Context;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::ask::Ask;

/// Longest request head in bytes; a longer one is answered 431.
pub const MAX_HEAD: usize = 16 * 1024;
/// Most header fields in a request; more are answered 431.
pub const MAX_HEADERS: usize = 64;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Visitor {
    /// Where the connection comes from. Header fields that name another client are not believed.
    pub address: IpAddr,
    /// The connection's id in all logs.
    pub session: u64,
}

impl Visitor {
    pub(crate) const fn context(self) -> Context {
        Context {
            session: self.session,
            message: 0,
        }
    }
}

/// What requests are answered with.
#[derive(Debug, Clone)]
pub struct Desk {
    /// Whom to ask.
    pub ask: Ask,
    /// Seconds a client should wait after too many failed logins.
    pub lockout: u32,
    /// How long the body of a request may take to arrive.
    pub body: Duration,
}

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the head of a request, counted from the end of the answer before it: idle connections end with it too.
    pub head: Duration,
    /// For the body of a request.
    pub body: Duration,
    /// For a connection in all: after that it ends with the answer to the current request.
    pub life: Duration,
    /// For the current request, and for taking its answer, once the connection is to end.
    pub end: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(30),
            head: Duration::from_secs(30),
            body: Duration::from_secs(15),
            life: Duration::from_mins(10),
            end: Duration::from_mins(1),
        }
    }
}

/// Answers requests until either side ends the connection, its time is over, or `stop`.
pub async fn converse<S>(
    stream: S,
    visitor: Visitor,
    router: Router,
    patience: &Patience,
    stop: &Stop,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(visitor);
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stop.requested() => None,
        () = sleep(patience.life) => None,
    };
    let ended = match ended {
        Some(ended) => Ok(ended),
        None => {
            connection.as_mut().graceful_shutdown();
            timeout(patience.end, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => debug!("disconnected"),
        // A client that sent no HTTP was told so by hyper; one that went away cannot be told anything.
        Ok(Err(error)) => debug!(%error, "connection lost"),
        Err(_) => debug!("cut off: the client did not take its answer"),
    }
}
