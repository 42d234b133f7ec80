//! What rollouts learn of devices from what devices report, through the port between the two rooms.

use super::super::ports::{FleetOfRollouts, account};
use super::plane::Plane;
use crate::fleet::{DeviceKey, TelemetrySink as _};
use crate::rollouts::Fleet as _;
use aidos_protocol::artifact::Digest;
use aidos_protocol::inventory::{Gpu, Inventory};
use aidos_protocol::rollout::Constraints;
use aidos_protocol::twin::{Health, HealthReport, Measures, SignedHealth, Status, path};
use aidos_protocol::{DeviceId, Subject, TenantId, frame, time::Micros};
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use std::collections::BTreeMap;

fn report(tenant: TenantId, device: DeviceId, subject: &Subject) -> HealthReport {
    HealthReport {
        tenant,
        device,
        subject: subject.clone(),
        version: 2,
        digest: Digest::of(b"two"),
        deployment: None,
        boot_id: 3,
        health: Health::Healthy,
        reason: String::new(),
        self_test: None,
        candidate: Measures::default(),
        baseline: None,
        at_us: Micros(5),
    }
}

#[test]
fn a_health_report_counts_by_the_devices_own_signature_only() {
    let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (tenant, device, subject) = (TenantId::new(1), DeviceId::new(2), "digits".parse::<Subject>().unwrap());
    let known = |key: &KeyPair| DeviceKey {
        key_id: String::new(),
        spki: key.subject_public_key_info(),
        serial: String::new(),
        created: Micros(0),
    };
    let heard = |report: &HealthReport, by: &KeyPair, at: &str, keys: &[DeviceKey]| {
        let signed = SignedHealth::new(report, |message| by.sign(message)).unwrap();
        let status = BTreeMap::from([(format!("{}{at}", path::HEALTH), serde_json::to_value(signed).unwrap())]);
        account(tenant, device, keys, status).health
    };
    let honest = report(tenant, device, &subject);
    assert_eq!(heard(&honest, &own, "digits", &[known(&own)]), BTreeMap::from([(subject.clone(), honest.clone())]));
    // The key before its newest still speaks for it.
    assert_eq!(heard(&honest, &own, "digits", &[known(&other), known(&own)]).len(), 1);
    let foreign = [report(TenantId::new(9), device, &subject), report(tenant, DeviceId::new(9), &subject)];
    assert!(heard(&honest, &other, "digits", &[known(&own)]).is_empty(), "another's signature");
    assert!(heard(&honest, &own, "digits", &[]).is_empty(), "a key that is not known");
    assert!(heard(&honest, &own, "faces", &[known(&own)]).is_empty(), "about another model");
    for foreign in foreign {
        assert!(heard(&foreign, &own, "digits", &[known(&own)]).is_empty(), "{foreign:?}");
    }
}

#[tokio::test]
async fn what_a_device_reports_of_itself_says_whether_it_fits() {
    let plane = Plane::new().await;
    let rooms = &plane.rooms;
    let fleet = FleetOfRollouts {
        devices: rooms.devices.clone(),
        twins: rooms.twins.clone(),
        live: rooms.live.clone(),
        telemetry: rooms.telemetry.clone(),
    };
    let who = plane.send("GET", "/api/v1/whoami", &plane.owner, None).await.1;
    let tenant: TenantId = who["tenant"]["id"].as_str().unwrap().parse().unwrap();
    let device: DeviceId = plane.device(&plane.owner).await.1.parse().unwrap();
    let unfit = async |constraints: &Constraints, archs: &[&str]| fleet.unfit(tenant, device, constraints, archs).await.unwrap();

    let none = Constraints::default();
    let arch = |arch: &str| Constraints { arch: Some(arch.into()), ..none.clone() };
    assert_eq!(unfit(&none, &[]).await, None);
    assert!(unfit(&arch("aarch64"), &[]).await.unwrap().contains("inventory"), "nothing is known of it yet");

    let inventory = Inventory {
        arch: "aarch64".into(),
        memory_bytes: 4 << 30,
        gpus: vec![Gpu { name: "NVIDIA Orin".into(), ..Gpu::default() }],
        engines: vec!["tract".into()],
        agent_version: "1.4.0".into(),
        ..Inventory::default()
    };
    let mut status = Status::new(1);
    status.set(path::INVENTORY, &inventory).unwrap();
    rooms.twins.apply_status(tenant, device, &status.full()).await.unwrap().unwrap();
    let sample = frame::Sample { seq: 1, time_us: rooms.ground.clock.now().0, values: vec![f64::from(1 << 30)] };
    let batch = frame::Telemetry { names: vec!["disk.free_bytes".into()], samples: vec![sample], ..frame::Telemetry::default() };
    rooms.telemetry.store(tenant, device, batch).await.unwrap();

    let fits = Constraints {
        arch: Some("aarch64".into()),
        min_memory_bytes: Some(4 << 30),
        accelerator: Some("orin".into()),
        engine: Some("tract".into()),
        min_free_disk_bytes: Some(1 << 30),
        min_agent_version: Some("1.4.0".into()),
    };
    assert_eq!(unfit(&fits, &["aarch64"]).await, None);
    for (why, constraints) in [
        ("architecture", arch("x86_64")),
        ("memory", Constraints { min_memory_bytes: Some(8 << 30), ..none.clone() }),
        ("accelerator", Constraints { accelerator: Some("h100".into()), ..none.clone() }),
        ("engine", Constraints { engine: Some("tensorrt".into()), ..none.clone() }),
        ("free", Constraints { min_free_disk_bytes: Some((1 << 30) + 1), ..none.clone() }),
        ("version", Constraints { min_agent_version: Some("1.4.1".into()), ..none.clone() }),
    ] {
        let said = unfit(&constraints, &[]).await.unwrap_or_else(|| panic!("{why} must not fit"));
        assert!(said.contains(why), "{why}: {said}");
    }
    assert!(unfit(&none, &["x86_64"]).await.unwrap().contains("no binary for aarch64"));
}
