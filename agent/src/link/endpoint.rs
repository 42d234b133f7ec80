//! A `host:port` as the control plane advertises it, and its addresses.

use super::transport::ConnectError;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Addresses of one host that are tried: two families, two each.
const MAX_ADDRESSES: usize = 4;
/// Head start of each address before the next is tried as well (RFC 8305 recommends 250 ms).
const STAGGER: Duration = Duration::from_millis(250);

/// Where a transport connects to. The host is also the name that the server's certificate must carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Endpoint {
    /// Reads `host:port` or `[v6]:port`. Where the host is missing or unspecified (`0.0.0.0:7070`), that of `api_url` is meant.
    pub(super) fn parse(text: &str, api_url: &str) -> Result<Self, ConnectError> {
        if text.is_empty() {
            return Err(ConnectError::NotOffered);
        }
        let fail = || ConnectError::Failed(format!("`{text}` is not host:port"));
        let (host, port) = text.rsplit_once(':').ok_or_else(fail)?;
        let port = port.parse().map_err(|_| fail())?;
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
            let url = reqwest::Url::parse(api_url).map_err(|_| fail())?;
            return Ok(Self { host: url.host_str().ok_or_else(fail)?.trim_matches(['[', ']']).to_owned(), port });
        }
        Ok(Self { host: host.to_owned(), port })
    }

    /// Looks the host up and makes attempts at its addresses, each begun a moment after the one before; the first to succeed
    /// wins and the others are dropped.
    pub(super) async fn race<T, F>(&self, attempt: impl Fn(SocketAddr) -> F) -> Result<T, ConnectError>
    where
        F: Future<Output = Result<T, ConnectError>>,
    {
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let addresses = addresses.map_err(|e| ConnectError::Failed(format!("{} has no address: {e}", self.host)))?;
        let mut attempts: FuturesUnordered<_> = (0..)
            .zip(addresses.take(MAX_ADDRESSES))
            .map(|(index, address)| {
                let attempt = &attempt;
                async move {
                    tokio::time::sleep(STAGGER * index).await;
                    attempt(address).await
                }
            })
            .collect();
        let mut failure = ConnectError::Silent;
        while let Some(result) = attempts.next().await {
            match result {
                Ok(connection) => return Ok(connection),
                // Silence of one address says less than an error of another.
                Err(ConnectError::Silent) => {}
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_means_any_is_replaced_by_that_of_the_api() {
        let at = |text: &str| Endpoint::parse(text, "https://[::1]:7070/").map(|e| (e.host, e.port));
        assert_eq!(at("fleet.example:7070"), Ok(("fleet.example".into(), 7070)));
        assert_eq!(at("[fe80::1]:1"), Ok(("fe80::1".into(), 1)));
        assert_eq!(at("0.0.0.0:7070"), Ok(("::1".into(), 7070)));
        assert_eq!(at(""), Err(ConnectError::NotOffered));
        assert!(matches!(at("nonsense"), Err(ConnectError::Failed(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_silent_does_not_hold_up_the_next() {
        let endpoint = Endpoint { host: "localhost".into(), port: 9 };
        let won = endpoint.race(async |address: SocketAddr| Ok::<_, ConnectError>(address.port())).await;
        assert_eq!(won, Ok(9));
        let lost = endpoint.race(async |_| Err::<(), _>(ConnectError::Silent)).await;
        assert_eq!(lost, Err(ConnectError::Silent));
    }
}
