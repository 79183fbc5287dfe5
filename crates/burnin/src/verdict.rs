//! Judgements by criterion: a number, its limit, and how it was measured. What was not measured says so; it is no pass.

use crate::readings::Reading;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// How a criterion was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It was met.
    Pass,
    /// It was not.
    Fail,
    /// Nobody looked, or there was too little to see.
    NotMeasured,
}

/// One judgement.
#[derive(Clone, Debug, Serialize)]
pub struct Judgement {
    /// The criterion, such as `R1.4`.
    pub id: &'static str,
    /// What it asks.
    pub criterion: &'static str,
    /// Whether it was met.
    pub state: State,
    /// What was measured, in words and numbers.
    pub found: String,
    /// What it must be.
    pub limit: String,
    /// The SQL behind the number, or where else it is from.
    pub source: String,
}

/// All criteria.
const CRITERIA: [(&str, &str); 40] = [
    ("R1.1", "48 h under load without becoming unresponsive"),
    ("R1.2", "transient failures recover within 60 s"),
    ("R1.3", "health answers within 5 s at all times"),
    ("R1.4", "memory at most 10 % over its baseline"),
    ("R1.5", "CPU for each request within 80 to 125 % of its baseline"),
    ("R2.1", "enabling chaos does not corrupt the file"),
    ("R2.2", "changes are atomic"),
    ("R2.3", "failed updates roll back"),
    ("R2.4", "simultaneous changes are locked"),
    ("R2.5", "formatting and syntax are kept"),
    ("R3.1", "system metrics go on while the application is unresponsive"),
    ("R3.2", "failed collection retries with exponential backoff"),
    ("R3.3", "a failed health check alerts within 30 s"),
    ("R3.4", "recovery time and root cause are logged"),
    ("R3.5", "data persists even if the application crashes"),
    ("R4.1", "backpressure when resources are exhausted"),
    ("R4.2", "database unavailable: cached responses are served"),
    ("R4.3", "memory over 80 % triggers cleanup"),
    ("R4.4", "degradation restarts non-critical components"),
    ("R4.5", "full functionality within 2 minutes"),
    ("R5.1", "commands run without buffer overflow"),
    ("R5.2", "file operations are consistent across systems"),
    ("R5.3", "container operations complete on any platform"),
    ("R5.4", "long-running processes are not ended by time-outs"),
    ("R5.5", "the same performance across platforms"),
    ("R6.1", "scheduled chaos runs at its intervals"),
    ("R6.2", "faults are injected, core functionality kept, recovery in time"),
    ("R6.3", "chaos events are logged with context and impact"),
    ("R6.4", "back to normal when the window ends"),
    ("R6.5", "overlapping events cause no cascade"),
    ("R7.1", "memory is stable, without upward trend"),
    ("R7.2", "database connections are closed and recycled"),
    ("R7.3", "file handles are released promptly"),
    ("R7.4", "background processes are cleaned up"),
    ("R7.5", "near the limits: throttling and cleanup"),
    ("R8.1", "health covers application, database, cache"),
    ("R8.2", "response times, throughput, error rates"),
    ("R8.3", "CPU, memory, disk, network"),
    ("R8.4", "anomalies trigger alerts and automated responses"),
    ("R8.5", "trends are reported for capacity planning"),
];

/// The verdict of a run: what was judged, and the rest as not measured.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    judged: BTreeMap<&'static str, (State, String, String, String)>,
}

impl Verdict {
    /// Judges a criterion. A second judgement of the same counts if it is worse.
    pub fn judge(
        &mut self,
        id: &str,
        good: bool,
        found: impl Into<String>,
        limit: impl Into<String>,
        source: impl Into<String>,
    ) {
        let Some((id, _)) = CRITERIA.iter().find(|(it, _)| *it == id) else { return };
        let state = if good { State::Pass } else { State::Fail };
        let new = (state, found.into(), limit.into(), source.into());
        match self.judged.get_mut(id) {
            // Of two parts, one that failed or that nobody could measure is not made good by the other.
            Some(old) if old.0 != State::Pass && good => {}
            Some(old) if old.0 == State::Pass && good => old.1.extend(["; ".to_owned(), new.1]),
            _ => drop(self.judged.insert(id, new)),
        }
    }

    /// Says why nothing can be said of it, or of a part of it: that is no pass then.
    pub fn skip(&mut self, id: &str, why: impl Into<String>) {
        if let Some((id, _)) = CRITERIA.iter().find(|(it, _)| *it == id) {
            let why = why.into();
            match self.judged.get_mut(id) {
                Some(old) if old.0 == State::Pass => {
                    old.0 = State::NotMeasured;
                    old.1 = format!("{}; {why}", old.1);
                }
                Some(_) => {}
                None => {
                    let empty = (State::NotMeasured, why, String::new(), String::new());
                    self.judged.insert(id, empty);
                }
            }
        }
    }

