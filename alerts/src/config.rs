//! What can be set about alerts: rules, receivers, routes, silences by the clock, and remediation.

use crate::expr::parse::matchers;
use model::time::{human_duration, optional_duration};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// The alerts' part of the configuration file.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// Whether rules are evaluated and people told. Default yes.
    pub enabled: bool,
    /// Whether the built-in rules are there. Default yes.
    pub built_in: bool,
    /// Rule files; `*` and `?` stand for any. Default none.
    pub rules: Vec<String>,
    /// Where people reach the monitor's page, for links. Default: its own address.
    pub url: Option<String>,
    /// Where runbook pages are, for links; the alert's name is appended. Default: the monitor's own pages.
    pub runbook_url: Option<String>,
    /// Alerts of one rule that are kept; more are counted only. Default 10,000.
    pub max_alerts_per_rule: usize,
    /// Alerts of all rules that are kept, pending and firing. Default 50,000.
    pub max_alerts: usize,
    /// Alerts in one message; the others are counted in it. Default 100.
    pub max_alerts_per_message: usize,
    /// Labels whose alerts go together in one message. Default alertname and job.
    pub group_by: Vec<String>,
    /// From the first alert of a group to its message, for others to join. Default 100 ms.
    #[serde(with = "human_duration")]
    pub group_wait: Duration,
    /// Messages of a group within `group_interval` that go out at once; the next waits. Default 4.
    pub group_burst: usize,
    /// See `group_burst`. Default 20 s, so that also the next is told within 30 s.
    #[serde(with = "human_duration")]
    pub group_interval: Duration,
    /// Between two messages of a group that has nothing new. Default 4 h.
    #[serde(with = "human_duration")]
    pub repeat_interval: Duration,
    /// How old an undelivered message becomes before it is given up. Default 24 h.
    #[serde(with = "human_duration")]
    pub give_up_after: Duration,
    /// Who can be told.
    pub receiver: Vec<ReceiverConfig>,
    /// Who is told of what; the first that fits. Default: everybody of everything.
    pub route: Vec<RouteConfig>,
    /// What is not told while something else is.
    pub inhibit: Vec<InhibitConfig>,
    /// When nothing is told, by the clock.
    pub maintenance: Vec<MaintenanceConfig>,
    /// A sign of life to the outside; when it stays away, somebody should look here.
    pub heartbeat: Option<HeartbeatConfig>,
    /// What may be done without a person.
    pub remediation: RemediationConfig,
    /// What to do about which alerts.
    pub runbook: Vec<RunbookConfig>,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            built_in: true,
            rules: Vec::new(),
            url: None,
            runbook_url: None,
            max_alerts_per_rule: 10_000,
            max_alerts: 50_000,
            max_alerts_per_message: 100,
            group_by: vec!["alertname".to_owned(), "job".to_owned()],
            group_wait: Duration::from_millis(100),
            group_burst: 4,
            group_interval: Duration::from_secs(20),
            repeat_interval: Duration::from_secs(4 * 3_600),
            give_up_after: Duration::from_secs(24 * 3_600),
            receiver: Vec::new(),
            route: Vec::new(),
            inhibit: Vec::new(),
            maintenance: Vec::new(),
            heartbeat: None,
            remediation: RemediationConfig::default(),
            runbook: Vec::new(),
        }
    }
}

/// One who can be told: by `webhook` or by `email`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ReceiverConfig {
    /// Its name in routes.
    pub name: String,
    /// Whether to tell when an alert is over. Default yes.
    #[serde(default = "yes")]
    pub send_resolved: bool,
    /// An HTTP receiver.
    pub webhook: Option<WebhookConfig>,
    /// Mail.
    pub email: Option<EmailConfig>,
}

fn yes() -> bool {
    true
}

/// JSON by HTTP POST, in the form of Alertmanager's webhook, version 4.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where to. An URL that holds a secret belongs in `url_file` or `url_env`.
    pub url: Option<String>,
    /// A file with the URL.
    pub url_file: Option<PathBuf>,
    /// An environment variable with the URL.
    pub url_env: Option<String>,
    /// A file with the key by which bodies are signed.
    pub secret_file: Option<PathBuf>,
    /// An environment variable with that key.
    pub secret_env: Option<String>,
    /// A file with a token that is sent as `Authorization: Bearer …`.
    pub bearer_token_file: Option<PathBuf>,
    /// For one attempt. Default 10 s.
    #[serde(default = "ten_seconds", with = "human_duration")]
    pub timeout: Duration,
    /// A PEM file with the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

