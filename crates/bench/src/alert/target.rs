//! Targets with faults: real gateway processes that are killed and stopped, and pages that refuse, dawdle, change and lose a
//! metric.

use crate::system::BenchError;
use platform::child::{Child, Command};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command as Plain;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What is done to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FaultKind {
    /// The process is killed with SIGKILL.
    Killed,
    /// The process is stopped with SIGSTOP: connections are taken and never answered.
    Hung,
    /// Nobody listens any more.
    Refusing,
    /// The page takes five seconds.
    Slow,
    /// A value crosses its threshold.
    Threshold,
    /// A metric is on the page no more.
    Gone,
}

impl FaultKind {
    pub(super) const ALL: [Self; 6] =
        [Self::Killed, Self::Hung, Self::Refusing, Self::Slow, Self::Threshold, Self::Gone];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Hung => "hung",
            Self::Refusing => "refusing",
            Self::Slow => "slow",
            Self::Threshold => "threshold",
            Self::Gone => "gone",
        }
    }
}

/// A target of a kind of its own; its name is its job.
pub(super) struct Target {
    pub(super) kind: FaultKind,
    pub(super) address: SocketAddr,
    dir: PathBuf,
    process: Option<Child>,
    page: Option<JoinHandle<()>>,
    broken: Arc<AtomicBool>,
}

impl Target {
    /// Starts a healthy one on a port of its own.
    pub(super) async fn start(kind: FaultKind, dir: &Path) -> Result<Self, BenchError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(BenchError::task)?;
        let address = listener.local_addr().map_err(BenchError::task)?;
        drop(listener);
        let dir = dir.join(kind.name());
        platform::durable::create_dir(&dir)?;
        let broken = Arc::new(AtomicBool::new(false));
        let mut target = Self { kind, address, dir, process: None, page: None, broken };
        target.mend().await?;
        Ok(target)
    }

    /// Makes it healthy.
    pub(super) async fn mend(&mut self) -> Result<(), BenchError> {
        self.broken.store(false, Ordering::SeqCst);
        match self.kind {
            FaultKind::Killed => {
                let config = self.dir.join("gateway.toml");
                let text = format!(
                    "[gateway]\nlisten = \"127.0.0.1:0\"\ncontrol = \"{}\"\ndir = {:?}\n",
                    self.address,
                    self.dir.join("gateway")
                );
                platform::durable::replace(&config, text.as_bytes())?;
                let program = std::env::current_exe().map_err(BenchError::task)?;
                let args = ["gateway", "--with-parent", "--config", &config.to_string_lossy()];
                let args = args.map(str::to_owned).to_vec();
                self.process = Some(Child::start(&Command::new(program, args), None)?);
            }
            FaultKind::Hung if self.process.is_none() => {
                self.kind = FaultKind::Killed;
                let started = Box::pin(self.mend()).await;
                self.kind = FaultKind::Hung;
                started?;
            }
            FaultKind::Hung => self.signal("-CONT")?,
            _ if self.page.is_none() => {
                let listener = TcpListener::bind(self.address).await.map_err(BenchError::task)?;
                self.page =
                    Some(tokio::spawn(serve(listener, self.kind, Arc::clone(&self.broken))));
            }
            _ => {}
        }
        Ok(())
    }

    /// Breaks it.
    pub(super) async fn spoil(&mut self) -> Result<(), BenchError> {
        self.broken.store(true, Ordering::SeqCst);
        match self.kind {
            FaultKind::Killed => {
                self.signal("-KILL")?;
                if let Some(mut process) = self.process.take() {
                    let _ = process.wait().await;
                }
            }
            FaultKind::Hung => self.signal("-STOP")?,
            FaultKind::Refusing => {
                if let Some(page) = self.page.take() {
                    page.abort();
                    let _ = page.await;
                }
            }
            FaultKind::Slow | FaultKind::Threshold | FaultKind::Gone => {}
        }
        Ok(())
    }

    fn signal(&self, signal: &str) -> Result<(), BenchError> {
        let Some(process) = &self.process else { return Ok(()) };
        let sent = Plain::new("kill").args([signal, &process.pid().to_string()]).status();
        sent.map_err(BenchError::task)?;
        Ok(())
    }

    /// Ends it.
    pub(super) async fn end(mut self) {
        if let Some(page) = self.page.take() {
            page.abort();
        }
        let _ = self.signal("-CONT");
        if let Some(mut process) = self.process.take() {
            let _ = process.end(Duration::from_secs(2)).await;
        }
    }
}

async fn serve(listener: TcpListener, kind: FaultKind, broken: Arc<AtomicBool>) {
    // Connections end with the listener, as those of a process do.
    let mut open = tokio::task::JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        while open.try_join_next().is_some() {}
        open.spawn(connection(socket, kind, Arc::clone(&broken)));
    }
}

async fn connection(mut socket: TcpStream, kind: FaultKind, broken: Arc<AtomicBool>) {
    let mut buffer = [0; 4096];
    while let Ok(1..) = socket.read(&mut buffer).await {
        let bad = broken.load(Ordering::SeqCst);
        if bad && kind == FaultKind::Slow {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        let level = if bad && kind == FaultKind::Threshold { 9 } else { 1 };
        let present = if bad && kind == FaultKind::Gone { "" } else { "present 1\n" };
        let body = format!("level {level}\n{present}other 1\n");
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if socket.write_all((head + &body).as_bytes()).await.is_err() {
            return;
        }
    }
}
