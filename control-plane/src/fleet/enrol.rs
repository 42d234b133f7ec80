//! Enrolment: a join token and a certificate signing request become a device.
//!
//! The use of the token, the device, its twin, its key and the record of it are one transaction: there is no device without
//! a certificate's key, and no spent token without a device. The names in the request are ignored; what the device is
//! called in its certificate, the plane decides.
//!
//! ```text
//! token ─► spent ─► device row ─► twin (labels: the token's win) ─► certificate ─► key ─► activity ─► commit ─► event
//! ```

use super::devices::Devices;
use super::ports::{TrustSource, TwinFault, TwinSource};
use super::store::{self, DeviceKey, DeviceRow};
use super::tokens::{TokenError, Tokens};
use crate::platform::db::StoreError;
use crate::platform::pki::{Pki, PkiError};
use crate::tenants::Caller;
use aidos_protocol::DeviceId;
use aidos_protocol::enrol::{EndpointsView, EnrolRequest, EnrolResponse};
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;

/// A name is for people, in lists and logs.
const MAX_NAME: usize = 128;

/// Why a machine did not become a device.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    /// The token does not let it in.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The name cannot be shown.
    #[error("name: use 1 to {MAX_NAME} characters without control characters")]
    Name,
    /// A label is not one, or there are too many.
    #[error(transparent)]
    Twin(#[from] TwinFault),
    /// The signing request is refused, or the CA could not sign.
    #[error(transparent)]
    Certificate(#[from] PkiError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The handle to enrolment.
#[derive(Clone)]
pub(crate) struct Enrolment {
    devices: Devices,
    tokens: Tokens,
    twins: Arc<dyn TwinSource>,
    pki: Pki,
    trust: Arc<dyn TrustSource>,
    endpoints: EndpointsView,
}

impl Enrolment {
    /// Enrols into `devices` and `twins` with `tokens` and `pki`; tells devices `endpoints` and what `trust` says.
    pub(crate) fn new(
        devices: Devices,
        tokens: Tokens,
        twins: Arc<dyn TwinSource>,
        pki: Pki,
        trust: Arc<dyn TrustSource>,
        endpoints: EndpointsView,
    ) -> Self {
        Self { devices, tokens, twins, pki, trust, endpoints }
    }

    /// The CA certificate that devices trust, PEM.
    pub(crate) fn ca_pem(&self) -> String {
        self.pki.ca_pem()
    }

    /// Makes a device of whoever sent `request`.
    pub(crate) async fn enrol(&self, request: EnrolRequest, from: Option<IpAddr>) -> Result<EnrolResponse, EnrolError> {
        let name = request.name.trim();
        if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(EnrolError::Name);
        }
        let Devices { db, clock, activity, events, .. } = &self.devices;
        let mut tx = db.begin().await?;
        let token = self.tokens.consume(&mut tx, &request.token).await?;
        let now = clock.now();
        let (tenant, device) = (token.tenant, DeviceId::new(now.as_millis()));
        let mut labels = request.labels;
        labels.extend(token.labels);
        let issued = self.pki.issue_device(tenant, device, &request.csr_pem)?;
        let row = DeviceRow {
            tenant,
            id: device,
            name: name.to_owned(),
            revoked: None,
            token: Some(token.id),
            created: now,
            revision: 1,
            online: false,
            transport: None,
            address: None,
            agent_version: None,
            last_seen: None,
            certificate_end: issued.not_after,
        };
        store::insert_device(&mut tx, &row).await?;
        self.twins.create(&mut tx, tenant, device, &labels).await?;
        let key = DeviceKey { key_id: issued.spki_sha256, spki: issued.spki_der, serial: issued.serial, created: now };
        store::put_key(&mut tx, tenant, device, &key, issued.not_after).await?;
        let caller = Caller { from, ..Caller::device(tenant, device) };
        let detail = json!({ "name": row.name, "token": token.id, "labels": labels, "key": key.key_id });
        activity.record(&mut tx, &caller, "device.enrol", &device.to_string(), detail).await?;
        tx.commit().await?;
        // Who waits for the device knows it by the token that they gave out.
        let told = json!({ "name": row.name, "token": row.token, "labels": labels });
        events.publish(tenant, "device.enrolled", &device.to_string(), told);
        Ok(EnrolResponse {
            device_id: device,
            tenant_id: tenant,
            chain_pem: issued.chain_pem,
            ca_pem: self.ca_pem(),
            endpoints: EndpointsView { trust: self.trust.repository(tenant), ..self.endpoints.clone() },
            trust: self.trust.anchor(tenant).await,
        })
    }
}
