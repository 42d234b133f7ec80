//! Tells the live events of what happens to twins. Sessions and commands tell theirs themselves. It must never write
//! anything: who misses an event reads the resource.

use super::twins::{Twins, What};
use crate::platform::http::Events;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// The most status paths that one event names; who needs all of them reads the twin.
const MAX_PATHS: usize = 32;

/// Publishes `device.updated` for edited intents and `device.status` for reports, from now on until `shutdown`.
pub(crate) fn announce_twins(
    twins: &Twins,
    events: Events,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    // Subscribed before anyone polls: nothing falls between the start and the first turn.
    let mut changes = twins.changes();
    async move {
        while let Some(change) = shutdown.run_until_cancelled(changes.recv()).await {
            match change {
                Ok((tenant, device, What::Intent | What::Told)) => {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::test_fleet::Fleet;
    use crate::platform::testing::sqlite;
    use aidos_protocol::frame::{StatusDelta, StatusEntry};
    use aidos_protocol::twin::Edit;
    use axum::response::IntoResponse as _;
    use futures::StreamExt as _;

    #[tokio::test]
    async fn edits_and_reports_reach_who_watches_that_tenant() {
        let (db, _folder) = sqlite().await;
        let fleet = Fleet::new(db).await;
        let device = fleet.device(&fleet.ours, "a", &[]).await;
        let other = fleet.device(&fleet.theirs, "b", &[]).await;
        let stop = CancellationToken::new();
        let announcing = tokio::spawn(announce_twins(&fleet.twins, fleet.events.clone(), stop.clone()));
        let stream = fleet.events.stream(fleet.ours.tenant, None, Vec::new()).unwrap();
        let mut body = stream.into_response().into_body().into_data_stream();
        let note = |value: &str| [Edit::SetNote { key: "n".into(), value: value.into() }];
        fleet.twins.edit(&fleet.theirs, other, &note("theirs"), None).await.unwrap();
        fleet.twins.edit(&fleet.ours, device, &note("ours"), None).await.unwrap();
        let entry = StatusEntry { path: "link".into(), value: b"{}".to_vec().into(), seq: 1 };
        let delta = StatusDelta { boot_id: 1, seq: 1, full: true, set: vec![entry], ..Default::default() };
        fleet.twins.apply_status(fleet.ours.tenant, device, &delta).await.unwrap().unwrap();
        let mut seen = String::new();
        while !seen.contains("device.status") {
            seen += std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap();
        }
        assert!(seen.contains("device.updated") && seen.contains(&device.to_string()), "{seen}");
        assert!(seen.contains("link") && !seen.contains(&other.to_string()), "{seen}");
        stop.cancel();
        announcing.await.unwrap();
    }
}
