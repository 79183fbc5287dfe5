//! Where messages come: webhooks, one path a system, and the folder of a real mail server.

use crate::system::BenchError;
use platform::child::{Child, Command};
use runtime::Clock;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// What came: when the system said of the job that it is so.
pub(super) type Told = (String, String, bool);

/// When one came, and of which alert.
type Message = (Instant, String);

/// Messages by system, job and whether it fires, each with its time and the alert's name.
#[derive(Clone, Default)]
pub(super) struct Sink(Arc<Mutex<BTreeMap<Told, Vec<Message>>>>);

impl Sink {
    /// Listens for webhooks.
    pub(super) async fn start() -> Result<(Self, SocketAddr), BenchError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(BenchError::task)?;
        let address = listener.local_addr().map_err(BenchError::task)?;
        let sink = Self::default();
        let own = sink.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(connection(socket, own.clone()));
            }
        });
        Ok((sink, address))
    }

    fn note(&self, system: &str, (job, alert): (&str, &str), fires: bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (system.to_owned(), job.to_owned(), fires);
        all.entry(key).or_default().push((Clock::system().monotonic(), alert.to_owned()));
    }

    /// When it was told since `since`, and of which alert.
    pub(super) fn since(
        &self,
        system: &str,
        job: &str,
        fires: bool,
        since: Instant,
    ) -> Vec<Message> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (system.to_owned(), job.to_owned(), fires);
        let times = all.get(&key).into_iter().flatten();
        times.filter(|(at, _)| *at >= since).cloned().collect()
    }
}

async fn connection(mut socket: TcpStream, sink: Sink) {
    let mut text = Vec::new();
    let mut buffer = [0; 16_384];
    while let Ok(count @ 1..) = socket.read(&mut buffer).await {
        text.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let whole = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = whole.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        let system = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
        let json: Value = serde_json::from_str(body).unwrap_or_default();
        for alert in json.get("alerts").and_then(Value::as_array).into_iter().flatten() {
            let of = |path: &str| alert.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let alert = (of("/labels/job"), of("/labels/alertname"));
            sink.note(&system, alert, of("/status") == "firing");
        }
        text.clear();
        if socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() {
            return;
        }
    }
}

/// A real mail server, if Debian's aiosmtpd is there, whose mails are noted as those of the system `mail`.
pub(super) struct Post {
    child: Child,
    pub(super) port: u16,
}

impl Post {
    pub(super) async fn start(dir: &Path, sink: Sink) -> Result<Option<Self>, BenchError> {
        let python = PathBuf::from("/usr/bin/python3");
        let there = std::process::Command::new(&python).args(["-c", "import aiosmtpd"]).output();
        if !there.is_ok_and(|it| it.status.success()) {
            eprintln!(
                "no mail server: python3-aiosmtpd is not installed, the figures of mail stay empty"
            );
            return Ok(None);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(BenchError::task)?;
        let port = listener.local_addr().map_err(BenchError::task)?.port();
        drop(listener);
        let mail = dir.join("mail");
        let listen = format!("127.0.0.1:{port}");
        let args = [
            "-m",
            "aiosmtpd",
            "-n",
            "-l",
            &listen,
            "-c",
            "aiosmtpd.handlers.Mailbox",
            &mail.to_string_lossy(),
        ];
        let args = args.map(str::to_owned).to_vec();
        let child = Child::start(&Command::new(python, args), None)?;
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        tokio::spawn(watch(mail.join("new"), sink));
        Ok(Some(Self { child, port }))
    }

    pub(super) async fn end(mut self) {
        let _ = self.child.end(Duration::from_secs(1)).await;
    }
}

/// Notes each mail once, by the job in its text.
async fn watch(folder: PathBuf, sink: Sink) {
    let mut seen = std::collections::BTreeSet::new();
    loop {
        for path in platform::durable::list(&folder).unwrap_or_default() {
            if !seen.insert(path.clone()) {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let mut alert = None;
            for line in text.lines() {
                let mut heads = [("FIRING ", true), ("RESOLVED ", false)].into_iter();
                let head = heads.find_map(|(word, fires)| Some((line.strip_prefix(word)?, fires)));
                if let Some(named) = head {
                    alert = Some(named);
                } else if let (Some((name, fires)), Some(at)) = (alert, line.find("job=3D"))
                    && line.trim_start().starts_with("labels")
                {
                    let job = line.get(at + 6..).unwrap_or_default();
                    let job = job.split([' ', '=']).next().unwrap_or_default();
                    sink.note("mail", (job, name.trim()), fires);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
