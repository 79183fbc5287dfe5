//! Remediation that is checked: the mildest step first, each one verified on the series themselves, the next one only if it
//! did not help, a person when nothing did.
//!
//! - here: the task; `record`: what is kept of it; `safety`: when nothing may be done; `runbook`: its texts

pub(crate) mod record;
pub(crate) mod runbook;
mod safety;

use crate::AlertsError;
use crate::book::{Alert, Book, Group, Kept, Told, id};
use crate::cause;
use crate::config::{RemediationConfig, RunbookConfig, StepConfig};
use crate::expr::eval::{Element, evaluate};
use crate::expr::parse::matchers;
use crate::expr::source::Source;
use crate::expr::{Expr, Matcher};
use crate::incident::Incident;
use crate::journal::Record;
use crate::notify::{Entry, Reason};
use crate::route::Destination;
use crate::secret;
use crate::silence::{Quiet, fits};
use model::Timestamp;
use platform::durable;
use platform::http::{HttpClient, Method};
use record::{Remediation, StepTaken, Strike};
use runtime::{Clock, Stop, Tick};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::{info, warn};

/// Actions that an incident names.
const ACTIONS: usize = 100;
/// Between two looks at the series while a step is verified.
const LOOK: Duration = Duration::from_millis(250);
/// Alerts that are asked about for each runbook; with more at once a person is needed anyway.
const ASKED: usize = 20;
/// Between two looks at alerts that have a runbook and may not yet run it.
const RETRY: Duration = Duration::from_secs(1);

/// Carries runbooks out. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Remediator(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: RemediationConfig,
    pub(crate) runbooks: Vec<(RunbookConfig, Vec<Matcher>)>,
    /// How often the rule of a name is looked at.
    intervals: BTreeMap<String, Duration>,
    pub(crate) book: Book,
    pub(crate) source: Source,
    pub(crate) client: HttpClient,
    pub(crate) clock: Clock,
    pub(crate) quiet: Quiet,
    /// Receivers that are told when all steps failed and none pages.
    pub(crate) receivers: Vec<String>,
}

impl Remediator {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(
        (config, runbooks, intervals): (
            RemediationConfig,
            Vec<RunbookConfig>,
            BTreeMap<String, Duration>,
        ),
        quiet: Quiet,
        book: Book,
        source: Source,
        clock: Clock,
        receivers: Vec<String>,
    ) -> Result<Self, AlertsError> {
        let runbooks =
            runbooks.into_iter().filter_map(|it| Some((it.clone(), matchers(&it.matchers).ok()?)));
        let tls = HttpClient::with_tls(&platform::tls::Tls::default());
        let client = tls.map_err(|error| AlertsError::Setting(error.to_string()))?;
        let runbooks = runbooks.collect();
        Ok(Self(Arc::new(Inner {
            config,
            runbooks,
            intervals,
            book,
            source,
            client,
            clock,
            quiet,
            receivers,
        })))
    }

    /// Looks for alerts that have a runbook until stopped.
    pub(crate) async fn run(self, stop: Stop) -> Result<(), AlertsError> {
        let own = &self.0;
        if own.runbooks.is_empty() {
            stop.wait().await;
            return Ok(());
        }
        own.close_interrupted();
        let mut changes = own.book.changes();
        let mut running: JoinSet<String> = JoinSet::new();
        let mut busy: BTreeSet<String> = BTreeSet::new();
        // By alert: why it was refused last, so that it is written down once.
        let mut refused: BTreeMap<String, &'static str> = BTreeMap::new();
        while !stop.requested() {
            changes.mark_unchanged();
            let wanted = own.wanted(&busy);
            refused.retain(|fingerprint, _| {
                wanted.iter().any(|(_, it)| it.fingerprint == *fingerprint)
            });
            let open = !wanted.is_empty();
            for (at, alert) in wanted {
                if running.len() >= own.config.max_at_once {
                    break;
                }
                let Some((runbook, _)) = own.runbooks.get(at).cloned() else { continue };
                let (inner, asked) = (Arc::clone(own), alert.clone());
                let may = tokio::task::spawn_blocking(move || safety::may_run(&inner, at, &asked));
                let Ok(may) = may.await else { continue };
                match may {
                    Ok(()) => {
                        busy.insert(alert.fingerprint.clone());
                        // Noted before anything else is looked at: it counts from here on.
                        let run = own.begin(&runbook, &alert);
                        own.note(&run, format!("runbook {} begins", runbook.name)).await;
                        let inner = Arc::clone(own);
                        running.spawn(async move {
                            inner.carry_out(&runbook, &alert, run).await;
                            alert.fingerprint
                        });
                    }
                    Err(no) => {
                        let told = refused.insert(alert.fingerprint.clone(), no.kind);
                        if told != Some(no.kind) {
                            own.refuse(&runbook, &alert, &no.why).await;
                        }
                    }
                }
            }
            tokio::select! {
                () = stop.wait() => break,
                Some(done) = running.join_next() => {
                    match done {
                        Ok(fingerprint) => drop(busy.remove(&fingerprint)),
                        Err(error) => {
                            warn!(%error, "a runbook ended in disorder");
                            busy.clear();
                        }
                    }
                }
                _ = changes.changed() => { if stop.wait_for(Duration::from_millis(20)).await == Tick::Stopped { break; } }
                _ = stop.wait_for(RETRY), if open => {}
            }
        }
        // What runs is written down as running, and as interrupted at the next start.
        running.shutdown().await;
        Ok(())
    }
}

