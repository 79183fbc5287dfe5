//! What our work costs as multiples of what the same machine takes for plain work on the same data, so that machines and systems can be
//! compared: the ratio is the machine's no longer.

use crate::devops::{Devops, cpu_metrics};
use crate::remote_write::{Encoder, send_all};
use crate::system::{BenchError, Kind, Question, System, Targets};
use model::exposition::Dialect;
use model::exposition::parse::Parser;
use runtime::Clock;
use stats::leak::{Leak, LeakConfig};
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;

/// The least of so many runs counts.
const RUNS: usize = 7;
/// Series of the page that is parsed, and samples that detectors are fed.
const SERIES: usize = 10_000;
const SAMPLES: usize = 200_000;

/// Ours and the plain work, in nanoseconds a sample.
struct Row {
    work: &'static str,
    plain: &'static str,
    ours_ns: f64,
    plain_ns: f64,
}

/// Measures all of them and returns a Markdown table.
///
/// # Errors
/// The monitor did not start, or refused the data.
pub async fn ratios(plan: Devops) -> Result<String, BenchError> {
    let mut rows = vec![parsing(), detecting()];
    rows.extend(storing(plan).await?);
    let mut table = String::from(
        "| work | plain work on the same data | ns a sample | plain | ratio |\n| --- | --- | ---: | ---: | ---: |\n",
    );
    for Row { work, plain, ours_ns, plain_ns } in rows {
        let ratio = ours_ns / plain_ns;
        let _ = writeln!(table, "| {work} | {plain} | {ours_ns:.1} | {plain_ns:.1} | {ratio:.2} |");
    }
    Ok(table)
}

/// The least nanoseconds of a unit, when `run` does `units` of them.
fn least(units: usize, mut run: impl FnMut()) -> f64 {
    let clock = Clock::system();
    let times = (0..RUNS).map(|_| {
        let start = clock.monotonic();
        run();
        start.elapsed().as_secs_f64() * 1e9 / units.max(1) as f64
    });
    times.fold(f64::INFINITY, f64::min)
}

fn parsing() -> Row {
    let mut page = String::from("# TYPE app_requests_total counter\n");
    for n in 0..SERIES {
        let _ = writeln!(
            page,
            "app_requests_total{{code=\"{}\",route=\"/api/{}\"}} {}",
            200 + n % 5,
            n / 5,
            n as f64 * 1.25
        );
    }
    let ours_ns = least(SERIES, || {
        let mut parser = Parser::new(page.as_bytes(), Dialect::Prometheus);
        let mut good = 0;
        while let Some(line) = parser.next_line() {
            good += usize::from(line.is_ok());
        }
        black_box(good);
    });
    let plain_ns = least(SERIES, || {
        let values = page.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        black_box(values.sum::<f64>());
    });
    Row {
        work: "parse a scrape",
        plain: "its lines split and numbers parsed by the standard library",
        ours_ns,
        plain_ns,
    }
}

fn detecting() -> Row {
    let values: Vec<f64> = (0..SAMPLES).map(|n| 1e8 + 1e6 * (n as f64 / 50.0).sin()).collect();
    let ours_ns = least(SAMPLES, || {
        let mut leak = Leak::new(LeakConfig::default());
        for (n, value) in values.iter().enumerate() {
            black_box(leak.push(n as i64 * 10_000, *value, f64::NAN));
        }
    });
    let plain_ns = least(SAMPLES, || {
        // Welford's mean and variance: the least that could be called looking at each sample.
        let (mut mean, mut squares) = (0.0, 0.0);
        for (n, value) in black_box(&values).iter().enumerate() {
            let off = value - mean;
            mean += off / (n + 1) as f64;
            squares += off * (value - mean);
        }
        black_box((mean, squares));
    });
    Row { work: "look for a leak", plain: "mean and variance", ours_ns, plain_ns }
}

async fn storing(plan: Devops) -> Result<[Row; 2], BenchError> {
    let samples = plan.samples() as f64;
    let system = System::start(Kind::Forerunner, Targets(&[])).await?;
    let before = system.cpu_seconds()?;
    send_all(plan, &system.write_url()).await?;
    let taking = Row {
        work: "take remote-write, durably (processor time)",
        plain: "its bodies decompressed and written to a file",
        ours_ns: (system.cpu_seconds()? - before) * 1e9 / samples,
        plain_ns: written(&plan)?,
    };
    let metric = cpu_metrics().next().unwrap_or_default();
    let asked = plan.hosts * plan.steps;
    let question = Question {
        sql: format!("SELECT hostname, avg(value) AS value FROM {metric} GROUP BY hostname"),
        promql: String::new(),
        start: 0,
        end: 0,
        step: 1,
    };
    let clock = Clock::system();
    let mut ours_ns = f64::INFINITY;
    for _ in 0..RUNS {
        let start = clock.monotonic();
        system.ask(&question).await?;
        ours_ns = ours_ns.min(start.elapsed().as_secs_f64() * 1e9 / asked as f64);
    }
    system.end().await?;
    let values: Vec<f64> = (0..asked).map(|n| n as f64).collect();
    let plain_ns = least(asked, || {
        let means = black_box(&values).chunks(plan.steps.max(1));
        black_box(means.map(|it| it.iter().sum::<f64>() / it.len() as f64).sum::<f64>());
    });
    let asking = Row {
        work: "mean by series in SQL, over HTTP",
        plain: "the same of numbers in memory",
        ours_ns,
        plain_ns,
    };
    Ok([taking, asking])
}

/// Nanoseconds a sample of the least that a receiver does.
fn written(plan: &Devops) -> Result<f64, BenchError> {
    let encoder = Encoder::new(plan);
    let mut walk = plan.walk();
    let steps = plan.steps.min(20);
    let bodies: Vec<Vec<u8>> =
        (0..steps).flat_map(|at| encoder.step(plan.time(at), walk.next_step())).collect();
    let mut failed = None;
    let ns = least(steps * plan.series(), || {
        let done = || -> std::io::Result<()> {
            let mut file = tempfile::tempfile()?;
            for body in &bodies {
                let plain = snap::raw::Decoder::new().decompress_vec(body);
                file.write_all(&plain.map_err(std::io::Error::other)?)?;
            }
            Ok(())
        };
        failed = done().err().or(failed.take());
    });
    failed.map_or(Ok(ns), |error| Err(BenchError::task(error)))
}
