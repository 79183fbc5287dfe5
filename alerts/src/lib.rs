//! From a fact to a person, and from a fact to a cure that is checked. Never knows how a finding was computed, and calls the
//! gateway over HTTP like any stranger.
//!
//! The life of an alert: `signal` or sample → `evaluate` → `observe` and `state` → `silence` → `route` and `dispatch` →
//! `notify/` → `remediation/` → resolved.
//!
//! - `signal`: what other rooms may tell us; `expr/`: expressions on series; `rule/`: what is a reason for an alert
//! - `evaluate`: looks at rules as samples come; `observe`, `state`: what becomes of an alert; `own`: what we say of ourselves;
//!   `orphan`: what an earlier configuration left; `pulse`: whether all of it goes on
//! - `book`, `journal`: everything that is known, and how it survives; `desk`: what people may ask and do
//! - `silence`, `route`, `dispatch`: who is told what, and when; `notify/`: how; `latency`: how fast
//! - `incident`, `cause`: what fires together, and why; `remediation/`: what is done about it, and whether it helped
//! - `check`, `unit_test`: rule files before they are used; `table`: all of it as rows

mod book;
mod cause;
mod check;
mod config;
mod desk;
mod dispatch;
mod error;
mod evaluate;
mod expr;
mod incident;
mod journal;
mod latency;
mod notify;
mod observe;
mod orphan;
mod own;
mod pulse;
mod remediation;
mod route;
mod rule;
mod secret;
mod signal;
mod silence;
mod state;
mod table;
mod unit_test;

pub use book::{Acknowledged, Alert, Audit, Told};
pub use check::{Checked, check, check_config};
pub use config::{
    AlertsConfig, CallbackConfig, EmailConfig, HeartbeatConfig, InhibitConfig, MaintenanceConfig,
    ReceiverConfig, RemediationConfig, RouteConfig, RunbookConfig, Security, StepConfig,
    WebhookConfig,
};
pub use desk::{Desk, NewSilence, Refusal, RuleView};
pub use error::AlertsError;
pub use incident::{Cause, Incident};
pub use notify::{Entry, Reason};
pub use remediation::record::{Remediation, StepTaken, Strike};
pub use rule::yaml::Fault;
pub use rule::{BUILT_IN_FILE, Level};
pub use signal::{Ask, Asked, Row, Signal, SignalSender, Signals};
pub use silence::Silence;
pub use state::{Phase, Standing};
pub use table::{Cell, Table, tables};
pub use unit_test::test;

use book::Book;
use cause::Causes;
use dispatch::Dispatcher;
use evaluate::{Evaluator, Healths, Life};
use expr::source::Source;
use latency::Latency;
use model::Timestamp;
use notify::text::Links;
use notify::webhook::Webhook;
use notify::{Sender, Way};
use observe::Limits;
use parking_lot::Mutex;
use pulse::{Part, Pulse};
use remediation::Remediator;
use route::Routes;
use runtime::{Clock, Stop, Tasks, Tick};
use silence::Quiet;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::Reader;
use telemetry::Registry;
use tracing::warn;

/// What this room is given by others.
#[derive(Clone, Debug)]
pub struct Parts {
    /// To read series.
    pub reader: Reader,
    /// Findings of the analyzer.
    pub signals: Signals,
    /// The time.
    pub clock: Clock,
    /// Our own metrics.
    pub registry: Registry,
    /// Where people reach the monitor, such as `http://127.0.0.1:9490`.
    pub url: String,
    /// Where a watchdog on this machine keeps its files, if there is one.
    pub watchdog_dir: Option<PathBuf>,
}

/// Alerts, ready to run.
#[derive(Debug)]
pub struct Alerts {
    config: AlertsConfig,
    parts: Parts,
    rules: Arc<Vec<rule::Rule>>,
    healths: Healths,
    book: Book,
    latency: Latency,
    links: Links,
}