impl Inner {
    /// Firing alerts with the number of their runbook, the first of each.
    fn wanted(&self, busy: &BTreeSet<String>) -> Vec<(usize, Alert)> {
        let mut count = vec![0; self.runbooks.len()];
        self.book.look(|kept| {
            let firing =
                kept.alerts.values().filter(|it| it.fires() && !busy.contains(&it.fingerprint));
            let with = firing.filter_map(|alert| {
                let at = self.runbooks.iter().position(|(_, it)| fits(it, &alert.labels))?;
                let count = count.get_mut(at)?;
                *count += 1;
                (*count <= ASKED).then(|| (at, alert.clone()))
            });
            with.collect()
        })
    }

    fn close_interrupted(&self) {
        let now = self.clock.now();
        self.book.change(true, |kept| {
            let open: Vec<Remediation> = kept.remediations.values().filter(|it| it.ended.is_none()).cloned().collect();
            for mut it in open {
                (it.ended, it.outcome) = (Some(now), "interrupted".to_owned());
                it.detail = "the monitor ended while this ran; what it did is not undone, and not repeated before the cooldown".to_owned();
                kept.note(Record::Remediation(Box::new(it)));
            }
        });
    }

    fn begin(&self, runbook: &RunbookConfig, alert: &Alert) -> Remediation {
        let now = self.clock.now();
        Remediation {
            id: id(now, &format!("{}{}", runbook.name, alert.fingerprint)),
            runbook: runbook.name.clone(),
            alert: alert.fingerprint.clone(),
            labels: alert.labels.clone(),
            incident: alert.incident.clone(),
            began: now,
            ended: None,
            outcome: "running".to_owned(),
            detail: String::new(),
            steps: Vec::new(),
        }
    }

    async fn refuse(&self, runbook: &RunbookConfig, alert: &Alert, why: &str) {
        warn!(runbook = %runbook.name, alert = %alert.rule, why, "runbook not carried out");
        let mut run = self.begin(runbook, alert);
        (run.ended, run.outcome, run.detail) =
            (Some(run.began), "refused".to_owned(), why.to_owned());
        self.note(&run, format!("runbook {} is not carried out: {why}", runbook.name)).await;
    }

    /// Writes a run down, and says at alert and incident what is being done.
    async fn note(&self, run: &Remediation, action: String) {
        let (run, at) = (run.clone(), self.clock.now());
        let note = move |kept: &mut Kept| {
            if let Some(mut alert) = kept.alerts.get(&run.alert).cloned() {
                alert.action.clone_from(&action);
                kept.note(Record::Alert(Box::new(alert)));
            }
            let of = |it: &&Incident| it.alerts.contains_key(&run.alert);
            let incident = kept.incidents.values().rev().find(of).cloned();
            if let Some(mut incident) = incident.filter(|it| it.actions.len() < ACTIONS) {
                incident.actions.push(format!("{at} {action}"));
                kept.note(Record::Incident(Box::new(incident)));
            }
            kept.note(Record::Remediation(Box::new(run)));
        };
        self.book.change_aside(true, note).await;
    }

