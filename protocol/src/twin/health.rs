//! The health report: what a device measured of the version that it runs, signed by the device. It is the only thing that
//! counts as success of an update; "downloaded" or "installed" never does.
//!
//! It lies in the status at `health/<subject>` and changes at turning points of an update (activated, judged, committed, gone
//! back) and at most once per [`REPORT_EVERY_S`] in between, since status is no place for telemetry.

use crate::artifact::Digest;
use crate::rollout::Metric;
use crate::time::Micros;
use crate::{DeploymentId, DeviceId, Subject, TenantId};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The least seconds between two reports of a version whose verdict has not changed.
pub const REPORT_EVERY_S: u32 = 30;
/// Bytes of a report as JSON: all measures and [`MAX_CUSTOM`] custom ones.
pub const MAX_REPORT_BYTES: usize = 16 * 1024;
/// Custom measurements of one version.
pub const MAX_CUSTOM: usize = 32;
/// Says what the signature is for: no other message that a device signs begins like this.
const CONTEXT: &[u8] = b"aidos health report v1\0";

/// What the device thinks of the version it was told to run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It answers and is being watched.
    #[default]
    Watching,
    /// It answered, was watched as long as asked, and is committed.
    Healthy,
    /// It was given up: the version before answers again, or nothing could be activated.
    Unhealthy,
}

/// One version's measurements since it began to answer (or, of the version before, over as much time before that).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Measures {
    /// Requests, failed ones included.
    #[serde(default)]
    pub requests: u64,
    /// Those that failed by the model's fault; a wrong request is not.
    #[serde(default)]
    pub errors: u64,
    /// Latency percentiles in microseconds, of answered requests; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// 95th.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_us: Option<u64>,
    /// 99th.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
    /// Population stability index of the outputs against the version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<f64>,
    /// Resident memory of the agent, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The application's own, by name; at most [`MAX_CUSTOM`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub custom: BTreeMap<String, f64>,
}

impl Measures {
    /// The measurement that a gate speaks of, in the metric's unit. The self-test is not among them.
    pub fn get(&self, metric: &Metric) -> Option<f64> {
        let number = |value: Option<u64>| value.map(|value| value as f64);
        match metric {
            Metric::ErrorRate => (self.requests > 0).then(|| self.errors as f64 / self.requests as f64),
            Metric::P50 => number(self.p50_us),
            Metric::P95 => number(self.p95_us),
            Metric::P99 => number(self.p99_us),
            Metric::Drift => self.drift,
            Metric::Memory => number(self.memory_bytes),
            Metric::Custom(name) => self.custom.get(name).copied(),
            Metric::SelfTest => None,
        }
    }
}

/// What came of the golden inputs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SelfTestReport {
    /// Whether every case was within tolerance and latency bound.
    #[serde(default)]
    pub passed: bool,
    /// How many cases ran.
    #[serde(default)]
    pub cases: u32,
    /// The largest difference of any output element.
    #[serde(default)]
    pub largest_error: f64,
    /// The slowest case, microseconds.
    #[serde(default)]
    pub slowest_us: u64,
    /// The first case that failed and how; empty when none did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub failure: String,
}

/// What a device says of one version of a model, of the agent, or of its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HealthReport {
    /// Whose.
    pub tenant: TenantId,
    /// Whose.
    pub device: DeviceId,
    /// What of the device it speaks of.
    pub subject: Subject,
    /// The version that was told; of a release of the agent, its counter.
    pub version: u64,
    /// The file that answers (or, when unhealthy, that was given up); of settings, what they say.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// What asked for it; absent when a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// The agent's start in which it was written.
    #[serde(default)]
    pub boot_id: u64,
    /// The device's verdict.
    #[serde(default)]
    pub health: Health,
    /// Why it is unhealthy; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Absent when the model brings no golden cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_test: Option<SelfTestReport>,
    /// Of this version.
    #[serde(default)]
    pub candidate: Measures,
    /// Of the version before; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Measures>,
    /// The device's clock.
    #[serde(default)]
    pub at_us: Micros,
}

impl HealthReport {
    /// The bytes that the device signs.
    pub fn message(json: &str) -> Vec<u8> {
        [CONTEXT, json.as_bytes()].concat()
    }

    /// Candidate and baseline of a gate's metric.
    pub fn measurement(&self, metric: &Metric) -> (Option<f64>, Option<f64>) {
        if *metric == Metric::SelfTest {
            return (self.self_test.as_ref().map(|test| f64::from(u8::from(test.passed))), None);
        }
        (self.candidate.get(metric), self.baseline.as_ref().and_then(|baseline| baseline.get(metric)))
    }
}