    /// All forty.
    pub fn judgements(&self) -> Vec<Judgement> {
        let one = |(id, criterion): &(&'static str, &'static str)| {
            let known = self.judged.get(id).cloned();
            let (state, found, limit, source) = known.unwrap_or_else(|| {
                let words = "not a part of this run; its test is in tests/acceptance".to_owned();
                (State::NotMeasured, words, String::new(), String::new())
            });
            Judgement { id, criterion, state, found, limit, source }
        };
        CRITERIA.iter().map(one).collect()
    }

    /// How a criterion was met.
    pub fn state(&self, id: &str) -> State {
        self.judged.get(id).map_or(State::NotMeasured, |it| it.0)
    }

    /// Those that were not met.
    pub fn failed(&self) -> Vec<&'static str> {
        self.judged.iter().filter(|(_, it)| it.0 == State::Fail).map(|(id, _)| *id).collect()
    }

    /// As a table for people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let all = self.judgements();
        for it in &all {
            let state = match it.state {
                State::Pass => "pass",
                State::Fail => "FAIL",
                State::NotMeasured => "-",
            };
            let limit =
                if it.limit.is_empty() { String::new() } else { format!(" [{}]", it.limit) };
            let _ = writeln!(out, "{:<5} {state:<5} {}: {}{limit}", it.id, it.criterion, it.found);
        }
        let count = |state| all.iter().filter(|it| it.state == state).count();
        let _ = writeln!(
            out,
            "{} met, {} not met, {} not measured",
            count(State::Pass),
            count(State::Fail),
            count(State::NotMeasured)
        );
        out
    }
}

/// What memory did over a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Median of 5 to 15 % of the run.
    pub baseline: f64,
    /// Median of its last tenth.
    pub last: f64,
    /// The slope over 48 hours as a share of the baseline, with its 95 % interval.
    pub projected: [f64; 3],
}

impl Growth {
    /// Whether it is at most a tenth over its baseline, and no trend leads there in 48 hours.
    pub fn is_stable(&self) -> bool {
        let [_, low, _] = self.projected;
        self.last <= self.baseline * 1.1 && !(low > 0.0 && self.projected[0] > 0.1)
    }
}

/// Memory over the run, from the hours that no fault touches and after each restart has warmed up. Runs of a process are put on one
/// baseline each: a restart must not hide a leak, nor a new process be taken for one.
pub fn growth(
    readings: &[Reading],
    (warm_hours, warm_seconds): (f64, f64),
    disturbed: impl Fn(f64) -> bool,
) -> Option<Growth> {
    let mut calm: Vec<&Reading> = Vec::new();
    let (mut pid, mut born) = (0, (0.0, 0.0));
    for it in readings {
        if it.pid != pid {
            (pid, born) = (it.pid, (it.hour, it.at));
        }
        let warm = it.hour - born.0 >= warm_hours && it.at - born.1 >= warm_seconds;
        if warm && !disturbed(it.hour) {
            calm.push(it);
        }
    }
    let (first, last) = (calm.first()?.hour, calm.last()?.hour);
    let span = last - first;
    if calm.len() < 20 || span <= 0.0 {
        return None;
    }
    let median = |from: f64, to: f64| {
        let within = |it: &&&Reading| {
            let at = (it.hour - first) / span;
            (from..=to).contains(&at)
        };
        let mut values: Vec<f64> = calm.iter().filter(within).map(|it| it.own).collect();
        stats::order::median(&mut values)
    };
    let baseline = median(0.0, 0.15)?;
    let last = median(0.9, 1.0)?;
    // The slope within the longest run of one process: between two there is a step and no trend.
    let mut by_run: BTreeMap<u32, Vec<&Reading>> = BTreeMap::new();
    for it in calm {
        by_run.entry(it.pid).or_default().push(it);
    }
    let longest = by_run.into_values().max_by(|a, b| a.len().cmp(&b.len()))?;
    let step = longest.len().div_ceil(500);
    let (hours, values): (Vec<f64>, Vec<f64>) =
        longest.iter().step_by(step).map(|it| (it.hour, it.own)).unzip();
    let slope = stats::slope::theil_sen(&hours, &values, 0.95)?;
    let share = |slope: f64| slope * crate::plan::HOURS / baseline;
    Some(Growth {
        baseline,
        last,
        projected: [share(slope.slope), share(slope.low), share(slope.high)],
    })
}

/// What requests cost the processor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Seconds for 1,000 requests in the first fifth, the median of its windows.
    pub baseline: f64,
    /// The least and the greatest window, as share of that.
    pub least: f64,
    /// The same.
    pub greatest: f64,
    /// What a line through the windows rises in the run, as share of that, and the lower end of its 95 % interval.
    pub trend: [f64; 2],
}

