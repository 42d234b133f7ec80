//! Constraints: what a device must have to be part of a rollout. Compared with what the device itself reports of its machine;
//! a device that has reported nothing fits no constraint.

use crate::inventory::Inventory;
use serde::{Deserialize, Serialize};

/// What a device must have. Absent: anything will do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Constraints {
    /// Its processor's architecture: `x86_64`, `aarch64`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// The least memory, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_memory_bytes: Option<u64>,
    /// A part of an accelerator's name, in any case; `any` for whichever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// An inference engine that the agent must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// The least free space where the agent keeps its files, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_free_disk_bytes: Option<u64>,
    /// The lowest version of the agent: `1.4.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_agent_version: Option<String>,
}

impl Constraints {
    /// Whether anything will do.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a device with this machine, and so many free bytes where that is known, will do; if not, why.
    pub fn fits(&self, inventory: Option<&Inventory>, free_disk_bytes: Option<u64>) -> Result<(), String> {
        if self.is_none() {
            return Ok(());
        }
        let Some(is) = inventory else { return Err("it has not reported its inventory".into()) };
        if let Some(arch) = self.arch.as_ref().filter(|arch| **arch != is.arch) {
            return Err(format!("its architecture is {}, not {arch}", is.arch));
        }
        if let Some(min) = self.min_memory_bytes.filter(|min| is.memory_bytes < *min) {
            return Err(format!("it has {} bytes of memory, {min} are needed", is.memory_bytes));
        }
        if let Some(wanted) = &self.accelerator {
            let wanted = wanted.to_lowercase();
            if !is.gpus.iter().any(|gpu| wanted == "any" || gpu.name.to_lowercase().contains(&wanted)) {
                return Err(format!("it has no accelerator `{wanted}`"));
            }
        }
        if let Some(engine) = self.engine.as_ref().filter(|engine| !is.engines.contains(engine)) {
            return Err(format!("its agent has no engine `{engine}`"));
        }
        if let Some(min) = self.min_free_disk_bytes {
            match free_disk_bytes {
                None => return Err("it has not reported its free disk space".into()),
                Some(free) if free < min => return Err(format!("it has {free} bytes of free disk space, {min} are needed")),
                Some(_) => {}
            }
        }
        match &self.min_agent_version {
            Some(min) if version(&is.agent_version) < version(min) => {
                Err(format!("its agent has version {}, {min} is needed", is.agent_version))
            }
            _ => Ok(()),
        }
    }
}

/// `1.4.0-rc1` as numbers: what follows the third is of no account, what is no number is 0.
fn version(text: &str) -> [u64; 3] {
    let mut parts = text.trim_start_matches('v').split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Gpu;

    fn device() -> Inventory {
        Inventory {
            arch: "aarch64".into(),
            memory_bytes: 4 << 30,
            gpus: vec![Gpu { name: "NVIDIA Orin".into(), ..Gpu::default() }],
            engines: vec!["tract".into()],
            agent_version: "1.10.2".into(),
            ..Inventory::default()
        }
    }

    #[test]
    fn each_constraint_is_compared_with_what_the_device_reports() {
        let fits = |constraints: &Constraints| constraints.fits(Some(&device()), Some(1_000));
        let good = Constraints {
            arch: Some("aarch64".into()),
            min_memory_bytes: Some(4 << 30),
            accelerator: Some("orin".into()),
            engine: Some("tract".into()),
            min_free_disk_bytes: Some(1_000),
            min_agent_version: Some("1.9".into()),
        };
        assert_eq!(fits(&good), Ok(()));
        for bad in [
            Constraints { arch: Some("x86_64".into()), ..Constraints::default() },
            Constraints { min_memory_bytes: Some(5 << 30), ..Constraints::default() },
            Constraints { accelerator: Some("h100".into()), ..Constraints::default() },
            Constraints { engine: Some("ort".into()), ..Constraints::default() },
            Constraints { min_free_disk_bytes: Some(1_001), ..Constraints::default() },
            Constraints { min_agent_version: Some("1.11.0".into()), ..Constraints::default() },
        ] {
            assert!(fits(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_device_that_has_reported_nothing_fits_only_the_empty_constraint() {
        assert_eq!(Constraints::default().fits(None, None), Ok(()));
        assert!(Constraints { arch: Some("aarch64".into()), ..Constraints::default() }.fits(None, None).is_err());
    }
}
