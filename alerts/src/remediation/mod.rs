//! Remediation that is checked: the mildest step first, each one verified on the series themselves, the next one only if it
//! did not help, a person when nothing did.
//!
//! - here: what is kept of it, and the task; `safety`: when nothing may be done; `runbook`: its texts

pub(crate) mod runbook;
mod safety;

use crate::AlertsError;
use crate::book::{Alert, Book, Group, Told, id};
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
use crate::silence::fits;
use model::Timestamp;
use platform::durable;
use platform::http::{HttpClient, Method};
use runtime::{Clock, Stop, Tick};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::{info, warn};

/// One run of a runbook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remediation {
    /// Begins with its time, so that ids sort by it.
    pub id: String,
    /// The runbook.
    pub runbook: String,
    /// The alert that it is for.
    pub alert: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its incident.
    pub incident: String,
    /// When it began.
    pub began: Timestamp,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// `running`, `helped`, `did_not_help`, `refused`, `dry_run`, `interrupted`.
    pub outcome: String,
    /// Why it was refused, or what came of it.
    pub detail: String,
    /// What was done.
    pub steps: Vec<StepTaken>,
}

/// One step as it was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepTaken {
    /// Its name.
    pub name: String,
    /// `callback`, `restart` or `page`.
    pub kind: String,
    /// When it was begun.
    pub began: Timestamp,
    /// When it was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// `running`, `helped`, `did_not_help`, `failed`, `struck_off`, `dry_run`, `told`.
    pub outcome: String,
    /// What was answered, and what the series said.
    pub detail: String,
    /// What was measured before.
    #[serde(default)]
    pub before: Option<f64>,
    /// What was measured after.
    #[serde(default)]
    pub after: Option<f64>,
}

/// How often a step helped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strike {
    /// The runbook.
    pub runbook: String,
    /// The step.
    pub step: String,
    /// Times taken.
    pub taken: u32,
    /// Times it helped.
    pub helped: u32,
}

/// Between two looks at the series while a step is verified.
const LOOK: Duration = Duration::from_millis(250);
/// Between two looks at alerts that have a runbook and may not yet run it.
const RETRY: Duration = Duration::from_secs(1);

/// Carries runbooks out. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Remediator(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: RemediationConfig,
    pub(crate) runbooks: Vec<(RunbookConfig, Vec<Matcher>)>,
    pub(crate) book: Book,
    pub(crate) source: Source,
    pub(crate) client: HttpClient,
    pub(crate) clock: Clock,
    /// Receivers that are told when all steps failed and none pages.
    pub(crate) receivers: Vec<String>,
}

