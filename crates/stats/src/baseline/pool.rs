//! Samples to observations: pools samples that come faster than once a minute, and turns error
//! ratios into counts.
use super::Kind;
use super::model::Seen;
use serde::{Deserialize, Serialize};

/// Samples closer than this are pooled: faults of a service are a matter of minutes.
const POOL_MS: i64 = 60_000;
/// Requests behind one ratio are counted over this time at most, s.
const LONGEST_S: f64 = 3600.0;

/// Share of the mean rate below which a rate is of no interest, and the memory of that mean.
const LEAST: f64 = 0.02;
const MEAN_SAMPLES: f64 = 10_000.0;

/// Samples of one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Pool {
    bucket: i64,
    ms: i64,
    sum: f64,
    weight: f64,
    load: f64,
    loads: f64,
    n: f64,
}

/// One observation at `ms`; `load` is NaN when unknown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pooled {
    pub(crate) ms: i64,
    pub(crate) seen: Seen,
    pub(crate) load: f64,
}

/// 0.1 KB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pooler {
    kind: Kind,
    pool: Pool,
    last_ms: Option<i64>,
    step_s: f64,
    last_load: f64,
    grain: f64,
    mean: f64,
    samples: f64,
}

impl Pooler {
    /// Empty, with a step of a minute until known better.
    pub(crate) fn new(kind: Kind) -> Self {
        let pool = Pool::default();
        Self {
            kind,
            pool,
            last_ms: None,
            step_s: 60.0,
            last_load: 0.0,
            grain: 1.0,
            mean: 0.0,
            samples: 0.0,
        }
    }

    /// Usual distance of the observations, s.
    pub(crate) fn step_s(&self) -> f64 {
        self.step_s.max(POOL_MS as f64 / 1000.0)
    }

    /// Usual distance of the samples, s.
    pub(crate) fn sample_s(&self) -> f64 {
        self.step_s
    }

    /// Last known load, 0 before the first.
    pub(crate) fn last_load(&self) -> f64 {
        self.last_load
    }

    /// Takes a sample (finite, >= 0, later than the last; `load` 0 when unknown). Returns the
    /// minute before it, if it ended, and its own, if samples come no faster.
    pub(crate) fn push(&mut self, ms: i64, value: f64, load: f64) -> [Option<Pooled>; 2] {
        if let Some(last) = self.last_ms {
            let dt = ms.saturating_sub(last) as f64 / 1000.0;
            // the usual distance: falls quickly, rises slowly, so gaps hardly count
            let gain = if dt < self.step_s { 0.2 } else { 0.02 };
            self.step_s += gain * (dt.min(3.0 * self.step_s) - self.step_s);
        }
        self.last_ms = Some(ms);
        let bucket = ms.div_euclid(POOL_MS);
        let ended = self.pool.n > 0.0 && bucket != self.pool.bucket;
        let before = if ended { Some(self.close()) } else { None };
        self.pool.bucket = bucket;
        self.pool.ms = ms;
        self.collect(value, load);
        let alone = self.step_s > 0.75 * POOL_MS as f64 / 1000.0;
        [before, if alone { Some(self.close()) } else { None }]
    }

    fn collect(&mut self, value: f64, load: f64) {
        if load > 0.0 {
            self.last_load = load;
            self.pool.load += load;
            self.pool.loads += 1.0;
        }
        self.pool.n += 1.0;
        let (sum, weight) = match self.kind {
            Kind::Latency => (value.max(1e-12).ln(), 1.0),
            Kind::Throughput => (value, 1.0),
            Kind::Errors => {
                let share = value.min(1.0);
                if share > 0.0 {
                    self.grain = self.grain.min(share);
                }
                let n = self.requests();
                (share * n, n)
            }
        };
        self.pool.sum += sum;
        self.pool.weight += weight;
    }

    /// Requests behind one error ratio: rate times step; without load, one over the smallest
    /// ratio seen, as a ratio is a multiple of one over the requests.
    pub(crate) fn requests(&self) -> f64 {
        let n = if self.last_load > 0.0 {
            self.last_load * self.step_s.min(LONGEST_S)
        } else {
            1.0 / self.grain
        };
        n.clamp(1.0, 1e9)
    }

    /// Rate added to throughput and load, 0 for other kinds.
    pub(crate) fn least(&self) -> f64 {
        if self.kind == Kind::Throughput { (LEAST * self.mean).max(1e-9) } else { 0.0 }
    }

    fn close(&mut self) -> Pooled {
        let pool = std::mem::take(&mut self.pool);
        let load = if pool.loads > 0.0 { pool.load / pool.loads } else { f64::NAN };
        let mean = pool.sum / pool.weight.max(1.0);
        let seen = match self.kind {
            Kind::Latency => Seen { y: mean, n: 0.0 },
            Kind::Throughput => Seen { y: self.ln_rate(mean, load), n: 0.0 },
            Kind::Errors => Seen { y: pool.sum, n: pool.weight },
        };
        Pooled { ms: pool.ms, seen, load }
    }

    /// ln of a rate, over the load if known. A little of the mean rate is added to both: nights of
    /// a few requests are noise.
    fn ln_rate(&mut self, rate: f64, load: f64) -> f64 {
        self.samples = (self.samples + 1.0).min(MEAN_SAMPLES);
        self.mean += (rate - self.mean) / self.samples;
        let least = self.least();
        let unit = if load > 0.0 { (load + least).ln() } else { 0.0 };
        (rate + least).ln() - unit
    }
}
