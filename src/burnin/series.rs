//! What the monitor's series and tables show of a run, criterion by criterion, each with the SQL that gives the number again.

use super::Measured;
use super::faults::{Fault, is_recovered};
use super::stack::Stack;
use crate::monitor_client::MonitorClient;
use ::burnin::verdict::Verdict;
use model::Timestamp;
use serde_json::Value;
use std::time::Duration;

/// Whose leaks are looked for.
const JOBS: [&str; 2] = ["gateway", "monitor"];

/// An incident begins at most so long after its fault.
const NOTICED: Duration = Duration::from_secs(30);

/// The number in the first column of the first row.
async fn number(monitor: &MonitorClient, sql: &str) -> Option<f64> {
    let rows = monitor.rows(sql).await.ok()?;
    rows.first()?.values().next()?.as_f64()
}

/// What the series show of the faults.
pub(super) async fn judge(
    verdict: &mut Verdict,
    it: &Measured,
    stack: &Stack,
    monitor: &MonitorClient,
    faults: &[Fault],
) {
    let from = it.began;
    // Host metrics while the process was gone.
    let stopped = faults.iter().find(|it| it.name == "process_stop" && it.has_begun());
    if let Some(fault) = stopped {
        let (from, to) = (fault.began, fault.ended);
        let sql = format!(
            "SELECT count(*) AS n FROM node_load1 WHERE time > TIMESTAMP '{from}' AND time <= TIMESTAMP '{to}'"
        );
        let seconds = (to.millis() - from.millis()) as f64 / 1_000.0;
        let n = number(monitor, &sql).await.unwrap_or(0.0);
        let words = format!("{n} samples of host load in {seconds:.0} s");
        verdict.judge("R3.1", n >= 1.0 && n >= seconds * 0.9 - 2.0, words, "one a second", sql);
    }
    let sql = format!(
        "SELECT max(tried.value) AS most FROM scrape_attempts AS tried JOIN up ON up.time = tried.time AND up.instance = tried.instance WHERE tried.job = 'gateway' AND up.job = 'gateway' AND up.value = 0 AND tried.time > TIMESTAMP '{from}'"
    );
    match number(monitor, &sql).await {
        Some(most) => {
            let words = format!("{most} attempts at most at a scrape that failed");
            verdict.judge("R3.2", (2.0..=5.0).contains(&most), words, "2 to 5", sql);
        }
        None => verdict.skip("R3.2", "no scrape failed"),
    }
    ends(verdict, from, monitor, faults).await;
    let sql = format!(
        "SELECT sum(n) AS n FROM (SELECT component, cause, max(value) AS n FROM gateway_component_restarts_total WHERE cause = 'hang' AND time > TIMESTAMP '{from}' GROUP BY component, cause)"
    );
    if faults.iter().any(|it| it.name == "task_hang") {
        let n = number(monitor, &sql).await.unwrap_or(0.0);
        let words = format!("{n} restarts of components, the data plane went on");
        verdict.judge("R4.4", n >= 1.0, words, "at least 1", sql);
    }
    narrow(verdict, monitor, faults).await;
    remediation(verdict, it, monitor).await;
    trends(verdict, it, stack, monitor).await;
}

/// Whether each end of the process has an incident of its own, with the right cause and an end.
async fn ends(verdict: &mut Verdict, from: Timestamp, monitor: &MonitorClient, faults: &[Fault]) {
    let ends: Vec<End> = faults.iter().filter_map(End::of).collect();
    if ends.is_empty() {
        return;
    }
    let sql = format!(
        "SELECT began, cause FROM incidents WHERE service = 'gateway' AND began > TIMESTAMP '{from}' AND recovery_seconds IS NOT NULL ORDER BY began"
    );
    let rows = monitor.rows(&sql).await.unwrap_or_default();
    let incident = |row: &serde_json::Map<String, Value>| {
        let began = Timestamp::parse(row.get("began")?.as_str()?)?;
        Some((began, row.get("cause")?.as_str()?.to_owned()))
    };
    let without = without_incident(&ends, rows.iter().filter_map(incident).collect());
    let words = match without.first() {
        None => format!("{} ends of the process, each with its incident", ends.len()),
        Some(first) => format!(
            "{} of {} ends of the process without an incident of that cause and with a recovery: the {} of {}",
            without.len(),
            ends.len(),
            first.fault,
            first.began
        ),
    };
    let limit = "one for each, of the right cause";
    verdict.judge("R3.4", without.is_empty(), words, limit, sql);
}

