//! What came of a run, criterion by criterion, from the clients' side and from outside the processes.

use super::faults::{Fault, MonitorKill, is_recovered};
use super::stack::{BUDGET, Stack};
use super::{Measured, series};
use crate::monitor_client::MonitorClient;
use ::burnin::page::{Line, Marks, Plot};
use ::burnin::readings::{Reading, Readings};
use ::burnin::sink::Told;
use ::burnin::tally::Kind;
use ::burnin::verdict::{Cost, Verdict, cost, growth};
use ::chaos::{Event, Outcome};
use model::Timestamp;
use model::exposition::Dialect;
use model::exposition::parse::Parser;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::PoisonError;

/// What R1.2 names.
const TRANSIENT: [&str; 7] = [
    "process_kill",
    "process_stop",
    "database_away",
    "cache_away",
    "upstream_away",
    "memory_balloon",
    "handle_hog",
];
/// Hours after a start in which a process warms up, and after a fault in which it is not calm yet.
const WARM: (f64, f64) = (1.0, 120.0);
const AFTER: f64 = 0.75;
/// Seconds of a run in which the monitor's memory can be judged.
const BY_TIME: f64 = 6.0 * 3_600.0;
/// Alerts that say that a process is gone or came back.
const OF_A_PROCESS: [&str; 5] = [
    "TargetDown",
    "ProcessStopped",
    "ProcessRestarted",
    "GatewayNotReady",
    "GatewayDataPlaneHangs",
];

pub(super) async fn judge(it: &Measured, stack: &Stack, monitor: &MonitorClient) -> Verdict {
    let mut verdict = Verdict::default();
    let faults = it.done.all();
    availability(&mut verdict, it);
    recovery(&mut verdict, it, &faults);
    together(&mut verdict, it, &faults);
    kept(&mut verdict, &it.done.monitor_kills());
    health(&mut verdict, it, &faults);
    memory_and_cpu(&mut verdict, it, &faults);
    edits(&mut verdict, it, stack);
    chaos(&mut verdict, stack, &faults).await;
    alerts(&mut verdict, it, &faults);
    series::judge(&mut verdict, it, stack, monitor, &faults).await;
    own_pages(&mut verdict, it, stack).await;
    verdict
}

fn availability(verdict: &mut Verdict, it: &Measured) {
    let slept = it.gaps.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if !slept.is_empty() {
        let seconds: f64 = slept.iter().map(|gap| gap.1).sum();
        let times = slept.len();
        verdict.skip("R1.1", format!("void: the machine slept {times} times, {seconds:.0} s"));
        return;
    }
    let count = |kind| it.tally.count(kind, false);
    let all = it.tally.all(false);
    let (due, wrong) = (count(Kind::Due), count(Kind::WrongDenial) + count(Kind::WrongGrant));
    // Nothing is granted wrongly, not even while a fault lasts.
    let wrong = wrong + it.tally.count(Kind::WrongGrant, true);
    let share = due as f64 / all.max(1) as f64;
    let found = format!(
        "{:.4} % of {all} answers were as due ({} shed, {} failed, {} timed out, {} unreachable, {wrong} wrong); p50 {} ms, p99 {} ms; in chaos windows {:.2} % of {}",
        share * 100.0,
        count(Kind::Shed),
        count(Kind::Failed),
        count(Kind::TimedOut),
        count(Kind::Unreachable),
        it.tally.quantile(0.5).unwrap_or_default(),
        it.tally.quantile(0.99).unwrap_or_default(),
        it.tally.count(Kind::Due, true) as f64 / it.tally.all(true).max(1) as f64 * 100.0,
        it.tally.all(true),
    );
    let good = share >= 0.999 && wrong == 0 && it.probed.is_good();
    verdict.judge("R1.1", good, found, "99.9 % as due, none wrong, well at the end", "the clients");
}

