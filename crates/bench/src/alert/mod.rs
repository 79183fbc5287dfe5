//! From fault to message: ours and Prometheus with Alertmanager see the same targets break, again and again, and each message
//! is timed where it arrives.

mod peers;
mod sink;
mod target;

use crate::system::BenchError;
use runtime::{Clock, Jitter};
use sink::{Post, Sink};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;
use target::{FaultKind, Target};
use tempfile::TempDir;
use tokio::time::Instant;

/// How much to break.
#[derive(Clone, Copy, Debug)]
pub struct AlertPlan {
    /// Faults in all, of six kinds.
    pub faults: usize,
    /// Where the random numbers start.
    pub seed: u64,
}

/// A message that takes longer is lost.
const LONGEST: Duration = Duration::from_secs(60);
/// The same for peers at their defaults.
const LONGEST_DEFAULT: Duration = Duration::from_secs(240);
/// After a message, for a second one of the same.
const LINGER: Duration = Duration::from_secs(2);

/// The rules of all systems: thresholds on the page of a target.
const RULES: &str = r#"groups:
  - name: bench
    interval: 1s
    rules:
      - alert: TargetDown
        expr: up == 0
        labels: { severity: critical }
      - alert: LevelHigh
        expr: level > 5
        labels: { severity: critical }
      - alert: MetricGone
        expr: absent(present{job="gone"})
        labels: { severity: critical }
"#;

/// What is timed: the system, as in the path of its webhook.
const OURS: &str = "ours";
const MAIL: &str = "mail";
const TIGHT: &str = "tight";
const DEFAULT: &str = "default";

