//! Seeded data in the manner of the time series benchmark suite's "devops" case: hosts with ten labels and
//! 101 metrics each, bounded random walks, counters, and states that rarely change.

use runtime::Jitter;

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct Devops {
    /// Hosts; each has 101 series.
    pub hosts: usize,
    /// Milliseconds between two samples of a series.
    pub step: i64,
    /// Samples of each series.
    pub steps: usize,
    /// Time of the last samples, in milliseconds since the epoch.
    pub end: i64,
    /// Where the random numbers start.
    pub seed: u64,
}

/// Names of metrics and how many of each kind they have.
const FAMILIES: [(&str, usize, Kind); 9] = [
    ("cpu_usage", 10, Kind::Percent),
    ("diskio_total", 7, Kind::Counter),
    ("disk_free", 7, Kind::State),
    ("kernel_events", 5, Kind::Counter),
    ("mem_bytes", 9, Kind::Level),
    ("net_total", 8, Kind::Counter),
    ("nginx_requests", 7, Kind::Counter),
    ("postgresql_rows", 16, Kind::Counter),
    ("redis_info", 32, Kind::State),
];

/// The metrics of the first family.
pub(crate) fn cpu_metrics() -> impl Iterator<Item = String> {
    (0..10).map(|number| format!("cpu_usage_{number}"))
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Whole percent, a clamped random walk.
    Percent,
    /// Rises by a random whole number.
    Counter,
    /// A large number that moves a little each time.
    Level,
    /// Mostly stays as it is.
    State,
}

/// Metric name and labels of one series.
pub(crate) type Key = (String, Vec<(&'static str, String)>);

impl Devops {
    /// Series in all.
    pub fn series(&self) -> usize {
        self.hosts * FAMILIES.iter().map(|family| family.1).sum::<usize>()
    }

    /// Samples in all.
    pub fn samples(&self) -> u64 {
        self.series() as u64 * self.steps as u64
    }

    /// Time of step `at`.
    pub(crate) fn time(&self, at: usize) -> i64 {
        self.end - (self.steps - 1 - at) as i64 * self.step
    }

    /// The series, host by host.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let host = |host: usize| {
            let pick = |of: usize| (host * 7 + 3) % of;
            let labels = vec![
                ("hostname", format!("host_{host}")),
                ("region", format!("eu-central-{}", pick(3))),
                ("datacenter", format!("eu-central-{}{}", pick(3), pick(2))),
                ("rack", pick(97).to_string()),
                ("os", ["Debian12", "Ubuntu22.04LTS", "Ubuntu24.04LTS"][pick(3)].to_owned()),
                ("arch", ["x64", "arm64"][pick(2)].to_owned()),
                ("team", ["CHI", "LON", "NYC", "SF"][pick(4)].to_owned()),
                ("service", pick(19).to_string()),
                ("service_version", pick(2).to_string()),
                ("service_environment", ["production", "staging", "test"][pick(3)].to_owned()),
            ];
            let metrics = FAMILIES.iter().flat_map(|(name, count, _)| {
                (0..*count).map(move |number| format!("{name}_{number}"))
            });
            metrics.map(move |metric| (metric, labels.clone())).collect::<Vec<_>>()
        };
        (0..self.hosts).flat_map(host).collect()
    }

    /// Walks of all series, in the order of [`Devops::keys`].
    pub(crate) fn walk(&self) -> Walk {
        let mut random = Jitter::seeded(self.seed);
        let kinds = || FAMILIES.iter().flat_map(|(_, count, kind)| (0..*count).map(move |_| *kind));
        let kinds: Vec<Kind> = (0..self.hosts).flat_map(|_| kinds()).collect();
        let values = kinds
            .iter()
            .map(|kind| match kind {
                Kind::Percent => (random.unit() * 100.0).round(),
                Kind::Counter => (random.unit() * 1e6).round(),
                Kind::Level => (random.unit() * 1.6e10).round(),
                Kind::State => (random.unit() * 1e4).round(),
            })
            .collect();
        Walk { random, kinds, values }
    }
}

/// The values of all series at one step.
#[derive(Debug)]
pub(crate) struct Walk {
    random: Jitter,
    kinds: Vec<Kind>,
    values: Vec<f64>,
}

impl Walk {
    /// Goes one step on.
    pub(crate) fn next_step(&mut self) -> &[f64] {
        for (kind, value) in self.kinds.iter().zip(&mut self.values) {
            let bits = self.random.next_u64();
            let small = (bits % 7) as f64 - 3.0;
            match kind {
                Kind::Percent => *value = (*value + small).clamp(0.0, 100.0),
                Kind::Counter => *value += ((bits >> 8) % 200) as f64,
                Kind::Level => *value = (*value + small * 4096.0).max(0.0),
                Kind::State if bits.is_multiple_of(64) => *value += small,
                Kind::State => {}
            }
        }
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_data_each_time_and_101_series_a_host() {
        let plan = Devops { hosts: 3, step: 10_000, steps: 4, end: 1_795_418_000_000, seed: 7 };
        assert_eq!((plan.series(), plan.keys().len(), plan.samples()), (303, 303, 1212));
        let mut walks = [plan.walk(), plan.walk()];
        let [one, two] = &mut walks;
        for _ in 0..4 {
            assert_eq!(one.next_step(), two.next_step());
        }
        let other = Devops { seed: 8, ..plan }.walk().next_step().to_vec();
        assert_ne!(one.next_step(), other.as_slice());
        assert_eq!((plan.time(0), plan.time(3)), (1_795_417_970_000, plan.end));
    }
}
