//! The system under test: a watchdog that keeps a gateway, ours or another, and a monitor that watches it, tells us and may act.

use super::{BurninArgs, Control};
use crate::exit::{self, Failure};
use ::burnin::exchange::Exchange;
use ::burnin::readings::Readings;
use model::Bytes;
use platform::child::{Child, Command};
use platform::durable;
use platform::log::RollingLog;
use runtime::{Clock, Stop, Tick};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For all to be ready.
const START: Duration = Duration::from_secs(60);
/// Faults that may be there at once.
pub(super) const BUDGET: usize = 3;
/// Memory that the gateway may take, in MiB: over four fifths of it, it helps itself.
const GATEWAY_MEMORY: u64 = 400;
/// The cache's bound, in MiB: full while a start is still warming up, so that filling it is not taken for growth, and what is let go of is seen too.
const CACHE: u64 = 1;
/// Memory over which the watchdog eases the gateway, and restarts it if that does not help.
const MEMORY_LIMIT: u64 = 512;

/// The environment file as an operator keeps one: comments, quoting, a key of many lines.
const ENV: &str = "# Gateway of the burn-in\nFF_CACHE=on   # inline\n\nexport FF_RETRY=\"on\"\nFF_BREAKERS='on'\nFF_CHAOS=off\nserpapi.api_key=abc123\nGATEWAY_KEY=\"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nnothing secret in here at all=\n-----END PRIVATE KEY-----\"\nEDITED=0\n";

/// A running system.
pub(super) struct Stack {
    /// Where traffic goes.
    pub(super) data: SocketAddr,
    /// Where health is asked.
    pub(super) health: (SocketAddr, String),
    /// The gateway's control listener, where it is ours.
    pub(super) control: Option<SocketAddr>,
    pub(super) monitor: SocketAddr,
    pub(super) env: PathBuf,
    pub(super) dir: PathBuf,
    metrics: (SocketAddr, String),
    gateway_command: String,
}

/// Ports of everything.
struct Ports {
    data: SocketAddr,
    control: SocketAddr,
    monitor: SocketAddr,
    watchdog: SocketAddr,
}

fn free() -> Result<SocketAddr, Failure> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr());
    bound.map_err(exit::with(exit::SYSTEM))
}

impl Stack {
    pub(super) async fn start(
        dir: &Path,
        args: &BurninArgs,
        hook: SocketAddr,
        stop: &Stop,
    ) -> Result<(Self, Child), Failure> {
        let data = args.target.map_or_else(free, Ok)?;
        let control = if args.target.is_some() { data } else { free()? };
        let ports = Ports { data, control, monitor: free()?, watchdog: free()? };
        let program = std::env::current_exe().map_err(exit::with(exit::SYSTEM))?;
        let (file, env) = (dir.join("burnin.toml"), dir.join("gateway.env"));
        let gateway_command = match args.target {
            Some(_) => args.command.join(" "),
            None => format!("gateway --with-parent --config {}", file.display()),
        };
        let text = config(dir, args, &ports, hook, &program, &gateway_command);
        let written = durable::replace(&file, text.as_bytes())
            .and_then(|()| durable::replace(&env, ENV.as_bytes()))
            .and_then(|()| durable::create_dir(&dir.join("logs")));
        written.map_err(exit::with(exit::SYSTEM))?;
        let log = RollingLog::open(&dir.join("logs").join("watchdog.log"), Bytes::mebi(8));
        let words = ["watchdog", "--with-parent", "--config", &file.to_string_lossy()];
        let command = Command::new(program, words.map(str::to_owned).to_vec());
        let watchdog = Child::start(&command, Some(log.map_err(exit::with(exit::SYSTEM))?))
            .map_err(exit::with(exit::SYSTEM))?;
        let ours = args.target.is_none();
        let it = Self {
            data,
            health: (control, if ours { "/ready".to_owned() } else { "/health".to_owned() }),
            control: ours.then_some(control),
            monitor: ports.monitor,
            env,
            dir: dir.to_owned(),
            metrics: (control, "/metrics".to_owned()),
            gateway_command,
        };
        it.ready("gateway", it.health.0, &it.health.1, &watchdog, stop).await?;
        it.ready("monitor", it.monitor, "/ready", &watchdog, stop).await?;
        Ok((it, watchdog))
    }

