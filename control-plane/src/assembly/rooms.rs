//! The handles of all rooms, made in the order of the floors, and the background tasks that they need.

use super::endpoints::Endpoints;
use super::ports::{FleetOfRollouts, Grants, Repositories};
use crate::fleet::{
    Commands, Devices, Enrolment, Live, Renewal, Retention, SessionPorts, SessionSettings, Sessions, Telemetry, Tokens, Twins,
    announce_twins,
};
use crate::platform::clock::Clock;
use crate::platform::db::Db;
use crate::platform::http::Events;
use crate::platform::metrics::Metrics;
use crate::platform::objects::Objects;
use crate::platform::pki::Pki;
use crate::platform::tasks::Tasks;
use crate::registry::{AgentSettings, Artifacts, Models, Releases, Trust, TrustKeys};
use crate::rollouts::{Conductor, Deployments, Offers, Reconciler};
use crate::tenants::{Activity, Idempotency, Tenants};
use aidos_protocol::enrol::EndpointsView;
use aidos_protocol::frame;
use prometheus_client::metrics::gauge::Gauge;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often old idempotency answers are removed.
const SWEEP: Duration = Duration::from_secs(3_600);
/// How often timestamps are looked through for old ones: they are valid for a week and made anew daily.
const RENEW: Duration = Duration::from_secs(3_600);
/// How old the counts in the metrics may be: a scrape comes every 15 s at most.
const COUNT: Duration = Duration::from_secs(10);

/// What all rooms stand on.
pub(super) struct Ground {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) pki: Pki,
    pub(super) objects: Objects,
    pub(super) events: Events,
    pub(super) metrics: Metrics,
    /// Folder for uploads in progress.
    pub(super) staging: PathBuf,
    /// Folder of the deployment's keys.
    pub(super) keys: PathBuf,
}

/// All rooms.
pub(super) struct Rooms {
    pub(super) ground: Ground,
    /// Where people and devices are told to reach all of it.
    pub(super) endpoints: EndpointsView,
    pub(super) tenants: Tenants,
    pub(super) activity: Activity,
    pub(super) idempotency: Idempotency,
    pub(super) live: Live,
    pub(super) devices: Devices,
    pub(super) twins: Twins,
    pub(super) commands: Commands,
    pub(super) telemetry: Telemetry,
    pub(super) tokens: Tokens,
    pub(super) enrolment: Enrolment,
    pub(super) renewal: Renewal,
    pub(super) sessions: Sessions,
    pub(super) artifacts: Artifacts,
    pub(super) models: Models,
    pub(super) releases: Releases,
    pub(super) settings: AgentSettings,
    pub(super) trust: Trust,
    pub(super) deployments: Deployments,
}

