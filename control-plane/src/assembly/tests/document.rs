//! The OpenAPI document in `docs/openapi.json` is the one that is served: clients are generated from it, and a change of the API
//! shows in review.

use super::super::api;
use super::plane::Plane;
use std::path::Path;

/// Rewrites the file; `cargo xtask openapi` sets it.
const UPDATE: &str = "AIDOS_UPDATE_OPENAPI";

#[tokio::test]
async fn the_committed_openapi_document_is_the_one_that_is_served() {
    let plane = Plane::new().await;
    let (status, served) = plane.send("GET", crate::platform::http::openapi::DOCUMENT, "", None).await;
    assert!(status.is_success());
    let document = crate::platform::http::openapi::complete(api::endpoints(&plane.rooms).split_for_parts().1);
    assert_eq!(served, serde_json::to_value(&document).unwrap());
    let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
    // What clients are generated from has no hole.
    for name in text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(served["components"]["schemas"][name].is_object(), "a handler names the schema {name}, which is not there");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = || {
        let pairs = committed.lines().zip(text.lines()).enumerate();
        pairs.skip_while(|(_, (old, new))| old == new).map(|(n, (old, new))| format!("line {}: `{old}` / `{new}`", n + 1)).next()
    };
    assert!(
        committed == text,
        "docs/openapi.json is stale ({}): run `cargo xtask openapi` and commit it",
        differs().unwrap_or_else(|| "one is longer".into())
    );
}
