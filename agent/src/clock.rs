//! What time it is on this device. The one place that asks; everything that decides takes the time as an argument.

use aidos_protocol::time::Micros;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, as the device's clock has it, which may be wrong. Times before 1970 read as 0.
pub fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
