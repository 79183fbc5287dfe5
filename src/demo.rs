//! The demo: a watchdog that keeps a gateway and a monitor alive, on built-in defaults, and a modest load.

use crate::exit::{self, Failure};
use crate::role::{block_on, stop_on_request};
use burnin::load::{self, Load, Tally};
use clap::Args;
use model::Bytes;
use platform::child::{Child, Command};
use platform::durable;
use platform::http::{HttpClient, Method};
use platform::log::RollingLog;
use runtime::{Clock, Stop, Tick};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What `demo` takes.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where the data, the configuration and the logs go
    #[arg(long, value_name = "DIR", default_value = "forerunner-data")]
    data_dir: PathBuf,
    /// End by itself after this time, such as 30s
    #[arg(long = "for", value_name = "DURATION", value_parser = model::time::parse_duration)]
    for_time: Option<Duration>,
    /// Requests a second sent to the gateway
    #[arg(long, default_value_t = 65.0, value_parser = rate)]
    rate: f64,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if rate > 0.0 && rate <= 10_000.0 {
        Ok(rate)
    } else {
        Err("must be over 0 and at most 10000".to_owned())
    }
}

/// For the watchdog and its children to end; under the 5 s that are promised.
const STOP_GRACE: Duration = Duration::from_millis(4_500);
/// For all three processes to be ready.
const START_GRACE: Duration = Duration::from_secs(60);

/// The gateway's environment file.
const ENV: &str = "gateway.env";

struct Ports {
    monitor: u16,
    gateway: u16,
    control: u16,
    watchdog: u16,
}

pub(crate) fn run(args: DemoArgs) -> Result<(), Failure> {
    telemetry::trace::start("warn");
    let dir = std::path::absolute(&args.data_dir).map_err(exit::with(exit::SYSTEM))?;
    let ports = Ports {
        monitor: port(9490)?,
        gateway: port(9480)?,
        control: port(9491)?,
        watchdog: port(9492)?,
    };
    let config = write_config(&dir, &ports)?;
    let env = dir.join(ENV);
    if !env.exists() {
        let text = b"# Switches of the demo's gateway; `forerunner env set` changes them while it runs\nFF_CACHE=on\nFF_CHAOS=off\n";
        durable::replace(&env, text).map_err(exit::with(exit::SYSTEM))?;
    }
    block_on(async {
        let stop = stop_on_request(false);
        let mut watchdog = start_watchdog(&dir, &config)?;
        let outcome = tokio::select! {
            outcome = show(&args, &dir, &ports, stop) => outcome,
            status = watchdog.wait() => {
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(Failure::text(exit::SOFTWARE, format!(
                    "the watchdog ended ({status}); its last words:\n{}", watchdog.last_lines().join("\n")
                )))
            }
        };
        let _ = watchdog.end(STOP_GRACE).await;
        outcome
    })
}

/// The default port, or a free one where that is taken.
fn port(default: u16) -> Result<u16, Failure> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = bind(default).or_else(|_| bind(0)).map_err(exit::with(exit::UNAVAILABLE))?;
    Ok(listener.local_addr().map_err(exit::with(exit::SYSTEM))?.port())
}

fn write_config(dir: &Path, ports: &Ports) -> Result<PathBuf, Failure> {
    let program = std::env::current_exe().map_err(exit::with(exit::SYSTEM))?;
    let path = dir.join("demo.toml");
    let quote = |path: &Path| toml::Value::String(path.to_string_lossy().into_owned()).to_string();
    let (program, file) = (quote(&program), quote(&path));
    let Ports { monitor, gateway, control, watchdog } = ports;
    let text = format!(
        r#"# Written by `forerunner demo`, anew at each start. All three roles read this one file.
[gateway]
listen = "127.0.0.1:{gateway}"
control = "127.0.0.1:{control}"
dir = {gateway_dir}
anonymous = ["*:*"]

[api]
listen = "127.0.0.1:{monitor}"

[store]
dir = {store}

[collector]
interval = "1s"

[[collector.scrape]]
job = "gateway"
targets = ["127.0.0.1:{control}"]

[[collector.scrape]]
job = "monitor"
targets = ["127.0.0.1:{monitor}"]

[[collector.scrape]]
job = "watchdog"
targets = ["127.0.0.1:{watchdog}"]

[[collector.process]]
name = "gateway"
command = {gateway_command}

[[collector.process]]
name = "monitor"
command = {monitor_command}

[chaos]                                             # `forerunner chaos run latency --tool serpapi`
gateway = "http://127.0.0.1:{control}"

[watchdog]
dir = {logs}
listen = "127.0.0.1:{watchdog}"
stop_grace = "3500ms"

[[watchdog.child]]
name = "gateway"
command = [{program}, "gateway", "--with-parent", "--config", {file}, "--env", {env}]
files = [{env}]
probe = "http://127.0.0.1:{control}/live"
metrics = "http://127.0.0.1:{control}/metrics"
listen = "127.0.0.1:{gateway}"                       # held open while it restarts
drain = "http://127.0.0.1:{control}/admin/drain"

[[watchdog.child]]
name = "monitor"
command = [{program}, "monitor", "--with-parent", "--config", {file}]
probe = "http://127.0.0.1:{monitor}/live"
metrics = "http://127.0.0.1:{monitor}/metrics"
"#,
        env = quote(&dir.join(ENV)),
        store = quote(dir),
        gateway_dir = quote(&dir.join("gateway")),
        logs = quote(&dir.join("logs")),
        gateway_command =
            quote(Path::new(&format!("gateway --with-parent --config {}", path.display()))),
        monitor_command =
            quote(Path::new(&format!("monitor --with-parent --config {}", path.display()))),
    );
    durable::create_dir(dir)
        .and_then(|()| durable::replace(&path, text.as_bytes()))
        .map_err(exit::with(exit::SYSTEM))?;
    Ok(path)
}

