//! Writes exposition text; what it writes, [`super::parse`] reads back to the same samples.

use super::Dialect;
use crate::label::{is_plain_label_name, is_plain_metric_name};
use crate::{MetricKind, Timestamp};
use std::fmt::Write;

/// Appends `# HELP` and `# TYPE` lines for a metric family.
pub fn family(out: &mut String, name: &str, help: &str, kind: MetricKind) {
    out.push_str("# HELP ");
    name_token(out, name, is_plain_metric_name(name));
    out.push(' ');
    escape(out, help, false);
    out.push_str("\n# TYPE ");
    name_token(out, name, is_plain_metric_name(name));
    out.push(' ');
    out.push_str(if kind == MetricKind::Unknown { "untyped" } else { kind.as_str() });
    out.push('\n');
}

/// Appends one sample line.
pub fn sample<'a>(
    out: &mut String,
    dialect: Dialect,
    metric: &str,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    value: f64,
    time: Option<Timestamp>,
) {
    series(out, metric, labels);
    out.push(' ');
    number(out, value);
    if let Some(Timestamp(millis)) = time {
        // Writing to a String cannot fail.
        let _ = match dialect {
            Dialect::Prometheus => write!(out, " {millis}"),
            Dialect::OpenMetrics => {
                let sign = if millis < 0 { "-" } else { "" };
                let (seconds, rest) = (millis.unsigned_abs() / 1000, millis.unsigned_abs() % 1000);
                write!(out, " {sign}{seconds}.{rest:03}")
            }
        };
    }
    out.push('\n');
}

/// Appends `metric{label="value",…}`; a name outside the classic character set is quoted.
pub fn series<'a>(
    out: &mut String,
    metric: &str,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
) {
    let plain = is_plain_metric_name(metric);
    let mut open = false;
    if plain {
        out.push_str(metric);
    } else {
        out.push('{');
        name_token(out, metric, false);
        open = true;
    }
    for (name, value) in labels {
        out.push(if open { ',' } else { '{' });
        open = true;
        name_token(out, name, is_plain_label_name(name));
        out.push_str("=\"");
        escape(out, value, true);
        out.push('"');
    }
    if open {
        out.push('}');
    }
}

/// Appends a value in the shortest form that reads back to the same number.
pub fn number(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else if value != 0.0 && !(1e-5..1e17).contains(&value.abs()) {
        let _ = write!(out, "{value:e}");
    } else {
        let _ = write!(out, "{value}");
    }
}

fn name_token(out: &mut String, name: &str, plain: bool) {
    if plain {
        out.push_str(name);
    } else {
        out.push('"');
        escape(out, name, true);
        out.push('"');
    }
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}
