//! What the dashboard's pages wait for: the lists of the API at 100,000 devices, with a rollout to all of them under way, on SQLite
//! and on Postgres.
//!
//! `cargo xtask bench pages`; fails when a limit is passed. `AIDOS_BENCH_DEVICES=1000` sets the size for a quick run, `AIDOS_BENCH_MINUTES=1` how
//! long the browser stays, `AIDOS_BENCH_STORE=postgres` which store alone is measured. The devices are copies in the database of one that joined,
//! and never connect; the control plane is a process of its own, asked over HTTP. Then Chromium looks at the same fleet
//! (`fleet-ui/bench/large.mjs`).

#![allow(clippy::unwrap_used)]

use aidos_protocol::DeviceId;
use aidos_tests::{Figures, Fleet, FleetOptions, Postgres, eventually};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Devices.
const DEVICES: usize = 100_000;
/// How often each list is asked for.
const ASKED: usize = 200;
/// The slowest of a hundred, in milliseconds.
const LIMIT_MS: f64 = 50.0;
/// Rows of one statement.
const ROWS: usize = 1_000;
/// Readings of each metric of the device whose charts are looked at, over an hour.
const READINGS: usize = 10_000;
/// The hour in microseconds.
const HOUR_US: usize = 3_600_000_000;
/// Beyond this something hangs.
const PATIENCE: Duration = Duration::from_secs(600);

#[expect(clippy::print_stderr, reason = "the progress of minutes")]
fn progress(text: &str) {
    eprintln!("{text}");
}

/// Statements that make `count` copies of the device `template`, each with a name, labels and a twin of its own.
fn copies(template: &str, count: usize) -> String {
    let mut sql =
        String::from("BEGIN;\nCREATE TEMPORARY TABLE copies (id TEXT NOT NULL, name TEXT NOT NULL, site TEXT NOT NULL);\n");
    let numbers: Vec<usize> = (0..count).collect();
    for chunk in numbers.chunks(ROWS) {
        let row = |n: &usize| format!("('{}','edge-{n:06}','site-{}')", DeviceId::new(1_700_000_000_000 + *n as u64), n % 100);
        let rows: Vec<String> = chunk.iter().map(row).collect();
        writeln!(sql, "INSERT INTO copies VALUES {};", rows.join(",")).unwrap();
    }
    for (table, columns) in [
        ("devices", "state, token_id, created_us, transport, address, agent_version, last_seen_us, cert_end_us"),
        ("twins", "revision, epoch, document, birth_bytes, needed_epoch, quarantine, updated_us"),
    ] {
        let (id, name, of_name) = if table == "devices" { ("id", "name, ", "c.name, ") } else { ("device_id", "", "") };
        let selected = columns.split(", ").map(|column| format!("t.{column}")).collect::<Vec<_>>().join(", ");
        writeln!(
            sql,
            "INSERT INTO {table} (tenant_id, {id}, {name}{columns}) SELECT t.tenant_id, c.id, {of_name}{selected} \
             FROM {table} t, copies c WHERE t.{id} = '{template}';"
        )
        .unwrap();
    }
    for (key, value) in [("site", "c.site"), ("bench", "'yes'")] {
        writeln!(
            sql,
            "INSERT INTO device_labels (tenant_id, device_id, key, value) SELECT t.tenant_id, c.id, '{key}', {value} \
             FROM devices t, copies c WHERE t.id = '{template}';"
        )
        .unwrap();
    }
    sql += "INSERT INTO device_search (tenant_id, device_id, name, folded, address, labels, text) SELECT s.tenant_id, c.id, c.name, c.name, \
            s.address, c.site, c.name || ' ' || s.address || ' ' || c.site FROM device_search s, copies c;\n";
    // As after days: no two were heard of at the same moment.
    sql + "UPDATE devices SET last_seen_us = created_us - LENGTH(name) * 1000 + CAST(SUBSTR(name, 6) AS INTEGER) WHERE name LIKE 'edge-%';\n\
           COMMIT;\n"
}

