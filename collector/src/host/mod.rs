//! Readings of the machine, one module for each kernel file, under the names that node_exporter made the
//! field's standard. They keep their interval whatever the targets do.

mod cpu;
mod disk;
mod memory;
mod net;
mod pressure;

use crate::schedule::Ticks;
use crate::stage::Stage;
use model::Labels;
use platform::PlatformError;
use runtime::{Clock, Stop};
use std::collections::BTreeMap;
use std::time::Duration;
use store::Writer;
use tracing::warn;

/// One value to append: metric, labels, value.
pub(crate) type Reading = (String, Vec<(&'static str, String)>, f64);

/// A source of readings and its name.
type Source = (&'static str, fn() -> Result<Vec<Reading>, PlatformError>);

const QUICK: [Source; 6] = [
    ("cpu", cpu::read),
    ("load", cpu::read_load),
    ("memory", memory::read),
    ("disk", disk::read),
    ("net", net::read),
    ("pressure", pressure::read),
];

/// File systems are asked apart and less often: one that hangs must not stop the others.
const SLOW: [Source; 1] = [("file_systems", disk::read_file_systems)];
const SLOW_INTERVAL: Duration = Duration::from_secs(10);

/// Reads the host at `interval` until stopped.
pub(crate) async fn run(
    interval: Duration,
    labels: BTreeMap<String, String>,
    writer: Writer,
    clock: Clock,
    stop: Stop,
) {
    let quick = read_at(interval, &QUICK, "host", &labels, writer.clone(), clock, stop.clone());
    let slow_interval = interval.max(SLOW_INTERVAL);
    let slow = read_at(slow_interval, &SLOW, "host-file-systems", &labels, writer, clock, stop);
    tokio::join!(quick, slow);
}

async fn read_at(
    interval: Duration,
    sources: &'static [Source],
    job: &str,
    labels: &BTreeMap<String, String>,
    writer: Writer,
    clock: Clock,
    stop: Stop,
) {
    let name = platform::host::name();
    let pairs = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let ours = [("job", job), ("instance", name.as_str())];
    let mut stage = Stage::new(writer, Labels::from_pairs(pairs.chain(ours)));
    let mut ticks = Ticks::new(interval, Duration::ZERO, clock);
    let mut failed: BTreeMap<&str, String> = BTreeMap::new();
    while let Some(due) = ticks.next(&stop).await {
        let start = clock.monotonic();
        // The kernel may take its time; that is waited for apart from the other tasks.
        let read = move || sources.iter().map(|(name, read)| (*name, read())).collect::<Vec<_>>();
        let Ok(outcomes) = tokio::task::spawn_blocking(read).await else { continue };
        for (name, outcome) in outcomes {
            stage.push(
                "host_reading_up",
                &[("reading", name)],
                f64::from(u8::from(outcome.is_ok())),
            );
            match outcome {
                Ok(readings) => {
                    failed.remove(name);
                    for (metric, labels, value) in readings {
                        let labels: Vec<(&str, &str)> =
                            labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
                        stage.push(&metric, &labels, value);
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    if failed.get(name) != Some(&error) {
                        warn!(reading = name, error, "host reading is missing");
                        failed.insert(name, error);
                    }
                }
            }
        }
        stage.push("up", &[], 1.0);
        stage.push("scrape_duration_seconds", &[], start.elapsed().as_secs_f64());
        let samples = stage.len() as f64;
        stage.push("scrape_samples_scraped", &[], samples);
        if let Err(error) = stage.append(due).await {
            warn!(job, %error, "host readings were not taken by the store");
        }
    }
}

/// A reading with the labels given.
fn reading<const N: usize>(metric: &str, labels: [(&'static str, &str); N], value: f64) -> Reading {
    let labels = labels.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
    (metric.to_owned(), labels, value)
}