    async fn ready(
        &self,
        what: &str,
        address: SocketAddr,
        path: &str,
        watchdog: &Child,
        stop: &Stop,
    ) -> Result<(), Failure> {
        let deadline = Clock::system().monotonic() + START;
        let mut exchange = Exchange::new(address);
        while Clock::system().monotonic() < deadline {
            let answer = exchange.send("GET", path, "", Duration::from_secs(1)).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            let gone = platform::process::read(watchdog.pid()).is_ok_and(|it| it.stopped);
            if stop.wait_for(Duration::from_millis(100)).await == Tick::Stopped || gone {
                break;
            }
        }
        let (logs, last) = (self.dir.join("logs"), watchdog.last_lines().join("\n"));
        let text = format!(
            "the {what} did not become ready; logs are in {}; the watchdog's last words:\n{last}",
            logs.display()
        );
        Err(Failure::text(exit::UNAVAILABLE, text))
    }

    pub(super) fn monitor_url(&self) -> String {
        format!("http://{}", self.monitor)
    }

    pub(super) fn gateway_readings(&self) -> Readings {
        Readings::of(&self.gateway_command)
    }

    pub(super) fn monitor_readings(&self) -> Readings {
        let file = self.dir.join("burnin.toml");
        Readings::of(&format!("monitor --with-parent --config {}", file.display()))
    }

    /// The gateway's metrics page.
    pub(super) async fn page(&self) -> Option<String> {
        let mut exchange = Exchange::new(self.metrics.0);
        let answer = exchange.send("GET", &self.metrics.1, "", Duration::from_secs(10)).await;
        String::from_utf8(answer.ok()?.body).ok()
    }

    pub(super) async fn page_bytes(&self) -> usize {
        self.page().await.map_or(0, |page| page.len())
    }

