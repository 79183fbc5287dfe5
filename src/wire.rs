//! The only translations between rooms: what one says in the words of another.

use alerts::{Ask, Cell, Desk, Level, Row, Signal, SignalSender};
use analyzer::{Column, Columns, Finding, Findings, Format, Given, Query, Severity};
use runtime::Stop;
use serde_json::Value;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

/// Findings that are told to the alerts: the newest that are open.
const MOST: usize = 5_000;

/// Tells the alerts of open findings whenever they change.
pub(crate) async fn tell(
    findings: Findings,
    told: SignalSender,
    stop: Stop,
) -> Result<(), Infallible> {
    let mut changes = findings.changes();
    while !stop.requested() {
        changes.mark_unchanged();
        let open = findings.to_tell(MOST);
        told.send_replace(Arc::new(open.iter().map(signal).collect()));
        tokio::select! {
            () = stop.wait() => break,
            changed = changes.changed() => if changed.is_err() { stop.wait().await },
        }
    }
    Ok(())
}

fn signal(finding: &Finding) -> Signal {
    let mut labels = finding.subject.labels.clone();
    // Who acts on a leak of a job must not depend on whether it was seen first in the job's page or in the process from outside.
    labels.extend(finding.target.clone());
    labels.insert("metric".to_owned(), finding.subject.metric.clone());
    // The worst of what belongs to it is what people must know.
    let level = match finding.worst.max(finding.severity) {
        Severity::Page => Level::Page,
        Severity::Ticket => Level::Ticket,
        Severity::Note => Level::Note,
    };
    let with = finding.related.iter().map(|it| format!("with {}: {}", it.subject, it.summary));
    Signal {
        id: finding.id.clone(),
        kind: finding.kind.name().to_owned(),
        level,
        labels,
        summary: finding.summary().to_owned(),
        evidence: finding.words.iter().skip(1).cloned().chain(with).collect(),
        sql: finding.sql.clone(),
        since: finding.since,
        updated: finding.updated,
        value: finding.headline().map(|it| it.value),
    }
}

/// An answer as the HTTP interface gives it.
async fn answer(query: &Query, sql: &str) -> Result<Value, String> {
    let answer = query.run(sql, &[]).await.map_err(|error| error.to_string())?;
    let bytes = answer.encode(Format::Json).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// Runs the queries of rules: texts are labels, the column `value` or the first number is the value.
pub(crate) fn ask(query: Query) -> Ask {
    Ask(Arc::new(move |sql| {
        let query = query.clone();
        Box::pin(async move { Ok(rows(&answer(&query, &sql).await?)) })
    }))
}

fn rows(answer: &Value) -> Vec<Row> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let columns: Vec<(String, String)> = list(answer.get("columns"))
        .iter()
        .map(|it| {
            let of = |name: &str| it.get(name).and_then(Value::as_str).unwrap_or_default();
            (of("name").to_owned(), of("type").to_owned())
        })
        .collect();
    let row = |cells: &Value| {
        let (mut labels, mut value, mut none) = (BTreeMap::new(), None, false);
        for ((name, kind), cell) in columns.iter().zip(list(Some(cells))) {
            // Numbers that JSON cannot hold are strings there.
            let number = match (&cell, kind.as_str()) {
                (Value::Number(number), _) => number.as_f64(),
                (Value::String(_), "string" | "timestamp") => None,
                (Value::String(text), _) => text.parse::<f64>().ok(),
                _ => None,
            };
            none |= cell.is_null() && name == "value";
            if let Some(number) = number {
                value = if name == "value" { Some(number) } else { value.or(Some(number)) };
                continue;
            }
            match cell {
                Value::Object(pairs) => {
                    labels.extend(pairs.iter().filter_map(|(name, value)| {
                        Some((name.clone(), value.as_str()?.to_owned()))
                    }))
                }
                // A time differs from look to look, and would make each row a new alert.
                Value::String(text) if kind != "timestamp" => {
                    labels.insert(name.clone(), text);
                }
                _ => {}
            }
        }
        (!none).then(|| Row { labels, value: value.unwrap_or(1.0) })
    };
    // What is no number is over no line, whatever it was compared with.
    list(answer.get("rows")).iter().filter_map(row).filter(|row| !row.value.is_nan()).collect()
}

/// The same for experiments, which want whole rows.
pub(crate) fn ask_rows(query: Query) -> chaos::Ask {
    chaos::Ask(Arc::new(move |sql| {
        let query = query.clone();
        Box::pin(async move { Ok(whole_rows(&answer(&query, &sql).await?)) })
    }))
}

/// Rows of a JSON answer, each with its values by the names of columns.
pub(crate) fn whole_rows(answer: &Value) -> chaos::Rows {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let columns = list(answer.get("columns"));
    let name = |it: &Value| it.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let names: Vec<String> = columns.iter().map(name).collect();
    let row = |cells: &Value| names.iter().cloned().zip(list(Some(cells))).collect();
    list(answer.get("rows")).iter().map(row).collect()
}

