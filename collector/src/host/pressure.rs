//! `/proc/pressure/*`: how long tasks stalled for want of processor, memory or disk.

use super::{Reading, reading};
use platform::PlatformError;
use platform::host;

pub(super) fn read() -> Result<Vec<Reading>, PlatformError> {
    let mut readings = Vec::new();
    for pressure in host::pressure()? {
        let name = |what: &str| format!("node_pressure_{}_{what}_seconds_total", pressure.resource);
        readings.push(reading(&name("waiting"), [], pressure.waiting_seconds));
        readings.push(reading(&name("stalled"), [], pressure.stalled_seconds));
    }
    Ok(readings)
}
