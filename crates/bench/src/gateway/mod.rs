//! The gateway against nginx and haproxy as reverse proxies: processor time of a request, what becomes of more than the tool behind can
//! do, and memory after many requests and after a burst.
//!
//! - `upstream`: the tool behind, with as much capacity as is wanted; `load`: requests as fast as they are answered, or at their rate
//! - `proxy`: ours and the peers as processes

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
    /// Requests of the measurement of processor time; memory is read after them.
    pub requests: u64,
    /// How long each overload lasts.
    pub time: Duration,
    /// Another build of ours to measure after it.
    pub also: Option<PathBuf>,
}

/// Connections of the measurement of processor time.
const CONNECTIONS: usize = 64;
/// What the tool behind can do in the overload: twelve at once, each in 12 ms.
const AT_ONCE: usize = 12;
const SERVICE: Duration = Duration::from_millis(12);
/// What is offered, against the capacity.
const OFFERED: [f64; 3] = [0.8, 1.9, 3.0];
/// How often a second our health is asked for meanwhile.
const HEALTH_RATE: f64 = 50.0;
/// Connections of the burst, each with a request that takes its time.
const BURST: usize = 900;
/// After the burst.
const REST: Duration = Duration::from_secs(10);

/// Measures ours and with `peers` those that are installed; returns Markdown tables.
///
/// # Errors
/// A proxy did not start, or no request was answered.
pub async fn gateway(plan: GatewayPlan, peers: bool) -> Result<String, BenchError> {
    let mut cost = String::from(
        "| proxy | requests | µs of CPU a request | against nginx | requests/s | p50 ms | p99 ms | resident MiB | after a burst |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let mut overload = String::from(
        "| proxy | offered/s | good/s | of capacity or offer | p50 ms | p99 ms | refused/s | p99 ms to a refusal | no answer/s | health p99.9 ms | resident MiB |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let mut overload_title = String::new();
    // nginx first: the others are told against it.
    let mut nginx = None;
    let candidates = Candidate::chosen(peers, plan.also.as_deref())?;
    for candidate in &candidates {
        let (name, requests) = (candidate.name, plan.requests);
        eprintln!("{name}: {requests} requests on {CONNECTIONS} connections …");
        let micros = one_cost(candidate, requests, nginx, &mut cost).await?;
        if candidate.is_baseline() {
            nginx = Some(micros);
        }
    }
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

async fn one_cost(
    candidate: &Candidate,
    requests: u64,
    nginx: Option<f64>,
    table: &mut String,
) -> Result<f64, BenchError> {
    let upstream = Upstream::start(usize::MAX, Duration::ZERO).await?;
    let mut proxy = Proxy::start(candidate, upstream.address, None).await?;
    let load = Load::new(proxy.address, &proxy.request());
    load.closed(CONNECTIONS, requests / 20).await?; // warm
    let before = proxy.cpu_seconds()?;
    let tally = load.closed(CONNECTIONS, requests).await?;
    let micros = (proxy.cpu_seconds()? - before) / tally.good.len() as f64 * 1e6;
    let resident = proxy.resident_mib()?;
    let slow = Upstream::start(usize::MAX, Duration::from_millis(500)).await?;
    proxy.end().await;
    // The burst meets a proxy of its own: its memory is compared with that of a fresh one.
    let mut proxy = Proxy::start(candidate, slow.address, None).await?;
    let load = Load::new(proxy.address, &proxy.request());
    load.closed(CONNECTIONS, 2_000).await?;
    load.closed(BURST, BURST as u64 * 4).await?;
    tokio::time::sleep(REST).await;
    let after = proxy.resident_mib()?;
    proxy.end().await;
    let against = nginx.map_or("1".to_owned(), |nginx| format!("{:.2}", micros / nginx));
    let against =
        if nginx.is_none() && !candidate.is_baseline() { "–".to_owned() } else { against };
    let _ = writeln!(
        table,
        "| {} | {} | {micros:.1} | {against} | {:.0} | {:.2} | {:.2} | {resident:.1} | {after:.1} |",
        candidate.name,
        tally.good.len(),
        tally.good.len() as f64 / tally.seconds,
        load::quantile(&tally.good, 0.5) * 1e3,
        load::quantile(&tally.good, 0.99) * 1e3,
    );
    Ok(micros)
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
