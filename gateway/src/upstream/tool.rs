//! One tool at work: its door, its breaker, its budget, and its actions.

use super::breaker::{Breaker, Ticket};
use super::budget::Budget;
use super::call::CallError;
use super::link::Links;
use super::proxy::UploadState;
use crate::admit::limiter::Limiter;
use crate::admit::queue::{Door, Patience, Place};
use crate::cache::store::Ages;
use crate::config::{ActionConfig, AdmissionConfig, Permission, ToolConfig};
use crate::meters::{Meters, Outcome, RouteMeter, ToolMeter};
use http::{Method, Uri};
use model::MetricKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use telemetry::Registry;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tracing::warn;

/// Calls at once that a tool gets before anything is known of it.
const FIRST: usize = 20;

/// A tool.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) config: ToolConfig,
    /// None for a mock.
    pub(crate) links: Option<Links>,
    /// The path of `base_url`, without a / at its end.
    pub(crate) prefix: String,
    pub(crate) actions: Vec<Action>,
    pub(crate) door: Arc<Door>,
    pub(crate) breaker: Breaker,
    pub(crate) budget: Budget,
    pub(crate) meter: ToolMeter,
    /// Bodies that are still on their way to it.
    uploads: Arc<AtomicUsize>,
}

/// A body on its way, until it is dropped.
#[derive(Debug)]
pub(super) struct Uploading(Arc<AtomicUsize>);

impl Drop for Uploading {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An attempt that is under way. Where its client goes away, it was late if it had half of its time: a tool that hangs is seen to, however
/// little patience its clients have.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    tool: &'a Tool,
    ticket: Option<Ticket>,
    upload: Option<Arc<UploadState>>,
    since: Instant,
    open: bool,
}

impl Asked<'_> {
    pub(super) fn ended(mut self, outcome: Outcome) {
        self.open = false;
        self.tool.ended(self.ticket, outcome);
    }

    /// It says nothing of the tool.
    pub(super) fn of_nothing(mut self) {
        self.open = false;
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let of_the_client = self.upload.as_ref().is_some_and(|upload| upload.waits_for_client());
        let waited = self.since.elapsed() >= self.tool.config.timeout / 2;
        if self.open && waited && !of_the_client {
            self.tool.ended(self.ticket, Outcome::Late);
        }
    }
}

/// An action of it.
#[derive(Debug)]
pub(crate) struct Action {
    pub(crate) config: ActionConfig,
    pub(crate) method: Method,
    /// The path of `base_url`, and its own.
    pub(crate) path: Uri,
    /// How long its answers are kept; none if not at all.
    pub(crate) ages: Option<Ages>,
    pub(crate) meter: RouteMeter,
}

impl Action {
    /// Whether it may be asked for twice.
    pub(crate) fn reads(&self) -> bool {
        self.config.permission == Permission::Read
    }
}

impl Tool {
    pub(crate) fn new(
        config: &ToolConfig,
        admission: &AdmissionConfig,
        tls: Option<&TlsConnector>,
        (meters, registry): (&Meters, &Registry),
    ) -> Result<Arc<Self>, String> {
        let place = format!("gateway.tool {:?}", config.name);
        let base = config.base_url.as_ref().map(|url| url.parse::<Uri>()).transpose();
        let base = base.map_err(|error| format!("{place}: base_url is no URL: {error}"))?;
        let links = base.as_ref().map(|base| Links::new(base, tls)).transpose();
        let links = links.map_err(|error| format!("{place}: base_url: {error}"))?;
        let prefix =
            base.map_or(String::new(), |base| base.path().trim_end_matches('/').to_owned());
        let limiter = Limiter::new(1, FIRST, config.max_concurrency);
        let patience =
            Patience { calm: admission.queue_time, pressed: admission.pressed_queue_time };
        let actions = config.actions.iter().map(|action| {
            let path = format!("{prefix}{}", action.path);
            let path = path.parse::<Uri>().map_err(|error| {
                format!("{place} action {:?}: {path:?} is no path: {error}", action.name)
            });
            let name = format!("/t/{}/{}", config.name, action.name);
            let kept = action.fresh.max(action.stale) > std::time::Duration::ZERO;
            Ok(Action {
                method: action.method.parse().unwrap_or(Method::POST),
                path: path?,
                ages: kept.then_some(Ages { fresh: action.fresh, stale: action.stale }),
                meter: meters.route(&name),
                config: action.clone(),
            })
        });
        let tool = Arc::new(Self {
            actions: actions.collect::<Result<_, String>>()?,
            door: Door::new(limiter, patience, admission.max_queue),
            breaker: Breaker::default(),
            budget: Budget::default(),
            meter: meters.tool(&config.name),
            links,
            prefix,
            config: config.clone(),
            uploads: Arc::default(),
        });
        tool.expose(registry);
        Ok(tool)
    }

    pub(crate) fn action(&self, name: &str) -> Option<(usize, &Action)> {
        self.actions.iter().enumerate().find(|(_, action)| action.config.name == name)
    }

    /// Past the breaker, where `breakers` are in use, and through the door; or why not.
    pub(super) async fn enter(&self, breakers: bool) -> Result<(Option<Ticket>, Place), CallError> {
        let ticket = breakers.then(|| self.breaker.allows()).transpose().map_err(|wait| {
            self.meter.ended(Outcome::BreakerOpen);
            CallError::LeftAlone(wait)
        })?;
        match self.door.enter(self.config.priority).await {
            Ok(place) => Ok((ticket, place)),
            Err(_) => {
                self.meter.ended(Outcome::Shed);
                Err(CallError::Busy)
            }
        }
    }

    /// Lets a body in whose end is yet to come. Clients that are slow may hold half of the tool's places, so that the others go on.
    pub(super) fn let_upload(&self) -> Result<Uploading, CallError> {
        let before = self.uploads.fetch_add(1, Ordering::Relaxed);
        let uploading = Uploading(Arc::clone(&self.uploads));
        if before < (self.door.read().limit / 2).max(1) {
            return Ok(uploading);
        }
        self.meter.ended(Outcome::Shed);
        Err(CallError::Busy)
    }

    /// It is asked.
    pub(super) fn asked(
        &self,
        ticket: Option<Ticket>,
        upload: Option<Arc<UploadState>>,
        since: Instant,
    ) -> Asked<'_> {
        Asked { tool: self, ticket, upload, since, open: true }
    }

    /// A call ended: counted, and told to the breaker.
    fn ended(&self, ticket: Option<Ticket>, outcome: Outcome) {
        self.meter.ended(outcome);
        if ticket.is_some_and(|ticket| self.breaker.ended(ticket, outcome == Outcome::Good)) {
            warn!(tool = %self.config.name, "the tool fails and is left alone for a while");
        }
    }

    fn expose(self: &Arc<Self>, registry: &Registry) {
        let gauge = |name: &str, help: &str, read: fn(&Self) -> f64| {
            let tool = Arc::clone(self);
            let label = ("tool", self.config.name.as_str());
            registry.computed_for((name, help), MetricKind::Gauge, label, move || read(&tool));
        };
        gauge("gateway_upstream_limit", "Calls that a tool gets at once.", |tool| {
            tool.door.read().limit as f64
        });
        gauge("gateway_upstream_in_flight", "Calls of a tool under way.", |tool| {
            tool.door.read().inside as f64
        });
        gauge("gateway_upstream_waiting", "Requests that wait for a tool.", |tool| {
            tool.door.read().waiting as f64
        });
        gauge("gateway_breaker_open_ratio", "0 closed, 0.5 half open, 1 open.", |tool| {
            tool.breaker.read()
        });
    }
}
