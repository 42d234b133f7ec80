//! Twins as sessions and enrolment see them.

use super::ports::{IntentPosition, TwinFault, TwinPosition, TwinSource};
use super::store::DeviceKey;
use super::twins::{TwinError, Twins};
use crate::platform::db::Tx;
use aidos_protocol::frame::{Body, SiteAck, SiteChanges, StatusAck, StatusDelta};
use aidos_protocol::{DeviceId, TenantId};
use async_trait::async_trait;
use std::collections::BTreeMap;

impl From<TwinError> for TwinFault {
    fn from(error: TwinError) -> Self {
        match error {
            TwinError::Store(error) => Self::Store(error),
            other => Self::Refused(other.to_string()),
        }
    }
}

#[async_trait]
impl TwinSource for Twins {
    async fn create(
        &self,
        tx: &mut Tx,
        tenant: TenantId,
        device: DeviceId,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), TwinFault> {
        Ok(Twins::create(self, tx, tenant, device, labels).await?)
    }

    async fn position(&self, tenant: TenantId, device: DeviceId) -> Result<TwinPosition, TwinFault> {
        let (epoch, heads) = Twins::position(self, tenant, device).await?;
        let (status_boot_id, status_seq) = self.status_position(tenant, device).await?;
        Ok(TwinPosition { intent: IntentPosition { epoch, heads }, status_boot_id, status_seq })
    }

    async fn pull(&self, tenant: TenantId, device: DeviceId, at: &IntentPosition) -> Result<Option<Body>, TwinFault> {
        Ok(Twins::pull(self, tenant, device, at.epoch, &at.heads).await?)
    }

    async fn ack(&self, tenant: TenantId, device: DeviceId, at: &IntentPosition, pending: u32) -> Result<(), TwinFault> {
        Ok(Twins::ack(self, tenant, device, (at.epoch, &at.heads), pending).await?)
    }

    async fn apply_status(&self, tenant: TenantId, device: DeviceId, delta: StatusDelta) -> Result<StatusAck, TwinFault> {
        let answer = Twins::apply_status(self, tenant, device, &delta).await?;
        answer.map_err(|error| TwinFault::Refused(error.to_string()))
    }

    async fn merge_site(
        &self,
        tenant: TenantId,
        device: DeviceId,
        changes: SiteChanges,
        keys: &[DeviceKey],
    ) -> Result<SiteAck, TwinFault> {
        Ok(Twins::merge_site(self, tenant, device, &changes, keys).await?)
    }
}
