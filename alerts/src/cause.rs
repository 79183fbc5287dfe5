//! Why an incident is: what the watchdog wrote down, what the analyzer found, how a target fails, in this order of trust.

use crate::AlertsError;
use crate::book::{Alert, Book};
use crate::expr::eval::evaluate;
use crate::expr::parse::parse;
use crate::expr::source::Source;
use crate::incident::{Cause, Incident};
use crate::journal::Record;
use crate::rule::template::significant;
use model::Timestamp;
use runtime::{Clock, Stop, Tick};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Evidence comes late: the watchdog may need a moment. Looked at again for so long.
const LOOK_FOR: Duration = Duration::from_secs(30);
/// Of the watchdog's journal, from its end.
const TAIL: u64 = 256 << 10;
/// The watchdog's evidence may be older than the first failed scrape by this.
const BEFORE: Duration = Duration::from_secs(10);
/// And younger than the end of an incident by this: its lines come a moment after what they tell of.
const AFTER: Duration = Duration::from_secs(1);

/// How the first line of evidence begins that is the watchdog's.
const BY_WATCHDOG: &str = "watchdog at ";

/// Finds causes.
#[derive(Clone, Debug)]
pub(crate) struct Causes {
    pub(crate) book: Book,
    pub(crate) source: Source,
    pub(crate) watchdog: Option<PathBuf>,
    pub(crate) clock: Clock,
}

impl Causes {
    /// Looks at new incidents until stopped.
    pub(crate) async fn run(self, stop: Stop) -> Result<(), AlertsError> {
        let mut changes = self.book.changes();
        while !stop.requested() {
            changes.mark_unchanged();
            let now = self.clock.now();
            let fresh = self.fresh(now);
            let idle = fresh.is_empty();
            let own = self.clone();
            let _ = tokio::task::spawn_blocking(move || own.look(&fresh)).await;
            if idle {
                tokio::select! { () = stop.wait() => break, _ = changes.changed() => {} }
            }
            if stop.wait_for(Duration::from_millis(500)).await == Tick::Stopped {
                break;
            }
        }
        Ok(())
    }

    /// Incidents of which an alert has just fired.
    fn fresh(&self, now: Timestamp) -> Vec<Incident> {
        let just = |at: Option<Timestamp>| at.is_some_and(|at| now.since(at) < LOOK_FOR);
        self.book.look(|kept| {
            let alerts = kept.alerts.values().chain(kept.past.iter().rev().take(100));
            let fired: BTreeSet<&str> = alerts
                .filter(|it| just(it.standing.fired))
                .map(|it| it.incident.as_str())
                .collect();
            let incidents = fired.iter().filter_map(|id| kept.incidents.get(*id));
            incidents.take(100).cloned().collect()
        })
    }

    fn look(&self, incidents: &[Incident]) {
        for incident in incidents {
            let alerts: Vec<Alert> = self.book.look(|kept| {
                let open = kept.alerts.values().chain(&kept.past);
                open.filter(|it| incident.alerts.contains_key(&it.fingerprint))
                    .take(20)
                    .cloned()
                    .collect()
            });
            let cause = self.cause(incident, &alerts);
            // A cause is only replaced by a better one.
            if rank(&cause.kind) >= rank(&incident.cause.kind) && !incident.cause.kind.is_empty() {
                continue;
            }
            self.book.change(false, |kept| {
                if let Some(now) = kept.incidents.get(&incident.id).cloned() {
                    kept.note(Record::Incident(Box::new(Incident { cause, ..now })));
                }
            });
        }
    }

    fn cause(&self, incident: &Incident, alerts: &[Alert]) -> Cause {
        // How things stand now says nothing of what is over; what was written down does.
        let over = incident.ended.is_some() && !incident.cause.kind.is_empty();
        let now = || by_alerts(alerts).or_else(|| self.by_scrapes(alerts));
        let found = self.by_watchdog(incident);
        if over && found.is_none() {
            return incident.cause.clone();
        }
        let mut cause = found.or_else(now).unwrap_or_else(|| Cause {
            kind: "unknown".to_owned(),
            summary: incident.title.clone(),
            evidence: Vec::new(),
        });
        cause.evidence.extend(self.readings(&incident.service));
        cause
    }

