//! When a certificate is renewed, and how without a link. The link's own way is `link::keep_certificate_fresh`.
//!
//! The key stays the same: a renewal whose answer is lost can then simply be repeated, and signatures made before it remain
//! the device's. The new chain is in use only once it is on disk.

use super::{Identity, RenewError, http};
use aidos_protocol::enrol::{RenewalRequest, RenewalResponse, renewal_message};
use aidos_protocol::time::Micros;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The point at ⅔ of the life, moved by up to ±5 % of the life so that a fleet that joined together does not renew together.
/// `jitter` is uniform in 0..1.
pub fn renew_at(not_before: Micros, not_after: Micros, jitter: f64) -> Micros {
    let life = not_after.0.saturating_sub(not_before.0).max(0);
    // Exact to some microseconds in the life's f64, which is plenty.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    let offset = (life as f64 * (2.0 / 3.0 + (jitter.clamp(0.0, 1.0) - 0.5) * 0.1)) as i64;
    Micros(not_before.0.saturating_add(offset.clamp(0, life)))
}

impl Identity {
    /// Renews by `POST /api/v1/enrol/renew`, proving possession of the key; works for an expired certificate too.
    pub async fn renew_over_http(&self) -> Result<(), RenewError> {
        let current = self.current();
        let csr = self.0.key.csr()?;
        let request = RenewalRequest {
            certificate_pem: current.record.chain_pem.clone(),
            csr_pem: csr.pem().map_err(super::key::crypto)?,
            signature: STANDARD.encode(self.0.key.sign(&renewal_message(csr.der()))?),
        };
        let at = format!("{}/api/v1/enrol/renew", current.record.endpoints.api_url.trim_end_matches('/'));
        let sent = self.http_client()?.post(at).json(&request).send().await;
        let response = sent.map_err(|e| RenewError::Unreachable(http::detail(&e)))?;
        let status = response.status();
        let body = http::body(response).await.map_err(RenewError::Unreachable)?;
        if status.is_server_error() || status == reqwest::StatusCode::TOO_MANY_REQUESTS {
            return Err(RenewError::Unreachable(format!("HTTP {status}: {}", http::Problem::read(&body).text())));
        }
        if !status.is_success() {
            return Err(RenewError::Refused(format!("HTTP {status}: {}", http::Problem::read(&body).text())));
        }
        let answer: RenewalResponse =
            serde_json::from_slice(&body).map_err(|e| RenewError::Unreachable(format!("unusable answer: {e}")))?;
        self.install(Some(answer.chain_pem), answer.endpoints).await?;
        Ok(())
    }
}
