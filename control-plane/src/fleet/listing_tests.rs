//! Finding and naming devices, on both databases.

use super::listing::RenameError;
use super::listing_store::{DeviceFilter, Place};
use super::test_fleet::Fleet;
use crate::platform::db::Db;
use crate::platform::testing::both_stores;
use aidos_protocol::DeviceId;
use aidos_protocol::api::devices::{DeviceSort, DeviceState};
use aidos_protocol::twin::Edit;
use std::time::Duration;

both_stores!(
    devices_are_found_by_labels_state_and_text,
    who_visits_all_matching_devices_meets_each_once_and_no_revoked_one,
    every_order_walks_all_devices_once_page_by_page,
    a_device_is_found_by_what_it_is_called_now,
    where_many_are_found_they_come_in_order_too,
    a_name_is_changed_only_in_the_state_that_was_seen,
);

async fn names(fleet: &Fleet, filter: DeviceFilter) -> Vec<String> {
    let rows = fleet.devices.list(fleet.ours.tenant, &filter, DeviceSort::Name, None, 100).await.unwrap();
    rows.into_iter().map(|row| row.name).collect()
}

async fn devices_are_found_by_labels_state_and_text(db: Db) {
    let fleet = Fleet::new(db).await;
    let a = fleet.device(&fleet.ours, "Alpha_1", &[("site", "lab"), ("gpu", "none")]).await;
    let b = fleet.device(&fleet.ours, "beta", &[("site", "lab"), ("gpu", "h200")]).await;
    fleet.device(&fleet.ours, "gamma", &[]).await;
    fleet.device(&fleet.theirs, "alpha", &[("site", "lab")]).await;
    fleet.online(&fleet.ours, a).await;
    fleet.devices.revoke(&fleet.ours, b).await.unwrap();
    let by = |selector: &str| DeviceFilter { selector: selector.parse().unwrap(), ..Default::default() };
    assert_eq!(names(&fleet, by("site=lab")).await, ["Alpha_1", "beta"]);
    assert_eq!(names(&fleet, by("site=lab,gpu!=none")).await, ["beta"]);
    assert_eq!(names(&fleet, by("!site")).await, ["gamma"]);
    let state = |state| DeviceFilter { state: Some(state), ..by("*") };
    assert_eq!(names(&fleet, state(DeviceState::Online)).await, ["Alpha_1"]);
    assert_eq!(names(&fleet, state(DeviceState::Offline)).await, ["gamma"]);
    assert_eq!(names(&fleet, state(DeviceState::Revoked)).await, ["beta"]);
    let text = |text: &str| DeviceFilter { text: Some(text.into()), ..Default::default() };
    assert_eq!(names(&fleet, text("ALPHA_")).await, ["Alpha_1"]);
    assert_eq!(names(&fleet, text("%")).await, Vec::<String>::new());
    assert_eq!(names(&fleet, text("h200")).await, ["beta"]);
    assert_eq!(names(&fleet, text(&b.to_string())).await, ["beta"]);
    assert_eq!(names(&fleet, text("192.0.2.7")).await, ["Alpha_1"]);
    let all = DeviceFilter { selector: "site=lab".parse().unwrap(), state: Some(DeviceState::Online), text: Some("1".into()) };
    assert_eq!(names(&fleet, all).await, ["Alpha_1"]);
    let labels = fleet.devices.labels(fleet.ours.tenant, &[a, b]).await.unwrap();
    assert_eq!(labels[&a]["gpu"], "none");
    assert!(fleet.devices.labels(fleet.theirs.tenant, &[a]).await.unwrap().is_empty());
}

async fn who_visits_all_matching_devices_meets_each_once_and_no_revoked_one(db: Db) {
    let fleet = Fleet::new(db).await;
    let lab = [("site", "lab")];
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d"] {
        ids.push(fleet.device(&fleet.ours, name, &lab).await);
        fleet.clock.advance(Duration::from_secs(1));
    }
    fleet.device(&fleet.ours, "elsewhere", &[]).await;
    fleet.device(&fleet.theirs, "theirs", &lab).await;
    fleet.devices.revoke(&fleet.ours, ids[1]).await.unwrap();
    let selector = "site=lab".parse().unwrap();
    let mut met = Vec::new();
    loop {
        let next = fleet.devices.matching(fleet.ours.tenant, &selector, met.last().copied(), 2).await.unwrap();
        if next.is_empty() {
            break;
        }
        met.extend(next.iter().map(|row| row.id));
    }
    assert_eq!(met, [ids[0], ids[2], ids[3]]);
}

