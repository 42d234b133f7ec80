//! How many devices there are, by what matters at a glance. It reads `devices` only, and changes nothing.

use super::devices::Devices;
use super::summary_store as store;
use crate::platform::db::StoreError;
use aidos_protocol::TenantId;
use aidos_protocol::api::overview::{AgentVersionCount, DeviceCounts, EXPIRING_S};
use std::collections::BTreeMap;

/// A tenant's devices, counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) devices: DeviceCounts,
    pub(crate) never_seen: u64,
    pub(crate) certificates_expiring: u64,
    /// Most first.
    pub(crate) agent_versions: Vec<AgentVersionCount>,
}

impl Devices {
    /// Counts a tenant's devices.
    pub(crate) async fn summary(&self, tenant: TenantId) -> Result<Summary, StoreError> {
        let soon = self.clock.now().plus_seconds(EXPIRING_S);
        let mut summary = Summary::default();
        let mut versions: BTreeMap<String, u64> = BTreeMap::new();
        for group in store::groups(self.db.pool(), tenant, soon).await? {
            if !group.active {
                summary.devices.revoked += group.devices;
                continue;
            }
            summary.devices.online += group.online;
            summary.devices.offline += group.devices.saturating_sub(group.online);
            summary.certificates_expiring += group.expiring;
            match group.agent_version {
                Some(version) => *versions.entry(version).or_default() += group.devices,
                None => summary.never_seen += group.devices,
            }
        }
        let counted = versions.into_iter().map(|(version, devices)| AgentVersionCount { version, devices });
        summary.agent_versions = counted.collect();
        summary.agent_versions.sort_by_key(|count| std::cmp::Reverse(count.devices));
        Ok(summary)
    }
}
