//! Imports go down only: between crates, and between the rooms of the control plane. Reads the real `use` paths and manifests.

use regex::Regex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each crate and the crates of this workspace that it may use.
const CRATES: &[(&str, &[&str])] = &[
    ("launcher", &[]),
    ("protocol", &[]),
    ("optimizer", &["aidos-protocol"]),
    ("agent", &["aidos-launcher", "aidos-protocol", "aidos-optimizer"]),
    ("fleet-ui", &[]),
    ("control-plane", &["aidos-protocol", "aidos-optimizer", "aidos-fleet-ui"]),
    ("cli", &["aidos-protocol", "aidos-optimizer", "aidos-agent", "aidos-control-plane"]),
];

/// Each room of the control plane and the rooms below it.
const ROOMS: &[(&str, &[&str])] = &[
    ("platform", &[]),
    ("tenants", &["platform"]),
    ("fleet", &["platform", "tenants"]),
    ("registry", &["platform", "tenants"]),
    ("rollouts", &["platform", "tenants", "fleet", "registry"]),
];

/// A library, and the only folders or files of the control plane that may name it.
const OWNERS: &[(&str, &[&str])] = &[
    ("quinn", &["fleet/quic", "platform/pki"]),
    ("rumqttc", &["fleet/mqtt"]),
    ("mqtt_protocol_core", &["fleet/mqtt"]),
    ("object_store", &["platform/objects"]),
];

/// What the ground floor must never touch.
const PURE: &[&str] = &["tokio", "std::net", "std::fs", "SystemTime::now", "Instant::now", "std::thread"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the workspace")
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                // Comments may speak of what code must not name.
                let code = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
                found.push((path, code));
            }
        }
    }
    assert!(!found.is_empty(), "{} holds no sources", folder.display());
    found
}

/// The rooms that `code` reaches by `crate::room` or `crate::{room, …}`.
fn rooms_named(code: &str) -> BTreeSet<String> {
    let path = Regex::new(r"crate::(?:\{([^;]*)\}|(\w+))").unwrap();
    let word = Regex::new(r"(?:^|[{,]\s*)(\w+)").unwrap();
    path.captures_iter(code)
        .flat_map(|c| match (c.get(1), c.get(2)) {
            (Some(group), _) => word.captures_iter(group.as_str()).map(|w| w[1].to_owned()).collect::<Vec<_>>(),
            (_, Some(one)) => vec![one.as_str().to_owned()],
            _ => vec![],
        })
        .collect()
}

#[test]
fn no_crate_uses_one_above_it() {
    let dependency = Regex::new(r"(?m)^(aidos-[a-z-]+)\b").unwrap();
    for (folder, allowed) in CRATES {
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        for used in dependency.captures_iter(&manifest) {
            assert!(allowed.contains(&&used[1]), "{folder} must not use {}", &used[1]);
        }
    }
}

#[test]
fn no_room_uses_one_above_or_beside_it() {
    let rooms = root().join("control-plane/src");
    for (room, below) in ROOMS {
        for (file, code) in sources(&rooms.join(room)) {
            for named in rooms_named(&code) {
                let is_room = ROOMS.iter().any(|(other, _)| *other == named);
                let allowed = !is_room || named == *room || below.contains(&named.as_str());
                assert!(allowed && named != "assembly", "{} must not reach into {named}", file.display());
            }
        }
    }
}

#[test]
fn a_transport_or_a_store_library_is_named_only_where_it_lives() {
    let rooms = root().join("control-plane/src");
    for (file, code) in sources(&rooms) {
        let place = file.strip_prefix(&rooms).unwrap().to_string_lossy().into_owned();
        // Tests speak to a room from outside with the libraries that devices use.
        if place.contains("test") || place.ends_with("raw_link.rs") {
            continue;
        }
        for (library, owners) in OWNERS {
            let named = Regex::new(&format!(r"\b{library}::")).unwrap().is_match(&code);
            assert!(!named || owners.iter().any(|o| place.starts_with(o)), "{place} must not name {library}");
        }
        let sql = code.contains("sqlx::query");
        let is_store = place.contains("store") || place.starts_with("platform/");
        assert!(!sql || is_store, "{place} speaks SQL; only the `store` of a room does");
    }
}

#[test]
fn the_ground_floor_has_no_sockets_files_clocks_or_threads() {
    for folder in ["protocol/src", "optimizer/src"] {
        for (file, code) in sources(&root().join(folder)) {
            let code = code.split("#[cfg(test)]").next().unwrap_or_default();
            for forbidden in PURE {
                assert!(!code.contains(forbidden), "{} names {forbidden}", file.display());
            }
        }
    }
}

#[test]
fn infer_knows_no_http() {
    for (file, code) in sources(&root().join("agent/src/infer")) {
        assert!(!code.contains("axum") && !code.contains("crate::serve"), "{} knows HTTP", file.display());
    }
}

#[test]
fn a_grouped_import_is_seen() {
    assert_eq!(
        rooms_named("use crate::{fleet::{Devices, X}, platform};").into_iter().collect::<Vec<_>>(),
        ["Devices", "X", "fleet", "platform"]
    );
    assert_eq!(rooms_named("crate::registry::Models").into_iter().collect::<Vec<_>>(), ["registry"]);
}