    async fn carry_out(
        self: &Arc<Self>,
        runbook: &RunbookConfig,
        alert: &Alert,
        mut run: Remediation,
    ) {
        let dry = self.config.dry_run || runbook.dry_run;
        info!(runbook = %runbook.name, alert = %alert.rule, dry, "carrying a runbook out");
        let (mut paged, mut alone) = (false, false);
        for step in &runbook.step {
            if !self.still_fires(&run.alert) {
                run.outcome = "helped".to_owned();
                break;
            }
            let acts = step.callback.is_some() || step.restart.is_some();
            if acts && alone {
                continue;
            }
            if let Err(no) = safety::may_go_on(self, runbook, &run, acts).await {
                run.outcome = "stopped".to_owned();
                run.detail = format!("before step {}: {}", step.name, no.why);
                if no.is_for_a_person() {
                    break;
                }
                // Nothing more is done, and whoever stands further down is told.
                alone = true;
                if acts {
                    continue;
                }
            }
            let taken = self.take(runbook, step, alert, &mut run, dry).await;
            paged |= taken == "told";
            if taken == "helped" {
                run.outcome = "helped".to_owned();
                break;
            }
        }
        run.ended = Some(self.clock.now());
        if run.outcome == "running" {
            let over = !self.still_fires(&run.alert);
            run.outcome = if dry {
                "dry_run"
            } else if over {
                "helped"
            } else {
                "did_not_help"
            }
            .to_owned();
        }
        let words = match run.outcome.as_str() {
            "helped" => format!("runbook {} helped", runbook.name),
            "stopped" => format!("runbook {} goes no further: {}", runbook.name, run.detail),
            "dry_run" => format!("runbook {} was only written down (dry run)", runbook.name),
            _ => format!("runbook {} did not help: a person is needed", runbook.name),
        };
        let left = alone && self.still_fires(&run.alert);
        if (run.outcome == "did_not_help" || left) && !paged {
            self.page(&run, &self.receivers).await;
        }
        info!(runbook = %runbook.name, outcome = run.outcome, "runbook is over");
        self.note(&run, words).await;
    }

    /// Whether the alert came to its end after `began`: one that was over before is no merit of the step.
    fn ended_after(&self, fingerprint: &str, began: Timestamp) -> bool {
        self.book.look(|kept| {
            let past = || kept.past.iter().rev().find(|it| it.fingerprint == fingerprint);
            let alert = kept.alerts.get(fingerprint).or_else(past);
            alert.and_then(|it| it.standing.resolved).is_some_and(|at| at > began)
        })
    }

    fn still_fires(&self, fingerprint: &str) -> bool {
        self.book.look(|kept| kept.alerts.get(fingerprint).is_some_and(Alert::fires))
    }