/// A report with its signature, as it stands in the status at `health/<subject>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SignedHealth {
    /// A [`HealthReport`] as JSON text: exactly the signed characters.
    pub report: String,
    /// ECDSA P-256 over SHA-256, ASN.1 DER, of [`HealthReport::message`], Base64.
    pub signature: String,
}

/// A signed report that does not count.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// Over its limit.
    #[error("the health report has {0} bytes, the limit is {MAX_REPORT_BYTES}")]
    Long(usize),
    /// Not by this device's key.
    #[error("the health report is not signed by the device's key")]
    Signature,
    /// Not JSON, or not this shape.
    #[error("the health report cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// About another device or tenant.
    #[error("the health report speaks of {0}, not of the device that sent it")]
    Foreign(DeviceId),
}

impl SignedHealth {
    /// Writes a report down and has it signed by `sign`.
    pub fn new<E>(report: &HealthReport, sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>) -> Result<Self, E> {
        let report = serde_json::to_string(report).expect("a health report has only text keys");
        let signature = BASE64_STANDARD.encode(sign(&HealthReport::message(&report))?);
        Ok(Self { report, signature })
    }

    /// Reads the report if it is by the device whose SubjectPublicKeyInfo is `spki` (DER), and about that device.
    pub fn open(&self, tenant: TenantId, device: DeviceId, spki: &[u8]) -> Result<HealthReport, HealthError> {
        if self.report.len() > MAX_REPORT_BYTES {
            return Err(HealthError::Long(self.report.len()));
        }
        let signature = BASE64_STANDARD.decode(&self.signature).map_err(|_| HealthError::Signature)?;
        if !super::sign::verify(spki, &HealthReport::message(&self.report), &signature) {
            return Err(HealthError::Signature);
        }
        let report: HealthReport = serde_json::from_str(&self.report)?;
        if (report.tenant, report.device) != (tenant, device) {
            return Err(HealthError::Foreign(report.device));
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

    /// SubjectPublicKeyInfo of an uncompressed P-256 point: the fixed head of RFC 5480, then the point.
    fn spki(point: &[u8]) -> Vec<u8> {
        let head = [
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
            0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
        ];
        [head.as_slice(), point].concat()
    }

    fn key() -> EcdsaKeyPair {
        let rng = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &rng).unwrap();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &rng).unwrap()
    }

    fn report() -> HealthReport {
        HealthReport {
            tenant: TenantId::new(1),
            device: DeviceId::new(2),
            subject: "digits".parse().unwrap(),
            version: 2,
            digest: Digest::of(b"two"),
            deployment: None,
            boot_id: 3,
            health: Health::Healthy,
            reason: String::new(),
            self_test: Some(SelfTestReport { passed: true, cases: 3, ..Default::default() }),
            candidate: Measures { requests: 100, errors: 2, p95_us: Some(900), ..Default::default() },
            baseline: Some(Measures { requests: 50, p95_us: Some(1_000), ..Default::default() }),
            at_us: Micros(5),
        }
    }

    #[test]
    fn only_the_devices_own_signature_on_its_own_report_counts() {
        let (rng, key, other) = (SystemRandom::new(), key(), key());
        let report = report();
        let sign = |message: &[u8]| key.sign(&rng, message).map(|signature| signature.as_ref().to_vec());
        let signed = SignedHealth::new(&report, sign).unwrap();
        let spki_of = |key: &EcdsaKeyPair| spki(key.public_key().as_ref());
        assert_eq!(signed.open(report.tenant, report.device, &spki_of(&key)).unwrap(), report);
        let refused = |signed: &SignedHealth, device, key: &EcdsaKeyPair| signed.open(report.tenant, device, &spki_of(key));
        assert!(matches!(refused(&signed, report.device, &other), Err(HealthError::Signature)));
        assert!(matches!(refused(&signed, DeviceId::new(9), &key), Err(HealthError::Foreign(_))));
        let mut forged = signed.clone();
        forged.report = forged.report.replace("\"errors\":2", "\"errors\":0");
        assert!(matches!(refused(&forged, report.device, &key), Err(HealthError::Signature)));
    }

    #[test]
    fn a_gates_metric_reads_candidate_and_baseline() {
        let report = report();
        assert_eq!(report.measurement(&Metric::ErrorRate), (Some(0.02), Some(0.0)));
        assert_eq!(report.measurement(&Metric::P95), (Some(900.0), Some(1_000.0)));
        assert_eq!(report.measurement(&Metric::SelfTest), (Some(1.0), None));
        assert_eq!(report.measurement(&Metric::Drift), (None, None));
    }
}
