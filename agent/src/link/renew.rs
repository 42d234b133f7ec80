//! Keeps the certificate from expiring: over the link while there is a session, by HTTP otherwise, and after expiry too.

use super::ports::{LinkError, LinkHandle};
use crate::identity::{Identity, RenewError, renew_at};
use aidos_protocol::enrol::EndpointsView;
use aidos_protocol::time::Micros;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The clock is read again this often, because timers stand still while a device sleeps and clocks get corrected.
const LOOK: Duration = Duration::from_secs(3600);
/// Pause after the first failure; it doubles. A third of the certificate's life is left, so there is no hurry…
const RETRY_MIN: Duration = Duration::from_secs(60);
/// … but a plane that is back after an outage should find everybody within the hour.
const RETRY_MAX: Duration = Duration::from_secs(3600);

/// Renews `identity`'s certificate whenever two thirds of its life have passed, until `shutdown`.
pub async fn keep_certificate_fresh(identity: Identity, link: LinkHandle, shutdown: CancellationToken) {
    let mut jitter: f64 = rand::random();
    let mut failures = 0u32;
    let mut asked = false;
    loop {
        let (not_before, not_after) = identity.validity();
        let due = renew_at(not_before, not_after, jitter);
        let now = identity.now();
        // Who has lost the time cannot know that its certificate expired; a session would tell, unless it is refused for just that.
        let lost = identity.is_time_lost() && link.state().borrow().transport.is_none();
        let pause = if now < due && lost && !asked {
            asked = true;
            RETRY_MIN
        } else if now < due && !lost {
            until(now, due).min(LOOK)
        } else {
            let attempt = tokio::select! {
                () = shutdown.cancelled() => return,
                attempt = renew(&identity, &link) => attempt,
            };
            match attempt {
                Ok(()) => {
                    tracing::info!(not_after = identity.validity().1.0, "the certificate was renewed");
                    (failures, jitter) = (0, rand::random());
                    Duration::ZERO
                }
                Err(error) => {
                    let expired = now >= not_after;
                    tracing::warn!(%error, expired, "the certificate could not be renewed; it will be tried again");
                    let bound = RETRY_MIN.saturating_mul(1 << failures.min(16)).min(RETRY_MAX);
                    failures = failures.saturating_add(1);
                    // Between half and all of the bound: jitter without a chance of trying at once again.
                    bound.mul_f64(0.5 + rand::random::<f64>() / 2.0)
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn until(now: Micros, due: Micros) -> Duration {
    Duration::from_micros(u64::try_from(due.0.saturating_sub(now.0)).unwrap_or(0))
}

async fn renew(identity: &Identity, link: &LinkHandle) -> Result<(), RenewError> {
    if link.state().borrow().transport.is_some() {
        match link.renew(identity.csr_der()?).await {
            Ok(answer) => return Ok(identity.install(Some(answer.chain_pem), EndpointsView::default()).await?),
            Err(LinkError::Refused(reason)) => return Err(RenewError::Refused(reason)),
            // The session ended meanwhile, or the plane is slow: HTTP may still get through.
            Err(LinkError::Offline | LinkError::Timeout | LinkError::Busy) => {}
        }
    }
    identity.renew_over_http().await
}

#[cfg(test)]
mod tests;
