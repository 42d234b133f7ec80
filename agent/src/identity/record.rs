//! `identity.json`: everything about an identity but the key, in one file, so that it changes in one rename.

use super::{IdentityError, files};
use aidos_protocol::enrol::{EndpointsView, TrustAnchor};
use aidos_protocol::{DeviceId, TenantId};
use serde::{Deserialize, Serialize};
use std::path::Path;

const FILE: &str = "identity.json";
/// Two certificates and some addresses take about 3 KB, a chain through an intermediate CA a little more, and the largest root
/// of trust as a JSON string within 1 MiB.
const MAX_BYTES: u64 = 2 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) device_id: DeviceId,
    pub(super) tenant_id: TenantId,
    /// Name of the key's file in the same folder.
    pub(super) key_file: String,
    pub(super) chain_pem: String,
    pub(super) ca_pem: String,
    pub(super) endpoints: EndpointsView,
    /// The root by which this device began to believe updates. Never taken away, so that a lost ledger does not make it trust
    /// anybody's word again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trust: Option<TrustAnchor>,
}

impl Record {
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = dir.join(FILE);
        let Some(text) = files::read(&path, MAX_BYTES)? else { return Ok(None) };
        let record: Self = serde_json::from_str(&text).map_err(|e| IdentityError::damaged(&path, e))?;
        if record.key_file.contains(['/', '\\']) {
            return Err(IdentityError::damaged(&path, "the key file is not in the same folder"));
        }
        Ok(Some(record))
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), IdentityError> {
        let json = serde_json::to_vec_pretty(self).expect("a struct of strings serialises");
        files::replace(dir, FILE, &json)
    }
}
