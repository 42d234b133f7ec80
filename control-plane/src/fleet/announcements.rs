//! Tells the live events of what happens to twins. Sessions and commands tell theirs themselves. It must never write
//! anything: who misses an event reads the resource.

use super::twins::{Twins, What};
use crate::platform::http::Events;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// The most status paths that one event names; who needs all of them reads the twin.
const MAX_PATHS: usize = 32;

/// Publishes `device.updated` for edited intents and `device.status` for reports, until `shutdown`.
pub(crate) async fn announce_twins(twins: Twins, events: Events, shutdown: CancellationToken) {
    let mut changes = twins.changes();
    while let Some(change) = shutdown.run_until_cancelled(changes.recv()).await {
        match change {
            Ok((tenant, device, What::Intent)) => {
                events.publish(tenant, "device.updated", &device.to_string(), json!({ "intent": true }));
            }
            Ok((tenant, device, What::Status(paths))) => {
                let paths: Vec<&String> = paths.iter().take(MAX_PATHS).collect();
                events.publish(tenant, "device.status", &device.to_string(), json!({ "paths": paths }));
            }
            // Listeners see a gap in what they know of devices, which the next event or a look at the list closes.
            Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "events of twins were passed over"),
            Err(RecvError::Closed) => return,
        }
    }
}
