//! Views of the fleet's rows for the REST API, and what of a twin differs. Pure; it must never ask the database.

use super::commands_store::{CommandRow, Payload};
use super::store::DeviceRow;
use aidos_protocol::ModelName;
use aidos_protocol::api::commands::{CommandResultView, CommandView};
use aidos_protocol::api::devices::{DeviceDetail, DeviceModel, DeviceState, DeviceView, Difference};
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{ComponentStatus, DrainStatus, IntentStatus, IntentView, ModelState, ModelStatus, path};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What a device reports, path by path.
pub(super) type Status = BTreeMap<String, Value>;

/// The device as it is listed. `drained`: since when, if it is.
pub(super) fn device(row: DeviceRow, labels: BTreeMap<String, String>, drained: Option<Micros>) -> DeviceView {
    let state = match (row.revoked, row.online) {
        (Some(_), _) => DeviceState::Revoked,
        (None, true) => DeviceState::Online,
        (None, false) => DeviceState::Offline,
    };
    DeviceView {
        id: row.id,
        name: row.name,
        state,
        labels,
        transport: row.transport,
        address: row.address,
        agent_version: row.agent_version,
        created_at: row.created,
        last_seen_at: row.last_seen,
        certificate_expires_at: row.certificate_end,
        revoked_at: row.revoked,
        drained_at: drained,
    }
}

/// Everything about one device. `heads` are those of the plane's intent document, hexadecimal.
pub(super) fn device_detail(row: DeviceRow, intent: &IntentView, heads: &[String], status: &Status) -> DeviceDetail {
    let components = status.iter().filter_map(|(place, value)| {
        let name = place.strip_prefix(path::COMPONENTS)?;
        Some((name.to_owned(), serde_json::from_value::<ComponentStatus>(value.clone()).ok()?))
    });
    let drained = status.get(path::DRAIN).map(|_| read::<DrainStatus>(status, path::DRAIN).unwrap_or_default().since_us);
    DeviceDetail {
        notes: intent.notes.clone(),
        models: models(intent, status),
        inventory: read(status, path::INVENTORY),
        link: read(status, path::LINK),
        trust: read(status, path::TRUST),
        components: components.collect(),
        applied: read(status, path::INTENT),
        in_sync: differences(intent, heads, status).is_empty(),
        device: device(row, intent.labels.clone(), drained),
    }
}

/// The value at `place` as this version understands it; absent when it is not there or does not read.
fn read<T: DeserializeOwned>(status: &Status, place: &str) -> Option<T> {
    serde_json::from_value(status.get(place)?.clone()).ok()
}

/// What is reported of each model.
fn reported_models(status: &Status) -> BTreeMap<ModelName, ModelStatus> {
    let models = status.iter().filter_map(|(place, value)| {
        let name = place.strip_prefix(path::MODELS)?.parse().ok()?;
        Some((name, serde_json::from_value(value.clone()).ok()?))
    });
    models.collect()
}

fn models(intent: &IntentView, status: &Status) -> BTreeMap<ModelName, DeviceModel> {
    let mut reported = reported_models(status);
    let names: BTreeSet<ModelName> = intent.models.keys().chain(reported.keys()).cloned().collect();
    let model = |name: ModelName| {
        let desired_version = intent.models.get(&name).map(|desired| desired.version);
        let Some(there) = reported.remove(&name) else {
            return (name, DeviceModel { desired_version, ..Default::default() });
        };
        // A state that was reported of another version says nothing of the one that is wanted now.
        let stale = desired_version.is_some() && there.desired_version != desired_version;
        let model = DeviceModel {
            desired_version,
            active_version: there.active_version,
            previous_version: there.previous_version,
            state: if stale { ModelState::Pending } else { there.state },
            error: if stale { String::new() } else { there.error },
            digest: there.digest,
            engine: there.engine,
            since: Some(there.since_us),
        };
        (name, model)
    };
    names.into_iter().map(model).collect()
}

/// Where what the device reports differs from what is wanted of it. `heads` are those of the plane's intent document,
/// hexadecimal.
pub(super) fn differences(intent: &IntentView, heads: &[String], status: &Status) -> Vec<Difference> {
    let mut differences = Vec::new();
    let applied: Option<IntentStatus> = read(status, path::INTENT);
    let wanted: BTreeSet<&String> = heads.iter().collect();
    let same = |applied: &IntentStatus| applied.epoch == intent.epoch && applied.heads.iter().collect::<BTreeSet<_>>() == wanted;
    if !applied.as_ref().is_some_and(same) {
        let position = |epoch: u32, heads: &[String]| format!("{epoch}:{}", heads.join(","));
        differences.push(Difference {
            path: path::INTENT.to_owned(),
            desired: Some(position(intent.epoch, heads)),
            reason: if applied.is_some() {
                "the device has not applied the newest edits"
            } else {
                "the device has not reported yet"
            }
            .to_owned(),
            reported: applied.map(|applied| position(applied.epoch, &applied.heads)),
        });
    }
    for (name, model) in models(intent, status) {
        let converged = match model.desired_version {
            Some(_) => model.active_version == model.desired_version && model.state == ModelState::Ready,
            None => model.active_version.is_none(),
        };
        if !converged {
            let version = |version: Option<u64>| version.map(|version| version.to_string());
            differences.push(Difference {
                path: format!("{}{name}", path::MODELS),
                desired: version(model.desired_version),
                reported: version(model.active_version),
                reason: reason(&model),
            });
        }
    }
    differences
}

