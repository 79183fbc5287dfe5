//! The life of one child: start, probe, and restart when it ends or hangs; waits between restarts double
//! while it keeps dying.

use crate::config::{ChildConfig, WatchdogConfig};
use crate::evidence::{Event, Journal};
use crate::probe::probe;
use crate::request::{Request, Requests};
use platform::PlatformError;
use platform::child::{Child, Command};
use platform::http::HttpClient;
use platform::log::RollingLog;
use runtime::{Clock, Stop, Tick};
use std::time::Duration;
use tracing::{error, info, warn};

/// The first wait before a restart.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// A child that lived this long has recovered: the waits begin anew.
const RECOVERED: Duration = Duration::from_secs(60);

/// Keeps one child alive.
#[derive(Debug)]
pub(crate) struct Keeper {
    child: ChildConfig,
    config: WatchdogConfig,
    client: HttpClient,
    journal: Journal,
    clock: Clock,
    starts: u64,
    request: Requests,
}

enum End {
    Exited,
    Hung,
    Stopped,
}

impl Keeper {
    pub(crate) fn new(
        child: ChildConfig,
        config: WatchdogConfig,
        client: HttpClient,
        journal: Journal,
        clock: Clock,
    ) -> Self {
        let request = Requests::new(&config.dir, &child.name, config.interval, clock);
        Self { child, config, client, journal, clock, starts: 0, request }
    }

    /// Runs until stopped; returns when the child has ended.
    pub(crate) async fn run(mut self, stop: Stop) -> Result<(), PlatformError> {
        let mut wait = FIRST_WAIT;
        while !stop.requested() {
            let start = self.clock.monotonic();
            match self.start() {
                Ok(mut child) => {
                    if matches!(self.live(&mut child, &stop).await, End::Stopped) {
                        return Ok(());
                    }
                }
                Err(error) => {
                    error!(child = %self.child.name, %error, "child could not be started");
                    self.note(Event::StartFailed { error: error.to_string() });
                }
            }
            if start.elapsed() > RECOVERED {
                wait = FIRST_WAIT;
            }
            if stop.wait_for(wait).await == Tick::Stopped {
                return Ok(());
            }
            wait = (wait * 2).min(self.config.max_restart_wait);
        }
        Ok(())
    }

    fn start(&mut self) -> Result<Child, PlatformError> {
        let mut words = self.child.command.iter().cloned();
        let program = words.next().unwrap_or_default().into();
        let command = Command { program, args: words.collect() };
        let path = self.config.dir.join(format!("{}.log", self.child.name));
        let log = RollingLog::open(&path, self.config.log_size)?;
        let child = Child::start(&command, Some(log))?;
        self.starts += 1;
        info!(child = %self.child.name, pid = child.pid(), starts = self.starts, "child started");
        self.note(Event::Started { pid: child.pid(), starts: self.starts });
        Ok(child)
    }

    /// Waits for the child's end, by itself, by missed probes, or by stop.
    async fn live(&self, child: &mut Child, stop: &Stop) -> End {
        let (start, started) = (self.clock.monotonic(), self.clock.now());
        let name = &self.child.name;
        tokio::select! {
            status = child.wait() => {
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                let after_seconds = start.elapsed().as_secs_f64();
                warn!(child = %name, status, after_seconds, "child ended by itself");
                let last_lines = child.last_lines();
                self.note(Event::Exited { status, after_seconds, last_lines });
                // What it left behind in its group goes too.
                let _ = child.end(Duration::ZERO).await;
                End::Exited
            }
            reason = self.watch() => {
                let last_lines = child.last_lines();
                warn!(child = %name, reason, "child does not answer, restarting it");
                let status = self.end(child).await;
                self.note(Event::Hung { reason, status, last_lines });
                End::Hung
            }
            request = self.request.wait(started) => {
                let last_lines = child.last_lines();
                let Request { id, by, reason } = request;
                warn!(child = %name, by, reason, "restart was asked for");
                let status = self.end(child).await;
                self.note(Event::Restarted { id, by, reason, status, last_lines });
                End::Hung
            }
            () = stop.wait() => {
                let status = self.end(child).await;
                info!(child = %name, status, "child stopped");
                self.note(Event::Stopped { status });
                End::Stopped
            }
        }
    }