/// An end of the process that was done to it.
#[derive(Clone, Debug, PartialEq)]
struct End {
    fault: String,
    began: Timestamp,
    ended: Timestamp,
}

impl End {
    fn of(fault: &Fault) -> Option<Self> {
        let began = fault.event.as_ref().and_then(|event| event.began).unwrap_or(fault.began);
        let is_end = fault.name.starts_with("process_");
        is_end.then(|| Self { fault: fault.name.clone(), began, ended: fault.ended })
    }

    fn is_told_by(&self, (began, cause): &(Timestamp, String)) -> bool {
        let causes: &[&str] =
            if self.fault == "process_kill" { &["killed"] } else { &["hung", "stopped"] };
        causes.contains(&cause.as_str()) && (self.began..=self.ended.plus(NOTICED)).contains(began)
    }
}

/// The ends that none of the incidents tells of; one incident tells of one end.
fn without_incident(ends: &[End], mut incidents: Vec<(Timestamp, String)>) -> Vec<End> {
    let mut without = ends.to_vec();
    without.retain(|end| {
        let told = incidents.iter().position(|it| end.is_told_by(it));
        told.map(|at| incidents.remove(at)).is_none()
    });
    without
}

/// What the gateway did when memory and handles were nearly used up.
async fn narrow(verdict: &mut Verdict, monitor: &MonitorClient, faults: &[Fault]) {
    for (fault, ids) in [("memory_balloon", ["R4.3", "R7.5"].as_slice()), ("handle_hog", &["R7.5"])]
    {
        let event = faults.iter().find(|it| it.name == fault).and_then(|it| it.event.as_ref());
        let Some(event) = event else { continue };
        let Some((began, ended)) = event.began.zip(event.ended) else { continue };
        // What the fault before it left is over by then.
        let from = began.plus(Duration::from_secs(2));
        let within = format!("time > TIMESTAMP '{from}' AND time <= TIMESTAMP '{ended}'");
        let most = format!("SELECT max(value) AS most FROM gateway_pressure_ratio WHERE {within}");
        // The first of them comes at once.
        let before = began.minus(Duration::from_secs(2));
        let cleanups = format!(
            "SELECT max(value) - min(value) AS n FROM gateway_cleanups_total WHERE time > TIMESTAMP '{before}' AND time <= TIMESTAMP '{ended}'"
        );
        let used = number(monitor, &most).await.unwrap_or(0.0);
        if used < 0.8 {
            let why = format!("{fault}: at most {:.0} % of a limit was used", used * 100.0);
            ids.iter().for_each(|id| verdict.skip(id, why.clone()));
            continue;
        }
        let done = number(monitor, &cleanups).await.unwrap_or(0.0);
        let failing = event.failing[1].unwrap_or(1.0);
        let words = format!(
            "{fault}: {:.0} % of a limit used, {done} cleanups, {:.2} % of requests failed",
            used * 100.0,
            failing * 100.0
        );
        // Cleaning up frees memory. Without handles nobody new can be let in.
        let good = is_recovered(event) && failing <= 0.01 && (done >= 1.0 || fault == "handle_hog");
        let limit = "memory cleaned up, 1 % of requests, as before at the end";
        ids.iter().for_each(|id| verdict.judge(id, good, words.clone(), limit, cleanups.clone()));
    }
}

/// What the monitor did about findings, and whether it helped.
async fn remediation(verdict: &mut Verdict, it: &Measured, monitor: &MonitorClient) {
    let sql = format!(
        "SELECT runbook, step, step_outcome, count(*) AS n FROM remediations WHERE step_outcome IN ('helped', 'did_not_help', 'failed') AND began > TIMESTAMP '{}' GROUP BY runbook, step, step_outcome ORDER BY runbook, step, step_outcome",
        it.began
    );
    let Ok(rows) = monitor.rows(&sql).await else {
        return verdict.skip("R8.4", "the remediations could not be asked");
    };
    let text = |row: &serde_json::Map<String, Value>, name: &str| {
        row.get(name).map_or(String::new(), |it| it.as_str().map_or(it.to_string(), str::to_owned))
    };
    let steps = rows.iter().map(|row| {
        let cell = |name| text(row, name);
        format!("{} x {} of {}: {}", cell("n"), cell("step"), cell("runbook"), cell("step_outcome"))
    });
    let steps: Vec<String> = steps.collect();
    if steps.is_empty() {
        return verdict.skip("R8.4", "no finding called for a remedy");
    }
    let helped = rows.iter().any(|row| text(row, "step_outcome") == "helped");
    verdict.judge("R8.4", helped, steps.join(", "), "a step helped", sql);
}

