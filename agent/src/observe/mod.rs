//! What this device is and how it fares: inventory, telemetry and the last lines of its log.
//!
//! Nothing here changes anything on the device, and nothing here fails because a reading is missing.

mod gpu;
mod inventory;
mod logging;
mod logs;
pub mod telemetry;

pub use gpu::Gpus;
pub use inventory::{collect, hostname, memory_bytes};
pub use logging::{Logging, SetLevel};
pub use logs::{Behind, LogLine, Logs};
pub use telemetry::resident_bytes;