/// The table of experiments that were done.
const CHAOS_EVENTS: &str = "chaos_events";

/// What the alerts and the experiments know, as tables of SQL.
pub(crate) fn tables(desk: Desk, book: chaos::Book) -> Given {
    let names: Vec<&'static str> = alerts::tables().into_iter().chain([CHAOS_EVENTS]).collect();
    Given::new(&names, move |name| match name {
        CHAOS_EVENTS => Some(chaos_events(&book)),
        name => desk.table(name).map(columns),
    })
}

fn chaos_events(book: &chaos::Book) -> Columns {
    let events = book.events();
    let texts = |of: &dyn Fn(&chaos::Event) -> Option<String>| {
        Column::MaybeTexts(events.iter().map(of).collect())
    };
    let times = |of: &dyn Fn(&chaos::Event) -> Option<model::Timestamp>| {
        Column::Times(events.iter().map(of).collect())
    };
    let numbers = |of: &dyn Fn(&chaos::Event) -> Option<f64>| {
        Column::Numbers(events.iter().map(of).collect())
    };
    let by = |source: &chaos::Source| match source {
        chaos::Source::Schedule(_) => "schedule".to_owned(),
        chaos::Source::Person(name) => name.clone(),
    };
    let seed = |it: &chaos::Event| it.experiment.schedule.as_ref().map(|it| it.seed as f64);
    let change = |[before, during]: [Option<f64>; 2]| Some(during? - before.unwrap_or(0.0));
    let columns = [
        ("id", texts(&|it| Some(it.id.clone()))),
        ("experiment", texts(&|it| Some(it.experiment.name.clone()))),
        ("fault", texts(&|it| Some(it.experiment.fault.name()))),
        ("parameters", texts(&|it| serde_json::to_string(&it.experiment).ok())),
        ("seed", numbers(&seed)),
        ("source", texts(&|it| Some(by(&it.source)))),
        ("due", times(&|it| Some(it.due))),
        ("began", times(&|it| it.began)),
        ("ended", times(&|it| it.ended)),
        ("outcome", texts(&|it| Some(it.outcome.name()))),
        ("detail", texts(&|it| Some(it.detail.clone()))),
        ("hits", numbers(&|it| it.hits.map(|n| n as f64))),
        ("requests", numbers(&|it| it.requests)),
        ("failing", numbers(&|it| it.failing[1])),
        ("failing_delta", numbers(&|it| change(it.failing))),
        ("latency_seconds", numbers(&|it| it.seconds[1])),
        ("latency_delta", numbers(&|it| change(it.seconds))),
        ("detector", texts(&|it| it.detector.clone().map(|it| it.0))),
        ("detected_seconds", numbers(&|it| it.detector.as_ref().map(|it| it.1))),
        ("alert", texts(&|it| it.alert.clone().map(|it| it.0))),
        ("alerted_seconds", numbers(&|it| it.alert.as_ref().map(|it| it.1))),
        ("recovery_seconds", numbers(&|it| it.recovery_seconds)),
    ];
    columns.into_iter().map(|(name, column)| (name.to_owned(), column)).collect()
}

fn columns(table: alerts::Table) -> Columns {
    let mut columns: Columns = table
        .columns
        .iter()
        .map(|(name, kind)| {
            let column = match kind {
                Cell::Text(_) => Column::MaybeTexts(Vec::new()),
                Cell::Time(_) => Column::Times(Vec::new()),
                Cell::Number(_) => Column::Numbers(Vec::new()),
                Cell::Labels(_) => Column::Labels(Vec::new()),
            };
            ((*name).to_owned(), column)
        })
        .collect();
    for row in table.rows {
        for (cell, (_, column)) in row.into_iter().zip(&mut columns) {
            match (cell, column) {
                (Cell::Text(text), Column::MaybeTexts(all)) => all.push(text),
                (Cell::Time(time), Column::Times(all)) => all.push(time),
                (Cell::Number(number), Column::Numbers(all)) => all.push(number),
                (Cell::Labels(labels), Column::Labels(all)) => all.push(labels),
                _ => {} // a cell is of its column's type
            }
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_that_look_like_numbers_stay_labels_and_what_is_no_number_is_no_alert() {
        let answer = json!({
            "columns": [
                { "name": "at", "type": "timestamp" }, { "name": "code", "type": "string" },
                { "name": "value", "type": "float64" }, { "name": "n", "type": "int64" },
            ],
            "rows": [
                ["2026-11-30T00:00:00Z", "500", 0.25, 7],
                ["2026-11-30T00:00:00Z", "503", "NaN", 7],
                ["2026-11-30T00:00:00Z", "505", null, 7],
                ["2026-11-30T00:00:00Z", "504", "+Inf", "9007199254740993"],
            ],
        });
        let rows: Vec<(String, f64)> =
            rows(&answer).into_iter().map(|row| (format!("{:?}", row.labels), row.value)).collect();
        let label = |code: &str| format!("{{\"code\": {code:?}}}");
        assert_eq!(rows, [(label("500"), 0.25), (label("504"), f64::INFINITY)]);
    }
}
