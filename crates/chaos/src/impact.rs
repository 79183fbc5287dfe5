//! What an event did to users, and who noticed first, from the series and the tables of findings and alerts.

use crate::book::Event;
use crate::experiment::ChaosConfig;
use crate::hands::seconds;
use crate::steady::{Ask, failing};
use model::Timestamp;
use serde_json::Value;
use std::time::Duration;

/// Before an event, for comparison.
const BEFORE: Duration = Duration::from_secs(60);
/// A detector that fires so long after the end has not seen the fault.
const AFTER: Duration = Duration::from_secs(120);

fn literal(at: Timestamp) -> String {
    format!("TIMESTAMP '{at}'")
}

/// Reads requests, failures and latency before and during the event.
pub(crate) async fn measure(ask: &Ask, config: &ChaosConfig, event: &mut Event) {
    let (Some(began), Some(ended)) = (event.began, event.ended) else { return };
    let job = &config.job;
    let spans = [(began.minus(BEFORE), began), (began, ended)];
    for (at, (from, to)) in spans.into_iter().enumerate() {
        let (from, to) = (literal(from), literal(to));
        let share = ask.number(&failing(job, &from, &to)).await;
        let mean = format!(
            "SELECT (SELECT sum(n) FROM (SELECT instance, route, increase(time, value) AS n \
             FROM gateway_request_duration_seconds_sum WHERE job = '{job}' AND time > {from} AND time <= {to} \
             GROUP BY instance, route)) / (SELECT sum(n) FROM (SELECT instance, route, increase(time, value) AS n \
             FROM gateway_request_duration_seconds_count WHERE job = '{job}' AND time > {from} AND time <= {to} \
             GROUP BY instance, route)) AS mean"
        );
        let mean = ask.number(&mean).await;
        if let Some(it) = event.failing.get_mut(at) {
            *it = share;
        }
        if let Some(it) = event.seconds.get_mut(at) {
            *it = mean;
        }
    }
    let (from, to) = (literal(began), literal(ended));
    let requests = format!(
        "SELECT sum(n) AS n FROM (SELECT instance, route, code, increase(time, value) AS n FROM gateway_requests_total \
         WHERE job = '{job}' AND time > {from} AND time <= {to} GROUP BY instance, route, code)"
    );
    event.requests = ask.number(&requests).await;
}

/// Who noticed: the first alert, and the first of findings and alerts together.
pub(crate) async fn noticed(ask: &Ask, event: &mut Event) {
    let Some(began) = event.began else { return };
    let ended = event.ended.unwrap_or(began);
    let (from, over) = (literal(began), literal(ended));
    // What is told after the next one began may be of that one.
    let next =
        format!("SELECT began AS at FROM chaos_events WHERE began > {over} ORDER BY began LIMIT 1");
    let next = ask
        .rows(&next)
        .await
        .ok()
        .and_then(|rows| Timestamp::parse(rows.first()?.get("at").and_then(Value::as_str)?));
    let until = ended.plus(AFTER);
    let to = literal(next.map_or(until, |next| next.min(until)));
    let first = async |sql: String| -> Option<(String, f64)> {
        let rows = ask.rows(&sql).await.ok()?;
        let row = rows.first()?;
        let name = row.get("name").and_then(Value::as_str)?.to_owned();
        let at = Timestamp::parse(row.get("at").and_then(Value::as_str)?)?;
        Some((name, seconds(began, at)))
    };
    let alert = first(format!(
        "SELECT alertname AS name, fired AS at FROM alerts WHERE fired >= {from} AND fired <= {to} ORDER BY fired LIMIT 1"
    ))
    .await;
    let finding = first(format!(
        "SELECT kind AS name, at FROM findings WHERE at >= {from} AND at <= {to} ORDER BY at LIMIT 1"
    ))
    .await;
    if let Some(alert) = alert {
        event.alert.get_or_insert(alert);
    }
    let earliest =
        event.alert.clone().into_iter().chain(finding).min_by(|a, b| a.1.total_cmp(&b.1));
    event.detector = earliest.or(event.detector.take());
}
