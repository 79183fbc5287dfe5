//! Saturation: a process whose processor is at its capacity and that no longer serves what is
//! asked.
//!
//! Two kinds of evidence must agree in the same readings: *busy* (cpu near capacity) and *failing*
//! (answers fall behind requests, or, where that is unknown, probes time out or take many
//! seconds). Busy alone is a batch job or a warm-up; failing alone is somebody else's outage. An
//! episode starts with the first reading that is both, healthy readings wear it off twice as fast
//! as it grew, and it is told once it has lasted and repeated enough.
//!
//! Sources: the USE method (Gregg, "Thinking methodically about performance", ACM Queue 2012) for
//! "utilised and saturated"; receive livelock (Mogul and Ramakrishnan 1997,
//! doi:10.1145/263326.263335) for goodput that falls while the offered load does not; a leaky CUSUM
//! (Page 1954) for persistence.
//!
//! Assumes: `latency_s` is of a light request or a probe; goodput counts every answer that was due,
//! denials included. Cost: O(1) a reading, no allocation. Bytes: about 300.
//!
//! Failure modes: a saturated lock or pool with an idle processor is not named; a process that its
//! neighbours hold below its capacity needs its real capacity in the configuration; without goodput
//! a server that sheds load quickly looks well.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

/// Share of capacity from which a reading is busy: under contention a starved process shows less
/// than its capacity, the recorded one 0.65 to 0.91.
const BUSY: f64 = 0.6;
/// Mean share of capacity that an episode must have.
const BUSY_MEAN: f64 = 0.7;
/// Share that a process which its neighbours starve still gets. That little counts only with probes
/// that go unanswered, `STARVED_UNANSWERED` of them over twice the usual time: a hung process uses
/// none, and an outage of an upstream leaves the probes alone.
const STARVED: f64 = 0.2;
/// Unanswered probes that a starved episode needs.
const STARVED_UNANSWERED: u32 = 4;
/// Share of requests answered below which service is failing. Injected faults of 20 % stay above.
const FAILING: f64 = 0.7;
/// Share from which service is kept, whatever the latency.
const KEPT: f64 = 0.8;
/// A probe this slow is as good as unanswered: ten times over what people wait for, seconds.
const SLOW_S: f64 = 5.0;
/// A busy process that answers faster than this is well; between the two nothing is said, s.
const DOUBT_S: f64 = 1.0;
/// Slow against its own normal: this many times over, and at least `SLOW_LEAST_S`.
const SLOW_TIMES: f64 = 8.0;
/// Below this no latency is called slow: injected faults take up to 1.5 s, and their queue twice
/// that.
const SLOW_LEAST_S: f64 = 2.0;
/// Least length of an episode, ms: a start-up stall or a collection pause is shorter.
const LEAST_MS: i64 = 10_000;
/// Least readings of an episode.
const LEAST_READINGS: u32 = 2;
/// Time that one reading may stand for, ms: a gap in the data is no evidence.
const STEP_CAP_MS: i64 = 60_000;
/// Requests in one reading from which their share answered means something.
const LEAST_REQUESTS: f64 = 5.0;
/// Healthy readings after which the normal latency is known.
const LEARNED: u32 = 30;
/// Step of the running median of log latency: reaches a factor of 8 in about 40 readings.
const MEDIAN_STEP: f64 = 0.05;

/// What the detector is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SaturationConfig {
    /// Cores the process can use at most (cgroup quota, or 1 for a single-threaded runtime); NaN
    /// when unknown (0 means the same), then goodput and latency must both fail. Default 1.
    pub capacity_cores: f64,
}

impl Default for SaturationConfig {
    fn default() -> Self {
        Self { capacity_cores: 1.0 }
    }
}

/// One reading; NaN where unknown.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Processor in use, cores.
    pub cpu_cores: f64,
    /// Requests offered per second.
    pub offered_rps: f64,
    /// Requests answered as they should per second, due denials included.
    pub goodput_rps: f64,
    /// Latency of a probe or of light requests, seconds; of a timeout the time waited.
    pub latency_s: f64,
    /// Failed requests per second (time-outs, 5xx); stands in for an unknown goodput.
    pub errors_rps: f64,
    /// False if a probe or scrape got no answer in its time.
    pub answered: bool,
}

/// What made the readings count as failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaturationReason {
    /// Answers fell behind the requests offered.
    GoodputCollapse,
    /// Probes or scrapes were not answered in time.
    Unanswered,
    /// Latency of many seconds, or many times its normal.
    SlowAnswers,
}

