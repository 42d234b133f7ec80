//! Where this control plane listens and how others reach it. Ports must be known before anything is served, since join
//! tokens and sessions name them.

use crate::config::{ApiSecurity, Config, Listen, host_of};
use crate::fleet::{MqttListener, MqttSettings, Quic, QuicSettings};
use crate::platform::pki::Pki;
use aidos_protocol::enrol::EndpointsView;
use anyhow::Context as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::TcpListener;

/// The addresses of one control plane.
pub(super) struct Endpoints {
    /// URL by which this machine reaches the API.
    pub(super) local_url: String,
    /// Where the QUIC link listens.
    pub(super) quic: Option<SocketAddr>,
    /// Where the MQTT link listens.
    pub(super) mqtt: Option<SocketAddr>,
    /// What devices and people are told.
    pub(super) public: EndpointsView,
}

/// What is bound and not yet served.
pub(super) struct Sockets {
    pub(super) api: TcpListener,
    pub(super) quic: Option<Quic>,
    pub(super) mqtt: Option<MqttListener>,
}

/// Binds all sockets that the configuration asks for.
pub(super) async fn bind(config: &Config, pki: &Pki) -> anyhow::Result<(Sockets, Endpoints)> {
    let api = TcpListener::bind(config.listen).await.with_context(|| {
        format!(
            "the API cannot listen on {}; stop what uses it, or choose another with --listen (port 0 takes any)",
            config.listen
        )
    })?;
    let address = api.local_addr()?;
    let scheme = if config.security == ApiSecurity::Plain { "http" } else { "https" };
    let local_url = match (&config.security, &config.public_url) {
        // A certificate from elsewhere is made out to the public name, not to loopback.
        (ApiSecurity::Files { .. }, Some(public)) => public.clone(),
        _ => format!("{scheme}://{}", reachable(address)),
    };
    let names = config.names.clone();
    let quic = match config.quic {
        Listen::Off => None,
        Listen::At(listen) => {
            Some(Quic::bind(QuicSettings { listen, names: names.clone(), ..QuicSettings::default() }, pki.clone())?)
        }
    };
    let mqtt = match config.mqtt {
        Listen::Off => None,
        Listen::At(listen) => {
            Some(MqttListener::bind(MqttSettings { listen, names, ..MqttSettings::default() }, pki.clone()).await?)
        }
    };
    let quic_addr = quic.as_ref().map(Quic::local_addr).transpose()?;
    let mqtt_addr = mqtt.as_ref().map(MqttListener::local_addr).transpose()?;
    let api_url = config.public_url.clone().unwrap_or_else(|| public_url(config, address, scheme, &local_url));
    let host = host_of(&api_url).unwrap_or("127.0.0.1").to_owned();
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let at = |address: Option<SocketAddr>| address.map(|address| format!("{host}:{}", address.port())).unwrap_or_default();
    let mqtt_public = match &config.broker {
        Some((broker, _)) if mqtt_addr.is_none() => broker.trim_start_matches("mqtts://").trim_end_matches('/').to_owned(),
        _ => at(mqtt_addr),
    };
    let public = EndpointsView {
        api_url,
        quic: config.public_quic.clone().unwrap_or_else(|| at(quic_addr)),
        mqtt: config.public_mqtt.clone().unwrap_or(mqtt_public),
        // Each tenant's own: told when a device joins and at each session.
        trust: String::new(),
    };
    Ok((Sockets { api, quic, mqtt }, Endpoints { local_url, quic: quic_addr, mqtt: mqtt_addr, public }))
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
