//! What a message says: the same facts as JSON, as plain text and as HTML.

use super::{Entry, Reason};
use crate::book::Alert;
use crate::rule::template::{duration, significant};
use model::Timestamp;
use model::text::escaped;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Where people look further.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    /// The monitor's page, without a slash at the end.
    pub(crate) page: String,
    /// Runbook pages, with a slash at the end.
    pub(crate) runbooks: String,
}

impl Links {
    /// The page of an alert with the time that matters.
    pub(crate) fn page(&self, alert: &Alert) -> String {
        let from = Timestamp(alert.standing.since.millis() - 1_800_000);
        let to = alert
            .standing
            .resolved
            .map_or(alert.standing.since.millis() + 1_800_000, |it| it.millis() + 600_000);
        format!("{}/?alert={}&from={}&to={}", self.page, alert.fingerprint, from.millis(), to)
    }

    /// Its runbook: the annotation `runbook_url`, else the page of its rule's name.
    pub(crate) fn runbook(&self, alert: &Alert) -> String {
        let own = alert.annotations.get("runbook_url").cloned();
        own.unwrap_or_else(|| format!("{}{}", self.runbooks, alert.rule))
    }
}

/// The first line of a message: state, what, how many.
pub(crate) fn subject(entries: &[Entry]) -> String {
    let firing: usize = entries.iter().map(|it| it.firing).sum();
    let resolved: usize = entries.iter().map(|it| it.resolved).sum();
    let state =
        if firing > 0 { format!("FIRING:{firing}") } else { format!("RESOLVED:{resolved}") };
    let first = entries.iter().flat_map(|it| &it.alerts).next();
    let what = match (entries.len(), first) {
        (1, Some(alert)) if firing + resolved == 1 => summary(alert),
        (1, Some(alert)) => {
            let labels = entries.first().map(|it| shown(&it.labels)).unwrap_or_default();
            format!("{} {labels}", alert.rule)
        }
        (groups, _) => format!("{groups} groups of alerts"),
    };
    let mark = match entries.first().map(|it| it.reason) {
        Some(Reason::Escalation) => " not acknowledged:",
        Some(Reason::Repeat) => " still:",
        Some(Reason::Remediation) => " needs a person:",
        _ => "",
    };
    // A header has one line.
    let text: String =
        what.chars().map(|c| if c.is_control() { ' ' } else { c }).take(180).collect();
    format!("[{state}]{mark} {}", text.trim())
}

fn summary(alert: &Alert) -> String {
    alert
        .annotations
        .get("summary")
        .cloned()
        .unwrap_or_else(|| format!("{} {}", alert.rule, shown(&alert.labels)))
}

fn shown(labels: &BTreeMap<String, String>) -> String {
    let pairs = labels.iter().filter(|(name, _)| *name != "alertname");
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(" ")
}

/// The facts of one alert by name, in the order in which they are read.
fn facts(alert: &Alert, links: &Links, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut facts = vec![("what", summary(alert))];
    let since = alert.standing.since;
    let until = alert.standing.resolved.unwrap_or(now);
    let for_long = duration(until.since(since).as_secs_f64().round());
    let times = match alert.standing.resolved {
        Some(end) => format!("{since} to {end}, {for_long}"),
        None => format!("{since}, {for_long} ago"),
    };
    facts.push(("since", times));
    if let Some(value) = alert.value {
        facts.push(("value", significant(value)));
    }
    facts.push(("severity", alert.severity().to_owned()));
    facts.push(("labels", shown(&alert.labels)));
    if let Some(text) = alert.annotations.get("description").filter(|it| !it.is_empty()) {
        facts.push(("evidence", text.clone()));
    }
    facts.push(("condition", alert.query.clone()));
    if !alert.sql.is_empty() {
        facts.push(("SQL", alert.sql.clone()));
    }
    let own = ["summary", "description", "runbook_url"];
    let others = alert.annotations.iter().filter(|(name, _)| !own.contains(&name.as_str()));
    let others: Vec<String> = others.map(|(name, text)| format!("{name}: {text}")).collect();
    if !others.is_empty() {
        facts.push(("notes", others.join("; ")));
    }
    let done = match (&alert.acknowledged, alert.action.is_empty()) {
        (Some(who), true) => format!("{} looks after it", who.by),
        (Some(who), false) => format!("{} looks after it; {}", who.by, alert.action),
        (None, false) => alert.action.clone(),
        (None, true) => "nobody has acknowledged it; no runbook runs".to_owned(),
    };
    facts.push(("being done", done));
    facts.push(("page", links.page(alert)));
    facts.push(("runbook", links.runbook(alert)));
    facts
}

/// Alertmanager's webhook payload, version 4; what it has no field for is among the annotations.
pub(crate) fn payload(entry: &Entry, links: &Links) -> Value {
    let alerts: Vec<Value> = entry.alerts.iter().map(|alert| one(alert, links)).collect();
    let common = |of: fn(&Alert) -> &BTreeMap<String, String>| {
        let mut all = entry.alerts.iter().map(of);
        let first = all.next().cloned().unwrap_or_default();
        let same = first
            .into_iter()
            .filter(|(name, value)| entry.alerts.iter().all(|it| of(it).get(name) == Some(value)));
        same.collect::<BTreeMap<_, _>>()
    };
    json!({
        "version": "4",
        "groupKey": entry.group,
        "truncatedAlerts": (entry.firing + entry.resolved).saturating_sub(entry.alerts.len()),
        "status": if entry.fires() { "firing" } else { "resolved" },
        "receiver": entry.receiver,
        "groupLabels": entry.labels,
        "commonLabels": common(|it| &it.labels),
        "commonAnnotations": common(|it| &it.annotations),
        "externalURL": links.page,
        "alerts": alerts,
        "idempotencyKey": entry.key,
        "reason": entry.reason,
        "firing": entry.firing,
        "resolved": entry.resolved,
    })
}

