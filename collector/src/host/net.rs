//! `/proc/net/dev`: bytes, packets, errors and drops by interface and direction.

use super::{Reading, reading};
use platform::PlatformError;
use platform::host;

pub(super) fn read() -> Result<Vec<Reading>, PlatformError> {
    let mut readings = Vec::new();
    for interface in host::interfaces()? {
        let figures = [
            ("bytes", interface.bytes),
            ("packets", interface.packets),
            ("errs", interface.errors),
            ("drop", interface.drops),
        ];
        for (what, both) in figures {
            for (direction, value) in ["receive", "transmit"].into_iter().zip(both) {
                let name = format!("node_network_{direction}_{what}_total");
                readings.push(reading(&name, [("device", &interface.device)], value as f64));
            }
        }
    }
    Ok(readings)
}
