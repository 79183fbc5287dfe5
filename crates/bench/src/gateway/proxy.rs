//! Ours and the peers as reverse proxies on private ports, each as a process of its own.

use super::load::Load;
use crate::system::{BenchError, free_port, program};
use platform::child::{Child, Command};
use platform::durable;
use platform::http::{HttpClient, Method};
use platform::process::{self, Process};
use runtime::Clock;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// For a proxy to listen.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// How a proxy is set up and spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nginx,
    Haproxy,
    Forerunner,
}

/// A program that is measured.
pub(super) struct Candidate {
    pub(super) name: &'static str,
    kind: Kind,
    program: PathBuf,
}

impl Candidate {
    /// With `peers` those that are installed, then ours, then `also`, another build of ours.
    pub(super) fn chosen(peers: bool, also: Option<&Path>) -> Result<Vec<Self>, BenchError> {
        let mut chosen = Vec::new();
        if peers {
            for (name, kind) in [("nginx", Kind::Nginx), ("haproxy", Kind::Haproxy)] {
                match program(name) {
                    Some(program) => chosen.push(Self { name, kind, program }),
                    None => eprintln!("{name} is not installed"),
                }
            }
        }
        let kind = Kind::Forerunner;
        let program = std::env::current_exe().map_err(BenchError::task)?;
        chosen.push(Self { name: "Forerunner", kind, program });
        if let Some(also) = also {
            if !also.is_file() {
                return Err(BenchError::Other(format!("{}: no program there", also.display())));
            }
            chosen.push(Self { name: "Forerunner, other build", kind, program: also.to_owned() });
        }
        Ok(chosen)
    }

    /// Whether the others are told against it.
    pub(super) fn is_baseline(&self) -> bool {
        self.kind == Kind::Nginx
    }
}

/// A proxy before a tool.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    child: Child,
    token: Option<String>,
    control: Option<SocketAddr>,
    _dir: TempDir,
}