fn recovery(verdict: &mut Verdict, it: &Measured, faults: &[Fault]) {
    let outages = it.probed.outages(it.seconds);
    let longest = outages.iter().map(|it| it.seconds).fold(0.0, f64::max);
    let transient: Vec<&Fault> =
        faults.iter().filter(|it| TRANSIENT.contains(&it.name.as_str())).collect();
    let not_recovered = |it: &&&Fault| !it.event.as_ref().is_some_and(is_recovered);
    let in_words = |it: &&Fault| format!("{}: {}", it.name, why(it));
    let bad: Vec<String> = transient.iter().filter(not_recovered).map(in_words).collect();
    let slowest =
        transient.iter().filter_map(|it| it.event.as_ref()?.recovery_seconds).fold(0.0, f64::max);
    let away: f64 = outages.iter().map(|it| it.seconds).sum();
    let mut found = format!(
        "{} faults; healthy {:.2} % of the time seen from outside, {} outages, the longest {longest:.1} s; slowest recovery after a fault {slowest:.1} s",
        transient.len(),
        100.0 * (1.0 - away / it.seconds.max(1.0)),
        outages.len()
    );
    if !bad.is_empty() {
        found += &format!("; not recovered: {}", bad.join("; "));
    }
    if transient.is_empty() && longest < 60.0 {
        verdict.skip("R1.2", "no fault was done");
    } else {
        let good = longest < 60.0 && slowest < 60.0 && bad.is_empty();
        let source = "prober; SELECT fault, recovery_seconds FROM chaos_events";
        verdict.judge("R1.2", good, found, "60 s", source);
    }
    let slowest = faults
        .iter()
        .filter_map(|it| it.event.as_ref()?.recovery_seconds)
        .fold(0.0_f64, f64::max)
        .max(longest);
    if faults.is_empty() {
        verdict.skip("R4.5", "no fault was done");
    } else {
        let source = "SELECT fault, recovery_seconds FROM chaos_events";
        let all: Vec<&Fault> = faults.iter().collect();
        let bad: Vec<String> = all.iter().filter(not_recovered).map(in_words).collect();
        let found = match bad.first() {
            None => format!("slowest {slowest:.1} s"),
            Some(_) => format!("not recovered: {}", bad.join("; ")),
        };
        verdict.judge("R4.5", slowest < 120.0 && bad.is_empty(), found, "120 s", source);
    }
}

/// Faults that were there at once.
fn together(verdict: &mut Verdict, it: &Measured, faults: &[Fault]) {
    let span = |fault: &Fault| {
        let event = fault.event.as_ref()?;
        let seconds = |at: Timestamp| (at.millis() - it.began.millis()) as f64 / 1_000.0;
        Some((seconds(event.began?), seconds(event.ended?), event.experiment.target()))
    };
    let spans: Vec<(f64, f64, String)> = faults.iter().filter_map(span).collect();
    let at_once = |(from, to, _): &(f64, f64, String)| {
        let there = |it: &&(f64, f64, String)| (it.0..it.1).contains(from) && from < to;
        spans.iter().filter(there).map(|it| it.2.as_str()).collect::<Vec<_>>()
    };
    let crowds: Vec<Vec<&str>> = spans.iter().map(at_once).filter(|it| it.len() > 1).collect();
    let most = crowds.iter().map(Vec::len).max().unwrap_or(0);
    if most < 2 {
        return verdict.skip("R6.5", "no two faults were there at once");
    }
    let shared = crowds.iter().any(|it| it.iter().collect::<BTreeSet<_>>().len() < it.len());
    let during = |from: f64| {
        let overlaps = |it: &(f64, f64, String)| (it.0..it.1).contains(&from);
        spans.iter().filter(|it| overlaps(it)).count() > 1
    };
    let outages = it.probed.outages(it.seconds).iter().filter(|it| during(it.from)).count();
    let bad = faults.iter().filter(|it| !it.event.as_ref().is_some_and(is_recovered)).count();
    let words = format!(
        "{most} faults at once at most, {} on one target; {outages} outages meanwhile, {bad} faults not recovered",
        if shared { "two of them" } else { "none" },
    );
    let good = most <= BUDGET && !shared && outages == 0 && bad == 0;
    let source = "SELECT experiment, fault, target, began, ended FROM chaos_events; prober";
    verdict.judge("R6.5", good, words, format!("{BUDGET} at once, no outage"), source);
}