/// How the connection to a mail server is secured.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Begins plain and must change to TLS.
    #[default]
    Starttls,
    /// TLS from the start.
    Tls,
    /// Not at all; only for a server on this machine.
    None,
}

/// Mail by SMTP.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct EmailConfig {
    /// The server's name.
    pub host: String,
    /// Its port. Default 587.
    #[serde(default = "submission")]
    pub port: u16,
    /// How the connection is secured. Default starttls.
    #[serde(default)]
    pub security: Security,
    /// The sender's address.
    pub from: String,
    /// The recipients' addresses.
    pub to: Vec<String>,
    /// For AUTH.
    pub username: Option<String>,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// An environment variable with the password.
    pub password_env: Option<String>,
    /// A PEM file with the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// For one attempt. Default 10 s.
    #[serde(default = "ten_seconds", with = "human_duration")]
    pub timeout: Duration,
    /// Mails a minute; what is more goes into one digest. Default 30.
    #[serde(default = "thirty")]
    pub max_per_minute: usize,
}

fn submission() -> u16 {
    587
}

fn thirty() -> usize {
    30
}

/// Who is told of what.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// As in PromQL without braces, such as `severity="critical", job=~"api.*"`. Default: all.
    #[serde(default)]
    pub matchers: String,
    /// Names of receivers; none means that nobody is told.
    pub receivers: Vec<String>,
    /// Whether routes after this one are looked at too. Default no.
    #[serde(default, rename = "continue")]
    pub goes_on: bool,
    /// Instead of `alerts.group_by`.
    pub group_by: Option<Vec<String>>,
    /// Instead of `alerts.group_wait`.
    #[serde(default, with = "optional_duration")]
    pub group_wait: Option<Duration>,
    /// Instead of `alerts.group_interval`.
    #[serde(default, with = "optional_duration")]
    pub group_interval: Option<Duration>,
    /// Instead of `alerts.repeat_interval`.
    #[serde(default, with = "optional_duration")]
    pub repeat_interval: Option<Duration>,
    /// When nobody has acknowledged for so long, `escalate_to` is told too.
    #[serde(default, with = "optional_duration")]
    pub escalate_after: Option<Duration>,
    /// Names of receivers.
    #[serde(default)]
    pub escalate_to: Vec<String>,
}

/// Alerts that fit `target` are not told while one that fits `source` fires with the same values of `equal`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct InhibitConfig {
    /// Matchers of what is told.
    pub source: String,
    /// Matchers of what is not.
    pub target: String,
    /// Labels that must agree.
    pub equal: Vec<String>,
}

/// A time at which alerts are not told, again and again.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceConfig {
    /// Which alerts. Default: all.
    #[serde(default)]
    pub matchers: String,
    /// `mon` to `sun`. Default: all.
    #[serde(default)]
    pub days: Vec<String>,
    /// From this time of the day in UTC, such as `02:00`.
    pub from: String,
    /// To this one; an earlier one is of the next day.
    pub to: String,
}

/// A sign of life.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatConfig {
    /// The name of a receiver.
    pub receiver: String,
    /// Between two signs. Default 1 min.
    #[serde(default = "one_minute", with = "human_duration")]
    pub interval: Duration,
}

fn one_minute() -> Duration {
    Duration::from_secs(60)
}

/// What may be done without a person.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct RemediationConfig {
    /// Whether runbooks are carried out. Default yes; without a runbook nothing is.
    pub enabled: bool,
    /// Whether steps are only written down and not taken. Default no.
    pub dry_run: bool,
    /// Evidence older than this is none. Default 15 s.
    #[serde(with = "human_duration")]
    pub max_age: Duration,
    /// Runbooks carried out at the same time. Default 1.
    pub max_at_once: usize,
    /// A step that helped in none of so many attempts is struck off. Default 3.
    pub strike_after: u32,
    /// Where the watchdog of `restart` steps keeps its files. Default: `watchdog.dir`.
    pub watchdog_dir: Option<PathBuf>,
}

impl Default for RemediationConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            dry_run: false,
            max_age: Duration::from_secs(15),
            max_at_once: 1,
            strike_after: 3,
            watchdog_dir: None,
        }
    }
}