    /// What the watchdog wrote down of the service about then.
    fn by_watchdog(&self, incident: &Incident) -> Option<Cause> {
        let text = tail(&self.watchdog.as_ref()?.join("journal.jsonl"))?;
        // What the incident before was put down to does not belong to this one.
        let last = self.book.look(|kept| {
            let of = kept.incidents.values().filter(|it| it.service == incident.service);
            let has_some = |it: &&Incident| {
                it.cause.evidence.first().is_some_and(|first| first.starts_with(BY_WATCHDOG))
            };
            of.filter(|it| it.id < incident.id).filter(has_some).filter_map(|it| it.ended).max()
        });
        let from = incident.began.minus(BEFORE).max(last.unwrap_or(Timestamp(0)));
        // Nor what came when it was over; there is another incident for that.
        let until = incident.ended.map(|ended| ended.plus(AFTER));
        let events = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        for event in events {
            let of = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
            let at = Timestamp::parse(of("time"))?;
            if at < from {
                break;
            }
            if until.is_some_and(|until| at > until) {
                continue;
            }
            if of("child") != incident.service {
                continue;
            }
            let (kind, summary) = match of("event") {
                "exited" if event.get("out_of_memory").is_some() => (
                    "out_of_memory",
                    "the system killed the process because memory ran out".to_owned(),
                ),
                "over_memory" => (
                    "memory",
                    "the process was over its memory limit, and nothing eased it".to_owned(),
                ),
                "exited"
                    if of("status").contains("signal: 9") || of("status").contains("SIGKILL") =>
                {
                    ("killed", format!("the process was killed: {}", of("status")))
                }
                "exited" => ("exited", format!("the process ended by itself: {}", of("status"))),
                "hung" => {
                    ("hung", format!("the process did not answer the watchdog: {}", of("reason")))
                }
                "start_failed" => {
                    ("start_failed", format!("the process cannot be started: {}", of("error")))
                }
                _ => continue,
            };
            let more = ["last_reading", "evidence"].map(|name| (name, of(name)));
            let lines = event.get("last_lines").and_then(Value::as_array);
            let mut evidence = vec![format!("{BY_WATCHDOG}{at}: {} {}", of("event"), of("status"))];
            let known = more.iter().filter(|(_, text)| !text.is_empty());
            evidence
                .extend(known.map(|(name, text)| format!("{}: {text}", name.replace('_', " "))));
            let lines = lines.into_iter().flatten().filter_map(Value::as_str).rev().take(5);
            evidence.extend(
                lines.map(|line| format!("log: {line}")).collect::<Vec<_>>().into_iter().rev(),
            );
            return Some(Cause { kind: kind.to_owned(), summary, evidence });
        }
        None
    }

    /// How the scrapes of a target fail.
    fn by_scrapes(&self, alerts: &[Alert]) -> Option<Cause> {
        let alert = alerts.iter().find(|it| it.rule == "TargetDown")?;
        let (job, instance) = (alert.labels.get("job")?, alert.labels.get("instance")?);
        let text =
            format!("increase(scrape_failures_total{{job={job:?},instance={instance:?}}}[15s])");
        let mut reasons = evaluate(&parse(&text).ok()?, &self.source, self.clock.now()).ok()?;
        let first = format!("scrape_failures_total{{job={job:?},instance={instance:?}}}");
        reasons.retain(|it| it.value > 0.0);
        if reasons.is_empty() {
            // A reason that came for the first time has no increase yet.
            reasons = evaluate(&parse(&first).ok()?, &self.source, self.clock.now()).ok()?;
        }
        let most = reasons.iter().max_by_key(|it| it.span.newest)?;
        let reason = most.labels.get("reason").unwrap_or_default();
        let (kind, summary) = match reason {
            "refused" => {
                ("gone", "nobody listens there: the process is gone or has not opened its port")
            }
            "timeout" => (
                "hung",
                "it takes connections or holds them and does not answer: the process hangs or is overloaded",
            ),
            "closed" => ("closing", "it closes connections before it has answered"),
            "resolve" => ("name", "its name has no address"),
            "status" => ("status", "it answers with an error status"),
            "too_large" | "too_many_samples" => ("too_large", "its page is larger than allowed"),
            _ => ("failing", "its scrapes fail"),
        };
        let evidence = vec![format!("scrapes of {instance} fail with reason {reason}")];
        Some(Cause { kind: kind.to_owned(), summary: summary.to_owned(), evidence })
    }

    /// The last readings of the service.
    fn readings(&self, service: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (metric, unit) in [
            ("process_resident_memory_bytes", "bytes in memory"),
            ("process_open_fds", "open handles"),
            ("process_threads", "threads"),
            ("process_stopped", "stopped by a signal"),
        ] {
            for label in ["job", "process"] {
                let text = format!("last_over_time({metric}{{{label}={service:?}}}[10m])");
                let elements = parse(&text)
                    .ok()
                    .and_then(|it| evaluate(&it, &self.source, self.clock.now()).ok());
                let last = elements.into_iter().flatten().max_by_key(|it| it.span.newest);
                if let Some(last) = last {
                    found.push(format!(
                        "{} {unit} at {}",
                        significant(last.value),
                        Timestamp(last.span.newest)
                    ));
                    break;
                }
            }
        }
        found
    }
}

