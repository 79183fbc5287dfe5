//! Against `truth.json`: a list of `{id, signal, kind, leak, onset, hit, oom, rate, drift, size, anomalies, dt, n}`, times as rows.

use super::{median, share};
use crate::detect::read::Series;
use crate::detect::run::{Alarm, Outcome};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

/// One series with what is true of it and what was said.
struct Case<'a> {
    truth: &'a Value,
    series: &'a Series,
    outcome: &'a Outcome,
}

impl Case<'_> {
    fn number(&self, key: &str) -> Option<f64> {
        self.truth.get(key).and_then(Value::as_f64)
    }

    fn is(&self, key: &str) -> bool {
        self.truth.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    fn text(&self, key: &str) -> &str {
        self.truth.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn step(&self) -> f64 {
        self.number("dt").unwrap_or(60.0)
    }

    fn days(&self) -> f64 {
        self.series.times.len() as f64 * self.step() / 86_400.0
    }

    /// The row of a time.
    fn row(&self, at: i64) -> f64 {
        let start = self.series.times.first().copied().unwrap_or(0);
        (at - start) as f64 / 1000.0 / self.step()
    }

    /// Rows from `row` to exhaustion: to where it happened, unless a restart came before; else to where the same growth would
    /// have come since the last restart.
    fn rows_left(&self, row: f64, onset: f64) -> Option<f64> {
        let rows = |key: &str| -> Vec<f64> {
            let list = self.truth.get(key).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_f64).collect()
        };
        let restarts = rows("restarts");
        let oom = rows("oom").into_iter().find(|oom| *oom > row);
        let first = oom.filter(|oom| !restarts.iter().any(|at| row < *at && at <= oom));
        let began = restarts.iter().copied().filter(|at| *at <= row).fold(onset, f64::max);
        let left = first
            .map(|oom| oom - row)
            .or_else(|| Some(self.number("hit")? - onset - (row - began)))?;
        (left > 0.0).then_some(left)
    }

    fn alarms<'a>(&'a self, detector: &'a str) -> impl Iterator<Item = &'a Alarm> {
        self.outcome.alarms.iter().filter(move |alarm| alarm.detector == detector)
    }
}

pub(super) fn score(truth: &Value, wanted: &[&str], all: &[Series], results: &[Outcome]) -> String {
    let by_id: BTreeMap<&str, &Value> = truth
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| Some((one.get("id")?.as_str()?, one)))
        .collect();
    let cases: Vec<Case<'_>> = all
        .iter()
        .zip(results)
        .filter_map(|(series, outcome)| {
            let truth = by_id.get(series.name.as_str())?;
            Some(Case { truth, series, outcome })
        })
        .collect();
    let of = |signals: &[&str]| -> Vec<&Case<'_>> {
        cases.iter().filter(|case| signals.contains(&case.text("signal"))).collect()
    };
    let mut text = String::new();
    if wanted.contains(&"leak") {
        leaks(&of(&["memory", "fd"]), &mut text);
    }
    if wanted.contains(&"cpu_drift") {
        drifts(&of(&["cpu"]), &mut text);
    }
    events(&of(&["gateway"]), wanted, &mut text);
    if wanted.contains(&"capacity") {
        dates(&of(&["disk"]), &mut text);
    }
    text
}

