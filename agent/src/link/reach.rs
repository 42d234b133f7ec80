//! Whether each of the control plane's addresses can be reached from here, for `doctor`. It must never begin a session: a second one
//! would end the first.

use super::endpoint::Endpoint;
use super::quic::Quic;
use super::transport::{ConnectError, Transport as _};
use crate::identity::Identity;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long an address may take: a handshake over a satellite, twice.
const PATIENCE: Duration = Duration::from_secs(10);

/// One address of the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// What for: `api`, `quic`, `mqtt`.
    pub endpoint: &'static str,
    /// Where.
    pub address: String,
    /// How long the answer took, or why there was none.
    pub outcome: Result<Duration, String>,
}

/// Tries the API and, as far as they are offered, the transports but for `linked`, which carries the link as it is.
pub async fn reach(identity: &Identity, linked: Option<&str>) -> Vec<Reached> {
    let endpoints = identity.endpoints();
    let of = |endpoint, address: &str, outcome| Reached { endpoint, address: address.to_owned(), outcome };
    let transport = |endpoint, address: &str, outcome: Option<_>| Some(of(endpoint, address, outcome?));
    let (api, quic, mqtt) = tokio::join!(
        timed(api(identity, &endpoints.api_url)),
        async { if linked == Some("quic") { None } else { offered(timed(quic(identity)).await) } },
        async { if linked == Some("mqtt") { None } else { offered(timed(mqtt(identity)).await) } },
    );
    let api = of("api", &endpoints.api_url, api.map_err(|error| error.to_string()));
    let transports = [transport("quic", &endpoints.quic, quic), transport("mqtt", &endpoints.mqtt, mqtt)];
    [api].into_iter().chain(transports.into_iter().flatten()).collect()
}

/// `None` for what the control plane does not offer.
fn offered(outcome: Result<Duration, ConnectError>) -> Option<Result<Duration, String>> {
    match outcome {
        Err(ConnectError::NotOffered) => None,
        other => Some(other.map_err(|error| error.to_string())),
    }
}

async fn timed(attempt: impl Future<Output = Result<(), ConnectError>>) -> Result<Duration, ConnectError> {
    let began = Instant::now();
    tokio::time::timeout(PATIENCE, attempt).await.unwrap_or(Err(ConnectError::Silent))?;
    Ok(began.elapsed())
}

fn failed(error: impl ToString) -> ConnectError {
    ConnectError::Failed(error.to_string())
}

/// Any answer over TLS that the device trusts.
async fn api(identity: &Identity, url: &str) -> Result<(), ConnectError> {
    let client = identity.http_client().map_err(failed)?;
    let asked = client.get(format!("{}/healthz", url.trim_end_matches('/'))).send().await;
    asked.map(drop).map_err(|error| failed(cause(&error)))
}

/// The innermost reason, which is what a person needs.
fn cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(next) => cause(next),
        None => error.to_string(),
    }
}

/// A whole handshake; the control plane sees a connection that closes without a word.
async fn quic(identity: &Identity) -> Result<(), ConnectError> {
    let mut connection = Quic::new(identity.clone(), true).connect().await?;
    connection.sink.close("only to see whether this address can be reached").await;
    Ok(())
}

/// TCP and TLS, and no CONNECT, by which a broker would end the present session of this device.
async fn mqtt(identity: &Identity) -> Result<(), ConnectError> {
    let endpoints = identity.endpoints();
    let endpoint = Endpoint::parse(&endpoints.mqtt, &endpoints.api_url)?;
    let tls = TlsConnector::from(Arc::new(identity.client_tls(&[]).map_err(failed)?));
    let name = ServerName::try_from(endpoint.host.clone()).map_err(failed)?;
    let stream = endpoint.race(async |address| TcpStream::connect(address).await.map_err(failed)).await?;
    tls.connect(name, stream).await.map(drop).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::testing::TestCa;
    use aidos_protocol::enrol::EndpointsView;

    #[tokio::test]
    async fn each_address_is_tried_but_for_that_of_the_link_and_what_is_not_offered() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let nobody = "127.0.0.1:1";
        let endpoints = EndpointsView {
            api_url: format!("https://{nobody}"),
            quic: nobody.into(),
            mqtt: nobody.into(),
            ..Default::default()
        };
        TestCa::new().joined(dir.path(), endpoints);
        let identity = Identity::load(dir.path()).unwrap().unwrap();
        let reached = reach(&identity, Some("quic")).await;
        assert_eq!(reached.iter().map(|one| one.endpoint).collect::<Vec<_>>(), ["api", "mqtt"]);
        assert!(reached.iter().all(|one| one.outcome.is_err()), "{reached:?}");

        let dir = tempfile::tempdir().unwrap();
        TestCa::new().joined(dir.path(), EndpointsView { api_url: format!("https://{nobody}"), ..Default::default() });
        let identity = Identity::load(dir.path()).unwrap().unwrap();
        assert_eq!(reach(&identity, None).await.len(), 1);
    }
}