/// The better the lower.
fn rank(kind: &str) -> usize {
    let order = [
        "killed",
        "out_of_memory",
        "memory",
        "exited",
        "start_failed",
        "stopped",
        "leak",
        "saturation",
        "hung",
        "handles",
        "database",
        "cache",
        "upstream",
        "configuration",
        "clock",
        "disk",
        "pressure",
        "gone",
        "closing",
        "status",
        "name",
        "too_large",
    ];
    order.iter().position(|it| *it == kind).unwrap_or(if kind == "unknown" { 90 } else { 50 })
}

fn by_alerts(alerts: &[Alert]) -> Option<Cause> {
    if let Some(alert) = alerts.iter().find(|it| it.rule == "ProcessStopped") {
        let summary = "the process is stopped by a signal (SIGSTOP)".to_owned();
        let evidence = vec![alert.query.clone()];
        return Some(Cause { kind: "stopped".to_owned(), summary, evidence });
    }
    let found = alerts.iter().filter(|it| it.finding.is_some());
    let best = found.min_by_key(|it| rank(it.labels.get("kind").map_or("", String::as_str)));
    let told = alerts.iter().filter_map(by_rule).min_by_key(|it| rank(&it.kind));
    // What a gateway says of itself is nearer to the cause than a symptom that a detector saw.
    let Some(best) = best.filter(|it| {
        let kind = it.labels.get("kind").map_or("", String::as_str);
        told.as_ref().is_none_or(|told| rank(kind) <= rank(&told.kind))
    }) else {
        return told;
    };
    let of = |name: &str| best.annotations.get(name).cloned().unwrap_or_default();
    let kind = best.labels.get("kind").cloned().unwrap_or_default();
    let evidence = of("description").lines().map(str::to_owned).collect();
    Some(Cause { kind, summary: of("summary"), evidence })
}

/// What an alert of a built-in rule says of the cause.
fn by_rule(alert: &Alert) -> Option<Cause> {
    let label = |name: &str| alert.labels.get(name).map_or("", String::as_str);
    let kind = match (alert.rule.as_str(), label("check")) {
        ("HandlesRunOut", _) => "handles",
        ("GatewayToolFails", _) | ("GatewayCheckFailed", "admission") => "upstream",
        ("GatewayCheckFailed", "policies") => "database",
        (
            "GatewayCheckFailed",
            check @ ("database" | "cache" | "configuration" | "clock" | "disk"),
        ) => check,
        // It is of everything that can get narrow, memory among it.
        ("GatewayCheckFailed", "memory") => "pressure",
        _ => return None,
    };
    let summary = alert.annotations.get("summary").cloned().unwrap_or_default();
    let mut evidence = vec![alert.query.clone()];
    evidence.retain(|it| !it.is_empty());
    Some(Cause { kind: kind.to_owned(), summary, evidence })
}

/// The end of a file that others append to.
pub(crate) fn tail(path: &Path) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn r3_4_an_end_within_another_incident_is_the_cause_of_its_own_unless_it_was_that_ones() {
        let dir = tempfile::tempdir().unwrap();
        let lines = json!({"time": "2026-11-30T21:13:18.797Z", "child": "gateway", "event": "exited", "status": "signal: 9 (SIGKILL)"});
        let journal = dir.path().join("journal.jsonl");
        platform::durable::replace(&journal, format!("{lines}\n").as_bytes()).unwrap();
        let at = |text: &str| Timestamp::parse(&format!("2026-11-30T21:{text}Z")).unwrap();
        let incident = |id: &str, began: &str, ended: &str, evidence: &[&str]| Incident {
            id: id.to_owned(),
            service: "gateway".to_owned(),
            title: String::new(),
            began: at(began),
            detected: at(began),
            ended: Some(at(ended)),
            alerts: BTreeMap::new(),
            cause: Cause {
                kind: "database".to_owned(),
                evidence: evidence.iter().map(|it| (*it).to_owned()).collect(),
                ..Cause::default()
            },
            actions: Vec::new(),
            acknowledged: None,
        };
        let cause = |evidence: &[&str]| {
            let causes = Causes {
                book: Book::open(&dir.path().join(evidence.len().to_string())).unwrap(),
                source: Source::Stated(Vec::new()),
                watchdog: Some(dir.path().to_owned()),
                clock: Clock::system(),
            };
            let before = incident("1", "08:07.254", "13:19.003", evidence);
            causes.book.change(false, |kept| kept.note(Record::Incident(Box::new(before))));
            causes.by_watchdog(&incident("2", "13:20.004", "13:20.080", &[])).map(|it| it.kind)
        };
        assert_eq!(cause(&[]).as_deref(), Some("killed"));
        assert_eq!(cause(&["watchdog at 2026-11-30T21:13:18.797Z: exited"]), None);
    }
}