fn one(alert: &Alert, links: &Links) -> Value {
    let mut annotations = alert.annotations.clone();
    let mut add = |name: &str, text: String| {
        if !text.is_empty() {
            annotations.entry(name.to_owned()).or_insert(text);
        }
    };
    add("runbook_url", links.runbook(alert));
    add("value", alert.value.map(significant).unwrap_or_default());
    add("condition", alert.query.clone());
    add("sql", alert.sql.clone());
    add("being_done", alert.action.clone());
    add("incident", alert.incident.clone());
    json!({
        "status": if alert.fires() { "firing" } else { "resolved" },
        "labels": alert.labels,
        "annotations": annotations,
        "startsAt": alert.standing.since,
        "endsAt": alert.standing.resolved.map_or("0001-01-01T00:00:00Z".to_owned(), |it| it.to_string()),
        "generatorURL": links.page(alert),
        "fingerprint": alert.fingerprint,
    })
}

/// Alerts that a mail shows one by one.
const SHOWN: usize = 20;

/// Those that are shown: the first of each message, the worst before the others, then the rest in the same order.
pub(crate) fn shown_alerts(entries: &[Entry]) -> impl Iterator<Item = &Alert> {
    let placed = entries.iter().flat_map(|it| it.alerts.iter().enumerate());
    let mut all: Vec<(usize, &Alert)> = placed.collect();
    all.sort_by_key(|(at, alert)| (*at > 0, !alert.fires(), alert.severity() != "critical"));
    all.into_iter().map(|(_, alert)| alert).take(SHOWN)
}

/// Plain text.
pub(crate) fn plain(entries: &[Entry], links: &Links, now: Timestamp) -> String {
    let mut out = String::new();
    for alert in shown_alerts(entries) {
        out.push_str(&format!("{} {}\n", alert.standing.phase.name().to_uppercase(), alert.rule));
        for (name, text) in facts(alert, links, now) {
            out.push_str(&format!("  {name:<11}{}\n", text.replace('\n', "\n             ")));
        }
        out.push('\n');
    }
    out.push_str(&rest(entries));
    out
}

/// What is not shown one by one.
fn rest(entries: &[Entry]) -> String {
    let total: usize = entries.iter().map(|it| it.firing + it.resolved).sum();
    let shown = entries.iter().map(|it| it.alerts.len()).sum::<usize>().min(SHOWN);
    if total <= shown {
        String::new()
    } else {
        let groups: Vec<String> = entries
            .iter()
            .map(|it| format!("  {} of {}", it.firing + it.resolved, shown_group(it)))
            .collect();
        let groups = groups.join("\n");
        format!(
            "and {} more alerts; the page has them all. In this mail:\n{groups}\n",
            total - shown
        )
    }
}

fn shown_group(entry: &Entry) -> String {
    let name = entry.alerts.first().map_or("", |it| it.rule.as_str());
    format!("{name} {}", shown(&entry.labels))
}

/// HTML; `plots` are content ids of images and the alerts that they belong to.
pub(crate) fn html(
    entries: &[Entry],
    links: &Links,
    plots: &[(String, String)],
    now: Timestamp,
) -> String {
    let mut out = String::from("<!doctype html><html><body style=\"font:14px/1.5 sans-serif\">");
    for alert in shown_alerts(entries) {
        let color = match (alert.fires(), alert.severity()) {
            (false, _) => "#1a7f37",
            (true, "critical") => "#cf222e",
            (true, _) => "#9a6700",
        };
        let phase = alert.standing.phase.name().to_uppercase();
        out.push_str(&format!(
            "<h3 style=\"color:{color}\">{phase} {}</h3><table>",
            escaped(&alert.rule)
        ));
        for (name, text) in facts(alert, links, now) {
            let cell = match name {
                "page" | "runbook"
                    if text.starts_with("http://") || text.starts_with("https://") =>
                {
                    format!("<a href=\"{0}\">{0}</a>", escaped(&text))
                }
                "SQL" | "condition" => {
                    format!("<pre style=\"margin:0;white-space:pre-wrap\">{}</pre>", escaped(&text))
                }
                _ => escaped(&text).replace('\n', "<br>"),
            };
            out.push_str(&format!("<tr><th align=left valign=top>{name}</th><td>{cell}</td></tr>"));
        }
        out.push_str("</table>");
        if let Some((id, _)) = plots.iter().find(|(_, of)| *of == alert.fingerprint) {
            out.push_str(&format!("<p><img src=\"cid:{id}\" width=640 height=200 alt=\"the series over the last hour\"></p>"));
        }
    }
    out.push_str(&format!(
        "<p>{}</p></body></html>",
        escaped(&rest(entries)).replace('\n', "<br>")
    ));
    out
}
