//! The gateway against nginx and haproxy as reverse proxies: processor time of a request, what becomes of more than the tool behind can
//! do, and memory after many requests and after a burst.
//!
//! - `upstream`: the tool behind, with as much capacity as is wanted; `load`: requests as fast as they are answered, or at their rate
//! - `cost`: processor time and memory, in turns
//! - `proxy`: ours and the peers as processes

mod cost;
mod load;
mod proxy;
mod upstream;

use crate::system::BenchError;
use load::Load;
use proxy::{Candidate, Proxy};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;
use upstream::Upstream;

/// What to measure.
#[derive(Clone, Debug)]
pub struct GatewayPlan {
    /// Requests of each proxy in the measurement of processor time; memory is read after them.
    pub requests: u64,
    /// How long each overload lasts.
    pub time: Duration,
    /// Another build of ours to measure after it.
    pub also: Option<PathBuf>,
}

/// What the tool behind can do in the overload: twelve at once, each in 12 ms.
const AT_ONCE: usize = 12;
const SERVICE: Duration = Duration::from_millis(12);
/// What is offered, against the capacity.
const OFFERED: [f64; 3] = [0.8, 1.9, 3.0];
/// How often a second our health is asked for meanwhile.
const HEALTH_RATE: f64 = 50.0;
/// Measures ours and with `peers` those that are installed; returns Markdown tables.
///
/// # Errors
/// A proxy did not start, or no request was answered.
pub async fn gateway(plan: GatewayPlan, peers: bool) -> Result<String, BenchError> {
    let mut overload = String::from(
        "| proxy | offered/s | good/s | of capacity or offer | p50 ms | p99 ms | refused/s | p99 ms to a refusal | no answer/s | health p99.9 ms | resident MiB |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let mut overload_title = String::new();
    let candidates = Candidate::chosen(peers, plan.also.as_deref())?;
    let cost = cost::measure(&candidates, plan.requests).await?;
    // Timers are late by a little: what the tool can do is measured too.
    let upstream = Upstream::start(AT_ONCE, SERVICE).await?;
    let alone = Load::new(upstream.address, "GET / HTTP/1.1\r\nhost: bench\r\n\r\n");
    let alone = alone.closed(AT_ONCE, 3_000).await?;
    let capacity = alone.good.len() as f64 / alone.seconds;
    let _ =
        writeln!(overload_title, "The tool alone, {AT_ONCE} requests at once: {capacity:.0}/s.\n");
    drop(upstream);
    for candidate in &candidates {
        for share in OFFERED {
            let rate = capacity * share;
            eprintln!("{}: {rate:.0} requests/s for {:?} …", candidate.name, plan.time);
            one_overload(candidate, plan.time, (rate, capacity), &mut overload).await?;
        }
    }
    Ok(format!("{cost}\n{overload_title}{overload}"))
}

async fn one_overload(
    candidate: &Candidate,
    time: Duration,
    (rate, capacity): (f64, f64),
    table: &mut String,
) -> Result<(), BenchError> {
    let upstream = Upstream::start(AT_ONCE, SERVICE).await?;
    let mut proxy = Proxy::start(candidate, upstream.address, Some(AT_ONCE)).await?;
    let load = Load::new(proxy.address, &proxy.request());
    // Some seconds to find out what the tool can do, which count for nobody.
    load.clone().open(rate, Duration::from_secs(5)).await?;
    let asking = proxy.health().map(|health| tokio::spawn(health.open(HEALTH_RATE, time)));
    let tally = load.clone().open(rate, time).await?;
    let health = match asking {
        Some(asking) => {
            let asked = asking.await.map_err(BenchError::task)??;
            format!("{:.1}", load::quantile(&asked.good, 0.999) * 1e3)
        }
        None => "–".to_owned(),
    };
    let resident = proxy.resident_mib()?;
    proxy.end().await;
    let per_second = |n: usize| n as f64 / tally.seconds;
    let good = per_second(tally.good.len());
    let _ = writeln!(
        table,
        "| {} | {rate:.0} | {good:.0} | {:.1} % | {:.1} | {:.1} | {:.0} | {:.1} | {:.0} | {health} | {resident:.1} |",
        candidate.name,
        good / rate.min(capacity) * 100.0,
        load::quantile(&tally.good, 0.5) * 1e3,
        load::quantile(&tally.good, 0.99) * 1e3,
        per_second(tally.refused.len()),
        load::quantile(&tally.refused, 0.99) * 1e3,
        per_second(usize::try_from(tally.unanswered).unwrap_or(usize::MAX)),
    );
    Ok(())
}