fn reason(model: &DeviceModel) -> String {
    let state = serde_json::to_value(model.state).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default();
    match (model.desired_version, model.error.as_str()) {
        (None, _) => "the device has not removed it yet".to_owned(),
        (Some(_), "") => state,
        (Some(_), error) => format!("{state}: {error}"),
    }
}

/// A command as it is listed.
pub(super) fn command(row: CommandRow) -> CommandView {
    let result = |(content_type, bytes)| CommandResultView { content_type, bytes, json: None, text: None };
    CommandView {
        id: row.id,
        device: row.device,
        kind: row.kind,
        arguments: row.arguments,
        state: row.state,
        offline: row.offline,
        created_by: row.actor,
        created_at: row.created,
        expires_at: row.expires,
        delivered_at: row.delivered,
        finished_at: row.finished,
        message: row.message,
        result: row.payload.map(result),
    }
}

/// A command with what it brought back, where that can be shown.
pub(super) fn command_detail(row: CommandRow, payload: Option<Payload>) -> CommandView {
    let mut view = command(row);
    if let (Some(result), Some(payload)) = (&mut view.result, payload) {
        // Raw tensors after the JSON are for programs, which ask for the bytes.
        if payload.header_length == 0 && is_json(&payload.content_type) {
            result.json = serde_json::from_slice(&payload.bytes).ok();
        }
        if result.json.is_none() && payload.content_type.starts_with("text/") {
            result.text = String::from_utf8(payload.bytes.into()).ok();
        }
    }
    view
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence == "application/json" || essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aidos_protocol::artifact::Digest;
    use aidos_protocol::twin::DesiredModel;
    use serde_json::json;

    fn intent(version: Option<u64>) -> IntentView {
        let desired = |version| DesiredModel::new(version, Digest::of(b"x"), 1);
        let models = version.map(|v| ("digits".parse().unwrap(), desired(v))).into_iter().collect();
        IntentView { epoch: 1, models, ..Default::default() }
    }

    fn reports(model: Value) -> Status {
        let applied = json!({ "epoch": 1, "heads": ["aa"] });
        [("intent".to_owned(), applied), ("models/digits".to_owned(), model)].into()
    }

    fn heads() -> Vec<String> {
        vec!["aa".to_owned()]
    }

    #[test]
    fn a_device_that_reports_what_is_wanted_differs_in_nothing() {
        let status = reports(json!({ "desired_version": 2, "active_version": 2, "state": "ready" }));
        assert_eq!(differences(&intent(Some(2)), &heads(), &status), []);
        let gone = [("intent".to_owned(), json!({ "epoch": 1, "heads": ["aa"] }))].into();
        assert_eq!(differences(&intent(None), &heads(), &gone), []);
    }

    #[test]
    fn a_failed_model_says_why_and_a_silent_device_says_that_it_is_silent() {
        let status = reports(json!({ "desired_version": 2, "active_version": 1, "state": "failed", "error": "too big" }));
        let found = differences(&intent(Some(2)), &heads(), &status);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].path.as_str(), found[0].reason.as_str()), ("models/digits", "failed: too big"));
        assert_eq!((found[0].desired.as_deref(), found[0].reported.as_deref()), (Some("2"), Some("1")));
        let silent = differences(&intent(Some(2)), &heads(), &Status::new());
        assert!(silent.iter().any(|d| d.path == "intent" && d.reported.is_none() && d.reason.contains("not reported")));
    }

    #[test]
    fn a_report_about_the_version_before_is_not_taken_for_the_new_one() {
        let status = reports(json!({ "desired_version": 1, "active_version": 1, "state": "ready" }));
        let models = models(&intent(Some(2)), &status);
        let model = &models[&"digits".parse().unwrap()];
        assert_eq!((model.state, model.active_version, model.desired_version), (ModelState::Pending, Some(1), Some(2)));
        assert_eq!(differences(&intent(Some(2)), &heads(), &status).len(), 1);
    }

    #[test]
    fn a_value_of_another_shape_is_absent_and_never_an_error() {
        let status: Status = [("inventory".to_owned(), json!(7)), ("models/Not A Name".to_owned(), json!({}))].into();
        assert!(models(&intent(None), &status).is_empty());
        assert!(read::<IntentStatus>(&status, "inventory").is_none());
    }
}
