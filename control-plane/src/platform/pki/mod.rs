//! The deployment's own certificate authority: it certifies devices and the control plane's listeners, and checks what devices
//! present. It must never sign a subject or a name that came with a request: only the request's key is taken over.
//!
//! One level: the CA (ECDSA P-256, `spiffe://<deployment>`) signs leaves, and no leaf can sign. Revocation is not here: the
//! fleet looks at a device's state on each connection.

mod authority;
mod server;
mod verify;

pub(crate) use authority::Pki;
pub(crate) use server::provider;

/// Why a certificate was not made or not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    /// The CA's files cannot be read or written.
    #[error("the certificate authority's files cannot be used: {0}")]
    Files(#[from] std::io::Error),
    /// The folder holds something else than this deployment's CA.
    #[error("{0}")]
    Setup(String),
    /// The signing request is not one, or asks for the wrong kind of key.
    #[error("the certificate signing request is refused: {0}")]
    Request(&'static str),
    /// The certificate is not one of a device of this deployment.
    #[error("the certificate is refused: {0}")]
    Refused(&'static str),
    /// It was a certificate of a device here, but its time is over.
    #[error("the certificate expired; the device renews it at /api/v1/enrol/renew")]
    Expired,
    /// A name that no certificate can hold.
    #[error("`{0}` is neither a host name nor an IP address")]
    Name(String),
    /// The library failed.
    #[error("certificate error: {0}")]
    Rcgen(#[from] rcgen::Error),
    /// TLS cannot be set up.
    #[error("TLS error: {0}")]
    Tls(#[from] rustls::Error),
}

#[cfg(test)]
mod tests;
