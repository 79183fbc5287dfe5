//! What is done to what, for how long, and what must hold meanwhile.

use model::time::{human_duration, optional_duration};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The part of the configuration file about faults on purpose.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ChaosConfig {
    /// The gateway's control listener, such as `http://127.0.0.1:9491`; without it nothing can be done to a gateway.
    pub gateway: Option<String>,
    /// A file with the gateway's administrator token.
    pub token_file: Option<PathBuf>,
    /// The folder of the watchdog that pauses and kills. Default: `watchdog.dir`.
    pub watchdog_dir: Option<PathBuf>,
    /// The gateway's name as scrape job and as child of the watchdog. Default `gateway`.
    pub job: String,
    /// Faults at once. Default 2.
    pub budget: usize,
    /// The share of requests that may fail before an experiment is broken off. Default 0.5.
    pub most_failing: f64,
    /// What is done.
    pub experiment: Vec<Experiment>,
}

impl Default for ChaosConfig {
    fn default() -> Self {
        Self {
            gateway: None,
            token_file: None,
            watchdog_dir: None,
            job: "gateway".to_owned(),
            budget: 2,
            most_failing: 0.5,
            experiment: Vec::new(),
        }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A tool's answers come `amount` seconds later.
    Latency,
    /// Up to `amount` seconds later.
    Jitter,
    /// A tool fails.
    Abort,
    /// A tool does not answer.
    Timeout,
    /// A tool's connections are reset.
    Reset,
    /// A tool's answers come with `amount` bytes a second.
    SlowBody,
    /// A tool's answers break off.
    TruncatedBody,
    /// Nobody listens at the tool.
    UpstreamAway,
    /// The database gives no answer.
    DatabaseAway,
    /// It takes `amount` seconds longer.
    DatabaseSlow,
    /// Another holds its lock.
    DatabaseLocked,
    /// The cache has nothing.
    CacheAway,
    /// `amount` threads run without pause.
    CpuBurn,
    /// `amount` MiB of memory are taken.
    MemoryBalloon,
    /// `amount` MiB more each second.
    MemoryLeak,
    /// `amount` handles are open.
    HandleHog,
    /// The disk takes no more.
    DiskFull,
    /// The environment file has a line that nobody can read.
    CorruptConfig,
    /// Wall time is off by `amount` seconds.
    ClockJump,
    /// A component panics.
    TaskPanic,
    /// A component hangs.
    TaskHang,
    /// The process is stopped as it is, and goes on.
    ProcessStop,
    /// The process is killed.
    ProcessKill,
}

/// Where a fault takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At a tool, as the gateway's `mode`.
    Tool(&'static str),
    /// In the gateway.
    Own,
    /// In a component of it, as its `ailment`.
    Component(&'static str),
    /// In the watchdog, as its `action`.
    Process(&'static str),
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::Latency,
        Self::Jitter,
        Self::Abort,
        Self::Timeout,
        Self::Reset,
        Self::SlowBody,
        Self::TruncatedBody,
        Self::UpstreamAway,
        Self::DatabaseAway,
        Self::DatabaseSlow,
        Self::DatabaseLocked,
        Self::CacheAway,
        Self::CpuBurn,
        Self::MemoryBalloon,
        Self::MemoryLeak,
        Self::HandleHog,
        Self::DiskFull,
        Self::CorruptConfig,
        Self::ClockJump,
        Self::TaskPanic,
        Self::TaskHang,
        Self::ProcessStop,
        Self::ProcessKill,
    ];

    /// As in configuration and SQL.
    pub fn name(self) -> String {
        let name = serde_json::to_value(self).ok();
        name.and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default()
    }

    pub(crate) fn place(self) -> Place {
        match self {
            Self::Latency => Place::Tool("latency"),
            Self::Jitter => Place::Tool("jitter"),
            Self::Abort => Place::Tool("500"),
            Self::Timeout => Place::Tool("timeout"),
            Self::Reset => Place::Tool("reset"),
            Self::SlowBody => Place::Tool("slow_body"),
            Self::TruncatedBody => Place::Tool("truncated_body"),
            Self::UpstreamAway => Place::Tool("away"),
            Self::TaskPanic => Place::Component("panic"),
            Self::TaskHang => Place::Component("hang"),
            Self::ProcessStop => Place::Process("pause"),
            Self::ProcessKill => Place::Process("kill"),
            _ => Place::Own,
        }
    }

    /// Whether it is done in a moment and has no end of its own.
    pub fn at_once(self) -> bool {
        matches!(self, Self::TaskPanic | Self::TaskHang | Self::ProcessKill)
    }
}

/// When an experiment runs.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The first time, after the monitor's first start with its data directory.
    #[serde(with = "human_duration")]
    pub offset: Duration,
    /// From one time to the next; without it there is only the first.
    #[serde(default, with = "optional_duration")]
    pub every: Option<Duration>,
    /// Each time is drawn from this span, by `seed`. Default none: exactly then.
    #[serde(default, with = "human_duration")]
    pub window: Duration,
    /// Of what is drawn.
    #[serde(default)]
    pub seed: u64,
    /// How many times.
    #[serde(default)]
    pub count: Option<u64>,
}

/// One thing that is done, once or again and again.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Its name.
    pub name: String,
    /// What is done.
    pub fault: Fault,
    /// For how long. Default 30 s.
    #[serde(default = "usual_duration", with = "human_duration")]
    pub duration: Duration,
    /// The tool, for faults of tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The component, for faults of components.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// Of a tool's calls, in hundredths. Default 100.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    pub percent: f64,
    /// How much, where the fault has a measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<f64>,
    /// Queries that return no row while all is well, besides the built-in ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steady: Vec<String>,
    /// Queries of which a row breaks the experiment off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub abort: Vec<String>,
    /// All must be well again within this. Default 2 min.
    #[serde(default = "usual_recovery", with = "human_duration")]
    pub recovery: Duration,
    /// When it runs by itself; without it only when it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

fn usual_duration() -> Duration {
    Duration::from_secs(30)
}

fn usual_recovery() -> Duration {
    Duration::from_secs(120)
}

fn all() -> f64 {
    100.0
}

fn is_all(percent: &f64) -> bool {
    *percent == 100.0
}

/// The longest fault.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);
/// The longest pause that a watchdog gives.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(600);

impl Experiment {
    /// One of this fault for so long, with all else usual.
    pub fn new(name: &str, fault: Fault, duration: Duration) -> Self {
        Self {
            name: name.to_owned(),
            fault,
            duration,
            tool: None,
            component: None,
            percent: 100.0,
            amount: None,
            steady: Vec::new(),
            abort: Vec::new(),
            recovery: usual_recovery(),
            schedule: None,
        }
    }

