//! The components: statistics, checks, policies, audit, settings, what sweeps, and what fetches ahead.

use super::Parts;
use crate::cache::warmer;
use crate::component::{Components, Pulse, Work, every};
use crate::database::{AT_ONCE, Database, DatabaseError};
use crate::health::check::{self, Checks};
use crate::{GatewayConfig, GatewayError, pressure, settings};
use model::Timestamp;
use parking_lot::Mutex;
use runtime::{Clock, Stop, Tasks, Tick};
use std::sync::Arc;
use std::time::Duration;
use telemetry::Registry;
use tokio::runtime::Handle;
use tracing::{info, warn};

/// Between two readings of the policies.
const REFRESH: Duration = Duration::from_secs(5);
/// Between two rounds through what is old.
const SWEEP: Duration = Duration::from_secs(30);
/// For old audit records to go, in each round.
const FORGET: Duration = Duration::from_secs(10);
/// The audit is written at least so often.
const AUDIT: Duration = Duration::from_millis(250);

/// Begins a run of a component.
type Runs = Box<dyn Fn(Pulse, Stop) -> Work + Send + Sync>;

/// Begins all of them; they end with `tasks`.
pub(super) fn begin(
    config: &GatewayConfig,
    parts: &Parts,
    clock: Clock,
    (threads, registry): (&Handle, &Registry),
    tasks: &mut Tasks,
) -> Arc<Components> {
    let restarts = registry.counters(
        "gateway_component_restarts_total",
        "Components begun anew, by component and cause.",
        ["component", "cause"],
        100,
    );
    let checks = Arc::new(checks(config, parts, clock));
    let mut all = Components::new(threads.clone(), restarts);
    let retention = (config.database.audit_retention, config.database.max_audit_records);
    // One question may take so long without anything being wrong with the asker.
    let asking = config.database.timeout;
    for (name, period, runs) in [
        ("checks", check::EVERY, look(Arc::clone(&checks))),
        ("database_probe", check::EVERY + asking, probe(Arc::clone(&checks))),
        ("stats", pressure::EVERY, statistics(parts)),
        ("policies", REFRESH + asking, policies(parts)),
        ("settings", settings::EVERY, reload(parts)),
        ("sweeper", SWEEP + FORGET + asking, sweep(parts, clock, retention)),
        ("audit_writer", AUDIT + asking, audit(parts)),
        ("cache_warmer", warmer::EVERY, warm(parts)),
    ] {
        let keep = all.add(name, period, runs);
        tasks.spawn(name, |stop| async move {
            keep(stop).await;
            Ok::<_, GatewayError>(())
        });
    }
    let all = Arc::new(all);
    let seen = Arc::clone(&all);
    tasks.spawn("supervisor", |stop| async move {
        while stop.wait_for(check::EVERY).await == Tick::Elapsed {
            checks.components(&seen);
        }
        Ok::<_, GatewayError>(())
    });
    all
}

fn checks(config: &GatewayConfig, parts: &Parts, clock: Clock) -> Checks {
    Checks {
        clock,
        board: Arc::clone(&parts.board),
        database: Arc::clone(&parts.database),
        directory: Arc::clone(&parts.directory),
        audit: parts.audit.clone(),
        cache: Arc::clone(&parts.cache),
        second: parts.second.clone(),
        tools: parts.tools.clone(),
        dir: config.dir.clone(),
        min_free: config.pressure.min_free_disk.get(),
        clocks: Mutex::default(),
        jumped: Mutex::default(),
    }
}

fn look(checks: Arc<Checks>) -> Runs {
    repeat(check::EVERY, move || {
        let checks = Arc::clone(&checks);
        async move { checks.look().await }
    })
}

fn probe(checks: Arc<Checks>) -> Runs {
    repeat(check::EVERY, move || {
        let checks = Arc::clone(&checks);
        async move { checks.database().await }
    })
}