async fn every_order_walks_all_devices_once_page_by_page(db: Db) {
    let fleet = Fleet::new(db).await;
    for name in ["b", "a", "b", "c", "a"] {
        let device = fleet.device(&fleet.ours, name, &[]).await;
        if name == "b" {
            fleet.online(&fleet.ours, device).await;
        }
        fleet.clock.advance(Duration::from_secs(1));
    }
    for sort in [DeviceSort::Name, DeviceSort::Newest, DeviceSort::LastSeen] {
        let list = async |after: Option<Place>, limit| {
            fleet.devices.list(fleet.ours.tenant, &DeviceFilter::default(), sort, after.as_ref(), limit).await.unwrap()
        };
        let whole = list(None, 100).await;
        assert_eq!(whole.len(), 5);
        let mut walked = list(None, 2).await;
        loop {
            let place = Place::of(walked.last().unwrap(), sort);
            assert_eq!(place.sort(), sort);
            let next = list(Some(place), 2).await;
            if next.is_empty() {
                break;
            }
            walked.extend(next);
        }
        assert_eq!(walked, whole, "{sort:?}");
    }
    let newest = fleet.devices.list(fleet.ours.tenant, &DeviceFilter::default(), DeviceSort::LastSeen, None, 2).await.unwrap();
    assert_eq!(newest.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["b", "b"]);
}

async fn a_device_is_found_by_what_it_is_called_now(db: Db) {
    let fleet = Fleet::new(db).await;
    let device = fleet.device(&fleet.ours, "Zürich-ÖST", &[("site", "Nord")]).await;
    fleet.online(&fleet.ours, device).await;
    let text = |text: &str| DeviceFilter { text: Some(text.into()), ..Default::default() };
    assert_eq!(names(&fleet, text("zürich-öst")).await, ["Zürich-ÖST"]);
    assert_eq!(names(&fleet, text("NORD")).await, ["Zürich-ÖST"]);
    fleet.devices.rename(&fleet.ours, device, "Bern", 1).await.unwrap();
    let south = Edit::SetLabel { key: "site".into(), value: "sued".into() };
    fleet.twins.edit(&fleet.ours, device, &[south], None).await.unwrap();
    for gone in ["zürich", "nord"] {
        assert!(names(&fleet, text(gone)).await.is_empty(), "{gone}");
    }
    for there in ["bern", "sued", "192.0.2.7", &device.to_string()[..12]] {
        assert_eq!(names(&fleet, text(there)).await, ["Bern"], "{there}");
    }
    fleet.devices.delete(&fleet.ours, device).await.unwrap();
    assert!(names(&fleet, text("bern")).await.is_empty());
}

async fn where_many_are_found_they_come_in_order_too(db: Db) {
    let fleet = Fleet::new(db).await;
    let first = fleet.device(&fleet.ours, "edge", &[]).await;
    let mut row = fleet.devices.get(fleet.ours.tenant, first).await.unwrap();
    let mut tx = fleet.db.begin().await.unwrap();
    for n in 0..super::listing_store::MANY {
        (row.id, row.name) = (DeviceId::new(7 + n as u64), format!("edge-{n}"));
        super::store::insert_device(&mut tx, &row).await.unwrap();
    }
    tx.commit().await.unwrap();
    fleet.clock.advance(Duration::from_secs(1));
    fleet.online(&fleet.ours, first).await;
    let filter = |text: &str| DeviceFilter { text: Some(text.into()), ..Default::default() };
    let list =
        async |text, after| fleet.devices.list(fleet.ours.tenant, &filter(text), DeviceSort::LastSeen, after, 2).await.unwrap();
    let found = list("edge", None).await;
    assert_eq!((found.len(), found[0].id), (2, first));
    let place = Place::of(&found[1], DeviceSort::LastSeen);
    assert!(list("edge", Some(&place)).await.iter().all(|row| !found.iter().any(|seen| seen.id == row.id)));
    assert_eq!(list("edge-1999", None).await.len(), 1);
    let named = fleet.devices.list(fleet.ours.tenant, &filter("edge"), DeviceSort::Name, None, 2).await.unwrap();
    assert_eq!(named.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["edge", "edge-0"]);
}

async fn a_name_is_changed_only_in_the_state_that_was_seen(db: Db) {
    let fleet = Fleet::new(db).await;
    let device = fleet.device(&fleet.ours, "old", &[]).await;
    fleet.devices.rename(&fleet.ours, device, "new", 1).await.unwrap();
    let stale = fleet.devices.rename(&fleet.ours, device, "newer", 1).await;
    assert!(matches!(stale, Err(RenameError::Stale)));
    assert!(fleet.devices.rename(&fleet.theirs, device, "stolen", 2).await.is_err());
    let row = fleet.devices.get(fleet.ours.tenant, device).await.unwrap();
    assert_eq!((row.name.as_str(), row.revision), ("new", 2));
    assert_eq!(fleet.actions(&fleet.ours, device).await, ["device.rename"]);
}
