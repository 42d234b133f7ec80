//! NVIDIA GPUs, through a library that is found at run time. Its absence is normal and never an error.

use aidos_protocol::inventory::Gpu;
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;

/// Accelerators that are reported: a server has 16 at most, and the metrics of a sample are bounded.
const MAX_GPUS: u32 = 16;

/// The GPUs of this device, or none.
#[derive(Debug)]
pub struct Gpus(Option<Nvml>);

impl Gpus {
    /// Looks for the driver's library.
    pub fn find() -> Self {
        match Nvml::init() {
            Ok(nvml) => Self(Some(nvml)),
            Err(error) => {
                tracing::debug!(%error, "no NVIDIA GPU is used");
                Self(None)
            }
        }
    }

    /// What there is.
    pub fn inventory(&self) -> Vec<Gpu> {
        let driver = self.0.as_ref().and_then(|nvml| nvml.sys_driver_version().ok()).unwrap_or_default();
        self.devices()
            .map(|(_, device)| Gpu {
                name: device.name().unwrap_or_default(),
                memory_bytes: device.memory_info().map(|memory| memory.total).unwrap_or_default(),
                driver: driver.clone(),
            })
            .collect()
    }

    /// Adds `gpu.<n>.percent`, `gpu.<n>.memory_used_bytes` and `gpu.<n>.temperature_c`.
    pub fn sample(&self, into: &mut Vec<(String, f64)>) {
        for (index, device) in self.devices() {
            let percent = device.utilization_rates().map_or(f64::NAN, |rates| f64::from(rates.gpu));
            let memory = device.memory_info().map_or(f64::NAN, |memory| memory.used as f64);
            let temperature = device.temperature(TemperatureSensor::Gpu).map_or(f64::NAN, f64::from);
            into.push((format!("gpu.{index}.percent"), percent));
            into.push((format!("gpu.{index}.memory_used_bytes"), memory));
            into.push((format!("gpu.{index}.temperature_c"), temperature));
        }
    }

    fn devices(&self) -> impl Iterator<Item = (u32, nvml_wrapper::Device<'_>)> {
        let count = self.0.as_ref().and_then(|nvml| nvml.device_count().ok()).unwrap_or(0).min(MAX_GPUS);
        (0..count).filter_map(|index| Some((index, self.0.as_ref()?.device_by_index(index).ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_gpu_reports_none_and_no_error() {
        let gpus = Gpus(None);
        let mut sample = Vec::new();
        gpus.sample(&mut sample);
        assert!(gpus.inventory().is_empty() && sample.is_empty());
    }

    #[test]
    fn looking_for_gpus_never_fails() {
        let gpus = Gpus::find();
        let mut sample = Vec::new();
        gpus.sample(&mut sample);
        assert_eq!(sample.len(), gpus.inventory().len() * 3);
    }
}