fn leaks(cases: &[&Case<'_>], text: &mut String) {
    if cases.is_empty() {
        return;
    }
    let (mut found, mut wrong, mut leaks, mut clean_days, mut clean_alarms) = (0, 0, 0, 0.0, 0);
    let mut delays: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let (mut errors, mut covered, mut dated) = (Vec::new(), 0, 0);
    for case in cases {
        let first = case.alarms("leak").next();
        if !case.is("leak") {
            clean_days += case.days();
            let alarms = case.alarms("leak").count();
            clean_alarms += alarms;
            wrong += usize::from(alarms > 0);
            continue;
        }
        leaks += 1;
        let Some(first) = first else { continue };
        let row = case.row(first.at);
        let onset = case.number("onset").unwrap_or(0.0);
        let oom = case.truth.get("oom").and_then(|it| it.get(0)).and_then(Value::as_f64);
        let hit = case.number("hit");
        if row < onset {
            wrong += 1;
            continue;
        }
        if oom.or(hit).is_some_and(|end| row > end) {
            continue;
        }
        found += 1;
        let rate = case.number("rate").unwrap_or(0.0);
        if case.text("signal") == "memory" {
            let delay = (row - onset) * case.step() / 3600.0;
            delays.entry(format!("{:.1} %/h", rate * 100.0)).or_default().push(delay);
        }
        let [left, low, high] = first.to_limit;
        if let Some(rows) = case.rows_left(row, onset).filter(|_| left.is_finite()) {
            let truth = rows * case.step();
            errors.push((left - truth).abs() / truth);
            dated += 1;
            covered += usize::from(low <= truth && truth <= high);
        }
    }
    let _ = writeln!(
        text,
        "\nleaks: precision {:.3}, recall before exhaustion {:.3} ({found} of {leaks}), false alarms a clean series-day {:.4} ({clean_alarms} in {clean_days:.0})",
        share(found, found + wrong),
        share(found, leaks),
        clean_alarms as f64 / clean_days
    );
    for (rate, delays) in &mut delays {
        let _ = writeln!(
            text,
            "  found at {rate}: {}, median delay {:.1} h",
            delays.len(),
            median(delays)
        );
    }
    let _ = writeln!(
        text,
        "  time to the limit at the first alarm: median error {:.3}, the 90 % interval holds {:.3} of {dated}",
        median(&mut errors),
        share(covered, dated)
    );
}

fn drifts(cases: &[&Case<'_>], text: &mut String) {
    if cases.is_empty() {
        return;
    }
    let (mut days, mut false_alarms) = (0.0, 0);
    let mut sizes: BTreeMap<&str, (usize, usize, Vec<f64>)> = BTreeMap::new();
    for case in cases {
        if !case.is("drift") {
            days += case.days();
            false_alarms += case.alarms("cpu_drift").count();
            continue;
        }
        let onset = case.number("onset").unwrap_or(0.0);
        days += onset * case.step() / 86_400.0;
        let rows: Vec<f64> = case.alarms("cpu_drift").map(|alarm| case.row(alarm.at)).collect();
        false_alarms += rows.iter().filter(|row| **row < onset).count();
        let size =
            if case.number("size").unwrap_or(0.0) <= 0.1 { "up to 10 %" } else { "over 10 %" };
        let (all, found, delays) = sizes.entry(size).or_default();
        *all += 1;
        if let Some(row) = rows.iter().find(|row| **row >= onset) {
            *found += 1;
            delays.push((row - onset) * case.step() / 3600.0);
        }
    }
    let rate = f64::from(u32::try_from(false_alarms).unwrap_or(u32::MAX)) / days;
    let _ = writeln!(
        text,
        "\nCPU drift: false alarms a series-day {rate:.4} ({false_alarms} in {days:.0})"
    );
    for (size, (all, found, delays)) in &mut sizes {
        let _ = writeln!(text, "  {size}: {found} of {all}, median delay {:.1} h", median(delays));
    }
}

/// An alarm up to so long after an event, in seconds, belongs to it.
const AFTER: f64 = 3600.0;

fn events(cases: &[&Case<'_>], wanted: &[&str], text: &mut String) {
    let all = ["latency", "errors", "throughput", "throughput_given_load"];
    for detector in all.into_iter().filter(|it| wanted.contains(it)) {
        let signal = detector.split('_').next().unwrap_or(detector);
        let own = cases.iter().filter(|case| case.text("kind").ends_with(signal));
        let (mut all, mut found, mut days, mut wrong) = (0, 0, 0.0, 0);
        for case in own {
            let events: Vec<(f64, f64)> = case
                .truth
                .get("anomalies")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|it| Some((it.get(0)?.as_f64()?, it.get(1)?.as_f64()?)))
                .collect();
            let rows: Vec<f64> = case.alarms(detector).map(|alarm| case.row(alarm.at)).collect();
            all += events.len();
            let hit = |(from, to): &&(f64, f64)| rows.iter().any(|row| from <= row && row <= to);
            found += events.iter().filter(hit).count();
            days += case.days();
            let after = AFTER / case.step();
            let (mut last, mut own_wrong) = (f64::NEG_INFINITY, 0);
            for row in &rows {
                let belongs = events.iter().any(|(from, to)| from <= row && *row <= to + after);
                // Alarms within an hour of the one before are one.
                own_wrong += usize::from(!belongs && row - last > after);
                last = *row;
            }
            wrong += own_wrong;
        }
        if days > 0.0 {
            let _ = writeln!(
                text,
                "\n{detector}: {found} of {all} events, false alarms a series-day {:.4} ({wrong} in {days:.0})",
                wrong as f64 / days
            );
        }
    }
}

fn dates(cases: &[&Case<'_>], text: &mut String) {
    for kind in ["fill_disk", "fill_change"] {
        let (mut errors, mut covered) = (Vec::new(), 0);
        for case in cases.iter().filter(|case| case.text("kind") == kind) {
            let Some(hit) = case.number("hit") else { continue };
            // After a change of rate from a day after it on.
            let changed =
                if kind == "fill_change" { case.number("onset").unwrap_or(0.0) } else { 0.0 };
            let from = (changed + 86_400.0 / case.step()).max(3.0 * 86_400.0 / case.step());
            for said in &case.outcome.intervals {
                let row = case.row(said.at);
                let truth = (hit - row) * case.step();
                if row < from || truth <= 6.0 * 3600.0 {
                    continue;
                }
                let [left, low, high] = said.to_limit;
                errors.push((left - truth).abs() / truth);
                covered += usize::from(low <= truth && truth <= high);
            }
        }
        if !errors.is_empty() {
            let all = errors.len();
            let _ = writeln!(
                text,
                "\nfull date, {kind}: median error {:.3}, the 90 % interval holds {:.3} of {all} forecasts",
                median(&mut errors),
                share(covered, all)
            );
        }
    }
    let clean: Vec<&&Case<'_>> = cases.iter().filter(|case| !case.is("leak")).collect();
    let days: f64 = clean.iter().map(|case| case.days()).sum();
    if days > 0.0 {
        let alarms: usize = clean.iter().map(|case| case.alarms("capacity").count()).sum();
        let _ =
            writeln!(text, "  alarms where nothing fills up: {alarms} in {days:.0} series-days");
    }
}
