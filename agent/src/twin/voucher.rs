//! Who vouches for what this device runs: reports of its health, signed with the device's key.

use super::Signer;
use crate::clock;
use aidos_protocol::artifact::Digest;
use aidos_protocol::twin::{Health, HealthReport, Measures, SignedHealth};
use aidos_protocol::{DeploymentId, DeviceId, Subject, TenantId};

/// Who vouches.
#[derive(Clone)]
pub struct Voucher {
    /// Whose device.
    pub tenant: TenantId,
    /// Which device.
    pub device: DeviceId,
    /// The agent's start.
    pub boot_id: u64,
    /// Signs with the device's key.
    pub sign: Signer,
}

impl Voucher {
    /// A report, of now, with nothing measured.
    pub fn report(
        &self,
        subject: Subject,
        (version, digest): (u64, Digest),
        deployment: Option<DeploymentId>,
        health: Health,
    ) -> HealthReport {
        HealthReport {
            tenant: self.tenant,
            device: self.device,
            subject,
            version,
            digest,
            deployment,
            boot_id: self.boot_id,
            health,
            reason: String::new(),
            self_test: None,
            candidate: Measures::default(),
            baseline: None,
            at_us: clock::now(),
        }
    }

    /// Signs a report. `None`, with the reason in the log, when the key cannot be used.
    pub fn sign(&self, report: &HealthReport) -> Option<SignedHealth> {
        let signed = SignedHealth::new(report, |message| (self.sign)(message).map(|(_, signature)| signature));
        signed.inspect_err(|error| tracing::error!(subject = %report.subject, %error, "a health report could not be signed")).ok()
    }
}
