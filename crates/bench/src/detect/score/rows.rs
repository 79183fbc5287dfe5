//! Against a label in each row: how many events are found at a rate of false rows, with one threshold for all series.
//!
//! An event is a run of labelled rows, gaps of up to three rows bridged; it is found by a row over the threshold in it, or
//! within two rows after its start.

use super::share;
use crate::detect::read::Series;
use crate::detect::run::Outcome;
use std::fmt::Write;

/// False rows a series-day.
const RATES: [f64; 3] = [0.02, 0.05, 0.1];

pub(super) fn score(all: &[Series], results: &[Outcome]) -> String {
    let mut best: Vec<f64> = Vec::new();
    let mut clean: Vec<f64> = Vec::new();
    let mut days = 0.0;
    for (series, outcome) in all.iter().zip(results) {
        let labelled = series.labels.len() == outcome.scores.len() && !series.labels.is_empty();
        if !labelled {
            continue;
        }
        days += match (series.times.first(), series.times.last()) {
            (Some(first), Some(last)) => (last - first) as f64 / 86_400_000.0,
            _ => 0.0,
        };
        for (from, to) in events(&series.labels) {
            let reach = to.max(from + 2).min(outcome.scores.len() - 1);
            let scores = outcome.scores.get(from..=reach).unwrap_or_default();
            best.push(scores.iter().copied().fold(0.0, f64::max));
        }
        let rows = outcome.scores.iter().zip(&series.labels);
        clean.extend(rows.filter(|(_, label)| !**label).map(|(score, _)| *score));
    }
    if best.is_empty() || clean.is_empty() {
        return String::new();
    }
    clean.sort_by(|a, b| b.total_cmp(a));
    let mut text = format!("\nlabelled rows ({} events in {days:.0} series-days):", best.len());
    for rate in RATES {
        let allowed = (rate * days).floor() as usize;
        let threshold = clean.get(allowed).copied().unwrap_or(0.0);
        let found = best.iter().filter(|score| **score > threshold).count();
        let _ = write!(
            text,
            " {:.2} found at {rate} false rows a series-day;",
            share(found, best.len())
        );
    }
    text.push('\n');
    text
}

fn events(labels: &[bool]) -> Vec<(usize, usize)> {
    let mut events: Vec<(usize, usize)> = Vec::new();
    for at in labels.iter().enumerate().filter(|(_, label)| **label).map(|(at, _)| at) {
        match events.last_mut() {
            Some((_, to)) if at - *to <= 4 => *to = at,
            _ => events.push((at, at)),
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_labels_with_short_gaps_are_one_event() {
        let labels = "0110001000001".bytes().map(|it| it == b'1').collect::<Vec<_>>();
        assert_eq!(events(&labels), [(1, 6), (12, 12)]);
    }
}