    /// Calls the gateway's administration; what it answered, if that was good.
    pub(super) async fn admin(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Option<serde_json::Value> {
        let mut exchange = Exchange::new(self.control?);
        let answer = exchange.send(method, path, body, Duration::from_secs(15)).await.ok()?;
        let good = (200..300).contains(&answer.status);
        good.then(|| serde_json::from_slice(&answer.body).ok()).flatten()
    }
}

fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn config(
    dir: &Path,
    args: &BurninArgs,
    ports: &Ports,
    hook: SocketAddr,
    program: &Path,
    gateway_command: &str,
) -> String {
    let Ports { data, control, monitor, watchdog } = ports;
    let path = |name: &str| quote(&dir.join(name).to_string_lossy());
    let (program, file) = (quote(&program.to_string_lossy()), path("burnin.toml"));
    let tools = tools(args);
    let receiver = if args.control == Some(Control::Mute) {
        // Nobody listens there.
        "http://127.0.0.1:9/".to_owned()
    } else {
        format!("http://{hook}/")
    };
    let child = child(dir, args, ports, &program);
    let ours = || format!("gateway = \"http://{control}\"\n");
    let chaos = args.target.map_or_else(ours, |_| String::new());
    format!(
        r#"# Written by `forerunner burnin`.
[gateway]
listen = "{data}"
control = "{control}"
dir = {gateway_dir}
[gateway.pressure]
max_memory = "{GATEWAY_MEMORY}MiB"
[gateway.cache]
max_size = "{CACHE}MiB"
{tools}
[api]
listen = "{monitor}"
[store]
dir = {store}
[collector]
interval = "1s"
[[collector.scrape]]
job = "gateway"
targets = ["{control}"]
[[collector.scrape]]
job = "monitor"
targets = ["{monitor}"]
[[collector.scrape]]
job = "watchdog"
targets = ["{watchdog}"]
[[collector.process]]
name = "gateway"
command = {gateway_command}
[[collector.process]]
name = "monitor"
command = {monitor_command}
[[alerts.receiver]]
name = "burnin"
webhook = {{ url = "{receiver}" }}
{runbooks}[chaos]
{chaos}budget = {BUDGET}
[watchdog]
dir = {logs}
listen = "{watchdog}"
stop_grace = "4s"
cured_after = "5s"
[[watchdog.child]]
name = "monitor"
command = [{program}, "monitor", "--with-parent", "--config", {file}]
probe = "http://{monitor}/live"
[[watchdog.child]]
name = "gateway"
{child}"#,
        runbooks = runbooks(args),
        gateway_dir = path("gateway"),
        store = path("monitor"),
        logs = path("logs"),
        gateway_command = quote(gateway_command),
        monitor_command =
            quote(&format!("monitor --with-parent --config {}", dir.join("burnin.toml").display())),
    )
}

/// The tools of the failed gateway, as mocks.
fn tools(args: &BurninArgs) -> String {
    // Mocks of a compressed run answer soon: what is measured is the gateway, and not how long they take.
    let latency = if args.realtime.is_some() || args.replay.is_some() { "20ms" } else { "2ms" };
    let tool = |name: &str, action: &str, permission: &str, required: &str, fresh: &str| {
        format!(
            "[[gateway.tool]]\nname = \"{name}\"\nlatency = \"{latency}\"\n[[gateway.tool.actions]]\nname = \"{action}\"\npermission = \"{permission}\"\nrequired = {required}\n{fresh}\n"
        )
    };
    [
        tool("serpapi", "search", "read", "[\"query\"]", "fresh = \"60s\"\nstale = \"10m\""),
        tool("http_fetch", "get", "read", "[\"url\"]", "fresh = \"30s\"\nstale = \"10m\""),
        tool("openai", "chat", "read", "[\"messages\"]", ""),
        tool("gmail_send", "send", "write", "[\"to\", \"subject\"]", ""),
    ]
    .concat()
}

/// How the watchdog keeps the gateway.
fn child(dir: &Path, args: &BurninArgs, ports: &Ports, program: &str) -> String {
    let path = |name: &str| quote(&dir.join(name).to_string_lossy());
    let Ports { data, control, .. } = ports;
    let file = path("burnin.toml");
    if args.target.is_none() {
        // A gateway that hangs and that nobody asks is not restarted.
        let probe = match args.control {
            Some(Control::Hanging) => String::new(),
            _ => format!("probe = \"http://{control}/live\"\n"),
        };
        format!(
            "command = [{program}, \"gateway\", \"--with-parent\", \"--config\", {file}, \"--env\", {env}]\n{probe}listen = \"{data}\"\ndrain = \"http://{control}/admin/drain\"\nmetrics = \"http://{control}/metrics\"\nfiles = [{env}]\nmemory_limit = \"{MEMORY_LIMIT}MiB\"\n[[watchdog.child.ease]]\nname = \"cleanup\"\ncall = \"http://{control}/admin/cleanup\"\n",
            env = path("gateway.env")
        )
    } else {
        let words: Vec<String> = args.command.iter().map(|word| quote(word)).collect();
        format!(
            "command = [{}]\nprobe = \"http://{control}/health\"\nmetrics = \"http://{control}/metrics\"\n",
            words.join(", ")
        )
    }
}

/// What the monitor does about a gateway that leaks or is at its end of speed: ours is eased first, another one can only be restarted. In a
/// control nobody helps, so that its defect shows.
fn runbooks(args: &BurninArgs) -> String {
    if args.control.is_some() {
        return String::new();
    }
    let ease = if args.target.is_some() {
        ""
    } else {
        r#"[[alerts.runbook.step]]
name = "cleanup"
callback = { url = "http://{{ $labels.instance }}/admin/cleanup" }
measure = 'process_resident_memory_bytes{process="gateway"}'
verify = 'process_resident_memory_bytes{process="gateway"} < 0.8 * {{ $before }}'
within = "15s"
"#
    };
    let rest = r#"[[alerts.runbook.step]]
name = "restart"
restart = "gateway"
within = "40s"
[[alerts.runbook.step]]
name = "call"
page = ["burnin"]
"#;
    let runbook = |name: &str, alert: &str, agree: &str, steps: &str| {
        format!(
            "[[alerts.runbook]]\nname = \"{name}\"\nmatchers = 'alertname=\"{alert}\", job=\"gateway\"'\nagree = ['{agree}']\ncooldown = \"1m\"\nmax_alerts = 4\nmax_per_hour = 30\n{steps}"
        )
    };
    let grown = "process_resident_memory_bytes{process=\"gateway\"} > 2e8";
    let busy = "rate(process_cpu_seconds_total{process=\"gateway\"}[15s]) > 0.8";
    runbook("gateway-memory", "Leak", grown, &format!("{ease}{rest}"))
        + &runbook("gateway-saturated", "Saturation", busy, rest)
}
