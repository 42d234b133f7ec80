//! The end that asks: one request to one neighbour, with a limit on everything.

use super::hunt::Answer;
use super::{HAS, RANGE, SITE};
use crate::identity::{Identity, Refused};
use aidos_protocol::DeviceId;
use aidos_protocol::artifact::Digest;
use bytes::{Bytes, BytesMut};
use reqwest::{Client, Method, Response, StatusCode, header};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a neighbour may take to be connected to: it is in the same building.
pub(super) const CONNECT: Duration = Duration::from_secs(2);
/// How long one answer may pause.
const PAUSE: Duration = Duration::from_secs(10);
/// How long one answer may take as a whole: a neighbour that gives less than 40 KiB a second is slower than most lines.
const WHOLE: Duration = Duration::from_secs(60);
/// How long a connection is kept for the next question; a site of agents then holds none while nothing is deployed.
pub(super) const IDLE: Duration = Duration::from_secs(20);
/// The one protocol that is spoken.
pub(super) const ALPN: &[u8] = b"http/1.1";

/// Makes connections with the certificate that is in force.
pub(super) struct Dialler {
    identity: Identity,
    refused: Refused,
    /// The client, and the certificate's generation that it was made for.
    client: Mutex<Option<(u64, Client)>>,
}

impl Dialler {
    pub(super) fn new(identity: Identity, refused: Refused) -> Self {
        Self { identity, refused, client: Mutex::default() }
    }

    fn client(&self) -> Result<Client, String> {
        let generation = self.identity.generation();
        let mut kept = super::lock(&self.client);
        if let Some((made, client)) = &*kept
            && *made == generation
        {
            return Ok(client.clone());
        }
        let tls = self.identity.member_tls(Arc::clone(&self.refused), ALPN).map_err(|error| error.to_string())?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls.client)
            .tls_info(true)
            .https_only(true)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(PAUSE)
            .timeout(WHOLE)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(|error| error.to_string())?;
        *kept = Some((generation, client.clone()));
        Ok(client)
    }

    async fn send(
        &self,
        method: Method,
        address: SocketAddr,
        path: &str,
        site: &str,
        range: Option<&Range<u64>>,
    ) -> Result<Response, String> {
        let mut request = self.client()?.request(method, format!("https://{address}{path}")).header(SITE, site);
        if let Some(range) = range {
            request = request.header(header::RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        }
        request.send().await.map_err(|error| describe(&error))
    }

    /// Which device of this tenant and `site` is at `address`.
    pub(super) async fn who(&self, address: SocketAddr, site: &str) -> Result<DeviceId, String> {
        let response = tokio::time::timeout(CONNECT * 2, self.send(Method::HEAD, address, "/v1/site", site, None)).await;
        let response = response.map_err(|_| "it does not answer".to_owned())??;
        if response.status() != StatusCode::OK {
            return Err(format!("it answers {}", response.status()));
        }
        device(&response).ok_or_else(|| "it shows no certificate".to_owned())
    }

    /// Asks `device` for `range` of `digest`, which has `size` bytes.
    pub(super) async fn ask(
        &self,
        address: SocketAddr,
        from: DeviceId,
        site: &str,
        digest: &Digest,
        range: Range<u64>,
        size: u64,
    ) -> (Answer, Bytes) {
        let path = format!("/v1/artifacts/{}", digest.hex());
        let answered = match self.send(Method::GET, address, &path, site, Some(&range)).await {
            Ok(response) if device(&response) == Some(from) => read(response, &range, size).await,
            Ok(_) => Err("another device answers there".to_owned()),
            Err(reason) => Err(reason),
        };
        answered.unwrap_or_else(|reason| {
            tracing::debug!(device = %from, %address, reason, "a neighbour gave no answer");
            (Answer::Failed, Bytes::new())
        })
    }
}

async fn read(mut response: Response, range: &Range<u64>, size: u64) -> Result<(Answer, Bytes), String> {
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let other = |answer| Ok((answer, Bytes::new()));
    match response.status() {
        StatusCode::NOT_FOUND => other(Answer::Absent),
        StatusCode::SERVICE_UNAVAILABLE => other(Answer::Busy),
        StatusCode::ACCEPTED => match text(HAS) {
            Some(has) => other(Answer::Coming(has.parse().map_err(|_| "it has no number of bytes".to_owned())?)),
            None => other(Answer::Wanted),
        },
        StatusCode::PARTIAL_CONTENT => {
            let place = text("content-range").unwrap_or_default();
            let expected = format!("bytes {}-", range.start);
            if !place.starts_with(&expected) || !place.ends_with(&format!("/{size}")) {
                return Err(format!("it sends `{}`", place.chars().take(60).collect::<String>()));
            }
            let most = usize::try_from((range.end - range.start).min(RANGE)).unwrap_or_default();
            let mut bytes = BytesMut::new();
            while let Some(piece) = response.chunk().await.map_err(|error| describe(&error))? {
                if bytes.len() + piece.len() > most {
                    return Err("it sends more than was asked for".to_owned());
                }
                bytes.extend_from_slice(&piece);
            }
            // All that was asked for, so that nobody can feed this agent drop by drop.
            if bytes.len() == most { Ok((Answer::Bytes, bytes.freeze())) } else { Err("it breaks off".to_owned()) }
        }
        status => Err(format!("it answers {status}")),
    }
}

/// The device whose certificate the handshake verified.
fn device(response: &Response) -> Option<DeviceId> {
    let certificate = response.extensions().get::<reqwest::tls::TlsInfo>()?.peer_certificate()?;
    Identity::member(certificate).ok()
}

/// The innermost cause says what happened.
fn describe(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