/// What is left of the samples when the monitor was killed.
fn kept(verdict: &mut Verdict, kills: &[MonitorKill]) {
    for it in kills {
        let MonitorKill { hour, shown, lost, seconds } = it;
        let words = match lost {
            Some(lost) => format!(
                "monitor killed at hour {hour:.1}: of {shown} samples {lost} lost, back after {seconds:.1} s"
            ),
            None => format!("killed at hour {hour:.1}, the monitor did not come back"),
        };
        let sql = "SELECT count(*) FROM samples, before and after";
        verdict.judge("R3.5", *lost == Some(0), words, "none lost", sql);
    }
}

fn why(fault: &Fault) -> String {
    match (&fault.event, &fault.error) {
        (Some(event), _) => format!("{} {}", event.outcome.name(), event.detail),
        (None, Some(error)) => error.clone(),
        (None, None) => "no event".to_owned(),
    }
}

fn health(verdict: &mut Verdict, it: &Measured, faults: &[Fault]) {
    let (asked, unanswered) = it.probed.counts();
    // A process that was killed or stopped on purpose cannot answer; how long that lasts is R1.2.
    let seconds = |at: Timestamp| (at.millis() - it.began.millis()) as f64 / 1_000.0;
    let explained = |at: f64| {
        let of = faults.iter().filter(|fault| fault.name.starts_with("process_"));
        of.clone().any(|fault| (seconds(fault.began)..=seconds(fault.ended) + 5.0).contains(&at))
    };
    let unexplained = it.probed.unanswered().into_iter().filter(|at| !explained(*at)).count();
    let quantile = |q| it.probed.quantile(q).unwrap_or(f64::NAN);
    let found = format!(
        "{asked} probes, {unanswered} without an answer, {unexplained} of them while the process was not stopped on purpose; p99.9 {:.1} ms, longest {:.0} ms",
        quantile(0.999),
        quantile(1.0)
    );
    let good = unexplained == 0 && quantile(1.0) < 5_000.0;
    verdict.judge("R1.3", good, found, "5 s always; goal p99.9 100 ms", "prober");
}

/// Whether an hour lies in a fault, or soon after.
fn disturbed(faults: &[Fault]) -> impl Fn(f64) -> bool + '_ {
    |hour| faults.iter().any(|it| hour >= it.from - 0.05 && hour <= it.to + AFTER)
}