    /// Probes until too many in a row were missed, and returns what the last one said.
    async fn watch(&self) -> String {
        let Some(url) = &self.child.probe else { return std::future::pending().await };
        let start = self.clock.monotonic();
        let (mut healthy, mut missed) = (false, 0);
        loop {
            match probe(&self.client, url, self.config.timeout).await {
                Ok(()) => {
                    missed = 0;
                    if !std::mem::replace(&mut healthy, true) {
                        let after_seconds = start.elapsed().as_secs_f64();
                        info!(child = %self.child.name, after_seconds, "child is healthy");
                        self.note(Event::Healthy { after_seconds });
                    }
                }
                // Until its first good answer a child may take its time.
                Err(_) if !healthy && start.elapsed() < self.config.start_grace => {}
                Err(reason) => {
                    missed += 1;
                    if missed >= self.config.misses {
                        return reason;
                    }
                }
            }
            let pause =
                if healthy { self.config.interval } else { self.config.interval.min(FIRST_WAIT) };
            tokio::time::sleep(pause).await;
        }
    }

    async fn end(&self, child: &mut Child) -> String {
        match child.end(self.config.stop_grace).await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    fn note(&self, event: Event) {
        self.journal.write(&self.child.name, &event);
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// Runs a shell script as a child until the journal has `text`, then stops it; the journal.
    async fn journal_of(script: &str, probe: Option<String>, text: &str) -> String {
        journal_with(script, probe, text, |_| ()).await
    }

    /// The same; `meanwhile` gets the watchdog's folder.
    async fn journal_with(
        script: &str,
        probe: Option<String>,
        text: &str,
        meanwhile: impl FnOnce(&std::path::Path) + Send + 'static,
    ) -> String {
        let dir = TempDir::new().unwrap();
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let child = ChildConfig { name: "c".to_owned(), command, probe };
        let config = WatchdogConfig {
            dir: dir.path().to_owned(),
            interval: Duration::from_millis(10),
            timeout: Duration::from_millis(200),
            start_grace: Duration::ZERO,
            child: vec![child],
            ..WatchdogConfig::default()
        };
        let stop = Stop::new();
        let run = tokio::spawn(crate::run(config, Clock::system(), stop.clone()));
        let folder = dir.path().to_owned();
        let aside = tokio::task::spawn_blocking(move || meanwhile(&folder));
        let path = dir.path().join("journal.jsonl");
        let read = || std::fs::read_to_string(&path).unwrap_or_default();
        while !read().contains(text) {
            assert!(!run.is_finished(), "{}", read());
            tokio::task::yield_now().await;
        }
        aside.await.unwrap();
        stop.request();
        run.await.unwrap().unwrap();
        read()
    }

    #[tokio::test]
    async fn a_child_that_ends_is_started_again_and_its_last_words_kept() {
        let journal = journal_of("echo oh no; exit 3", None, "\"starts\":3").await;
        assert!(journal.contains("exit status: 3") && journal.contains("oh no"), "{journal}");
    }

    #[tokio::test]
    async fn a_child_that_does_not_answer_is_ended_and_started_again() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let probe = format!("http://{}/live", listener.local_addr().unwrap());
        let journal = journal_of("echo busy; read hold", Some(probe), "\"starts\":2").await;
        assert!(
            journal.contains("\"event\":\"hung\"") && journal.contains("time limit"),
            "{journal}"
        );
    }

    #[tokio::test]
    async fn a_restart_that_is_asked_for_happens_once_and_an_old_request_does_nothing() {
        let script = "read hold";
        let journal = journal_with(script, None, "\"starts\":2", |dir| {
            let ask = |at: String| {
                let text = format!(
                    "{{\"id\":\"7\",\"by\":\"test\",\"reason\":\"leaks\",\"at\":\"{at}\"}}"
                );
                let folder = dir.join("requests");
                platform::durable::create_dir(&folder).unwrap();
                platform::durable::replace(&folder.join("c.json"), text.as_bytes()).unwrap();
                folder.join("c.json")
            };
            let old = ask("2020-01-01T00:00:00Z".to_owned());
            while old.exists() {
                std::thread::yield_now();
            }
            ask(Clock::system().now().to_string());
        })
        .await;
        assert_eq!(journal.matches("\"event\":\"restarted\"").count(), 1, "{journal}");
        assert!(journal.contains("\"by\":\"test\",\"reason\":\"leaks\""), "{journal}");
    }

    #[tokio::test]
    async fn stopping_ends_the_child() {
        let journal = journal_of("read hold", None, "\"starts\":1").await;
        assert!(journal.contains("\"event\":\"stopped\""), "{journal}");
    }
}