/// A saturated process. All numbers are over the readings from `since` to `at`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SaturationAlarm {
    /// Time of the deciding reading, ms.
    pub at: i64,
    /// First reading of the episode, ms.
    pub since: i64,
    /// Strongest kind of evidence.
    pub reason: SaturationReason,
    /// Mean cpu over capacity (NaN when unknown).
    pub cpu_share: f64,
    /// Least and greatest of it.
    pub cpu_low: f64,
    /// Greatest cpu over capacity.
    pub cpu_high: f64,
    /// Answered over offered in the episode (NaN when unknown).
    pub goodput_share: f64,
    /// Mean requests offered per second (NaN when unknown).
    pub offered_rps: f64,
    /// Greatest latency, seconds (NaN when unknown).
    pub latency_s: f64,
    /// Normal latency that it was compared with, seconds (NaN while unlearned).
    pub normal_latency_s: f64,
    /// Readings without an answer.
    pub unanswered: u32,
    /// Readings in the episode.
    pub readings: u32,
    /// Feed a fresh detector from here to get the same numbers.
    pub evidence_from: i64,
}

/// Running sums of one episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Episode {
    since: i64,
    /// Time of the last reading that said anything, ms.
    judged: i64,
    /// Evidence in ms: grows with failing readings, wears off with healthy ones.
    weight: i64,
    readings: u32,
    failing: u32,
    collapsed: u32,
    unanswered: u32,
    cpu: f64,
    cpu_readings: u32,
    cpu_range: Option<(f64, f64)>,
    offered: f64,
    good: f64,
    rated: u32,
    latency: Option<f64>,
    relative: bool,
    told: bool,
}

/// The verdict on one reading.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Failing,
    Healthy,
    Unknown,
}

/// The detector of one process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saturation {
    config: SaturationConfig,
    first_ms: Option<i64>,
    last_ms: Option<i64>,
    log_latency: f64,
    learned: u32,
    episode: Option<Episode>,
}

impl Saturation {
    /// A detector that has seen nothing.
    pub fn new(config: SaturationConfig) -> Self {
        Self { config, first_ms: None, last_ms: None, log_latency: 0.0, learned: 0, episode: None }
    }

    /// Says how many cores the process can use at most, from now on; as in the configuration.
    pub fn set_capacity(&mut self, cores: f64) {
        self.config.capacity_cores = cores;
    }

    /// Takes a reading; an alarm comes once per episode.
    pub fn push(&mut self, time_ms: i64, reading: Reading) -> Option<SaturationAlarm> {
        let step = match self.last_ms {
            Some(last) if time_ms <= last => return None,
            Some(last) => time_ms.saturating_sub(last),
            None => 0,
        };
        if step > 5 * STEP_CAP_MS {
            self.episode = None; // what happened in such a gap is not known
        }
        self.first_ms.get_or_insert(time_ms);
        self.last_ms = Some(time_ms);
        let step = step.min(STEP_CAP_MS);
        let verdict = self.verdict(&reading, step);
        if verdict == Verdict::Failing && self.episode.is_none() {
            self.episode = Some(Episode::new(time_ms));
        }
        let slow = self.is_slow_for_it(reading.latency_s);
        let capacity = self.config.capacity_cores;
        if let Some(episode) = &mut self.episode {
            episode.add(time_ms, step, &reading, capacity, verdict, slow);
            if episode.weight < 0 {
                self.episode = None;
            }
        }
        if verdict == Verdict::Healthy {
            self.learn(&reading);
        }
        self.tell(time_ms)
    }

    /// Whether an alarm was raised whose episode still goes on.
    pub fn is_standing(&self) -> bool {
        self.episode.as_ref().is_some_and(|e| e.told)
    }

    /// Numbers of the present episode, told or not.
    pub fn estimate(&self) -> Option<SaturationAlarm> {
        let e = self.episode.as_ref()?;
        let mean = |sum: f64, n: u32| if n > 0 { sum / f64::from(n) } else { f64::NAN };
        let reason = if e.collapsed > 0 {
            SaturationReason::GoodputCollapse
        } else if e.unanswered > 0 {
            SaturationReason::Unanswered
        } else {
            SaturationReason::SlowAnswers
        };
        Some(SaturationAlarm {
            at: self.last_ms?,
            since: e.since,
            reason,
            cpu_share: mean(e.cpu, e.cpu_readings),
            cpu_low: e.cpu_range.map_or(f64::NAN, |r| r.0),
            cpu_high: e.cpu_range.map_or(f64::NAN, |r| r.1),
            goodput_share: if e.offered > 0.0 { e.good / e.offered } else { f64::NAN },
            offered_rps: mean(e.offered, e.rated),
            latency_s: e.latency.unwrap_or(f64::NAN),
            normal_latency_s: self.normal_latency(),
            unanswered: e.unanswered,
            readings: e.readings,
            // A latency that is slow only against its normal needs the readings that taught it.
            evidence_from: if e.relative { self.first_ms? } else { e.since },
        })
    }

    fn tell(&mut self, time_ms: i64) -> Option<SaturationAlarm> {
        let e = self.episode.as_mut()?;
        let share = match e.cpu_readings {
            0 => 1.0, // unknown: the verdicts asked for more evidence instead
            n => e.cpu / f64::from(n),
        };
        let starved = share >= STARVED && e.unanswered >= STARVED_UNANSWERED;
        let least = match (share >= BUSY_MEAN, starved) {
            (true, _) => LEAST_MS,
            (false, true) => 2 * LEAST_MS,
            (false, false) => return None,
        };
        let lasted = time_ms.saturating_sub(e.since) >= least && e.weight >= least;
        if e.told || !lasted || e.failing < LEAST_READINGS {
            return None;
        }
        e.told = true;
        self.estimate()
    }

