//! Ingest by remote-write: rate, processor time, memory, size on disk, freshness, and what a kill loses.

use crate::devops::{Devops, cpu_metrics};
use crate::remote_write::{Encoder, send, send_all};
use crate::system::{BenchError, Kind, System, Targets};
use crate::table::Table;
use runtime::Clock;
use std::time::Duration;

/// Looks for a fresh sample before it is given up.
const LOOK: Duration = Duration::from_secs(60);

/// Feeds `plan` to ours and with `peers` to each installed one, one after the other, and returns a Markdown table.
///
/// # Errors
/// A system did not start, or refused the data.
pub async fn ingest(plan: Devops, peers: bool) -> Result<String, BenchError> {
    let mut table = Table::default();
    for kind in Kind::chosen(peers) {
        eprintln!("{}: {} samples of {} series …", kind.name(), plan.samples(), plan.series());
        one(kind, plan, &mut table).await?;
    }
    Ok(table.markdown())
}

async fn one(kind: Kind, plan: Devops, table: &mut Table) -> Result<(), BenchError> {
    let mut system = System::start(kind, Targets(&[])).await?;
    let before = system.cpu_seconds()?;
    let took = send_all(plan, &system.write_url()).await?;
    let millions = plan.samples() as f64 / 1e6;
    let cpu = system.cpu_seconds()? - before;
    table.note(kind, "million samples/s", format!("{:.2}", millions / took.as_secs_f64()));
    table.note(kind, "CPU s per million samples", format!("{:.2}", cpu / millions));
    table.note(kind, "peak MiB while ingesting", mib(system.peak_bytes()?));
    let fresh = visible_after(&system).await?;
    let shown = fresh.map_or("over 60000".to_owned(), |ms| format!("{ms:.1}"));
    table.note(kind, "visible after, ms", shown);
    let metric = cpu_metrics().next().unwrap_or_default();
    let expected = (plan.hosts * plan.steps) as u64;
    let restart = system.kill_and_restart().await?;
    table.note(kind, "kill -9: restart, ms", format!("{}", restart.as_millis()));
    let found = system.count(&metric, plan.end).await?.min(expected);
    let lost = (expected - found) as f64 * 100.0 / expected.max(1) as f64;
    table.note(kind, "kill -9: acknowledged samples lost, %", format!("{lost:.2}"));
    system.settle().await?;
    let settled = system.settled_samples(plan.samples()).await?.max(1);
    let bytes = system.settled_bytes() as f64 / settled as f64;
    table.note(kind, "bytes/sample settled", format!("{bytes:.2}"));
    table.note(kind, "peak MiB while settling", mib(system.peak_bytes()?));
    system.end().await
}

/// Milliseconds from the acknowledgement of a sample until a query finds it, with the time of the query.
async fn visible_after(system: &System) -> Result<Option<f64>, BenchError> {
    const METRIC: &str = "bench_visible";
    let clock = Clock::system();
    for body in Encoder::of_metric(METRIC).step(clock.now().millis(), &[1.0]) {
        send(&system.client, &system.write_url(), body).await?;
    }
    let start = clock.monotonic();
    while clock.monotonic() - start < LOOK {
        if system.count(METRIC, clock.now().millis()).await? > 0 {
            return Ok(Some((clock.monotonic() - start).as_secs_f64() * 1e3));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(None)
}

pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / 1_048_576.0)
}
