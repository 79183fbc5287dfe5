//! Processor time of a request and memory of each proxy. They take turns: a machine that is shared is now quicker and now slower, and what one
//! of them takes is told against what nginx takes in the same turn.

use super::load::{self, Load, Tally};
use super::proxy::{Candidate, Proxy};
use super::upstream::Upstream;
use crate::system::BenchError;
use stats::order::median;
use std::fmt::Write;
use std::time::Duration;

const TURNS: u64 = 10;
const CONNECTIONS: usize = 64;
/// Connections of the burst, each with a request that takes its time.
const BURST: usize = 900;
/// After the burst.
const REST: Duration = Duration::from_secs(10);

/// One proxy over all turns.
struct Measured<'a> {
    candidate: &'a Candidate,
    proxy: Proxy,
    /// Microseconds of processor time a request, by turn.
    micros: Vec<f64>,
    tally: Tally,
}

impl Measured<'_> {
    async fn turn(&mut self, requests: u64) -> Result<(), BenchError> {
        let load = Load::new(self.proxy.address, &self.proxy.request());
        let before = self.proxy.cpu_seconds()?;
        let tally = load.closed(CONNECTIONS, requests).await?;
        let spent = self.proxy.cpu_seconds()? - before;
        self.micros.push(spent / tally.good.len() as f64 * 1e6);
        self.tally.good.extend(tally.good);
        self.tally.seconds += tally.seconds;
        Ok(())
    }
}

/// Measures all of them; a Markdown table.
pub(super) async fn measure(candidates: &[Candidate], requests: u64) -> Result<String, BenchError> {
    let upstream = Upstream::start(usize::MAX, Duration::ZERO).await?;
    let mut all = Vec::new();
    for candidate in candidates {
        let proxy = Proxy::start(candidate, upstream.address, None).await?;
        let load = Load::new(proxy.address, &proxy.request());
        load.closed(CONNECTIONS, requests / 20).await?; // warm
        all.push(Measured { candidate, proxy, micros: Vec::new(), tally: Tally::default() });
    }
    for turn in 1..=TURNS {
        eprintln!(
            "turn {turn} of {TURNS}: {} requests each on {CONNECTIONS} connections …",
            requests / TURNS
        );
        for it in &mut all {
            it.turn(requests / TURNS).await?;
        }
    }
    let mut table = String::from(
        "| proxy | requests | µs of CPU a request | against nginx | requests/s | p50 ms | p99 ms | resident MiB | after a burst |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let nginx = all.iter().find(|it| it.candidate.is_baseline()).map(|it| it.micros.clone());
    for it in &mut all {
        let against = nginx.as_ref().map(|nginx| {
            let mut ratios: Vec<f64> = it.micros.iter().zip(nginx).map(|(a, b)| a / b).collect();
            ratios.sort_by(f64::total_cmp);
            let [least, most] =
                [ratios.first(), ratios.last()].map(|it| it.copied().unwrap_or(f64::NAN));
            format!("{:.2} ({least:.2} to {most:.2})", median(&mut ratios).unwrap_or(f64::NAN))
        });
        let resident = it.proxy.resident_mib()?;
        it.proxy.end().await;
        eprintln!("{}: a burst of {BURST} connections …", it.candidate.name);
        let after = burst(it.candidate).await?;
        it.tally.good.sort_by(f64::total_cmp);
        let _ = writeln!(
            table,
            "| {} | {} | {:.1} | {} | {:.0} | {:.2} | {:.2} | {resident:.1} | {after:.1} |",
            it.candidate.name,
            it.tally.good.len(),
            median(&mut it.micros).unwrap_or(f64::NAN),
            against.as_deref().unwrap_or("–"),
            it.tally.good.len() as f64 / it.tally.seconds,
            load::quantile(&it.tally.good, 0.5) * 1e3,
            load::quantile(&it.tally.good, 0.99) * 1e3,
        );
    }
    Ok(table)
}

/// Memory of a fresh one after many connections with slow answers, and a rest.
async fn burst(candidate: &Candidate) -> Result<f64, BenchError> {
    let slow = Upstream::start(usize::MAX, Duration::from_millis(500)).await?;
    let mut proxy = Proxy::start(candidate, slow.address, None).await?;
    let load = Load::new(proxy.address, &proxy.request());
    load.closed(CONNECTIONS, 2_000).await?;
    load.closed(BURST, BURST as u64 * 4).await?;
    tokio::time::sleep(REST).await;
    let after = proxy.resident_mib()?;
    proxy.end().await;
    Ok(after)
}
