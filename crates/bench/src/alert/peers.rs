//! The systems that alert: ours as shipped, and Prometheus with Alertmanager at their tightest and at their defaults.

use super::RULES;
use super::target::FaultKind;
use crate::system::BenchError;
use platform::child::{Child, Command};
use platform::durable;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A running process of a system.
pub(super) struct Process(Child);

impl Process {
    fn start(program: PathBuf, args: &[String]) -> Result<Self, BenchError> {
        Ok(Self(Child::start(&Command::new(program, args.to_vec()), None)?))
    }

    pub(super) async fn end(mut self) {
        let _ = self.0.end(Duration::from_secs(5)).await;
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn alertmanager() -> Option<PathBuf> {
    find("prometheus-alertmanager").or_else(|| find("alertmanager"))
}

/// Whether both peers are installed.
pub(super) fn are_here() -> bool {
    find("prometheus").is_some() && alertmanager().is_some()
}

fn port() -> Result<u16, BenchError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(BenchError::task)?;
    Ok(listener.local_addr().map_err(BenchError::task)?.port())
}

/// Ours, all as by default but targets, rules and receivers.
pub(super) fn ours(
    dir: &Path,
    jobs: &[(FaultKind, SocketAddr)],
    sink: SocketAddr,
    mail: Option<u16>,
) -> Result<Process, BenchError> {
    let dir = dir.join("ours");
    durable::create_dir(&dir)?;
    let rules = dir.join("rules.yml");
    durable::replace(&rules, RULES.as_bytes())?;
    let mut text = format!(
        "[api]\nlisten = \"127.0.0.1:0\"\n[store]\ndir = {:?}\n[alerts]\nrules = [{:?}]\n\
         [[alerts.receiver]]\nname = \"hook\"\nwebhook = {{ url = \"http://{sink}/ours\" }}\n",
        dir.join("data").to_string_lossy(),
        rules.to_string_lossy(),
    );
    if let Some(port) = mail {
        let _ = write!(
            text,
            "[[alerts.receiver]]\nname = \"mail\"\n[alerts.receiver.email]\nhost = \"127.0.0.1\"\nport = {port}\nsecurity = \"none\"\n\
             from = \"m@example.org\"\nto = [\"a@example.org\"]\nmax_per_minute = 1000\n"
        );
    }
    for (kind, address) in jobs {
        let _ = write!(
            text,
            "[[collector.scrape]]\njob = {:?}\ntargets = [\"{address}\"]\n",
            kind.name()
        );
    }
    let config = dir.join("monitor.toml");
    durable::replace(&config, text.as_bytes())?;
    let program = std::env::current_exe().map_err(BenchError::task)?;
    let args = ["monitor", "--with-parent", "--config", &config.to_string_lossy()];
    Process::start(program, &args.map(str::to_owned))
}

/// Prometheus and its Alertmanager: `tight` scrapes, evaluates and tells each second, without any wait.
pub(super) fn prometheus(
    dir: &Path,
    name: &str,
    jobs: &[(FaultKind, SocketAddr)],
    sink: SocketAddr,
) -> Result<Vec<Process>, BenchError> {
    let (Some(program), Some(manager)) = (find("prometheus"), alertmanager()) else {
        return Ok(Vec::new());
    };
    let tight = name == super::TIGHT;
    let dir = dir.join(name);
    durable::create_dir(&dir)?;
    let (own, of_manager) = (port()?, port()?);
    let rules = if tight { RULES.to_owned() } else { RULES.replace("    interval: 1s\n", "") };
    durable::replace(&dir.join("rules.yml"), rules.as_bytes())?;
    let global = if tight {
        "global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }\n"
    } else {
        ""
    };
    let mut text = format!(
        "{global}rule_files: [rules.yml]\nalerting: {{ alertmanagers: [{{ static_configs: [{{ targets: [\"127.0.0.1:{of_manager}\"] }}] }}] }}\nscrape_configs:\n"
    );
    for (kind, address) in jobs {
        let _ = writeln!(
            text,
            "  - {{ job_name: {}, static_configs: [{{ targets: [\"{address}\"] }}] }}",
            kind.name()
        );
    }
    durable::replace(&dir.join("prometheus.yml"), text.as_bytes())?;
    let waits = if tight { ", group_wait: 0s, group_interval: 1s" } else { "" };
    let text = format!(
        "route: {{ receiver: hook, group_by: [alertname, job]{waits} }}\nreceivers: [{{ name: hook, webhook_configs: [{{ url: \"http://{sink}/{name}\" }}] }}]\n"
    );
    durable::replace(&dir.join("alertmanager.yml"), text.as_bytes())?;
    let at = |file: &str| dir.join(file).to_string_lossy().into_owned();
    let manager = Process::start(
        manager,
        &[
            format!("--config.file={}", at("alertmanager.yml")),
            format!("--storage.path={}", at("alerts")),
            format!("--web.listen-address=127.0.0.1:{of_manager}"),
            "--cluster.listen-address=".to_owned(),
        ],
    )?;
    let prometheus = Process::start(
        program,
        &[
            format!("--config.file={}", at("prometheus.yml")),
            format!("--storage.tsdb.path={}", at("data")),
            format!("--web.listen-address=127.0.0.1:{own}"),
        ],
    )?;
    Ok(vec![manager, prometheus])
}