/// Statements that give `device` an hour of readings before its newest, each of `metrics` a noise of its own, as no two charts are alike.
fn readings(device: &str, metrics: usize, blob: impl Fn(&str) -> String) -> String {
    let mut sql = String::from("BEGIN;\nCREATE TEMPORARY TABLE readings (n BIGINT NOT NULL, samples BYTEA NOT NULL);\n");
    let numbers: Vec<usize> = (0..READINGS).collect();
    // A linear congruential generator (Knuth, MMIX): the same noise in every run.
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(u32::MAX) * 100.0
    };
    for chunk in numbers.chunks(ROWS) {
        let mut row = |n: &usize| {
            let hex: String = (0..metrics).flat_map(|_| noise().to_le_bytes()).map(|byte| format!("{byte:02x}")).collect();
            format!("({n},{})", blob(&hex))
        };
        let rows: Vec<String> = chunk.iter().map(&mut row).collect();
        writeln!(sql, "INSERT INTO readings VALUES {};", rows.join(",")).unwrap();
    }
    let before = format!("t.time_us - ({READINGS} - r.n) * {}", HOUR_US / READINGS);
    sql + &format!(
        "INSERT INTO telemetry (tenant_id, device_id, seq, time_us, schema_id, samples) \
         SELECT t.tenant_id, t.device_id, t.seq + 1 + r.n, {before}, t.schema_id, r.samples FROM telemetry t, readings r \
         WHERE t.device_id = '{device}' AND t.seq = (SELECT MAX(seq) FROM telemetry WHERE device_id = '{device}');\nCOMMIT;\n"
    )
}