impl Alerts {
    /// Reads rules, and what an earlier process kept in `dir`.
    ///
    /// # Errors
    /// A rule file has faults, or the folder could not be used.
    pub fn open(config: AlertsConfig, dir: &Path, parts: Parts) -> Result<Self, AlertsError> {
        let rules = Arc::new(check::load(&config)?);
        let book = Book::open(dir)?;
        // A group of rules may have the name of ours; ours have no number.
        let is_own = |id: &str| id.strip_prefix(own::PREFIX).is_some_and(|it| !it.contains('/'));
        let is_rule = |id: &str| is_own(id) || rules.iter().any(|it| it.id == id);
        book.change(true, |kept| orphan::end(kept, is_rule, &config, parts.clock.now()));
        let latency = Latency::new(&parts.registry);
        let page = config.url.clone().unwrap_or_else(|| parts.url.clone());
        let page = page.trim_end_matches('/').to_owned();
        let runbooks = config.runbook_url.clone().unwrap_or_else(|| format!("{page}/runbook/"));
        let links = Links { page, runbooks };
        Ok(Self { config, parts, rules, healths: Healths::default(), book, latency, links })
    }

    /// What people may ask and do; may be used before and while this runs.
    pub fn desk(&self) -> Desk {
        Desk::new(
            self.book.clone(),
            Arc::clone(&self.rules),
            Arc::clone(&self.healths),
            self.config.clone(),
            self.parts.clock,
        )
    }

    /// Looks, tells and acts until stopped; `ask` runs the queries of rules.
    ///
    /// # Errors
    /// A task failed.
    pub async fn run(self, ask: Ask, stop: Stop) -> Result<(), AlertsError> {
        let Self { config, parts, rules, healths, book, latency, links } = self;
        let clock = parts.clock;
        let source = Source::Store(parts.reader.clone());
        let mut tasks = Tasks::new(stop);
        let pulse = Pulse::new(clock);
        let evaluator = Evaluator {
            rules: Arc::clone(&rules),
            healths,
            reader: parts.reader.clone(),
            signals: parts.signals.clone(),
            ask,
            book: book.clone(),
            clock,
            latency: latency.clone(),
            limits: Limits { per_rule: config.max_alerts_per_rule, all: config.max_alerts },
            life: Arc::new(Mutex::new(Life::begin(clock))),
            pulse: pulse.clone(),
        };
        for (at, rule) in rules.iter().enumerate() {
            if matches!(rule.condition, rule::Condition::Sql(_)) {
                let own = evaluator.clone();
                tasks.spawn("sql-rule", |stop| own.run_sql(at, stop));
            }
        }
        let own = own::Own::new(&evaluator, &config);
        tasks.spawn("own-alerts", |stop| own.run(stop));
        tasks.spawn("rules", |stop| evaluator.run(stop));
        for receiver in &config.receiver {
            let way = way(receiver, &links, &source, clock)?;
            if let Err(why) = way.ready() {
                warn!(receiver = %receiver.name, why, "a receiver cannot be told of anything until this is mended");
            }
            let sender = Sender {
                name: receiver.name.clone(),
                way,
                book: book.clone(),
                clock,
                give_up_after: config.give_up_after,
                latency: latency.clone(),
            };
            tasks.spawn("receiver", |stop| sender.run(stop));
        }
        if let Some(heartbeat) = config.heartbeat.clone()
            && let Some(receiver) = config.receiver.iter().find(|it| it.name == heartbeat.receiver)
            && let Some(webhook) = receiver.webhook.clone()
        {
            let webhook = Webhook::new(webhook, links.clone(), clock)?;
            let pulse = pulse.clone();
            tasks.spawn("heartbeat", |stop| own::beat(webhook, heartbeat, (clock, pulse), stop));
        }
        let (dispatcher, told) = (dispatcher(&config), book.clone());
        tasks.spawn("dispatch", |stop| dispatch(dispatcher, told, (clock, pulse), stop));
        let causes = Causes {
            book: book.clone(),
            source: source.clone(),
            watchdog: parts.watchdog_dir.clone(),
            clock,
        };
        tasks.spawn("causes", |stop| causes.run(stop));
        let remediator = remediator(&config, &rules, parts.watchdog_dir, (book, source, clock))?;
        tasks.spawn("remediation", |stop| remediator.run(stop));
        let ended = tasks.run(Duration::from_secs(2)).await;
        ended.map_err(|failed| AlertsError::Setting(failed.to_string()))
    }
}

