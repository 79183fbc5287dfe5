//! Numbers as people read them.

use model::Timestamp;

/// A value of a metric, with the unit that its name ends in.
pub(crate) fn value(metric: &str, value: f64) -> String {
    if metric.ends_with("_bytes") {
        return bytes(value);
    }
    if metric.ends_with("_seconds") {
        return seconds(value);
    }
    plain(value)
}

/// Three figures.
pub(crate) fn plain(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => "unknown".to_owned(),
        _ if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        _ if size >= 10.0 => format!("{value:.1}"),
        _ if size >= 1.0 => format!("{value:.2}"),
        _ if size >= 0.001 => format!("{value:.4}"),
        _ => format!("{value:.2e}"),
    }
}

pub(crate) fn bytes(value: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = value;
    for unit in UNITS {
        if value.abs() < 1024.0 || unit == "TiB" {
            return format!("{} {unit}", plain(value));
        }
        value /= 1024.0;
    }
    plain(value)
}

/// A span of time in its largest fitting unit.
pub(crate) fn seconds(value: f64) -> String {
    let (divisor, unit) = match value.abs() {
        size if size < 0.001 => (1e-6, "µs"),
        size if size < 1.0 => (0.001, "ms"),
        size if size < 120.0 => (1.0, "s"),
        size if size < 7_200.0 => (60.0, "min"),
        size if size < 172_800.0 => (3_600.0, "h"),
        _ => (86_400.0, "days"),
    };
    format!("{} {unit}", plain(value / divisor))
}

/// A share as a percentage.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent.abs() < 10.0 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// A time, to the second.
pub(crate) fn time(millis: i64) -> String {
    let text = Timestamp(millis - millis.rem_euclid(1000)).to_string();
    text.replace(".000Z", "Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_units() {
        assert_eq!(value("a_bytes", 1536.0 * 1024.0 * 1024.0), "1.50 GiB");
        assert_eq!(value("a_seconds", 0.0123), "12.3 ms");
        assert_eq!(value("a", 12_345.6), "12346");
        assert_eq!(seconds(90_000.0), "25.0 h");
        assert_eq!(percent(0.0734), "7.3 %");
        assert_eq!(time(1_700_000_000_123), "2023-11-14T22:13:20Z");
    }
}