    /// Takes one step and judges it. Returns its outcome.
    async fn take(
        &self,
        runbook: &RunbookConfig,
        step: &StepConfig,
        alert: &Alert,
        run: &mut Remediation,
        dry: bool,
    ) -> &'static str {
        let kind = match (&step.callback, &step.restart) {
            (Some(_), _) => "callback",
            (None, Some(_)) => "restart",
            (None, None) => "page",
        };
        let before = self.measure(step, alert).await;
        let began = self.clock.now();
        run.steps.push(StepTaken {
            name: step.name.clone(),
            kind: kind.to_owned(),
            began,
            ended: None,
            outcome: "running".to_owned(),
            detail: String::new(),
            before,
            after: None,
        });
        let (outcome, detail) = if self.is_struck_off(runbook, step) {
            ("struck_off", "it never helped and is not taken any more; POST /api/v1/remediation with {\"forgive\": true} takes it up again".to_owned())
        } else if dry {
            ("dry_run", describe(step))
        } else {
            let words = format!(
                "step {} of runbook {} is taken: {}",
                step.name,
                runbook.name,
                describe(step)
            );
            self.note(run, words).await;
            match self.act(step, alert, run).await {
                Err(why) => ("failed", why),
                Ok(said) if kind == "page" => ("told", said),
                Ok(said) => {
                    let (helped, seen) = self.verify(step, alert, before, run).await;
                    (if helped { "helped" } else { "did_not_help" }, format!("{said}; {seen}"))
                }
            }
        };
        let after = self.measure(step, alert).await;
        if let Some(last) = run.steps.last_mut() {
            (last.ended, last.outcome, last.after) =
                (Some(self.clock.now()), outcome.to_owned(), after);
            last.detail.clone_from(&detail);
        }
        info!(runbook = %runbook.name, step = %step.name, outcome, detail, "step taken");
        if kind != "page" && matches!(outcome, "helped" | "did_not_help" | "failed") {
            self.strike(runbook, step, outcome == "helped").await;
        }
        let said = outcome.replace('_', " ");
        let words = format!("step {} of runbook {}: {said}, {detail}", step.name, runbook.name);
        self.note(run, words).await;
        outcome
    }

    async fn act(
        &self,
        step: &StepConfig,
        alert: &Alert,
        run: &Remediation,
    ) -> Result<String, String> {
        if let Some(call) = &step.callback {
            let url = runbook::fill(&call.url, &alert.labels, f64::NAN, runbook::in_url)?;
            let token =
                secret::read("bearer token", None, call.bearer_token_file.as_deref(), None)?;
            let authorization = token.map(|token| format!("Bearer {token}"));
            // The same for a step of a run, so that a callee can tell a second attempt.
            let key = request_id(run, step);
            let mut headers =
                vec![("content-type", "application/json"), ("idempotency-key", key.as_str())];
            headers.extend(authorization.as_deref().map(|it| ("authorization", it)));
            let deadline = self.clock.monotonic() + call.timeout;
            let answer =
                self.client.send(Method::POST, &url, &headers, call.body.clone(), deadline).await;
            let answer = answer.map_err(|error| format!("the callback got no answer: {error}"))?;
            let status = answer.status;
            let body = answer
                .body(64 << 10)
                .await
                .map_err(|error| format!("the callback's answer broke off: {error}"))?;
            let said: String = String::from_utf8_lossy(&body)
                .chars()
                .filter(|c| !c.is_control())
                .take(200)
                .collect();
            return if (200..300).contains(&status) {
                Ok(format!("answered {status} {said}"))
            } else {
                Err(format!("answered {status} {said}"))
            };
        }
        if let Some(child) = &step.restart {
            let dir = self
                .config
                .watchdog_dir
                .clone()
                .ok_or("alerts.remediation.watchdog_dir is not set")?;
            let request = serde_json::json!({ "id": request_id(run, step), "at": self.clock.now(), "by": "monitor",
                "reason": format!("runbook {}: {}", run.runbook, alert.rule) });
            let (folder, file) = (dir.join("requests"), format!("{child}.json"));
            let written = tokio::task::spawn_blocking(move || {
                durable::create_dir(&folder).and_then(|()| {
                    durable::replace(&folder.join(file), request.to_string().as_bytes())
                })
            });
            let written = written.await.map_err(|error| error.to_string())?;
            written.map_err(|error| format!("the watchdog could not be asked: {error}"))?;
            return Ok(format!("the watchdog was asked to restart {child}"));
        }
        self.page(run, &step.page).await;
        Ok(format!("told {}", step.page.join(", ")))
    }

    /// Writes a message that a person is needed.
    async fn page(&self, run: &Remediation, receivers: &[String]) {
        let (run, receivers, now) = (run.clone(), receivers.to_vec(), self.clock.now());
        self.book.change_aside(true, move |kept| page(kept, &run, &receivers, now)).await;
    }

    async fn evaluate(&self, expr: Expr) -> Vec<Element> {
        let (source, now) = (self.source.clone(), self.clock.now());
        let work = tokio::task::spawn_blocking(move || evaluate(&expr, &source, now));
        work.await.ok().and_then(Result::ok).unwrap_or_default()
    }

    async fn measure(&self, step: &StepConfig, alert: &Alert) -> Option<f64> {
        let expr = runbook::expression(step.measure.as_deref()?, alert, f64::NAN).ok()?;
        self.evaluate(expr).await.first().map(|it| it.value)
    }

    /// Waits until the step has taken effect: of a restart, until the watchdog says so in its journal. None if it does not.
    async fn acted(&self, step: &StepConfig, run: &Remediation) -> Option<Timestamp> {
        if step.restart.is_none() {
            return Some(self.clock.now());
        }
        let journal = self.config.watchdog_dir.as_ref()?.join("journal.jsonl");
        let mark = format!("\"id\":\"{}\"", request_id(run, step));
        let deadline = self.clock.monotonic() + step.within;
        while self.clock.monotonic() < deadline {
            let path = journal.clone();
            let text = tokio::task::spawn_blocking(move || cause::tail(&path)).await.ok().flatten();
            if text.is_some_and(|text| text.contains(&mark)) {
                return Some(self.clock.now());
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }

    /// Whether the series say, from samples after the step alone, that it helped.
    async fn verify(
        &self,
        step: &StepConfig,
        alert: &Alert,
        before: Option<f64>,
        run: &Remediation,
    ) -> (bool, String) {
        let Some(acted) = self.acted(step, run).await else {
            return (false, "the watchdog has not done it in time".to_owned());
        };
        let began = run.steps.last().map_or(acted, |it| it.began);
        let deadline = self.clock.monotonic() + step.within;
        let text = match (&step.verify, before) {
            (Some(text), None) if text.contains("$before") => {
                return (
                    false,
                    "there was nothing to measure before it, so its effect cannot be told"
                        .to_owned(),
                );
            }
            (text, _) => text.as_deref(),
        };
        let expr = text.map(|text| runbook::expression(text, alert, before.unwrap_or(f64::NAN)));
        while self.clock.monotonic() < deadline {
            let helped = match &expr {
                Some(Ok(expr)) => {
                    let elements = self.evaluate(expr.clone()).await;
                    // A range counts when all of it lies after the step.
                    elements.iter().find(|it| it.span.oldest > acted.millis()).map(|it| {
                        format!(
                            "{} holds at {}",
                            text.unwrap_or_default(),
                            Timestamp(it.span.newest)
                        )
                    })
                }
                Some(Err(why)) => return (false, why.clone()),
                None => self
                    .ended_after(&alert.fingerprint, began)
                    .then(|| "the alert is over".to_owned()),
            };
            if let Some(seen) = helped {
                return (true, seen);
            }
            tokio::time::sleep(LOOK).await;
        }
        let what = text.unwrap_or("the end of the alert");
        (
            false,
            format!(
                "{what} did not come true within {}",
                crate::rule::template::duration(step.within.as_secs_f64())
            ),
        )
    }

    fn is_struck_off(&self, runbook: &RunbookConfig, step: &StepConfig) -> bool {
        let key = format!("{}/{}", runbook.name, step.name);
        self.book.look(|kept| {
            kept.strikes
                .get(&key)
                .is_some_and(|it| it.helped == 0 && it.taken >= self.config.strike_after)
        })
    }

    async fn strike(&self, runbook: &RunbookConfig, step: &StepConfig, helped: bool) {
        let most = self.config.strike_after;
        let fresh =
            Strike { runbook: runbook.name.clone(), step: step.name.clone(), taken: 0, helped: 0 };
        let strike = move |kept: &mut Kept| {
            let key = format!("{}/{}", fresh.runbook, fresh.step);
            let mut strike = kept.strikes.get(&key).cloned().unwrap_or(fresh);
            strike.taken += 1;
            strike.helped += u32::from(helped);
            if strike.helped == 0 && strike.taken == most {
                let Strike { runbook, step, taken, .. } = &strike;
                warn!(%runbook, %step, taken, "a step never helped and is struck off");
            }
            kept.note(Record::Strike(strike));
        };
        self.book.change_aside(true, strike).await;
    }
}

/// The id of what a step asks for.
fn request_id(run: &Remediation, step: &StepConfig) -> String {
    format!("{}-{}", run.id, step.name)
}

/// Writes to each receiver that a person is needed; they are to hear of its end too.
fn page(kept: &mut Kept, run: &Remediation, receivers: &[String], now: Timestamp) {
    let Some(mut alert) = kept.alerts.get(&run.alert).cloned() else { return };
    let told = Told {
        fired: alert.standing.fired.unwrap_or(alert.standing.since),
        resolved: !alert.fires(),
        severity: alert.severity().to_owned(),
        at: Some(now),
    };
    let firing = usize::from(alert.fires());
    let mut shown = alert.clone();
    shown.action = format!("runbook {} has not helped: a person is needed", run.runbook);
    for receiver in receivers {
        let to = Destination { route: 0, receiver: receiver.clone(), labels: BTreeMap::new() };
        let key = format!("remediation/{}", run.id);
        let group = Group { key, sent: Vec::new(), number: run.steps.len() as u64 };
        let counts = (firing, 1 - firing);
        let entry = Entry::new(&group, &to, Reason::Remediation, counts, vec![shown.clone()], now);
        kept.note(Record::Entry(Box::new(entry)));
        alert.told.insert(receiver.clone(), told.clone());
    }
    kept.note(Record::Alert(Box::new(alert)));
}

fn describe(step: &StepConfig) -> String {
    match (&step.callback, &step.restart) {
        (Some(call), _) => format!("POST {}", call.url),
        (None, Some(child)) => format!("restart of {child} by the watchdog"),
        (None, None) => format!("message to {}", step.page.join(", ")),
    }
}