impl Remediator {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(
        (config, runbooks): (RemediationConfig, Vec<RunbookConfig>),
        book: Book,
        source: Source,
        clock: Clock,
        receivers: Vec<String>,
    ) -> Self {
        let runbooks =
            runbooks.into_iter().filter_map(|it| Some((it.clone(), matchers(&it.matchers).ok()?)));
        let (runbooks, client) = (runbooks.collect(), HttpClient::new());
        Self(Arc::new(Inner { config, runbooks, book, source, client, clock, receivers }))
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
        let mut refused: BTreeMap<String, String> = BTreeMap::new();
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
                let Some((runbook, _)) = own.runbooks.get(at) else { continue };
                match safety::may_run(own, at, &alert) {
                    Ok(()) => {
                        busy.insert(alert.fingerprint.clone());
                        let (inner, runbook) = (Arc::clone(own), runbook.clone());
                        running.spawn(async move {
                            inner.carry_out(&runbook, &alert).await;
                            alert.fingerprint
                        });
                    }
                    Err(why) => {
                        let told = refused.insert(alert.fingerprint.clone(), why.clone());
                        if told.as_deref().is_none_or(|told| kind_of(told) != kind_of(&why)) {
                            own.refuse(runbook, &alert, &why);
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

/// Reasons differ in their numbers; their first words tell them apart.
fn kind_of(why: &str) -> String {
    why.split(' ').take(4).collect::<Vec<_>>().join(" ")
}

impl Inner {
    /// Firing alerts with the number of their runbook.
    fn wanted(&self, busy: &BTreeSet<String>) -> Vec<(usize, Alert)> {
        self.book.look(|kept| {
            let firing =
                kept.alerts.values().filter(|it| it.fires() && !busy.contains(&it.fingerprint));
            let with = firing.filter_map(|alert| {
                let at = self.runbooks.iter().position(|(_, it)| fits(it, &alert.labels))?;
                Some((at, alert.clone()))
            });
            with.take(100).collect()
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

    fn refuse(&self, runbook: &RunbookConfig, alert: &Alert, why: &str) {
        warn!(runbook = %runbook.name, alert = %alert.rule, why, "runbook not carried out");
        let mut run = self.begin(runbook, alert);
        (run.ended, run.outcome, run.detail) =
            (Some(run.began), "refused".to_owned(), why.to_owned());
        self.note(&run, &format!("runbook {} is not carried out: {why}", runbook.name));
    }

    /// Writes a run down, and says at alert and incident what is being done.
    fn note(&self, run: &Remediation, action: &str) {
        self.book.change(true, |kept| {
            kept.note(Record::Remediation(Box::new(run.clone())));
            if let Some(mut alert) = kept.alerts.get(&run.alert).cloned() {
                alert.action = action.to_owned();
                kept.note(Record::Alert(Box::new(alert)));
            }
            let open = kept
                .incidents
                .values()
                .rev()
                .find(|it| it.alerts.contains_key(&run.alert))
                .cloned();
            if let Some(Incident { mut actions, .. }) = open.clone()
                && actions.len() < 100
            {
                actions.push(format!("{} {action}", self.clock.now()));
                if let Some(incident) = open {
                    kept.note(Record::Incident(Box::new(Incident { actions, ..incident })));
                }
            }
        });
    }

    async fn carry_out(&self, runbook: &RunbookConfig, alert: &Alert) {
        let mut run = self.begin(runbook, alert);
        let dry = self.config.dry_run || runbook.dry_run;
        info!(runbook = %runbook.name, alert = %alert.rule, dry, "carrying a runbook out");
        self.note(&run, &format!("runbook {} begins", runbook.name));
        let mut paged = false;
        for step in &runbook.step {
            if !safety::is_allowed(self) {
                run.detail = "remediation was switched off while this ran".to_owned();
                break;
            }
            if !self.still_fires(&run.alert) {
                run.outcome = "helped".to_owned();
                break;
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
            "dry_run" => format!("runbook {} was only written down (dry run)", runbook.name),
            _ => format!("runbook {} did not help: a person is needed", runbook.name),
        };
        if run.outcome == "did_not_help" && !paged {
            self.page(&run, &self.receivers);
        }
        info!(runbook = %runbook.name, outcome = run.outcome, "runbook is over");
        self.note(&run, &words);
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
            self.note(
                run,
                &format!(
                    "step {} of runbook {} is taken: {}",
                    step.name,
                    runbook.name,
                    describe(step)
                ),
            );
            match self.act(step, alert, run).await {
                Err(why) => ("failed", why),
                Ok(said) if kind == "page" => ("told", said),
                Ok(said) => {
                    let (helped, seen) = self.verify(step, alert, before, began).await;
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
            self.strike(runbook, step, outcome == "helped");
        }
        self.note(
            run,
            &format!(
                "step {} of runbook {}: {}, {detail}",
                step.name,
                runbook.name,
                outcome.replace('_', " ")
            ),
        );
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
            let key = format!("{}-{}", run.id, step.name);
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
            let request = serde_json::json!({ "id": run.id, "at": self.clock.now(), "by": "monitor",
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
        self.page(run, &step.page);
        Ok(format!("told {}", step.page.join(", ")))
    }

    /// Writes a message that a person is needed.
    fn page(&self, run: &Remediation, receivers: &[String]) {
        let now = self.clock.now();
        self.book.change(true, |kept| {
            let Some(mut alert) = kept.alerts.get(&run.alert).cloned() else { return };
            let told = Told {
                fired: alert.standing.fired.unwrap_or(alert.standing.since),
                resolved: !alert.fires(),
                severity: alert.severity().to_owned(),
            };
            for receiver in receivers {
                let to =
                    Destination { route: 0, receiver: receiver.clone(), labels: BTreeMap::new() };
                let key = format!("remediation/{}", run.id);
                let group = Group { key, sent: Vec::new(), number: run.steps.len() as u64 };
                let mut alert = alert.clone();
                alert.action =
                    format!("runbook {} has not helped: a person is needed", run.runbook);
                let firing = usize::from(alert.fires());
                let entry = Entry::new(
                    &group,
                    &to,
                    Reason::Remediation,
                    (firing, 1 - firing),
                    vec![alert],
                    now,
                );
                kept.note(Record::Entry(Box::new(entry)));
            }
            // They are to hear of its end too.
            alert.told.extend(receivers.iter().map(|it| (it.clone(), told.clone())));
            kept.note(Record::Alert(Box::new(alert)));
        });
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

    /// Whether the series say, from samples after the step alone, that it helped.
    async fn verify(
        &self,
        step: &StepConfig,
        alert: &Alert,
        before: Option<f64>,
        acted: Timestamp,
    ) -> (bool, String) {
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
                    elements.iter().find(|it| it.time > acted.millis()).map(|it| {
                        format!("{} holds at {}", text.unwrap_or_default(), Timestamp(it.time))
                    })
                }
                Some(Err(why)) => return (false, why.clone()),
                None => {
                    (!self.still_fires(&alert.fingerprint)).then(|| "the alert is over".to_owned())
                }
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

    fn strike(&self, runbook: &RunbookConfig, step: &StepConfig, helped: bool) {
        let key = format!("{}/{}", runbook.name, step.name);
        self.book.change(true, |kept| {
            let fresh = Strike { runbook: runbook.name.clone(), step: step.name.clone(), taken: 0, helped: 0 };
            let mut strike = kept.strikes.get(&key).cloned().unwrap_or(fresh);
            strike.taken += 1;
            strike.helped += u32::from(helped);
            if strike.helped == 0 && strike.taken == self.config.strike_after {
                warn!(runbook = %runbook.name, step = %step.name, taken = strike.taken, "a step never helped and is struck off");
            }
            kept.note(Record::Strike(strike));
        });
    }
}

fn describe(step: &StepConfig) -> String {
    match (&step.callback, &step.restart) {
        (Some(call), _) => format!("POST {}", call.url),
        (None, Some(child)) => format!("restart of {child} by the watchdog"),
        (None, None) => format!("message to {}", step.page.join(", ")),
    }
}