impl Rooms {
    /// Opens all rooms. `stop` ends what waits within them.
    pub(super) async fn open(ground: Ground, endpoints: &Endpoints, stop: CancellationToken) -> anyhow::Result<Self> {
        let Ground { db, clock, pki, objects, events, .. } = &ground;
        let (db, clock, events, public) = (db.clone(), clock.clone(), events.clone(), &endpoints.public);
        let activity = Activity::new(db.clone(), clock.clone(), events.clone());
        let tenants = Tenants::new(db.clone(), clock.clone(), activity.clone());
        let idempotency = Idempotency::new(db.clone(), clock.clone(), tenants.clone());

        let live = Live::default();
        let devices = Devices::new(db.clone(), clock.clone(), activity.clone(), events.clone(), live.clone());
        devices.sweep_at_start().await?;
        let twins = Twins::new(db.clone(), clock.clone(), activity.clone());
        let commands =
            Commands::new(db.clone(), clock.clone(), activity.clone(), events.clone(), devices.clone(), live.clone(), stop);
        let telemetry = Telemetry::new(db.clone(), clock.clone(), Retention::default());
        let tokens = Tokens::new(db.clone(), clock.clone(), activity.clone(), pki.ca_pin(), public);
        let source = Arc::new(twins.clone());
        let renewal = Renewal::new(devices.clone(), pki.clone(), public.clone());

        let objects = objects.clone();
        let artifacts =
            Artifacts::open(db.clone(), objects, activity.clone(), clock.clone(), &ground.staging, &public.api_url).await?;
        let models = Models::new(db.clone(), artifacts.clone(), activity.clone(), events.clone(), clock.clone());
        let releases = Releases::new(db.clone(), artifacts.clone(), activity.clone(), events.clone(), clock.clone());
        let agent_settings = AgentSettings::new(db.clone(), clock.clone(), activity.clone());
        let trust = Trust::open(
            db.clone(),
            artifacts.clone(),
            activity.clone(),
            events.clone(),
            clock.clone(),
            TrustKeys { folder: &ground.keys, ca: pki.clone() },
            &public.api_url,
        )
        .await?;
        let repositories = Arc::new(Repositories(trust.clone()));
        let enrolment =
            Enrolment::new(devices.clone(), tokens.clone(), source.clone(), pki.clone(), repositories.clone(), public.clone());
        let fleet = Arc::new(FleetOfRollouts {
            devices: devices.clone(),
            twins: twins.clone(),
            live: live.clone(),
            telemetry: telemetry.clone(),
        });
        let offers = Offers { models: models.clone(), releases: releases.clone(), settings: agent_settings.clone() };
        let deployments = Deployments::new(db, offers, fleet, activity.clone(), events, clock.clone());

        let ports = SessionPorts {
            devices: devices.clone(),
            twins: source,
            commands: Arc::new(commands.clone()),
            telemetry: Arc::new(telemetry.clone()),
            artifacts: Arc::new(Grants(artifacts.clone())),
            trust: repositories,
            renewal: renewal.clone(),
        };
        let (api_url, quic, mqtt) = (public.api_url.clone(), public.quic.clone(), public.mqtt.clone());
        let told = frame::Endpoints { api_url, quic, mqtt, ..frame::Endpoints::default() };
        let settings = SessionSettings { endpoints: told, ..SessionSettings::default() };
        let sessions = Sessions::new(live.clone(), clock, ports, settings);
        Ok(Self {
            ground,
            endpoints: endpoints.public.clone(),
            tenants,
            activity,
            idempotency,
            live,
            devices,
            twins,
            commands,
            telemetry,
            tokens,
            enrolment,
            renewal,
            sessions,
            artifacts,
            models,
            releases,
            settings: agent_settings,
            trust,
            deployments,
        })
    }

    /// Starts what runs beside requests and sessions.
    pub(super) fn spawn_tasks(&self, tasks: &Tasks) {
        let idempotency = self.idempotency.clone();
        tasks.every("idempotency", SWEEP, move || {
            let idempotency = idempotency.clone();
            async move {
                if let Err(error) = idempotency.sweep().await {
                    tracing::warn!(%error, "old idempotency keys were not removed; trying again later");
                }
            }
        });
        let trust = self.trust.clone();
        tasks.every("timestamps", RENEW, move || {
            let trust = trust.clone();
            async move {
                if let Err(error) = trust.renew_due().await {
                    tracing::warn!(%error, "timestamps of update repositories were not made anew; trying again later");
                }
            }
        });
        let uploads = self.artifacts.uploads().clone();
        tasks.spawn("uploads", move |stop| uploads.clone().run(stop));
        let artifacts = self.artifacts.clone();
        tasks.spawn("builds", move |stop| artifacts.clone().run_builds(stop));
        let telemetry = self.telemetry.clone();
        tasks.spawn("telemetry", move |stop| telemetry.clone().run_retention(stop));
        let commands = self.commands.clone();
        tasks.spawn("commands", move |_| commands.clone().run_sweep());
        let deployments = self.deployments.clone();
        tasks.spawn("deployments", move |stop| Reconciler::new(deployments.clone()).run(stop));
        let deployments = self.deployments.clone();
        tasks.spawn("rollouts", move |stop| Conductor::new(deployments.clone()).run(stop));
        let (twins, events) = (self.twins.clone(), self.ground.events.clone());
        tasks.spawn("twin events", move |stop| announce_twins(&twins, events.clone(), stop));
        let (twins, live) = (self.twins.clone(), self.live.clone());
        tasks.spawn("intents", move |stop| {
            // Subscribed before anyone polls: nothing falls between the start and the first turn.
            let follow = live.clone().follow_twins(twins.changes());
            async move {
                stop.run_until_cancelled(follow).await;
            }
        });
        let sessions = Gauge::<i64>::default();
        self.ground.metrics.register("sessions", "Devices connected to this control plane", sessions.clone());
        let live = self.live.clone();
        tasks.every("counts", COUNT, move || {
            sessions.set(i64::try_from(live.count()).unwrap_or(i64::MAX));
            async {}
        });
    }
}