fn start_watchdog(dir: &Path, config: &Path) -> Result<Child, Failure> {
    let program = std::env::current_exe().map_err(exit::with(exit::SYSTEM))?;
    let words = ["watchdog", "--with-parent", "--config", &config.to_string_lossy()];
    let command = Command::new(program, words.map(str::to_owned).to_vec());
    let log = durable::create_dir(&dir.join("logs"))
        .and_then(|()| RollingLog::open(&dir.join("logs").join("watchdog.log"), Bytes::mebi(8)));
    let log = log.map_err(exit::with(exit::SYSTEM))?;
    Child::start(&command, Some(log)).map_err(exit::with(exit::SYSTEM))
}

async fn show(args: &DemoArgs, dir: &Path, ports: &Ports, stop: Stop) -> Result<(), Failure> {
    let ended = Clock::system().monotonic()
        + args.for_time.unwrap_or(Duration::from_secs(u64::from(u32::MAX)));
    eprintln!("starting watchdog, gateway and monitor …");
    for (what, port) in [("gateway", ports.control), ("monitor", ports.monitor)] {
        if !wait_ready(what, port, dir, &stop).await? {
            return Ok(());
        }
    }
    let mix = [
        ("/t/serpapi/search", 4),
        ("/t/http_fetch/get", 4),
        ("/t/openai/chat", 2),
        ("/t/gmail_send/send", 1),
    ];
    let load = Load {
        base_url: format!("http://127.0.0.1:{}", ports.gateway),
        rate: args.rate,
        mix: mix.map(|(path, weight)| (path.to_owned(), weight)).to_vec(),
        // What each of the four tools needs; a thousand searches, so that some are asked again.
        body: r#"{"query":"demo {n}","url":"http://demo.example/{n}","messages":[],"to":"a@demo.example","subject":"{n}"}"#.to_owned(),
        variants: 1_000,
        max_in_flight: 256,
        timeout: Duration::from_secs(5),
    };
    let tally = Tally::default();
    let load_stop = Stop::new();
    let sending = tokio::spawn(load::run(load, Clock::system(), tally.clone(), load_stop.clone()));
    print_guide(args, dir, ports);
    let reason = stop.wait_until(ended).await;
    load_stop.request();
    let _ = tokio::time::timeout(Duration::from_millis(300), sending).await;
    eprintln!(
        "{}; {} requests answered, {} failed, {} not sent; stopping",
        if reason == Tick::Elapsed { "time is up" } else { "stop requested" },
        tally.answered(),
        tally.failed(),
        tally.unsent()
    );
    Ok(())
}

/// Whether the process became ready; false when stop was requested first.
async fn wait_ready(what: &str, port: u16, dir: &Path, stop: &Stop) -> Result<bool, Failure> {
    let client = HttpClient::new();
    let deadline = Clock::system().monotonic() + START_GRACE;
    let url = format!("http://127.0.0.1:{port}/ready");
    while Clock::system().monotonic() < deadline {
        let soon = Clock::system().monotonic() + Duration::from_secs(1);
        let answer = client.send(Method::GET, &url, &[], "", soon).await;
        if answer.is_ok_and(|answer| answer.status == 200) {
            return Ok(true);
        }
        if stop.wait_for(Duration::from_millis(100)).await == Tick::Stopped {
            return Ok(false);
        }
    }
    let log = dir.join("logs").join(format!("{what}.log"));
    let text = format!("the {what} did not become ready; its log is {}", log.display());
    Err(Failure::text(exit::UNAVAILABLE, text))
}

fn print_guide(args: &DemoArgs, dir: &Path, ports: &Ports) {
    let program = std::env::args().next().unwrap_or_else(|| "forerunner".to_owned());
    let url = if ports.monitor == 9490 {
        String::new()
    } else {
        format!(" --url http://127.0.0.1:{}", ports.monitor)
    };
    println!(
        r#"
  page      http://127.0.0.1:{monitor}/
  gateway   http://127.0.0.1:{gateway}/t/serpapi/search   (health and metrics: http://127.0.0.1:{control}/health)
  data      {dir}   (logs in logs/)
  load      {rate} requests/s

Try, in another terminal:

  {program} query{url} "SELECT route, code, round(rate(time, value), 1) AS rps FROM gateway_requests_total WHERE time > now() - INTERVAL '1 minute' GROUP BY route, code ORDER BY route"

  {program} query{url} "SELECT time, round(value / 1048576, 1) AS mib FROM process_resident_memory_bytes WHERE process = 'gateway' ORDER BY time DESC LIMIT 5"

  {program} query{url} "SELECT mode, round(sum(r), 2) AS cores FROM (SELECT cpu, mode, rate(time, value) AS r FROM node_cpu_seconds_total WHERE time > now() - INTERVAL '1 minute' GROUP BY cpu, mode) GROUP BY mode ORDER BY cores DESC"

{end}"#,
        monitor = ports.monitor,
        gateway = ports.gateway,
        control = ports.control,
        dir = dir.display(),
        rate = args.rate,
        end = match args.for_time {
            Some(time) => format!("Ends by itself after {time:?}; Ctrl-C ends it now."),
            None => "Ctrl-C ends it.".to_owned(),
        },
    );
}