fn memory_and_cpu(verdict: &mut Verdict, it: &Measured, faults: &[Fault]) {
    for (name, readings) in [("gateway", &it.gateway), ("monitor", &it.monitor)] {
        let Some(grown) = growth(&readings.all(), WARM, disturbed(faults)) else {
            verdict.skip("R1.4", format!("too few calm readings of the {name}"));
            continue;
        };
        let mib = |bytes: f64| bytes / 1_048_576.0;
        let resident = readings.all().iter().map(|it| it.resident).fold(0.0, f64::max);
        if name == "monitor" && it.seconds < BY_TIME {
            // What it does goes by time: its buffers and what it knows of each series fill for hours.
            let (first, last) = (mib(grown.baseline), mib(grown.last));
            let words = format!(
                "monitor: {first:.1} MiB of its own at first, {last:.1} at last, {:.1} with its program's pages; its work goes by time, and {:.0} minutes are no measure of it",
                mib(resident),
                it.seconds / 60.0
            );
            verdict.skip("R1.4", words);
            continue;
        }
        let [slope, low, high] = grown.projected.map(|share| share * 100.0);
        let found = format!(
            "{name}: {:.1} MiB of its own at first, {:.1} at last, {:.1} with its program's pages; slope {slope:+.1} % in 48 h ({low:+.1} to {high:+.1})",
            mib(grown.baseline),
            mib(grown.last),
            mib(resident)
        );
        verdict.judge("R1.4", grown.is_stable(), found, "110 % of the baseline", "/proc");
    }
    // What a process does without requests too is shared by more of them in a spike.
    let disturbed = disturbed(faults);
    // Ten minutes each, where that is long enough to tell anything on a machine that is shared.
    let windows = (it.seconds / 50.0).clamp(10.0, 288.0) as usize;
    let calm = |hour| disturbed(hour) || ::burnin::plan::in_spike(hour);
    match cost(&it.gateway.all(), windows, calm) {
        None => verdict.skip("R1.5", "too few calm readings of the gateway"),
        Some(Cost { baseline, least, greatest, trend }) => {
            let found = format!(
                "{:.1} us of processor time for each request; {windows} windows between {:.0} and {:.0} % of that; trend {:+.1} % in the run, at least {:+.1}",
                baseline * 1_000.0,
                least * 100.0,
                greatest * 100.0,
                trend[0] * 100.0,
                trend[1] * 100.0
            );
            let good = least >= 0.8 && greatest <= 1.25 && trend[1] <= 0.05;
            verdict.judge(
                "R1.5",
                good,
                found,
                "80 to 125 %, no trend upward",
                "/proc and the clients",
            );
        }
    }
    let fds = |readings: &[Reading]| {
        let mut first: Vec<f64> = readings.iter().take(5).map(|it| it.fds).collect();
        first.retain(|it| it.is_finite());
        // The least: the clients come within the first seconds.
        first.into_iter().reduce(f64::min).unwrap_or(0.0)
    };
    if let Some(after) = it.handles_after {
        let before = fds(&it.gateway.all());
        let found =
            format!("{before:.0} handles at the start, {after} within 10 s of the load's end");
        // Pools keep a few connections for the next request.
        verdict.judge(
            "R7.3",
            after as f64 <= before + 20.0,
            found,
            "as at the start, and a pool",
            "/proc",
        );
    }
}

fn edits(verdict: &mut Verdict, it: &Measured, stack: &Stack) {
    let edits = it.done.edits();
    if edits.done + edits.refused == 0 {
        for id in ["R2.1", "R2.2", "R2.4", "R2.5"] {
            verdict.skip(id, "no edit was done");
        }
        return;
    }
    let found = match edits.broken.first() {
        None => format!("{} edits by four editors, all else in the file as it was", edits.done),
        Some(first) => format!("{} edits; broken: {first}", edits.done),
    };
    let lost = edits.broken.iter().any(|it| it.contains("lost"));
    let torn = edits.broken.iter().any(|it| !it.contains("lost"));
    for id in ["R2.1", "R2.2", "R2.5"] {
        verdict.judge(id, !torn && edits.done > 0, found.clone(), "no byte of others", "file");
    }
    verdict.judge("R2.4", !lost && edits.done > 0, found, "no edit lost", "file");
    let file = std::fs::read_to_string(&stack.env).unwrap_or_default();
    let corrupted = it.done.all().iter().any(|it| it.name == "corrupt_config" && it.has_begun());
    if corrupted {
        let clean = !file.contains("'FF_CHAOS=on'  \r");
        let words = "a line that nobody can read was there for a while, and is gone";
        verdict.judge("R2.3", clean && it.probed.is_good(), words, "back as it was", "file");
    }
}