/// Seconds from fault to message by system and kind, and what went wrong.
#[derive(Default)]
struct Tally {
    seconds: BTreeMap<(&'static str, FaultKind), Vec<f64>>,
    lost: BTreeMap<&'static str, usize>,
    twice: BTreeMap<&'static str, usize>,
}

/// Breaks targets and times messages; returns Markdown tables.
///
/// # Errors
/// A process did not start.
pub async fn alert(plan: AlertPlan, peers: bool) -> Result<String, BenchError> {
    let dir = tempfile::tempdir().map_err(BenchError::task)?;
    let (sink, address) = Sink::start().await?;
    let post = Post::start(dir.path(), sink.clone()).await?;
    let mut targets = Vec::new();
    for kind in FaultKind::ALL {
        targets.push(Target::start(kind, dir.path()).await?);
    }
    let jobs: Vec<(FaultKind, SocketAddr)> =
        targets.iter().map(|it| (it.kind, it.address)).collect();
    let mut systems = vec![(OURS, true)];
    systems.extend(post.is_some().then_some((MAIL, true)));
    let mut processes =
        vec![peers::ours(dir.path(), &jobs, address, post.as_ref().map(|it| it.port))?];
    if peers && peers::are_here() {
        processes.extend(peers::prometheus(dir.path(), TIGHT, &jobs, address)?);
        systems.push((TIGHT, false));
    } else {
        eprintln!(
            "Prometheus or Alertmanager is not installed or not wanted, their rows stay empty"
        );
    }
    // All series are known and all that asks for what is missing is settled by then.
    tokio::time::sleep(Duration::from_secs(40)).await;
    let each = plan.faults.div_ceil(targets.len()).max(1);
    let start = Clock::system().monotonic();
    let mut running = tokio::task::JoinSet::new();
    for (at, target) in targets.into_iter().enumerate() {
        let (sink, systems) = (sink.clone(), systems.clone());
        running.spawn(rounds(target, each, sink, systems, plan.seed + at as u64));
    }
    let mut tally = Tally::default();
    let mut healthy = Vec::new();
    while let Some(done) = running.join_next().await {
        let (target, own) = done.map_err(BenchError::task)??;
        healthy.push(target);
        for (key, seconds) in own.seconds {
            tally.seconds.entry(key).or_default().extend(seconds);
        }
        own.lost.into_iter().for_each(|(name, n)| *tally.lost.entry(name).or_default() += n);
        own.twice.into_iter().for_each(|(name, n)| *tally.twice.entry(name).or_default() += n);
    }
    eprintln!("{} faults in {:.0} s", each * FaultKind::ALL.len(), start.elapsed().as_secs_f64());
    if systems.iter().any(|(name, _)| *name == TIGHT) {
        // Begun only now: an alert of an earlier fault that still fires would not be told again.
        processes.extend(peers::prometheus(dir.path(), DEFAULT, &jobs, address)?);
        tokio::time::sleep(Duration::from_secs(90)).await;
        once_for_defaults(&mut healthy, &sink, &mut tally).await?;
    }
    for target in healthy {
        target.end().await;
    }
    for process in processes {
        process.end().await;
    }
    if let Some(post) = post {
        post.end().await;
    }
    drop::<TempDir>(dir);
    Ok(tables(&tally))
}

/// Breaks and mends one target again and again.
async fn rounds(
    mut target: Target,
    rounds: usize,
    sink: Sink,
    systems: Vec<(&'static str, bool)>,
    seed: u64,
) -> Result<(Target, Tally), BenchError> {
    let mut tally = Tally::default();
    let mut jitter = Jitter::seeded(seed);
    let job = target.kind.name();
    for round in 0..rounds {
        // Slowly enough that no group has more messages than go at once.
        let pause = Duration::from_secs_f64(9.0 + 6.0 * jitter.unit());
        tokio::time::sleep(pause).await;
        let fault = Clock::system().monotonic();
        target.spoil().await?;
        for (name, _) in &systems {
            match wait(&sink, name, job, true, fault, LONGEST).await {
                Some(at) => {
                    let seconds = (at - fault).as_secs_f64();
                    tally.seconds.entry((name, target.kind)).or_default().push(seconds);
                }
                None => *tally.lost.entry(name).or_default() += 1,
            }
        }
        tokio::time::sleep(LINGER).await;
        let mended = Clock::system().monotonic();
        target.mend().await?;
        for (name, ours) in &systems {
            let told = sink.since(name, job, true, fault);
            let again = told.iter().enumerate().filter(|(at, (_, alert))| {
                told.iter().take(*at).any(|(_, before)| before == alert)
            });
            *tally.twice.entry(name).or_default() += again.count();
            if *ours && wait(&sink, name, job, false, mended, LONGEST).await.is_none() {
                *tally.lost.entry(name).or_default() += 1;
            }
        }
        if round % 10 == 9 {
            eprintln!("{job}: {} of {rounds}", round + 1);
        }
    }
    Ok((target, tally))
}

/// One fault of each kind, as long as the peers at their defaults need.
async fn once_for_defaults(
    targets: &mut [Target],
    sink: &Sink,
    tally: &mut Tally,
) -> Result<(), BenchError> {
    let fault = Clock::system().monotonic();
    for target in targets.iter_mut() {
        target.spoil().await?;
    }
    for target in targets.iter_mut() {
        let rest = LONGEST_DEFAULT.saturating_sub(fault.elapsed());
        match wait(sink, DEFAULT, target.kind.name(), true, fault, rest.max(LINGER)).await {
            Some(at) => {
                let seconds = (at - fault).as_secs_f64();
                tally.seconds.entry((DEFAULT, target.kind)).or_default().push(seconds);
            }
            None => *tally.lost.entry(DEFAULT).or_default() += 1,
        }
    }
    Ok(())
}

async fn wait(
    sink: &Sink,
    system: &str,
    job: &str,
    fires: bool,
    since: Instant,
    longest: Duration,
) -> Option<Instant> {
    let end = Clock::system().monotonic() + longest;
    while Clock::system().monotonic() < end {
        if let Some((at, _)) = sink.since(system, job, fires, since).first() {
            return Some(*at);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    None
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

fn tables(tally: &Tally) -> String {
    let names = [
        (OURS, "Forerunner, defaults, webhook"),
        (MAIL, "Forerunner, defaults, e-mail"),
        (TIGHT, "Prometheus + Alertmanager, tightest, webhook"),
        (DEFAULT, "Prometheus + Alertmanager, defaults, webhook"),
    ];
    let mut text = String::from(
        "| system | faults | p50 s | p99 s | max s | lost | twice |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (name, words) in names {
        let mut all: Vec<f64> = tally
            .seconds
            .iter()
            .filter(|((of, _), _)| *of == name)
            .flat_map(|(_, seconds)| seconds.iter().copied())
            .collect();
        if all.is_empty() {
            continue;
        }
        all.sort_by(f64::total_cmp);
        let of = |counts: &BTreeMap<&'static str, usize>| counts.get(name).copied().unwrap_or(0);
        let _ = writeln!(
            text,
            "| {words} | {} | {:.2} | {:.2} | {:.2} | {} | {} |",
            all.len(),
            quantile(&all, 0.5),
            quantile(&all, 0.99),
            quantile(&all, 1.0),
            of(&tally.lost),
            of(&tally.twice)
        );
    }
    text.push_str("\n| p50 / max s by fault |");
    for kind in FaultKind::ALL {
        let _ = write!(text, " {} |", kind.name());
    }
    text.push_str("\n| --- |");
    FaultKind::ALL.iter().for_each(|_| text.push_str(" ---: |"));
    text.push('\n');
    for (name, words) in names {
        let _ = write!(text, "| {words} |");
        for kind in FaultKind::ALL {
            let mut all = tally.seconds.get(&(name, kind)).cloned().unwrap_or_default();
            all.sort_by(f64::total_cmp);
            let cell = if all.is_empty() {
                "–".to_owned()
            } else {
                format!("{:.2} / {:.2}", quantile(&all, 0.5), quantile(&all, 1.0))
            };
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}
