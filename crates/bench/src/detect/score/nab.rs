//! The score of the Numenta Anomaly Benchmark, version 1.1 (Lavin and Ahmad 2015, doi:10.1109/ICMLA.2015.141).
//!
//! The first 15 % of a file, at most 750 rows, are not scored. In a window the best alarm counts, the earlier the more; outside
//! an alarm costs, the more the farther it is behind the last window. One threshold for all files maximises the sum, which is
//! 0 for no alarm at all and 100 for the earliest alarm in each window and no other.

use crate::detect::read::Series;
use crate::detect::run::Outcome;
use model::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Weights of a missed window and of a false alarm.
const PROFILES: [(&str, f64, f64); 3] =
    [("standard", 1.0, 0.11), ("reward low FP", 1.0, 0.22), ("reward low FN", 2.0, 0.11)];

/// A scored row.
struct Row {
    score: f64,
    /// What an alarm is worth here, unweighted.
    worth: f64,
    window: Option<usize>,
}

pub(super) fn score(windows: &Value, all: &[Series], results: &[Outcome]) -> String {
    let mut rows = Vec::new();
    let mut count = 0;
    for (series, outcome) in all.iter().zip(results) {
        let name = format!("{}.csv", series.name);
        let name = name.strip_prefix("data/").unwrap_or(&name);
        let Some(list) = windows.get(name).and_then(Value::as_array) else { continue };
        let spans: Vec<(usize, usize)> = list.iter().filter_map(|it| span(it, series)).collect();
        rows.extend(scored(series, outcome, &spans, count));
        count += spans.len();
    }
    if rows.is_empty() || count == 0 {
        return String::new();
    }
    rows.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut text = format!("\nNAB ({count} windows):");
    for (name, missed, wrong) in PROFILES {
        let best = best(&rows, missed, wrong);
        // No alarm at all is -missed for each window, the perfect one 1 for each.
        let all = count as f64;
        let points = 100.0 * (best + missed * all) / (all + missed * all);
        let _ = write!(text, " {name} {points:.1};");
    }
    text.push('\n');
    text
}

/// First and last row of a window.
fn span(window: &Value, series: &Series) -> Option<(usize, usize)> {
    let at = |end: usize| {
        let text = window.get(end)?.as_str()?.split('.').next()?.to_owned();
        let time = Timestamp::parse(&text)?.millis();
        series.times.iter().position(|it| *it == time)
    };
    Some((at(0)?, at(1)?))
}

fn sigmoid(place: f64) -> f64 {
    if place > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * place).min(60.0).exp()) - 1.0 }
}

fn scored(series: &Series, outcome: &Outcome, spans: &[(usize, usize)], first: usize) -> Vec<Row> {
    let rows = series.times.len();
    let probation = ((0.15 * rows as f64).floor() as usize).min(750);
    let most = sigmoid(-1.0);
    let row = |at: usize| {
        let inside = spans.iter().position(|(from, to)| (*from..=*to).contains(&at));
        let worth = match inside.and_then(|window| spans.get(window)) {
            Some((from, to)) => {
                let width = (to - from + 1) as f64;
                sigmoid(-((to - at + 1) as f64) / width) / most
            }
            None => match spans.iter().rev().find(|(_, to)| *to < at) {
                Some((from, to)) => sigmoid((at - to) as f64 / ((to - from) as f64).max(1.0)),
                None => -1.0,
            },
        };
        let window = inside.map(|window| first + window);
        Row { score: outcome.scores.get(at).copied().unwrap_or(0.0), worth, window }
    };
    (probation..rows).map(row).collect()
}

/// The greatest sum over all thresholds; `rows` by score, the greatest first.
fn best(rows: &[Row], missed: f64, wrong: f64) -> f64 {
    let mut windows: BTreeMap<usize, f64> =
        rows.iter().filter_map(|row| Some((row.window?, -missed))).collect();
    let mut sum = windows.values().sum::<f64>();
    let mut best = sum;
    for same in rows.chunk_by(|a, b| a.score == b.score) {
        for row in same {
            match row.window.and_then(|window| windows.get_mut(&window)) {
                Some(had) if row.worth > *had => {
                    sum += row.worth - *had;
                    *had = row.worth;
                }
                Some(_) => {}
                None => sum += row.worth * wrong,
            }
        }
        best = best.max(sum);
    }
    best
}