async fn chaos(verdict: &mut Verdict, stack: &Stack, faults: &[Fault]) {
    let events: Vec<_> = faults.iter().filter_map(|it| it.event.as_ref()).collect();
    if faults.is_empty() {
        return;
    }
    let not_begun: Vec<String> = faults
        .iter()
        .filter(|it| it.event.as_ref().is_none_or(|it| it.began.is_none()))
        .map(why)
        .collect();
    let words = match not_begun.first() {
        None => format!("{} events, each begun", events.len()),
        Some(first) => format!("{} of {} did not begin: {first}", not_begun.len(), faults.len()),
    };
    let source = "SELECT experiment, due, began, outcome, detail FROM chaos_events";
    verdict.judge("R6.1", not_begun.is_empty(), words, "all", source);
    let bad: Vec<String> = faults
        .iter()
        // One that had to be broken off kept no core functionality.
        .filter(|it| it.event.as_ref().is_none_or(|it| it.outcome != Outcome::Recovered))
        .map(|it| format!("{}: {}", it.name, why(it)))
        .collect();
    let words = match bad.first() {
        None => format!("{} events recovered, none had to be broken off", events.len()),
        Some(_) => bad.join("; "),
    };
    verdict.judge("R6.2", bad.is_empty(), words, "all recovered in time", source);
    let is_measured = |it: &Event| it.requests.is_some() && it.failing[1].is_some();
    let measured = events.iter().filter(|it| is_measured(it)).count();
    // While the gateway is gone there is nothing to count, nor of what is over at once.
    let silent = events.iter().filter(|it| !is_measured(it)).filter(|it| {
        it.experiment.fault.name().starts_with("process_") || it.experiment.fault.at_once()
    });
    let silent = silent.count();
    let words = format!(
        "{measured} of {} events with requests, failures and latency, {silent} without any to count",
        events.len()
    );
    let source = "SELECT fault, requests, failing, latency_delta, detector, detected_seconds FROM chaos_events";
    verdict.judge("R6.3", measured + silent >= events.len(), words, "all", source);
    if stack.control.is_none() {
        return;
    }
    let mut left = Vec::new();
    for path in ["/admin/chaos", "/admin/chaos/own"] {
        let answer = stack.admin("GET", path, "").await.unwrap_or(Value::Null);
        let list = answer.get("faults").and_then(Value::as_array).cloned();
        match list {
            Some(list) => left.extend(list.iter().map(Value::to_string)),
            None => left.push("the gateway does not say".to_owned()),
        }
    }
    let words = if left.is_empty() { "no fault is left".to_owned() } else { left.join(", ") };
    verdict.judge("R6.4", left.is_empty(), words, "none left", "GET /admin/chaos");
    let away = events.iter().find(|it| it.experiment.fault.name() == "database_away");
    if let Some(share) = away.and_then(|it| it.failing[1]) {
        let words =
            format!("{:.2} % of requests failed while the database was away", share * 100.0);
        verdict.judge("R4.2", share <= 0.01, words, "1 %", "SELECT failing FROM chaos_events");
    }
}

fn alerts(verdict: &mut Verdict, it: &Measured, faults: &[Fault]) {
    let told = it.sink.told();
    let mut slowest: f64 = 0.0;
    let (mut count, mut mute) = (0, Vec::new());
    for fault in faults.iter().filter(|it| it.name.starts_with("process_")) {
        let Some(began) = fault.event.as_ref().and_then(|it| it.began) else { continue };
        let of_it = |it: &&Told| OF_A_PROCESS.contains(&it.alert.as_str()) && it.job == "gateway";
        // Of what fires already nobody is told again.
        let mut fires = BTreeMap::new();
        for it in told.iter().filter(of_it).filter(|it| it.at < began.millis()) {
            fires.insert(it.alert.as_str(), it.firing);
        }
        if fires.values().any(|fires| *fires) {
            continue;
        }
        count += 1;
        let first = told
            .iter()
            .filter(of_it)
            .filter(|it| it.firing && it.at >= began.millis())
            .map(|it| (it.at - began.millis()) as f64 / 1_000.0)
            .fold(f64::INFINITY, f64::min);
        if first.is_finite() {
            slowest = slowest.max(first);
        } else {
            mute.push(fault.name.clone());
        }
    }
    if count == 0 {
        verdict.skip("R3.3", "no process was killed or stopped");
        return;
    }
    let words = match mute.first() {
        None => format!("{count} faults, the slowest message after {slowest:.1} s"),
        Some(name) => format!("no message after {name} ({} of {count})", mute.len()),
    };
    verdict.judge("R3.3", mute.is_empty() && slowest <= 30.0, words, "30 s", "webhook");
}