fn remediator(
    config: &AlertsConfig,
    rules: &[rule::Rule],
    watchdog_dir: Option<PathBuf>,
    (book, source, clock): (Book, Source, Clock),
) -> Result<Remediator, AlertsError> {
    let receivers = config.receiver.iter().map(|it| it.name.clone()).collect();
    let quiet = Quiet::new(&config.maintenance, &config.inhibit);
    let mut settings = config.remediation.clone();
    settings.watchdog_dir = settings.watchdog_dir.or(watchdog_dir);
    let seldom = rules.iter().map(|it| (it.name.clone(), it.interval)).collect();
    let runbooks = (settings, config.runbook.clone(), seldom);
    Remediator::new(runbooks, quiet, book, source, clock, receivers)
}

fn way(
    receiver: &ReceiverConfig,
    links: &Links,
    source: &Source,
    clock: Clock,
) -> Result<Way, AlertsError> {
    match (&receiver.webhook, &receiver.email) {
        (Some(webhook), _) => {
            let webhook = Webhook::new(webhook.clone(), links.clone(), clock)?;
            Ok(Way::Webhook(Box::new(webhook)))
        }
        (None, Some(email)) => {
            let email =
                notify::email::Email::new(email.clone(), links.clone(), source.clone(), clock)?;
            Ok(Way::Email(Box::new(email)))
        }
        (None, None) => Err(AlertsError::Setting(format!(
            "receiver {:?} has neither webhook nor email",
            receiver.name
        ))),
    }
}

fn dispatcher(config: &AlertsConfig) -> Dispatcher {
    let not_resolved = config.receiver.iter().filter(|it| !it.send_resolved);
    Dispatcher {
        routes: Routes::new(config),
        quiet: Quiet::new(&config.maintenance, &config.inhibit),
        max_alerts: config.max_alerts_per_message,
        not_resolved: not_resolved.map(|it| it.name.clone()).collect(),
        destinations: BTreeMap::new(),
        waits: BTreeMap::new(),
    }
}

/// Looks who is to be told, as alerts change and as time goes on.
async fn dispatch(
    mut dispatcher: Dispatcher,
    book: Book,
    (clock, pulse): (Clock, Pulse),
    stop: Stop,
) -> Result<(), AlertsError> {
    let mut changes = book.changes();
    while !stop.requested() {
        changes.mark_unchanged();
        let (own, began) = (book.clone(), clock.monotonic());
        let look = tokio::task::spawn_blocking(move || {
            let next = own.change(true, |kept| dispatcher.look(kept, clock.now()));
            (dispatcher, next)
        });
        let next: Timestamp;
        (dispatcher, next) = look.await.map_err(|error| AlertsError::Setting(error.to_string()))?;
        pulse.beat(Part::Messages);
        // As with rules: very many alerts make messages slower, not the machine busy.
        if stop.wait_for((began.elapsed() * 10).min(Duration::from_secs(5))).await == Tick::Stopped
        {
            break;
        }
        // A silence or a window may begin or end meanwhile.
        let wait = clock.until(next).clamp(Duration::from_millis(5), Duration::from_secs(1));
        tokio::select! {
            _ = changes.changed() => {}
            tick = stop.wait_for(wait) => if tick == Tick::Stopped { break },
        }
    }
    Ok(())
}