/// What they show of the whole run.
async fn trends(verdict: &mut Verdict, it: &Measured, stack: &Stack, monitor: &MonitorClient) {
    let from = it.began;
    for job in JOBS {
        let sql = format!(
            "SELECT count(*) AS n FROM findings WHERE kind = 'leak' AND at > TIMESTAMP '{from}' AND labels['job'] = '{job}'"
        );
        let sql_process = sql.replace("labels['job']", "labels['process']");
        match (number(monitor, &sql).await, number(monitor, &sql_process).await) {
            (Some(a), Some(b)) => {
                let words = format!("{} findings of leaks in the {job}", a + b);
                verdict.judge("R7.1", a + b == 0.0, words, "none", sql);
            }
            _ => verdict.skip("R7.1", "the findings could not be asked"),
        }
    }
    if stack.control.is_none() {
        return;
    }
    let sql =
        "SELECT max(value) AS most, last(time, value) AS last FROM gateway_database_connections";
    if let Ok(rows) = monitor.rows(sql).await
        && let Some(row) = rows.first()
    {
        let cell = |name: &str| row.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
        let words = format!("{} at most, {} at the end", cell("most"), cell("last"));
        verdict.judge(
            "R7.2",
            cell("last") <= 2.0 && cell("most") <= 16.0,
            words,
            "bounded, idle at the end",
            sql,
        );
    }
    let tables = [
        "node_cpu_seconds_total",
        "node_memory_MemAvailable_bytes",
        "node_disk_io_time_seconds_total",
        "node_network_receive_bytes_total",
        "process_resident_memory_bytes",
    ];
    let mut missing = Vec::new();
    for table in tables {
        let sql =
            format!("SELECT count(*) AS n FROM {table} WHERE time > now() - INTERVAL '1 minute'");
        if number(monitor, &sql).await.is_none_or(|n| n == 0.0) {
            missing.push(table);
        }
    }
    let words = if missing.is_empty() { "all there".to_owned() } else { missing.join(", ") };
    verdict.judge("R8.3", missing.is_empty(), words, "all there", tables.join(", "));
    let sql = "SELECT count(*) AS n FROM forecasts";
    match number(monitor, sql).await {
        Some(n) if n > 0.0 => verdict.judge("R8.5", true, format!("{n} forecasts"), "some", sql),
        _ => verdict.skip("R8.5", "half a day of real time is needed for a forecast"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r3_4_each_end_needs_an_incident_of_its_own_time_and_cause() {
        let end = |fault: &str, began: i64, ended: i64| End {
            fault: fault.to_owned(),
            began: Timestamp(began * 1000),
            ended: Timestamp(ended * 1000),
        };
        let incident = |at: i64, cause: &str| (Timestamp(at * 1000), cause.to_owned());
        let ends = [end("process_kill", 100, 101), end("process_stop", 200, 212)];
        let both = vec![incident(101, "killed"), incident(202, "stopped")];
        assert_eq!(without_incident(&ends, both.clone()), []);
        assert_eq!(without_incident(&ends, vec![both[0].clone(); 2]), [ends[1].clone()]);
        let early = vec![incident(90, "killed"), incident(202, "hung")];
        assert_eq!(without_incident(&ends, early), [ends[0].clone()]);
        let other = vec![incident(101, "upstream"), incident(202, "killed")];
        assert_eq!(without_incident(&ends, other), ends.to_vec());
        let twice = [ends[0].clone(), end("process_kill", 101, 102)];
        assert_eq!(without_incident(&twice, vec![incident(102, "killed")]), [twice[1].clone()]);
    }
}