fn statistics(parts: &Parts) -> Runs {
    let pressure = Arc::clone(&parts.pressure);
    let (board, overload) = (Arc::clone(&parts.board), Arc::clone(&parts.overload));
    repeat(pressure::EVERY, move || {
        pressure.look(&board, &overload);
        std::future::ready(())
    })
}

fn policies(parts: &Parts) -> Runs {
    let of = (Arc::clone(&parts.directory), Arc::clone(&parts.database));
    repeat(REFRESH, move || {
        let (directory, database) = of.clone();
        async move {
            // That it is away is the database check's to tell.
            if let Err(error @ DatabaseError::Refused(_)) = directory.refresh(&database).await {
                warn!(%error, "the policies could not be read");
            }
        }
    })
}

fn reload(parts: &Parts) -> Runs {
    let env = parts.env.clone();
    let (read, board) = (Arc::clone(&parts.settings), Arc::clone(&parts.board));
    repeat(settings::EVERY, move || {
        settings::reload(env.as_ref(), &read, &board);
        std::future::ready(())
    })
}

fn sweep(parts: &Parts, clock: Clock, (retention, most): (Duration, u64)) -> Runs {
    let of = (Arc::clone(&parts.cache), Arc::clone(&parts.database));
    repeat(SWEEP, move || {
        let (cache, database) = of.clone();
        async move {
            cache.sweep();
            forget(&database, clock, retention, most).await;
        }
    })
}

fn audit(parts: &Parts) -> Runs {
    let of = (Arc::clone(&parts.sink), Arc::clone(&parts.database));
    Box::new(move |pulse, stop| {
        let (sink, database) = of.clone();
        Box::pin(async move {
            let mut sink = sink.lock().await;
            while !stop.requested() && sink.work(&database, &pulse).await {}
        })
    })
}

fn warm(parts: &Parts) -> Runs {
    let warmer = Arc::clone(&parts.warmer);
    Box::new(move |pulse, stop| {
        let warmer = Arc::clone(&warmer);
        Box::pin(async move { warmer.work(pulse, stop).await })
    })
}

/// A unit of work that is done again and again.
fn repeat<F>(period: Duration, unit: impl Fn() -> F + Clone + Send + Sync + 'static) -> Runs
where
    F: Future<Output = ()> + Send + 'static,
{
    Box::new(move |pulse, stop| {
        let unit = unit.clone();
        Box::pin(every(period, pulse, stop, unit))
    })
}

/// Audit records past their age or over their number go, some thousand at a time, until there are none or the time for it is up.
async fn forget(database: &Database, clock: Clock, retention: Duration, most: u64) {
    let mut all = 0;
    match forget_old(database, clock, retention, most, &mut all).await {
        Ok(()) | Err(DatabaseError::Away(_)) => {}
        Err(error) => warn!(%error, "old audit records could not be removed"),
    }
    if all > 0 {
        info!(gone = all, "old audit records are gone");
    }
}

async fn forget_old(
    database: &Database,
    clock: Clock,
    retention: Duration,
    most: u64,
    all: &mut u64,
) -> Result<(), DatabaseError> {
    let age = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let before = Timestamp(clock.now().millis().saturating_sub(age));
    let begun = clock.monotonic();
    // Others have their turn in between.
    let pause = Duration::from_millis(20);
    while begun.elapsed() < FORGET {
        let gone = database.forget(before).await?;
        *all += gone;
        if gone < AT_ONCE {
            break;
        }
        tokio::time::sleep(pause).await;
    }
    let mut surplus = database.surplus(most).await?;
    while surplus > 0 && begun.elapsed() < FORGET {
        let gone = database.forget_oldest(surplus.min(AT_ONCE)).await?;
        *all += gone;
        surplus = if gone == 0 { 0 } else { surplus.saturating_sub(gone) };
        tokio::time::sleep(pause).await;
    }
    Ok(())
}