/// What to do about some alerts, step by step.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RunbookConfig {
    /// Its name.
    pub name: String,
    /// The alerts that it is for.
    pub matchers: String,
    /// Expressions that must hold besides the alert itself, with `{{ $labels.NAME }}` filled in: the second signal.
    pub agree: Vec<String>,
    /// Between two runs for the same labels. Default 10 min.
    #[serde(default = "ten_minutes", with = "human_duration")]
    pub cooldown: Duration,
    /// Runs an hour, whatever the labels. Default 3.
    #[serde(default = "three")]
    pub max_per_hour: usize,
    /// With more alerts than this firing for it, nothing is done and a person is told. Default 1.
    #[serde(default = "one")]
    pub max_alerts: usize,
    /// Whether its steps are only written down. Default no.
    #[serde(default)]
    pub dry_run: bool,
    /// The mildest first.
    pub step: Vec<StepConfig>,
}

fn ten_minutes() -> Duration {
    Duration::from_secs(600)
}

fn three() -> usize {
    3
}

fn one() -> usize {
    1
}

/// How hard a step is, and what it does.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct StepConfig {
    /// Its name.
    pub name: String,
    /// What is done: one of `callback`, `restart` and `page`.
    #[serde(default)]
    pub callback: Option<CallbackConfig>,
    /// The name of a child of the watchdog that is to be restarted.
    #[serde(default)]
    pub restart: Option<String>,
    /// Names of receivers of a message that says that the machine is at its end.
    #[serde(default)]
    pub page: Vec<String>,
    /// An expression that must hold within `within` for the step to have helped; `{{ $labels.NAME }}` and `{{ $before }}` are
    /// filled in. Only samples after the step count, and of a range only one that lies after it as a whole. Default: the alert itself
    /// is over.
    #[serde(default)]
    pub verify: Option<String>,
    /// An expression whose value before the step is `{{ $before }}` in `verify`.
    #[serde(default)]
    pub measure: Option<String>,
    /// For the step to help. Default 1 min.
    #[serde(default = "one_minute", with = "human_duration")]
    pub within: Duration,
}

/// An HTTP request to whom the alert is about.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CallbackConfig {
    /// Where to, with `{{ $labels.NAME }}` filled in.
    pub url: String,
    /// A JSON body. Default `{}`.
    #[serde(default = "empty_object")]
    pub body: String,
    /// A file with a token that is sent as `Authorization: Bearer …`.
    #[serde(default)]
    pub bearer_token_file: Option<PathBuf>,
    /// For the answer. Default 10 s.
    #[serde(default = "ten_seconds", with = "human_duration")]
    pub timeout: Duration,
}

fn empty_object() -> String {
    "{}".to_owned()
}

impl AlertsConfig {
    /// Everything that is wrong, each with its place and the remedy.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, value) in [
            ("max_alerts_per_rule", self.max_alerts_per_rule),
            ("max_alerts", self.max_alerts),
            ("max_alerts_per_message", self.max_alerts_per_message),
            ("group_burst", self.group_burst),
        ] {
            if value == 0 {
                faults.push(format!("alerts.{name} is 0; allow at least 1"));
            }
        }
        let known = |name: &String| self.receiver.iter().any(|it| it.name == *name);
        for receiver in &self.receiver {
            receiver.faults(&self.receiver, &mut faults);
        }
        for (at, route) in self.route.iter().enumerate() {
            let place = format!("alerts.route {}", at + 1);
            check(&mut faults, &place, "matchers", &route.matchers);
            for name in route.receivers.iter().chain(&route.escalate_to).filter(|it| !known(it)) {
                faults.push(format!(
                    "{place}: no receiver is named {name:?}; add [[alerts.receiver]]"
                ));
            }
            if route.escalate_after.is_some() == route.escalate_to.is_empty() {
                faults.push(format!("{place}: escalate_after and escalate_to belong together"));
            }
        }
        for (at, inhibit) in self.inhibit.iter().enumerate() {
            let place = format!("alerts.inhibit {}", at + 1);
            check(&mut faults, &place, "source", &inhibit.source);
            check(&mut faults, &place, "target", &inhibit.target);
        }
        for (at, window) in self.maintenance.iter().enumerate() {
            let place = format!("alerts.maintenance {}", at + 1);
            check(&mut faults, &place, "matchers", &window.matchers);
            if let Err(why) = crate::silence::Window::new(window) {
                faults.push(format!("{place}: {why}"));
            }
        }
        if let Some(heartbeat) = &self.heartbeat {
            if !known(&heartbeat.receiver) {
                let name = &heartbeat.receiver;
                faults.push(format!("alerts.heartbeat: no receiver is named {name:?}"));
            }
            let mail = |it: &&ReceiverConfig| it.name == heartbeat.receiver && it.webhook.is_none();
            if self.receiver.iter().any(|it| mail(&it)) {
                faults.push(
                    "alerts.heartbeat.receiver needs a webhook: nobody counts mails".to_owned(),
                );
            }
            if heartbeat.interval < Duration::from_secs(1) {
                faults.push("alerts.heartbeat.interval must be 1s or more".to_owned());
            }
        }
        for runbook in &self.runbook {
            runbook.faults(&known, &mut faults);
        }
        faults
    }
}

