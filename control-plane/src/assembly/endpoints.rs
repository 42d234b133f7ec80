//! Where this control plane listens and how others reach it. Ports must be known before anything is served, since join
//! tokens and sessions name them.

use crate::config::{ApiSecurity, Config, Listen, host_of};
use aidos_protocol::enrol::EndpointsView;
use anyhow::Context as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use tokio::net::TcpListener;

/// The addresses of one control plane.
pub(super) struct Endpoints {
    /// URL by which this machine reaches the API.
    pub(super) local_url: String,
    /// Where the QUIC link is to listen.
    pub(super) quic: Option<SocketAddr>,
    /// Where the MQTT link is to listen.
    pub(super) mqtt: Option<SocketAddr>,
    /// What devices and people are told.
    pub(super) public: EndpointsView,
}

/// Binds the API's listener and settles all ports.
pub(super) async fn bind(config: &Config) -> anyhow::Result<(TcpListener, Endpoints)> {
    let listener = TcpListener::bind(config.listen).await.with_context(|| {
        format!(
            "the API cannot listen on {}; stop what uses it, or choose another with --listen (port 0 takes any)",
            config.listen
        )
    })?;
    let address = listener.local_addr()?;
    let scheme = if config.security == ApiSecurity::Plain { "http" } else { "https" };
    let local_url = format!("{scheme}://{}", reachable(address));
    let (quic, mqtt) = (settled_udp(config.quic)?, settled_tcp(config.mqtt)?);
    let api_url = config.public_url.clone().unwrap_or_else(|| public_url(config, address, scheme, &local_url));
    let host = host_of(&api_url).unwrap_or("127.0.0.1").to_owned();
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let at = |address: Option<SocketAddr>| address.map(|address| format!("{host}:{}", address.port())).unwrap_or_default();
    let mqtt_public = match &config.broker {
        Some((broker, _)) if mqtt.is_none() => broker.trim_start_matches("mqtts://").trim_end_matches('/').to_owned(),
        _ => at(mqtt),
    };
    let public = EndpointsView { api_url, quic: at(quic), mqtt: mqtt_public };
    Ok((listener, Endpoints { local_url, quic, mqtt, public }))
}

/// The URL to tell others when nobody said one: the first name that is not of loopback, where the API listens beyond it.
fn public_url(config: &Config, address: SocketAddr, scheme: &str, local_url: &str) -> String {
    let loopback = |name: &&String| **name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match config.names.iter().find(|name| !loopback(name)) {
        Some(name) if !address.ip().is_loopback() => {
            let host = if name.contains(':') { format!("[{name}]") } else { name.clone() };
            format!("{scheme}://{host}:{}", address.port())
        }
        _ if !address.ip().is_loopback() => {
            tracing::warn!("devices elsewhere cannot be told where this is; set --public-url or --name");
            local_url.to_owned()
        }
        _ => local_url.to_owned(),
    }
}

/// An address that this machine can connect to: an unspecified one becomes loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() });
    }
    address
}

/// Replaces port 0 by one that is free now. Only tests and `aidos up` ask for 0, and they see the failure if it is taken
/// before the link binds it.
fn settled_udp(listen: Listen) -> anyhow::Result<Option<SocketAddr>> {
    Ok(match listen {
        Listen::Off => None,
        Listen::At(address) if address.port() != 0 => Some(address),
        Listen::At(address) => Some(UdpSocket::bind(address)?.local_addr()?),
    })
}

fn settled_tcp(listen: Listen) -> anyhow::Result<Option<SocketAddr>> {
    Ok(match listen {
        Listen::Off => None,
        Listen::At(address) if address.port() != 0 => Some(address),
        Listen::At(address) => Some(std::net::TcpListener::bind(address)?.local_addr()?),
    })
}