/// Runs statements on a control plane's database.
fn execute(fleet: &Fleet, postgres: Option<&str>, sql: &str) {
    match postgres {
        None => {
            rusqlite::Connection::open(fleet.control_plane_dir().join("control-plane.db")).unwrap().execute_batch(sql).unwrap()
        }
        Some(url) => {
            let file = fleet.folder().join("copies.sql");
            std::fs::write(&file, sql).unwrap();
            let done = Command::new("psql").args(["-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-f"]).arg(&file).output();
            let done = done.expect("Postgres' client is installed beside it");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
    }
}

/// Milliseconds of the median and of the slowest of a hundred answers.
async fn asked(fleet: &Fleet, path: &str) -> (f64, f64) {
    let mut took = Vec::with_capacity(ASKED);
    for _ in 0..ASKED {
        let begun = Instant::now();
        fleet.api.get(path).await;
        took.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    took.sort_by(f64::total_cmp);
    (took[ASKED / 2], took[ASKED * 99 / 100])
}

async fn started(fleet: &Fleet, devices: usize) -> String {
    let plan = json!({ "waves": "1%,10%,100%", "soak_s": 3_600, "deadline_s": 86_400 });
    let request = json!({ "subject": "digits@2", "selector": "bench=yes", "plan": plan });
    let rollout = fleet.api.post("rollouts", &request).await;
    let id = rollout["id"].as_str().unwrap().to_owned();
    let begun = Instant::now();
    loop {
        // Its first wave has been told: from then on it waits.
        let waves = fleet.api.get(&format!("rollouts/{id}")).await["waves"].clone();
        let sum = |what: &str| waves.as_array().unwrap().iter().map(|wave| wave[what].as_u64().unwrap()).sum::<u64>();
        if sum("devices") >= devices as u64 && waves[0]["waiting"] == 0 {
            return id;
        }
        assert!(begun.elapsed() < PATIENCE, "the first wave is not told: {waves}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A fleet that was measured, and what to look at in it.
struct Measured {
    fleet: Fleet,
    rollout: String,
    /// The device that all others are copies of, with [`READINGS`] of each metric.
    template: String,
}

/// Measures the lists of a fleet of `devices` on one store.
async fn measure(figures: &mut Figures, store: &str, postgres: Option<&str>, devices: usize) -> Measured {
    let options = FleetOptions { postgres: postgres.map(str::to_owned), ..FleetOptions::default() };
    let mut fleet = Fleet::with(options).await;
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("models/digits/digits.onnx");
    fleet.push("digits", &models).await;
    let second = fleet.folder().join("digits-2.onnx");
    // ONNX: field 6 of the model, its documentation; another file of the same model.
    std::fs::write(&second, [std::fs::read(&models).unwrap(), vec![0x32, 1, b'2']].concat()).unwrap();
    fleet.push("digits", &second).await;
    let (template, metrics) = {
        let mut agent = fleet.agent("template", &json!({})).await;
        let id = fleet.device("template", "online").await["id"].as_str().unwrap().to_owned();
        let metrics = eventually("the first readings are there", async || {
            let overview = fleet.api.get(&format!("devices/{id}/telemetry/metrics")).await;
            overview["metrics"].as_array().map(Vec::len).filter(|count| *count > 0)
        });
        let metrics = metrics.await;
        agent.process().kill();
        (id, metrics)
    };
    fleet.control_plane().terminate(Duration::from_secs(30));
    progress(&format!("{store}: {devices} devices"));
    execute(&fleet, postgres, &copies(&template, devices));
    let blob = |hex: &str| if postgres.is_some() { format!("decode('{hex}','hex')") } else { format!("x'{hex}'") };
    execute(&fleet, postgres, &readings(&template, metrics, blob));
    // As after days: the store has looked at what came at once.
    execute(&fleet, postgres, if postgres.is_some() { "VACUUM ANALYZE;\n" } else { "ANALYZE;\n" });
    fleet.start_control_plane().await;
    let rollout = started(&fleet, devices).await;
    let overview = fleet.api.get(&format!("devices/{template}/telemetry/metrics")).await;
    let last = overview["last_at"].as_i64().unwrap();
    let hour = format!("from={}&to={last}&points=600", last - HOUR_US as i64);
    let next = |page: &Value| page["next_cursor"].as_str().unwrap().to_owned();
    let second = next(&fleet.api.get("devices?limit=100&sort=name").await);
    let lists = [
        ("overview", "overview".to_owned()),
        ("devices_by_name", "devices?limit=100&sort=name".to_owned()),
        ("devices_next_page", format!("devices?limit=100&sort=name&cursor={second}")),
        ("devices_by_last_seen", "devices?limit=100&sort=last_seen".to_owned()),
        ("devices_offline", "devices?limit=100&state=offline&sort=last_seen".to_owned()),
        ("devices_of_a_site", "devices?limit=100&selector=site%3Dsite-7%2Cbench".to_owned()),
        ("devices_by_text", "devices?limit=100&q=edge-0999".to_owned()),
        ("devices_by_text_at_the_end", "devices?limit=100&q=edge-09".to_owned()),
        ("devices_by_text_nowhere", "devices?limit=100&q=nowhere".to_owned()),
        ("devices_by_text_last_seen", "devices?limit=100&q=site-7&sort=last_seen".to_owned()),
        ("device", format!("devices/{template}")),
        ("device_readings", format!("devices/{template}/telemetry?{hour}")),
        ("rollouts", "rollouts?limit=50".to_owned()),
        ("rollout", format!("rollouts/{rollout}")),
        ("rollout_devices", format!("rollouts/{rollout}/devices?limit=100")),
        ("rollout_devices_changing", format!("rollouts/{rollout}/devices?limit=100&outcome=changing")),
        ("rollout_cells", format!("rollouts/{rollout}/cells?ids=false")),
        ("deployments", "deployments?limit=50".to_owned()),
        ("models", "models?limit=50".to_owned()),
        ("activity", "activity?limit=100".to_owned()),
    ];
    for (name, path) in &lists {
        let (median, slowest) = asked(&fleet, path).await;
        progress(&format!("  {name}: {median:.1} ms, 99 of 100 within {slowest:.1} ms"));
        // Not lists: pictures of everything that there is.
        let limit = (!["rollout_cells", "device_readings"].contains(name)).then_some(LIMIT_MS);
        figures.figure(&format!("{store}_{name}_median"), median, "ms", None);
        figures.figure(&format!("{store}_{name}_p99"), slowest, "ms", limit);
    }
    Measured { fleet, rollout, template }
}

/// Has a browser look at the fleet, and takes over the figures that it prints.
fn look(figures: &mut Figures, Measured { fleet, rollout, template }: &Measured) {
    let key = std::fs::read_to_string(fleet.control_plane_dir().join("owner.key")).unwrap();
    let mut node = Command::new("node");
    node.arg("bench/large.mjs").current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fleet-ui"));
    node.env("AIDOS_URL", fleet.api.url()).env("AIDOS_API_KEY", key.trim()).env("AIDOS_BENCH_ROLLOUT", rollout);
    node.env("AIDOS_BENCH_DEVICE", template);
    let looked = node.output().expect("Node is installed, as for the dashboard");
    assert!(looked.status.success(), "{}", String::from_utf8_lossy(&looked.stderr));
    for line in String::from_utf8_lossy(&looked.stdout).lines() {
        let [name, value, unit, limit] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("not a figure: {line}") };
        figures.figure(name, value.parse().unwrap(), unit, limit.parse().ok());
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let devices = std::env::var("AIDOS_BENCH_DEVICES").map_or(DEVICES, |text| text.parse().expect("a number of devices"));
    let mut figures = Figures::default();
    let only = std::env::var("AIDOS_BENCH_STORE").ok();
    let wanted = |store: &str| only.as_deref().is_none_or(|only| only == store);
    let sqlite = if wanted("sqlite") { Some(measure(&mut figures, "sqlite", None, devices).await) } else { None };
    if wanted("postgres") {
        let postgres = Postgres::start().await;
        drop(measure(&mut figures, "postgres", Some(&postgres.url()), devices).await);
    }
    if let Some(measured) = sqlite {
        look(&mut figures, &measured);
    }
    figures.verdict()
}