/// Processor seconds for 1,000 requests in each of `windows` equal parts of the calm hours of a run.
pub fn cost(readings: &[Reading], windows: usize, disturbed: impl Fn(f64) -> bool) -> Option<Cost> {
    let first = readings.first()?.hour;
    let span = readings.last()?.hour - first;
    let mut sums = vec![(0.0, 0.0); windows];
    for pair in readings.windows(2) {
        let [a, b] = pair else { continue };
        let requests = b.requests.saturating_sub(a.requests) as f64;
        if a.pid != b.pid || requests <= 0.0 || disturbed(a.hour) || disturbed(b.hour) {
            continue;
        }
        let at = ((a.hour - first) / span * windows as f64) as usize;
        if let Some((cpu, all)) = sums.get_mut(at.min(windows - 1)) {
            *cpu += b.cpu - a.cpu;
            *all += requests;
        }
    }
    let most = sums.iter().map(|it| it.1).fold(0.0, f64::max);
    // A window that is mostly faults says little, and so does one of few requests.
    let costs: Vec<f64> = sums
        .iter()
        .filter(|(_, all)| *all > most / 2.0 && *all >= 1_000.0)
        .map(|(cpu, all)| cpu / all * 1_000.0)
        .collect();
    let mut warm: Vec<f64> = costs.iter().copied().take(costs.len().div_ceil(5).max(2)).collect();
    let baseline = stats::order::median(&mut warm)?;
    let least = costs.iter().copied().fold(f64::INFINITY, f64::min) / baseline;
    let greatest = costs.iter().copied().fold(0.0, f64::max) / baseline;
    let places: Vec<f64> = (0..costs.len()).map(|at| at as f64 / costs.len() as f64).collect();
    let line = stats::slope::theil_sen(&places, &costs, 0.95);
    let trend = line.map_or([0.0; 2], |line| [line.slope, line.low].map(|it| it / baseline));
    (costs.len() >= 5 && baseline > 0.0).then_some(Cost { baseline, least, greatest, trend })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings of two days in 1,000 steps with one restart in the middle; memory and CPU by functions of the hour.
    fn run(resident: impl Fn(f64) -> f64, cpu_each: impl Fn(f64) -> f64) -> Vec<Reading> {
        let mut cpu = 0.0;
        (0..1_000)
            .map(|n| {
                let hour = f64::from(n) * 0.048;
                cpu += 1_000.0 * cpu_each(hour);
                let noise = 1.0 + 0.01 * f64::from(n * 7 % 11 - 5) / 5.0;
                Reading {
                    at: f64::from(n),
                    hour,
                    pid: if n < 500 { 1 } else { 2 },
                    resident: resident(hour) * noise,
                    own: resident(hour) * noise,
                    cpu,
                    fds: 20.0,
                    requests: n as u64 * 1_000,
                }
            })
            .collect()
    }

    #[test]
    fn r1_4_a_leak_is_seen_and_a_flat_line_is_not_one() {
        let flat = growth(&run(|_| 3e7, |_| 1e-4), (1.0, 5.0), |_| false).unwrap();
        assert!(flat.is_stable(), "{flat:?}");
        let leak = growth(&run(|hour| 3e7 + 2e5 * hour, |_| 1e-4), (1.0, 5.0), |_| false).unwrap();
        assert!(!leak.is_stable(), "{leak:?}");
        // It falls back at each restart, and leaks all the same.
        let hidden = run(|hour| 3e7 + 4e5 * (hour % 24.0), |_| 1e-4);
        let hidden = growth(&hidden, (1.0, 5.0), |_| false).unwrap();
        assert!(!hidden.is_stable(), "{hidden:?}");
        let spike = run(|hour| if (20.0..21.0).contains(&hour) { 9e7 } else { 3e7 }, |_| 1e-4);
        assert!(growth(&spike, (1.0, 5.0), |_| false).unwrap().is_stable());
        assert_eq!(growth(&[], (1.0, 5.0), |_| false), None);
    }

    #[test]
    fn r1_5_a_window_that_costs_more_is_found() {
        let Cost { baseline, least, greatest, trend } =
            cost(&run(|_| 3e7, |_| 1e-4), 48, |_| false).unwrap();
        assert!(trend[0].abs() < 0.01, "{trend:?}");
        assert!((baseline - 0.1).abs() < 1e-6 && least > 0.99 && greatest < 1.01);
        let drift = run(|_| 3e7, |hour| 1e-4 * (1.0 + hour / 96.0));
        let Cost { greatest, trend, .. } = cost(&drift, 48, |_| false).unwrap();
        assert!(trend[1] > 0.05, "{trend:?}");
        assert!(greatest > 1.25, "{greatest}");
    }

    #[test]
    fn what_was_not_measured_is_no_pass_and_the_worse_of_two_counts() {
        let mut verdict = Verdict::default();
        verdict.judge("R1.1", true, "99.99 %", "99.9 %", "client");
        verdict.judge("R1.1", false, "hung", "", "");
        verdict.judge("R1.1", true, "fine again", "", "");
        verdict.skip("R1.1", "no");
        verdict.judge("R1.3", true, "2 ms", "5 s", "prober");
        verdict.judge("R1.4", true, "gateway flat", "", "");
        verdict.skip("R1.4", "nobody read the monitor");
        verdict.judge("R9.9", false, "no such criterion", "", "");
        assert_eq!(verdict.failed(), ["R1.1"]);
        let all = verdict.judgements();
        assert_eq!(all.len(), 40);
        assert_eq!(all.iter().filter(|it| it.state == State::NotMeasured).count(), 38);
        assert_eq!(verdict.state("R1.4"), State::NotMeasured);
        assert!(verdict.table().ends_with("1 met, 1 not met, 38 not measured\n"));
    }
}