async fn own_pages(verdict: &mut Verdict, it: &Measured, stack: &Stack) {
    let [first, last] = it.pages;
    let page = stack.page().await.unwrap_or_default();
    let mut parser = Parser::new(page.as_bytes(), Dialect::Prometheus);
    let mut odd = 0;
    while let Some(line) = parser.next_line() {
        odd += usize::from(line.is_err());
    }
    // Values grow by some digits; series that come with each request would multiply it.
    let good = odd == 0 && last > 0 && (last as f64) < first as f64 * 1.3;
    let words = format!(
        "{first} bytes of metrics at first, {last} at last; {odd} lines that nobody can read"
    );
    verdict.judge("R8.2", good, words, "of constant size, no bad line", "GET /metrics");
    if stack.control.is_none() {
        return;
    }
    let health = stack.admin("GET", "/health", "").await.unwrap_or(Value::Null);
    let checks = health.get("checks").and_then(Value::as_array).cloned().unwrap_or_default();
    let names: Vec<&str> =
        checks.iter().filter_map(|it| it.get("name").and_then(Value::as_str)).collect();
    let all = ["application", "database", "cache"].iter().all(|name| names.contains(name));
    verdict.judge("R8.1", all, names.join(", "), "application, database, cache", "GET /health");
}

/// What is still there after all was ended.
pub(super) fn left_behind(verdict: &mut Verdict, dir: &Path) {
    let file = dir.join("burnin.toml");
    let Ok(mut left) = platform::process::find(&file.to_string_lossy(), 16) else {
        return verdict.skip("R7.4", "processes cannot be listed on this system");
    };
    left.retain(|pid| *pid != std::process::id());
    let words = format!("{} processes are left", left.len());
    verdict.judge("R7.4", left.is_empty(), words, "none", "/proc");
}

/// What is drawn.
pub(super) fn plots(it: &Measured) -> Vec<Plot> {
    let line = |name: &str, readings: &Readings, of: fn(&Reading) -> f64| Line {
        name: name.to_owned(),
        points: readings.all().iter().map(|it| (it.hour, of(it))).collect(),
    };
    let each = |title: &str, of: fn(&Reading) -> f64| Plot {
        title: title.to_owned(),
        lines: vec![line("gateway", &it.gateway, of), line("monitor", &it.monitor, of)],
    };
    let readings = it.gateway.all();
    let rates = |of: fn(&Reading, &Reading) -> f64| {
        let pairs = readings.windows(2).filter_map(|pair| match pair {
            [a, b] if a.pid == b.pid => Some((b.hour, of(a, b))),
            _ => None,
        });
        pairs.collect::<Vec<_>>()
    };
    let requests = rates(|a, b| b.requests.saturating_sub(a.requests) as f64 / (b.at - a.at));
    let cpu = rates(|a, b| {
        let requests = b.requests.saturating_sub(a.requests) as f64;
        if requests < 50.0 { f64::NAN } else { (b.cpu - a.cpu) / requests * 1e6 }
    });
    let single = |title: &str, points| Plot {
        title: title.to_owned(),
        lines: vec![Line { name: "gateway".to_owned(), points }],
    };
    vec![
        each("Resident memory, MiB", |it| it.resident / 1_048_576.0),
        each("Of it no pages of files, MiB", |it| it.own / 1_048_576.0),
        single("Answers a second", requests),
        single("Processor time for each request, microseconds", cpu),
        each("Open handles", |it| it.fds),
    ]
}

/// The faults, as spans of hours.
pub(super) fn marks(it: &Measured) -> Marks {
    it.done.all().into_iter().map(|fault| (fault.from, fault.to, fault.name)).collect()
}
