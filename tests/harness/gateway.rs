//! A gateway under test, and what stands behind it.

use super::program::{Program, write};
use super::wait::wait_for;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) program: Program,
    pub(crate) data: String,
    pub(crate) control: String,
}

/// An answer: status, head, body.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(crate) fn reason(&self) -> String {
        self.json()["reason"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends one request on a connection of its own; none where no answer comes.
pub(crate) fn ask(
    address: &str,
    method: &str,
    path: &str,
    more: &str,
    body: &str,
) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n{body}"
    );
    stream.write_all(text.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let (head, mut body) = (head.to_owned(), body.to_owned());
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = unchunked(&body);
    }
    Some(Answer { status, head, body })
}

fn unchunked(body: &str) -> String {
    let (mut rest, mut whole) = (body, String::new());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || after.len() < size {
            break;
        }
        whole.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    whole
}

/// A client that keeps its connection as long as it may.
pub(crate) struct KeptConnection<'a> {
    address: &'a str,
    stream: Option<TcpStream>,
}

impl<'a> KeptConnection<'a> {
    pub(crate) fn new(address: &'a str) -> Self {
        Self { address, stream: None }
    }

    /// The status of the answer; none where none came.
    pub(crate) fn get(&mut self, path: &str) -> Option<u16> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(self.address).ok()?,
        };
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).ok()?;
        let (mut text, mut some) = (Vec::new(), [0; 4096]);
        loop {
            let n = stream.read(&mut some).ok().filter(|n| *n > 0)?;
            text.extend_from_slice(&some[..n]);
            let answer = String::from_utf8_lossy(&text).to_ascii_lowercase();
            let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
            if body.len() < length.trim().parse().ok()? {
                continue;
            }
            if !head.contains("connection: close") {
                self.stream = Some(stream);
            }
            return head.get(9..12)?.parse().ok();
        }
    }
}

impl Gateway {
    /// Starts a gateway with its data in `dir`; `config` goes into its table.
    pub(crate) fn start(dir: &Path, config: &str) -> Self {
        Self::start_with(dir, config, &[])
    }

    /// The same on a socket that is handed over, as systemd does.
    pub(crate) fn inheriting(dir: &Path, config: &str, socket: &TcpListener) -> Self {
        use std::os::fd::AsRawFd;
        let number = socket.as_raw_fd();
        let script = format!("LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\" 3<&{number}");
        let by = ["bash", "-c", &script, "bash"].map(str::to_owned);
        Self::start_by(&by, dir, config, &[])
    }

    /// The same with at most so many handles.
    pub(crate) fn with_handles(dir: &Path, config: &str, most: u32) -> Self {
        let script = format!("ulimit -n {most}; exec \"$@\"");
        Self::start_by(&["bash", "-c", &script, "bash"].map(str::to_owned), dir, config, &[])
    }

    /// The same with more arguments, such as `--env FILE`.
    pub(crate) fn start_with(dir: &Path, config: &str, more: &[&str]) -> Self {
        Self::start_by(&[], dir, config, more)
    }

    fn start_by(by: &[String], dir: &Path, config: &str, more: &[&str]) -> Self {
        let file = dir.join("gateway.toml");
        let listen = if config.contains("listen = ") { "" } else { "listen = \"127.0.0.1:0\"\n" };
        let data = dir.join("gateway");
        let text = format!(
            "[gateway]\n{listen}control = \"127.0.0.1:0\"\ndir = {:?}\n{config}",
            data.to_str().unwrap()
        );
        write(&file, &text);
        let ready = dir.join(format!("gateway-ready-{}.json", more.len()));
        let _ = fs::remove_file(&ready);
        let (file, path) = (file.to_str().unwrap(), ready.to_str().unwrap());
        let args = [&["gateway", "--config", file, "--ready-file", path], more].concat();
        let mut program = Program::start_by(by, dir, &args, &[]);
        let told = wait_for("the gateway", || {
            assert!(!program.has_ended(), "{}", program.output());
            fs::read_to_string(&ready).ok()
        });
        let told: Value = serde_json::from_str(&told).unwrap();
        let address = |name: &str| told[name].as_str().unwrap().to_owned();
        Self { program, data: address("data"), control: address("control") }
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        ask(&self.data, "POST", path, "", &body.to_string()).expect("an answer")
    }

    /// Asks the control listener.
    pub(crate) fn admin(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        ask(&self.control, method, path, "", &body).expect("an answer")
    }

    /// Grants `scopes` to `role`.
    pub(crate) fn policy(&self, role: &str, scopes: &[&str]) {
        let body = json!({ "name": role, "role": role, "spec": { "scopes": scopes } });
        let made = self.post("/api/policies", &body);
        assert_eq!(made.status, 201, "{made:?}");
    }

    /// A token of a new agent.
    pub(crate) fn token(&self, role: &str, tools: &[&str], permissions: &[&str]) -> String {
        let agent = json!({ "name": "test", "created_by": "test", "role": role });
        let agent = self.post("/api/create-agent", &agent);
        assert_eq!(agent.status, 201, "{agent:?}");
        let id = agent.json()["agent_id"].as_str().unwrap().to_owned();
        let token = json!({ "agent_id": id, "tools": tools, "permissions": permissions });
        let token = self.post("/api/generate-token", &token);
        assert_eq!(token.status, 201, "{token:?}");
        token.json()["agent_token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn call(&self, token: &str, tool: &str, action: &str, params: Value) -> Answer {
        let body =
            json!({ "agent_token": token, "tool": tool, "action": action, "params": params });
        self.post("/api/proxy-request", &body)
    }

    pub(crate) fn health(&self) -> Value {
        ask(&self.control, "GET", "/health", "", "").map_or(Value::Null, |answer| answer.json())
    }

    /// State and reason of one check.
    pub(crate) fn check(&self, name: &str) -> (String, String) {
        let health = self.health();
        let all = health["checks"].as_array().cloned().unwrap_or_default();
        let one = all.iter().find(|check| check["name"] == name).cloned().unwrap_or_default();
        let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
        (text("state"), text("reason"))
    }

    /// Waits until a check has `state`; gives its reason.
    pub(crate) fn wait_check(&self, name: &str, state: &str) -> String {
        wait_for(&format!("{name} to be {state}"), || {
            let (now, reason) = self.check(name);
            (now == state).then_some(reason)
        })
    }

    /// The sum of all series of the metrics page that begin with `series`.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let page = ask(&self.control, "GET", "/metrics", "", "").expect("a page").body;
        let values = page.lines().filter(|line| line.starts_with(series));
        values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }
}
