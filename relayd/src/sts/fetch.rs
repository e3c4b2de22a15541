//! Fetches a policy (RFC 8461 §3.3): over HTTPS with a certificate that is good for `mta-sts.` and the domain, from nowhere else.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use mail::address::Domain;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Sts;
use super::policy::{Invalid, Policy};
use crate::tls::{self, Policy as Demand};
use crate::tlsrpt::row::{Fault, Flaw};

/// Longest time for all of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest time until one address answers.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest policy.
const MAX_POLICY: usize = 64 * 1024;
/// Longest header of an answer.
const MAX_HEAD: usize = 16 * 1024;
/// Addresses tried.
const MAX_ADDRESSES: usize = 2;
const PATH: &str = "/.well-known/mta-sts.txt";

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoPolicy {
    #[error("its host cannot be found: {0}")]
    Dns(#[from] crate::dns::NoHost),
    #[error("its host cannot be reached: {0}")]
    Unreachable(String),
    #[error("TLS with its host failed: {0}")]
    Tls(String),
    #[error("its host says {0}, which is not 200")]
    Status(StatusCode),
    #[error("it is not text/plain")]
    Kind,
    #[error("it cannot be read, or is longer than 64 KiB: {0}")]
    Body(String),
    #[error("it took too long to fetch it")]
    TooLong,
    #[error("{0}")]
    Invalid(#[from] Invalid),
}

impl NoPolicy {
    /// The same for the report.
    pub(super) fn flaw(&self) -> Flaw {
        let fault = match self {
            Self::Dns(_)
            | Self::Unreachable(_)
            | Self::Status(_)
            | Self::Body(_)
            | Self::TooLong => Fault::StsPolicyFetchError,
            Self::Tls(_) => Fault::StsWebpkiInvalid,
            Self::Kind | Self::Invalid(_) => Fault::StsPolicyInvalid,
        };
        Flaw::new(fault, self.to_string())
    }
}

impl Sts {
    pub(super) async fn fetch(&self, domain: &Domain) -> Result<Policy, NoPolicy> {
        let text = timeout(PATIENCE, self.fetch_text(domain)).await;
        Ok(Policy::parse(&text.map_err(|_| NoPolicy::TooLong)??)?)
    }

    async fn fetch_text(&self, domain: &Domain) -> Result<Bytes, NoPolicy> {
        let host = format!("mta-sts.{domain}");
        let unreachable = |error: &dyn std::fmt::Display| NoPolicy::Unreachable(error.to_string());
        let tcp = self.connect(&host).await?;
        let name = tls::server_name(
            &host,
            tcp.peer_addr().map_err(|error| unreachable(&error))?.ip(),
        );
        let failed = |error: &dyn std::fmt::Display| NoPolicy::Tls(error.to_string());
        let connector = self.tls.connector(&Demand::Verified);
        let connector = connector.map_err(|error| failed(&error))?;
        let stream = connector.connect(name, tcp).await;
        let stream = TokioIo::new(stream.map_err(|error| failed(&error))?);
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(stream)
            .await
            .map_err(|error| unreachable(&error))?;
        // It ends with the sender.
        let connection = tokio::spawn(connection);
        let request = Request::get(PATH)
            .header(HOST, &host)
            .header(USER_AGENT, "rmail")
            .body(Empty::<Bytes>::new())
            .map_err(|error| unreachable(&error))?;
        let read = async {
            let answer = sender.send_request(request).await;
            let answer = answer.map_err(|error| unreachable(&error))?;
            // RFC 8461 §3.3: whatever else it says, elsewhere included, there is no policy.
            if answer.status() != StatusCode::OK {
                return Err(NoPolicy::Status(answer.status()));
            }
            let kind = answer.headers().get(CONTENT_TYPE);
            let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            let kind = kind.split(';').next().unwrap_or_default().trim();
            if !kind.eq_ignore_ascii_case("text/plain") {
                return Err(NoPolicy::Kind);
            }
            let body = Limited::new(answer.into_body(), MAX_POLICY).collect().await;
            let body = body.map_err(|error| NoPolicy::Body(error.to_string()))?;
            Ok(body.to_bytes())
        };
        let text = read.await;
        connection.abort();
        text
    }

    async fn connect(&self, host: &str) -> Result<TcpStream, NoPolicy> {
        let addresses = self.dns.addresses(host).await?;
        let mut why = "it has no address".to_owned();
        for ip in addresses.into_iter().take(MAX_ADDRESSES) {
            let address = SocketAddr::new(ip, self.port);
            match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(error)) => why = format!("{address}: {error}"),
                Err(_) => why = format!("{address}: connection timed out"),
            }
        }
        Err(NoPolicy::Unreachable(why))
    }
}
