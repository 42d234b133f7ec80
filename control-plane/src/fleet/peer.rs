//! Certificate → peer: the one way in which a link learns who is at its other end.
//!
//! A TLS library has checked the chain by then, at the handshake; this checks it again at this moment, since a resumed TLS
//! session skips that. It must never look at anything but the certificate: no name that a peer says of itself counts.

use super::ports::{Peer, Transport};
use crate::platform::pki::Pki;
use aidos_protocol::time::Micros;
use rustls_pki_types::CertificateDer;
use std::net::SocketAddr;

/// Why a connection is not a device's.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotADevice {
    #[error("no client certificate: connect with the device's own")]
    NoCertificate,
    #[error("{0}")]
    Certificate(String),
}

pub(super) fn identify(
    pki: &Pki,
    now: Micros,
    chain: Option<Vec<CertificateDer<'static>>>,
    transport: Transport,
    address: SocketAddr,
) -> Result<Peer, NotADevice> {
    let chain = chain.filter(|chain| !chain.is_empty()).ok_or(NotADevice::NoCertificate)?;
    let certificate = pki.verify_device_chain(&chain, now, 0).map_err(|e| NotADevice::Certificate(e.to_string()))?;
    Ok(Peer {
        tenant: certificate.tenant,
        device: certificate.device,
        transport,
        address: address.to_string(),
        key_id: Some(certificate.spki_sha256),
    })
}
