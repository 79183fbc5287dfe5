//! Receivers: a real SMTP server, and a webhook that keeps what it gets.

use super::wait::wait_for;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// An SMTP server on a port of its own, ended when dropped.
pub(crate) struct Mailbox {
    child: Child,
    dir: PathBuf,
    pub(crate) port: u16,
}

impl Mailbox {
    /// Starts it in `mode` plain, starttls or smtps; the latter two with certificate, key, user and password.
    pub(crate) fn start(dir: &Path, mode: &str, more: &[&str]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harness/mailbox.py");
        let dir = dir.join("mail");
        // Debian's own interpreter, which has Debian's packages.
        let mut child = Command::new("/usr/bin/python3")
            .args([script, dir.to_str().unwrap(), "0", mode])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("READY ");
        let port =
            port.unwrap_or_else(|| panic!("no SMTP server: is python3-aiosmtpd there? {line}"));
        let port = port.parse().unwrap();
        Self { child, dir, port }
    }

    /// All mails so far, the oldest first.
    pub(crate) fn mails(&self) -> Vec<String> {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(&self.dir).unwrap().flatten().map(|it| it.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|kind| kind == "eml"));
        paths.sort();
        paths
            .iter()
            .map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned())
            .collect()
    }

    /// What the server says of the n-th mail (from 1): sender, recipients, TLS, user.
    pub(crate) fn envelope(&self, n: usize) -> Value {
        let text = std::fs::read_to_string(self.dir.join(format!("{n:04}.json"))).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a webhook got.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Got {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// `alertname status` of each alert in it.
    pub(crate) fn alerts(&self) -> Vec<String> {
        let json = self.json();
        let one = |it: &Value| {
            format!(
                "{} {}",
                it["labels"]["alertname"].as_str().unwrap(),
                it["status"].as_str().unwrap()
            )
        };
        json["alerts"].as_array().unwrap().iter().map(one).collect()
    }
}

/// Makes the status line and further headers of the n-th answer (from 1); an empty one gets no answer at all.
type Answer = Box<dyn FnMut(u64) -> String + Send>;

/// A webhook on a port of its own.
#[derive(Clone)]
pub(crate) struct Hook {
    pub(crate) address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Hook {
    /// One that takes everything.
    pub(crate) fn start() -> Self {
        Self::answering(|_| "200 OK".to_owned())
    }

    /// One that answers as the test says.
    pub(crate) fn answering(answer: impl FnMut(u64) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
        let kept = Arc::clone(&got);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (answer, kept) = (Arc::clone(&answer), Arc::clone(&kept));
                std::thread::spawn(move || serve(socket, &answer, &kept));
            }
        });
        Self { address, got }
    }

    /// All so far.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Waits for one that fits.
    pub(crate) fn wait(&self, what: &str, fits: impl Fn(&Got) -> bool) -> Got {
        wait_for(what, || self.got().into_iter().find(|it| fits(it)))
    }
}

fn serve(mut socket: TcpStream, answer: &Mutex<Answer>, kept: &Mutex<Vec<Got>>) -> Option<()> {
    let mut reader = BufReader::new(socket.try_clone().ok()?);
    loop {
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(": ") {
                headers.insert(name.to_lowercase(), value.trim().to_owned());
            }
        }
        let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        let body = String::from_utf8_lossy(&body).into_owned();
        let number = {
            let mut kept = kept.lock().unwrap();
            kept.push(Got { headers, body });
            kept.len() as u64
        };
        let head = (answer.lock().unwrap())(number);
        if head.is_empty() {
            std::thread::park(); // hangs
        }
        socket
            .write_all(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n").as_bytes())
            .ok()?;
    }
}

/// Configuration of a receiver by webhook.
pub(crate) fn hook(name: &str, address: SocketAddr, more: &str) -> String {
    format!(
        "[[alerts.receiver]]\nname = {name:?}\nwebhook = {{ url = \"http://{address}/x\"{more} }}\n"
    )
}

/// Configuration of a receiver by mail.
pub(crate) fn mail(name: &str, port: u16, more: &str) -> String {
    format!(
        "[[alerts.receiver]]\nname = {name:?}\n[alerts.receiver.email]\nhost = \"localhost\"\nport = {port}\n\
         from = \"Monitor <m@example.org>\"\nto = [\"a@example.org\", \"b@example.org\"]\n{more}\n"
    )
}