fn check(faults: &mut Vec<String>, place: &str, key: &str, text: &str) {
    if let Err(fault) = matchers(text) {
        let at = fault.at + 1;
        faults.push(format!("{place}: {key} {text:?}, character {at}: {}", fault.why));
    }
}

impl ReceiverConfig {
    fn faults(&self, all: &[Self], faults: &mut Vec<String>) {
        let place = format!("alerts.receiver {:?}", self.name);
        if self.name.is_empty() || all.iter().filter(|it| it.name == self.name).count() > 1 {
            faults.push(format!("{place}: each receiver needs a name of its own"));
        }
        match (&self.webhook, &self.email) {
            (Some(webhook), None) => {
                let given =
                    [webhook.url.is_some(), webhook.url_file.is_some(), webhook.url_env.is_some()];
                if given.iter().filter(|it| **it).count() != 1 {
                    faults.push(format!("{place}: webhook needs one of url, url_file and url_env"));
                }
            }
            (None, Some(email)) => {
                if email.to.is_empty() {
                    faults.push(format!("{place}: email.to is empty; name at least one address"));
                }
                for address in email.to.iter().chain([&email.from]) {
                    if let Err(error) = address.parse::<lettre::message::Mailbox>() {
                        faults.push(format!("{place}: {address:?} is no mail address: {error}"));
                    }
                }
                let password = email.password_file.is_some() || email.password_env.is_some();
                if email.username.is_some() != password {
                    faults.push(format!(
                        "{place}: email.username belongs with password_file or password_env"
                    ));
                }
                if email.security == Security::None && password {
                    faults.push(format!("{place}: a password would be sent in the clear; use security = \"starttls\" or \"tls\""));
                }
                if email.max_per_minute == 0 {
                    faults.push(format!("{place}: email.max_per_minute is 0; allow at least 1"));
                }
            }
            _ => faults.push(format!("{place}: give it either webhook or email")),
        }
    }
}

impl RunbookConfig {
    fn faults(&self, known: &dyn Fn(&String) -> bool, faults: &mut Vec<String>) {
        let place = format!("alerts.runbook {:?}", self.name);
        check(faults, &place, "matchers", &self.matchers);
        if self.step.is_empty() {
            faults.push(format!("{place}: add at least one [[alerts.runbook.step]]"));
        }
        if self.agree.is_empty() {
            faults.push(format!("{place}: agree is empty; name a second signal, such as `process_resident_memory_bytes{{job=\"{{{{ $labels.job }}}}\"}} > 3e8`"));
        }
        for step in &self.step {
            let kinds = [step.callback.is_some(), step.restart.is_some(), !step.page.is_empty()];
            if kinds.iter().filter(|it| **it).count() != 1 {
                faults.push(format!(
                    "{place}, step {:?}: give it one of callback, restart and page",
                    step.name
                ));
            }
            let url = step.callback.as_ref().map(|it| it.url.as_str()).unwrap_or_default();
            if step.callback.is_some()
                && !["http://", "https://"].iter().any(|it| url.starts_with(it))
            {
                faults.push(format!(
                    "{place}, step {:?}: callback.url {url:?} is of neither form http://host:port/path nor https://…",
                    step.name
                ));
            }
            for name in step.page.iter().filter(|it| !known(it)) {
                faults
                    .push(format!("{place}, step {:?}: no receiver is named {name:?}", step.name));
            }
            if step.verify.as_deref().is_some_and(|it| it.contains("$before"))
                && step.measure.is_none()
            {
                faults.push(format!(
                    "{place}, step {:?}: verify needs $before; add measure",
                    step.name
                ));
            }
        }
        let texts = self
            .agree
            .iter()
            .chain(self.step.iter().flat_map(|it| it.verify.iter().chain(&it.measure)));
        for text in texts {
            if let Err(why) = crate::remediation::runbook::check(text) {
                faults.push(format!("{place}: {text:?}: {why}"));
            }
        }
    }
}
