//! A request that is sent again with its Idempotency-Key.

use super::plane::Plane;
use serde_json::json;

#[tokio::test]
async fn a_repeated_request_is_done_once_and_answered_the_same() {
    let plane = Plane::new().await;
    plane.furnish(&plane.owner).await;
    let wish = json!({ "subject": "digits@1", "selector": "site=far" });
    let once = || plane.repeat("POST", "/api/v1/deployments", &plane.owner, "a-key", &wish);
    let (first, second) = (once().await, once().await);
    assert_eq!((first.status, second.status), (201.try_into().unwrap(), 201.try_into().unwrap()));
    assert_eq!(first.body["id"], second.body["id"]);
    assert_eq!((first.replayed, second.replayed), (false, true));
    let (_, listed) = plane.send("GET", "/api/v1/deployments", &plane.owner, None).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn requests_at_the_same_time_are_done_once() {
    let plane = Plane::new().await;
    let wish = json!({ "name": "race" });
    let once = || plane.repeat("POST", "/api/v1/models", &plane.owner, "one", &wish);
    let answers = futures::future::join_all((0..8).map(|_| once())).await;
    assert!(answers.iter().all(|answer| answer.status == 201 || answer.status == 503), "one does it, the others wait");
    assert_eq!(once().await.status, 201);
    let (_, listed) = plane.send("GET", "/api/v1/models", &plane.owner, None).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_failure_frees_the_key() {
    let plane = Plane::new().await;
    let bad = json!({ "subject": "nothing@1", "selector": "" });
    assert!(plane.repeat("POST", "/api/v1/deployments", &plane.owner, "k", &bad).await.status.is_client_error());
    let good = json!({ "name": "digits" });
    assert_eq!(plane.repeat("POST", "/api/v1/models", &plane.owner, "k", &good).await.status, 201);
}
