//! What each part shows of itself on the metrics page, read when the page is asked for.

use super::Parts;
use crate::admit::overload::Overload;
use crate::database::audit::Counts;
use crate::health::board::Board;
use crate::pressure::{self, Level};
use model::MetricKind::{self, Counter, Gauge};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use telemetry::Registry;

pub(super) fn expose(registry: &Registry, parts: &Parts) {
    traffic(registry, parts);
    narrowness(registry, parts);
    answers(registry, parts);
    audit(registry, parts);
}

/// Shows what `read` says of `part`.
fn show<T: Send + Sync + 'static>(
    registry: &Registry,
    part: &Arc<T>,
    kind: MetricKind,
    (name, help): (&str, &str),
    read: fn(&T) -> f64,
) {
    let part = Arc::clone(part);
    registry.computed(name, help, kind, move || read(&part));
}

fn traffic(registry: &Registry, parts: &Parts) {
    let board = &parts.board;
    let name = ("gateway_requests_in_flight", "Requests being answered.");
    show(registry, board, Gauge, name, |it| it.in_flight.load(Ordering::Relaxed) as f64);
    let name = ("gateway_connections", "Open connections.");
    show(registry, board, Gauge, name, |it| it.connections.load(Ordering::Relaxed) as f64);
    let name = ("gateway_heartbeat_age_seconds", "Since the data plane's last sign of life.");
    show(registry, board, Gauge, name, |it| it.beat_age().as_secs_f64());
    let name = ("gateway_ready", "Whether traffic should be sent here.");
    show(registry, board, Gauge, name, |it| f64::from(u8::from(it.is_ready())));
    for (of, check) in Board::checks() {
        let (board, name) = (Arc::clone(board), "gateway_check_state");
        let name = (name, "How a check of its health stands: 0 healthy, 1 degraded, 2 failed.");
        registry
            .computed_for(name, Gauge, ("check", check), move || f64::from(board.state(of) as u8));
    }
    let overload = Arc::clone(&parts.overload);
    let help = "How late tasks of the data plane's latest thread run, at least.";
    registry.computed("gateway_queue_delay_seconds", help, Gauge, move || {
        overload.iter().map(|it| it.delay().as_secs_f64()).fold(0.0, f64::max)
    });
    let overload = Arc::clone(&parts.overload);
    let help = "Share of requests that it refuses for that.";
    registry.computed("gateway_overload_refused_ratio", help, Gauge, move || {
        overload.iter().map(Overload::share).fold(0.0, f64::max)
    });
    let name = ("gateway_database_connections", "Connections to the database.");
    show(registry, &parts.database, Gauge, name, |it| it.connections() as f64);
}

fn narrowness(registry: &Registry, parts: &Parts) {
    let pressure = &parts.pressure;
    let help = "0 calm, 1 from 60 %, 2 from 80 %, 3 from 90 %, 4 from 95 %.";
    show(registry, pressure, Gauge, ("gateway_pressure_level", help), |it| {
        f64::from(it.level() as u8)
    });
    let name = ("gateway_cleanups_useless_total", "Cleanups that freed less than 5 %.");
    show(registry, pressure, Counter, name, |it| it.useless() as f64);
    let help = "1 when memory is used up and cleanups free nothing.";
    show(registry, pressure, Gauge, ("gateway_restart_wanted", help), |it| {
        f64::from(u8::from(it.level() >= Level::Critical && it.is_leak()))
    });
    let help = "Bytes that the program has asked for.";
    registry.computed("gateway_allocated_bytes", help, Gauge, || pressure::allocated().0 as f64);
    let help = "Bytes that the allocator holds for it.";
    registry.computed("gateway_allocator_resident_bytes", help, Gauge, || {
        pressure::allocated().1 as f64
    });
}

fn answers(registry: &Registry, parts: &Parts) {
    let cache = &parts.cache;
    show(registry, cache, Gauge, ("gateway_cache_bytes", "Bytes of answers kept."), |it| {
        it.read().0 as f64
    });
    show(registry, cache, Gauge, ("gateway_cache_entries", "Answers kept."), |it| {
        it.read().1 as f64
    });
    let name = ("gateway_cache_oldest_seconds", "Age of the oldest answer kept.");
    show(registry, cache, Gauge, name, |it| it.read().2.as_secs_f64());
    let name = ("gateway_cache_evicted_total", "Answers put out to make room.");
    show(registry, cache, Counter, name, |it| it.evicted.load(Ordering::Relaxed) as f64);
}

fn audit(registry: &Registry, parts: &Parts) {
    let counts = parts.audit.counts();
    let show = |name: &str, help: &str, kind, read: fn(&Counts) -> &AtomicU64| {
        let counts = Arc::clone(&counts);
        registry.computed(name, help, kind, move || read(&counts).load(Ordering::Relaxed) as f64);
    };
    show("gateway_audit_written_total", "Audit records in the database.", Counter, |it| {
        &it.written
    });
    let help = "Audit records kept on disk for later.";
    show("gateway_audit_journaled_total", help, Counter, |it| &it.journaled);
    let help = "Audit records for which there was no room.";
    show("gateway_audit_lost_total", help, Counter, |it| &it.lost);
    let help = "Bytes of audit records on disk.";
    show("gateway_audit_journal_bytes", help, Gauge, |it| &it.journal_bytes);
    let waiting = parts.audit.clone();
    let help = "Audit records on their way.";
    registry.computed("gateway_audit_waiting", help, Gauge, move || waiting.waiting() as f64);
}
