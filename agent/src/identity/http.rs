//! HTTP clients of the agent, answers with a bound on their length, and the problem documents that refusals carry.

use super::time::Time;
use super::{IdentityError, tls};
use reqwest::{Client, ClientBuilder, Response, Url};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use std::net::IpAddr;
use std::time::Duration;

/// A connection over a bad mobile link takes seconds; longer than this and the next attempt is the better chance.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Silence after which a transfer is given up. There is no limit on the whole, since a model may take hours.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Answers about identities are a few certificates long, and the largest root of trust as a JSON string.
const MAX_ANSWER_BYTES: usize = 1 << 20;

fn client(tls: rustls::ClientConfig, url: &str) -> Result<Client, IdentityError> {
    let builder = ClientBuilder::new()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("aidos-agent/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        // One idle connection at most: a device talks to one server, seldom.
        .pool_max_idle_per_host(1)
        .redirect(reqwest::redirect::Policy::limited(3));
    // A proxy from the environment is never meant for this machine itself.
    let builder = if Url::parse(url).is_ok_and(|url| is_loopback(&url)) { builder.no_proxy() } else { builder };
    builder.build().map_err(|e| IdentityError::Crypto(detail(&e)))
}

/// Trusts `ca`, and the system's roots where `ca` is not the issuer.
pub(super) fn api_client(ca: &CertificateDer<'static>, time: Time, url: &str) -> Result<Client, IdentityError> {
    client(tls::api_client(ca, time)?, url)
}

/// For the one request that is made before there is anything to trust.
pub(super) fn unverified_client(url: &str) -> Result<Client, IdentityError> {
    client(tls::unverified_client()?, url)
}

/// Trusts the system's roots and `ca`: object storage may be a public service or a box in the same rack.
pub(super) fn public_client(ca: &CertificateDer<'static>) -> Result<Client, IdentityError> {
    // The system's roots come through the TLS backend's own verifier, which takes the process's provider; installing one
    // where there is one already is not an error that matters.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = reqwest::Certificate::from_der(ca).map_err(|e| IdentityError::Crypto(detail(&e)))?;
    ClientBuilder::new()
        .tls_certs_merge([ca])
        .user_agent(concat!("aidos-agent/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .pool_max_idle_per_host(1)
        .build()
        .map_err(|e| IdentityError::Crypto(detail(&e)))
}

/// Whether `url` is of this machine itself.
pub fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether what is sent to `url` leaves this machine unencrypted.
pub fn in_the_clear(url: &Url) -> bool {
    url.scheme() == "http" && !is_loopback(url)
}

/// Whether both have the same scheme, host and port.
pub(super) fn same_origin(a: &str, b: &str) -> bool {
    match (Url::parse(a), Url::parse(b)) {
        (Ok(a), Ok(b)) => a.origin() == b.origin(),
        _ => false,
    }
}

/// The whole body, if it is not longer than any answer can be.
pub(super) async fn body(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|e| detail(&e))? {
        if body.len() + piece.len() > MAX_ANSWER_BYTES {
            return Err(format!("the answer is longer than {MAX_ANSWER_BYTES} bytes"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// The seconds of `Retry-After`, if the server is there but asks to be asked later.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let later = matches!(response.status().as_u16(), 429 | 503);
    let seconds = response.headers().get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    later.then(|| Duration::from_secs(seconds))
}

/// What a refusal says (RFC 9457), as far as it says it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    pub(super) title: String,
    pub(super) detail: String,
    pub(super) code: String,
    pub(super) hint: String,
}

impl Problem {
    pub(super) fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_else(|_| Self {
            // Not ours: a proxy's page, say. Its beginning may help.
            detail: String::from_utf8_lossy(&body[..body.len().min(200)]).trim().to_owned(),
            ..Self::default()
        })
    }
    pub(super) fn text(&self) -> String {
        let texts = [self.detail.as_str(), &self.title, &self.code, "no reason given"];
        let what = texts.into_iter().find(|t| !t.is_empty()).unwrap_or_default();
        let text = if self.hint.is_empty() { what.to_owned() } else { format!("{what}; {}", self.hint) };
        text.chars().take(400).collect()
    }
}

/// An error with its causes, since reqwest's own text leaves the cause out.
pub(super) fn detail(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