    fn verdict(&self, r: &Reading, step: i64) -> Verdict {
        let capacity = self.config.capacity_cores;
        let share = r.cpu_cores / capacity;
        let busy = (share.is_finite() && capacity > 0.0).then_some(share >= BUSY);
        let served = served(r, step);
        let slow = !r.answered || r.latency_s >= SLOW_S || self.is_slow_for_it(r.latency_s);
        match (busy, served) {
            (_, Some(s)) if s >= KEPT => Verdict::Healthy,
            (Some(false), _) if share >= STARVED && !r.answered => Verdict::Failing,
            (Some(false), _) => Verdict::Healthy,
            (Some(true), Some(s)) if s < FAILING => Verdict::Failing,
            (Some(true), _) if slow => Verdict::Failing,
            // Cpu unknown: answers must be both few and slow.
            (None, Some(s)) if s < FAILING && slow => Verdict::Failing,
            (Some(true), None) if r.latency_s < DOUBT_S => Verdict::Healthy,
            _ => Verdict::Unknown,
        }
    }

    fn normal_latency(&self) -> f64 {
        if self.learned >= LEARNED { self.log_latency.exp() } else { f64::NAN }
    }

    fn is_slow_for_it(&self, latency_s: f64) -> bool {
        latency_s >= SLOW_LEAST_S && latency_s >= SLOW_TIMES * self.normal_latency()
    }

    /// Running median of log latency over healthy readings.
    fn learn(&mut self, r: &Reading) {
        if !(r.latency_s > 0.0 && r.latency_s.is_finite() && r.answered) {
            return;
        }
        let x = r.latency_s.ln();
        self.log_latency = match self.learned {
            0 => x,
            n => {
                // Falls to a running mean at first, so that the start does not matter.
                let step = MEDIAN_STEP.max(1.0 / f64::from(n));
                self.log_latency + (x - self.log_latency).clamp(-step, step)
            }
        };
        self.learned = self.learned.saturating_add(1);
    }
}

/// Share of the offered requests that were answered as they should; None when unknown or too few.
fn served(r: &Reading, step: i64) -> Option<f64> {
    let requests = r.offered_rps * (step.max(1000) as f64 / 1000.0);
    if !(requests >= LEAST_REQUESTS && requests.is_finite()) {
        return None;
    }
    let good = if r.goodput_rps.is_finite() { r.goodput_rps } else { r.offered_rps - r.errors_rps };
    good.is_finite().then(|| (good / r.offered_rps).clamp(0.0, 1.0))
}

impl Episode {
    fn new(since: i64) -> Self {
        Self {
            since,
            judged: since,
            weight: 0,
            readings: 0,
            failing: 0,
            collapsed: 0,
            unanswered: 0,
            cpu: 0.0,
            cpu_readings: 0,
            cpu_range: None,
            offered: 0.0,
            good: 0.0,
            rated: 0,
            latency: None,
            relative: false,
            told: false,
        }
    }

    fn add(
        &mut self,
        time_ms: i64,
        step: i64,
        r: &Reading,
        capacity: f64,
        verdict: Verdict,
        slow_for_it: bool,
    ) {
        // Readings that say nothing belong to the next one that does.
        let span = time_ms.saturating_sub(self.judged).min(STEP_CAP_MS);
        match verdict {
            Verdict::Failing => self.weight = (self.weight + span).min(2 * STEP_CAP_MS),
            Verdict::Healthy => self.weight -= 2 * span,
            Verdict::Unknown => {}
        }
        if verdict != Verdict::Unknown {
            self.judged = time_ms;
        }
        self.readings = self.readings.saturating_add(1);
        self.failing = self.failing.saturating_add(u32::from(verdict == Verdict::Failing));
        self.unanswered = self.unanswered.saturating_add(u32::from(!r.answered));
        let share = r.cpu_cores / capacity;
        if share.is_finite() {
            self.cpu += share;
            self.cpu_readings = self.cpu_readings.saturating_add(1);
            let (low, high) = self.cpu_range.unwrap_or((share, share));
            self.cpu_range = Some((low.min(share), high.max(share)));
        }
        if let Some(s) = served(r, step) {
            self.offered += r.offered_rps;
            self.good += s * r.offered_rps;
            self.rated = self.rated.saturating_add(1);
            self.collapsed = self.collapsed.saturating_add(u32::from(s < FAILING));
        }
        if r.latency_s.is_finite() {
            let most = self.latency.unwrap_or(r.latency_s);
            self.latency = Some(most.max(r.latency_s));
        }
        let only_relative = r.answered && r.latency_s < SLOW_S && slow_for_it;
        self.relative |= verdict == Verdict::Failing && only_relative;
    }
}