    /// What it is done to; two that name the same are not there together.
    pub fn target(&self) -> String {
        match (self.fault.place(), self.fault) {
            (Place::Tool(_), _) => format!("tool {}", self.tool.as_deref().unwrap_or_default()),
            (Place::Component(_), _) => {
                format!("component {}", self.component.as_deref().unwrap_or_default())
            }
            (Place::Process(_), _) => "process".to_owned(),
            (_, Fault::DatabaseAway | Fault::DatabaseSlow | Fault::DatabaseLocked) => {
                "database".to_owned()
            }
            (_, Fault::MemoryBalloon | Fault::MemoryLeak) => "memory".to_owned(),
            (_, fault) => fault.name(),
        }
    }

    /// Whether nothing else may be there with it: the end of a process ends all that is done within it.
    pub(crate) fn alone(&self) -> bool {
        matches!(self.fault.place(), Place::Process(_))
    }

    /// Everything that is wrong, each with the remedy.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |text: String| faults.push(format!("experiment {:?}: {text}", self.name));
        if self.name.is_empty() || self.name.len() > 100 {
            fault("name must have 1 to 100 bytes".to_owned());
        }
        match self.fault.place() {
            Place::Tool(_) if self.tool.is_none() => {
                fault("this fault is of a tool; set tool".to_owned());
            }
            Place::Component(_) if self.component.is_none() => {
                fault("this fault is of a component; set component, such as \"stats\"".to_owned());
            }
            Place::Process("pause") if self.duration > LONGEST_PAUSE => {
                fault(format!("a process is stopped for {LONGEST_PAUSE:?} at most"));
            }
            _ => {}
        }
        if !(self.percent > 0.0 && self.percent <= 100.0) {
            fault("percent must be over 0 and at most 100".to_owned());
        }
        if self.duration > LONGEST || self.duration.is_zero() && !self.fault.at_once() {
            fault(format!("duration must be over 0 and at most {LONGEST:?}"));
        }
        if let Some(schedule) = &self.schedule {
            let every = schedule.every.unwrap_or(LONGEST);
            if every.is_zero() || every < self.duration + schedule.window {
                fault("schedule.every must be at least duration and window together".to_owned());
            }
        }
        faults
    }
}

impl ChaosConfig {
    /// Everything that is wrong, each with its place and the remedy.
    pub fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self
            .experiment
            .iter()
            .flat_map(Experiment::faults)
            .map(|it| format!("chaos.{it}"))
            .collect();
        for it in &self.experiment {
            let name = &it.name;
            if self.experiment.iter().filter(|other| other.name == *name).count() > 1 {
                faults.push(format!(
                    "chaos.experiment {name:?} stands twice; give each its own name"
                ));
            }
        }
        if self.budget == 0 {
            faults.push("chaos.budget is 0; allow at least 1".to_owned());
        }
        if !(self.most_failing > 0.0 && self.most_failing <= 1.0) {
            faults.push("chaos.most_failing must be over 0 and at most 1".to_owned());
        }
        if let Some(url) = self.gateway.as_ref().filter(|url| !url.starts_with("http://")) {
            faults.push(format!("chaos.gateway: {url:?} must be of the form http://host:port"));
        }
        faults
    }
}
