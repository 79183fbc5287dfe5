//! Scraping many targets each second: processor time and memory of the scraper alone.

use crate::devops::Devops;
use crate::ingest::mib;
use crate::system::{BenchError, Kind, System, Targets};
use crate::table::Table;
use runtime::Clock;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What to scrape.
#[derive(Clone, Copy, Debug)]
pub struct ScrapePlan {
    /// Targets, each with ten hosts' 1,010 series.
    pub targets: usize,
    /// How long each system is watched.
    pub time: Duration,
    /// Where the random numbers start.
    pub seed: u64,
}

/// Hosts on one target's page.
const HOSTS: usize = 10;
/// Pages prepared; a target serves them in turn, so that values change.
const PAGES: usize = 8;

/// Lets ours and with `peers` each installed one scrape the same targets, and returns a Markdown table.
///
/// # Errors
/// A target or a system did not start.
pub async fn scrape(plan: ScrapePlan, peers: bool) -> Result<String, BenchError> {
    let pages: Arc<[Vec<u8>]> = pages(plan.seed).into();
    let served = Arc::new(AtomicUsize::new(0));
    let mut targets = Vec::new();
    for _ in 0..plan.targets {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(BenchError::task)?;
        targets.push(listener.local_addr().map_err(BenchError::task)?.to_string());
        tokio::spawn(serve(listener, Arc::clone(&pages), Arc::clone(&served)));
    }
    let mut table = Table::default();
    for kind in Kind::chosen(peers) {
        eprintln!("{}: {} targets for {:?} …", kind.name(), plan.targets, plan.time);
        let system = System::start(kind, Targets(&targets)).await?;
        tokio::time::sleep(Duration::from_secs(5)).await; // all series are known by then
        let (clock, cpu, before) =
            (Clock::system(), system.cpu_seconds()?, served.load(Ordering::Relaxed));
        let start = clock.monotonic();
        tokio::time::sleep(plan.time).await;
        let took = (clock.monotonic() - start).as_secs_f64();
        let used = system.cpu_seconds()? - cpu;
        let scrapes = served.load(Ordering::Relaxed) - before;
        table.note(kind, "% of a core", format!("{:.1}", used * 100.0 / took));
        table.note(kind, "peak MiB", mib(system.peak_bytes()?));
        table.note(kind, "scrapes/s", format!("{:.1}", scrapes as f64 / took));
        system.end().await?;
    }
    Ok(table.markdown())
}

fn pages(seed: u64) -> Vec<Vec<u8>> {
    let plan = Devops { hosts: HOSTS, step: 1000, steps: PAGES, end: 0, seed };
    let mut series: Vec<(usize, String, String)> = plan
        .keys()
        .into_iter()
        .enumerate()
        .map(|(at, (metric, labels))| {
            let labels: Vec<String> =
                labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
            (at, metric, labels.join(","))
        })
        .collect();
    series.sort_by(|a, b| a.1.cmp(&b.1));
    let mut walk = plan.walk();
    (0..PAGES)
        .map(|_| {
            let values = walk.next_step();
            let mut body = String::new();
            let mut last = "";
            for (at, metric, labels) in &series {
                if metric != last {
                    let _ = writeln!(body, "# HELP {metric} Made up.\n# TYPE {metric} gauge");
                    last = metric;
                }
                let value = values.get(*at).copied().unwrap_or_default();
                let _ = writeln!(body, "{metric}{{{labels}}} {value}");
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            (head + &body).into_bytes()
        })
        .collect()
}

async fn serve(listener: TcpListener, pages: Arc<[Vec<u8>]>, served: Arc<AtomicUsize>) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(connection(socket, Arc::clone(&pages), Arc::clone(&served)));
    }
}

/// Answers each request head with the next page.
async fn connection(mut socket: TcpStream, pages: Arc<[Vec<u8>]>, served: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    let mut buffer = [0; 2048];
    while let Ok(count @ 1..) = socket.read(&mut buffer).await {
        head.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if head.len() > 65_536 {
            return;
        }
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        head.clear();
        let number = served.fetch_add(1, Ordering::Relaxed);
        let Some(page) = pages.get(number % pages.len().max(1)) else { return };
        if socket.write_all(page).await.is_err() {
            return;
        }
    }
}