impl Proxy {
    /// `at_once` is what the tool can do at once, for those that must be told.
    pub(super) async fn start(
        candidate: &Candidate,
        tool: SocketAddr,
        at_once: Option<usize>,
    ) -> Result<Self, BenchError> {
        let dir = TempDir::new().map_err(BenchError::task)?;
        let port = free_port()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let path = dir.path().join("config");
        let control = free_port()?;
        let (text, args) =
            configure(candidate.kind, dir.path(), &path, (port, control), (tool, at_once));
        durable::replace(&path, text.as_bytes())?;
        let command = Command::new(&candidate.program, args);
        let mut child = Child::start(&command, None)?;
        let start = Clock::system().monotonic();
        while TcpStream::connect(address).await.is_err() {
            if start.elapsed() > READY_WITHIN {
                let _ = child.end(Duration::from_secs(1)).await;
                let words = child.last_lines().join("\n");
                let name = candidate.name;
                return Err(BenchError::Other(format!("{name} does not listen: {words}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let ours = candidate.kind == Kind::Forerunner;
        let token = if ours { Some(grant(address).await?) } else { None };
        let control = SocketAddr::from((Ipv4Addr::LOCALHOST, control));
        let control = ours.then_some(control);
        Ok(Self { address, child, token, control, _dir: dir })
    }

    /// The request as bytes; ours carries a token, which is checked with its policy each time.
    pub(super) fn request(&self) -> String {
        let token = self.token.as_ref();
        let bearer = token.map(|token| format!("authorization: Bearer {token}\r\n"));
        format!("GET /files/x HTTP/1.1\r\nhost: bench\r\n{}\r\n", bearer.unwrap_or_default())
    }

    /// Asking for its health, where it has one.
    pub(super) fn health(&self) -> Option<Load> {
        Some(Load::new(self.control?, "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"))
    }

    /// The process and those that it has begun: nginx works in such.
    fn processes(&self) -> Result<Vec<Process>, BenchError> {
        let pid = self.child.pid();
        let all = process::children(pid).into_iter().chain([pid]);
        Ok(all.map(process::read).collect::<Result<_, _>>()?)
    }

    pub(super) fn cpu_seconds(&self) -> Result<f64, BenchError> {
        Ok(self.processes()?.iter().map(|it| it.cpu_seconds).sum())
    }

    pub(super) fn resident_mib(&self) -> Result<f64, BenchError> {
        let resident: u64 = self.processes()?.iter().map(|it| it.resident).sum();
        Ok(resident as f64 / f64::from(1 << 20))
    }

    pub(super) async fn end(&mut self) {
        let _ = self.child.end(Duration::from_secs(5)).await;
    }
}

/// A token for an agent whose role may use the route.
async fn grant(address: SocketAddr) -> Result<String, BenchError> {
    let client = HttpClient::new();
    let post = async |path: &str, body: Value| {
        let url = format!("http://{address}{path}");
        let deadline = Clock::system().monotonic() + Duration::from_secs(5);
        let answer = client.send(Method::POST, &url, &[], body.to_string(), deadline).await?;
        let status = answer.status;
        let body = answer.body(1 << 20).await?;
        if status != 201 {
            let answer = format!("{status} {}", String::from_utf8_lossy(&body));
            return Err(BenchError::Refused { url, answer });
        }
        serde_json::from_slice::<Value>(&body).map_err(BenchError::task)
    };
    let spec = json!({ "scopes": ["tool:proxy"] });
    post("/api/policies", json!({ "name": "bench", "role": "bench", "spec": spec })).await?;
    let agent = json!({ "name": "bench", "created_by": "bench", "role": "bench" });
    let agent = post("/api/create-agent", agent).await?;
    let token =
        json!({ "agent_id": agent["agent_id"], "tools": ["tool"], "permissions": ["read"] });
    let token = post("/api/generate-token", token).await?;
    Ok(token["agent_token"].as_str().unwrap_or_default().to_owned())
}

/// Each as its users set it up for this: connections to the tool are kept, and haproxy lets in what the tool can do, as its best practice
/// is; nginx has no admission for a tool behind it. Each with as many threads, or workers, as the machine has processors.
fn configure(
    kind: Kind,
    dir: &Path,
    config: &Path,
    (port, control): (u16, u16),
    (tool, at_once): (SocketAddr, Option<usize>),
) -> (String, Vec<String>) {
    // haproxy is told what the tool can do; nobody tells ours.
    let maxconn = at_once.unwrap_or(1_000);
    let (folder, file) = (dir.display(), config.display().to_string());
    match kind {
        Kind::Nginx => (
            format!(
                "daemon off;\nworker_processes auto;\nuser root;\npid {folder}/pid;\nerror_log stderr crit;\nworker_rlimit_nofile 19000;\n\
                 events {{ worker_connections 18000; }}\nhttp {{\n access_log off;\n keepalive_requests 1000000000;\n\
                 client_body_temp_path {folder}/a;\n proxy_temp_path {folder}/b;\n fastcgi_temp_path {folder}/c;\n uwsgi_temp_path {folder}/d;\n scgi_temp_path {folder}/e;\n\
                 upstream tool {{ server {tool}; keepalive 64; keepalive_requests 1000000000; }}\n\
                 server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://tool; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}\n}}\n"
            ),
            vec!["-p".to_owned(), folder.to_string(), "-c".to_owned(), file],
        ),
        Kind::Haproxy => (
            format!(
                "global\n maxconn 9000\ndefaults\n mode http\n timeout connect 1s\n timeout client 30s\n timeout server 30s\n timeout queue 200ms\n\
                 frontend f\n bind 127.0.0.1:{port} backlog 4096\n default_backend b\n\
                 backend b\n http-reuse always\n server s {tool} maxconn {maxconn}\n"
            ),
            vec!["-db".to_owned(), "-f".to_owned(), file],
        ),
        Kind::Forerunner => (
            format!(
                "[gateway]\nlisten = \"127.0.0.1:{port}\"\ncontrol = \"127.0.0.1:{control}\"\ndir = \"{folder}/gateway\"\nmax_connections = 9000\nmax_in_flight = 4000\n\
                 [[gateway.tool]]\nname = \"tool\"\nbase_url = \"http://{tool}\"\nmax_concurrency = 1000\n\
                 [[gateway.route]]\npath = \"/files/\"\ntool = \"tool\"\n"
            ),
            vec!["gateway".to_owned(), "--config".to_owned(), file],
        ),
    }
}
