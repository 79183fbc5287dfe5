//! The life of one child: start, watch, end, and start again; what is done when that does not help.

use crate::config::{ChildConfig, WatchdogConfig};
use crate::evidence::{Event, Journal, Remains};
use crate::known_good::KnownGood;
use crate::meters::ChildMeters;
use crate::page::Pager;
use crate::request::{Request, Requests, Wish};
use crate::{MARK, autopsy, memory, probe};
use model::Timestamp;
use platform::PlatformError;
use platform::child::{BOUND_TO, Child, Command, Group};
use platform::http::HttpClient;
use platform::log::RollingLog;
use platform::process::{self, Process};
use runtime::{Clock, Stop, Tick};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{error, info, warn};

/// The first wait before a restart.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// A child must have handed its requests over within this after it was asked to drain.
const DRAIN: Duration = Duration::from_millis(300);

/// What all keepers share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) config: Arc<WatchdogConfig>,
    pub(crate) client: HttpClient,
    pub(crate) journal: Journal,
    pub(crate) pager: Pager,
    pub(crate) clock: Clock,
    /// Words that come before a command, and bind the child to our life.
    pub(crate) bind: Arc<[String]>,
}

/// Keeps one child alive.
pub(crate) struct Keeper {
    child: ChildConfig,
    shared: Shared,
    meters: ChildMeters,
    request: Requests,
    good: KnownGood,
    socket: Option<Arc<TcpListener>>,
    starts: u64,
    /// Restarts in a row after which it was not well for long enough.
    not_cured: AtomicU32,
    /// Whether its files were put back since it was last well.
    put_back: AtomicBool,
    /// The first sign that it, or its predecessor, is not well.
    ill_since: Arc<Mutex<Option<Instant>>>,
    /// How it was when last looked at.
    last_reading: Arc<Mutex<Option<Process>>>,
    /// Processes that the kernel had killed for want of memory when it was started.
    oom_kills: Mutex<[Option<u64>; 2]>,
}

/// Why a child is no more.
enum End {
    Exited,
    Hung(String),
    Over(u64, u64),
    Asked(Request),
    Stopped,
}

impl Keeper {
    /// Opens the child's socket, if it is to have one.
    pub(crate) fn new(
        child: ChildConfig,
        shared: Shared,
        meters: ChildMeters,
    ) -> Result<Self, PlatformError> {
        let config = &shared.config;
        let request = Requests::new(&config.dir, &child.name, config.interval, shared.clock);
        let good = KnownGood::new(&config.dir, &child.name, &child.files);
        let bind = |address| {
            TcpListener::bind(address).map_err(|error| PlatformError::Reading {
                what: "the socket that the watchdog is to open",
                cause: format!("{address}: {error}"),
            })
        };
        let socket = child.listen.map(bind).transpose()?.map(Arc::new);
        Ok(Self {
            child,
            shared,
            meters,
            request,
            good,
            socket,
            starts: 0,
            not_cured: AtomicU32::new(0),
            put_back: AtomicBool::new(false),
            ill_since: Arc::default(),
            last_reading: Arc::default(),
            oom_kills: Mutex::default(),
        })
    }

    /// Runs until stopped; returns when the child has ended.
    pub(crate) async fn run(mut self, stop: Stop) -> Result<(), PlatformError> {
        let mut wait = FIRST_WAIT;
        while !stop.requested() {
            // Before it begins: who sees that it has may ask something of it at once.
            let (born, started) = (self.shared.clock.monotonic(), self.shared.clock.now());
            match self.start() {
                Ok(mut child) => {
                    let end = self.live(&mut child, started, &stop).await;
                    self.meters.up.set(0.0);
                    if self.bury(&mut child, end, born).await {
                        return Ok(());
                    }
                }
                Err(error) => {
                    error!(child = %self.child.name, %error, "child could not be started");
                    self.meters.restarted("start_failed");
                    self.note(Event::StartFailed { error: error.to_string() });
                }
            }
            if born.elapsed() > self.shared.config.cured_after {
                wait = FIRST_WAIT;
            }
            if self.judge(&stop).await == Tick::Stopped
                || stop.wait_for(wait).await == Tick::Stopped
            {
                return Ok(());
            }
            wait = (wait * 2).min(self.shared.config.max_restart_wait);
        }
        Ok(())
    }

    fn start(&mut self) -> Result<Child, PlatformError> {
        let (config, name) = (&self.shared.config, &self.child.name);
        let mut words = self.shared.bind.iter().chain(&self.child.command).cloned();
        let mut command = Command::new(words.next().unwrap_or_default(), words.collect());
        command.env.push((MARK.to_owned(), crate::mark(&config.dir, name)));
        command.env.push((BOUND_TO.to_owned(), std::process::id().to_string()));
        if let Some(socket) = &self.socket {
            command.env.push(("LISTEN_FDS".to_owned(), "1".to_owned()));
            command.socket = Some(Arc::clone(socket));
        }
        let path = config.dir.join(format!("{name}.log"));
        // Words that cannot be kept are no reason not to start it.
        let log = RollingLog::open(&path, config.log_size);
        let log = log.map_err(|error| error!(child = %name, %error, "what it says is not kept"));
        *lock(&self.oom_kills) = [process::oom_kills(); 2];
        *lock(&self.last_reading) = None;
        let child = Child::start(&command, log.ok())?;
        self.starts += 1;
        info!(child = %name, pid = child.pid(), starts = self.starts, "child started");
        self.note(Event::Started { pid: child.pid(), starts: self.starts });
        Ok(child)
    }

    /// Waits for what ends it.
    async fn live(&self, child: &mut Child, started: Timestamp, stop: &Stop) -> End {
        let (pid, group) = (child.pid(), child.group());
        tokio::select! {
            _ = child.wait() => End::Exited,
            end = self.watch(pid) => end,
            request = self.heed(group, started) => End::Asked(request),
            () = stop.wait() => End::Stopped,
        }
    }

    /// Watches it until it hangs or takes too much.
    async fn watch(&self, pid: u32) -> End {
        let Shared { config, client, clock, .. } = &self.shared;
        let seen = |it: &Process| {
            *lock(&self.last_reading) = Some(it.clone());
            let [_, last] = *lock(&self.oom_kills);
            *lock(&self.oom_kills) = [last, process::oom_kills()];
        };
        let note = |event| self.note(event);
        let memory = memory::watch(&self.shared, &self.child, pid, note, seen);
        let probes = probe::watch(&self.child, config, client, *clock, |sign| self.hear(sign));
        tokio::select! {
            reason = probes => End::Hung(reason),
            (resident, limit) = memory => End::Over(resident, limit),
        }
    }

    /// Takes in what a probe shows.
    fn hear(&self, sign: probe::Sign) {
        let name = &self.child.name;
        match sign {
            probe::Sign::Well(after) => {
                let since = lock(&self.ill_since).take();
                let recovery_seconds = since.map(|it| it.elapsed().as_secs_f64());
                let after_seconds = after.as_secs_f64();
                info!(child = %name, after_seconds, "child is healthy");
                self.meters.up.set(1.0);
                self.meters.recovery.set(recovery_seconds.unwrap_or(0.0));
                self.note(Event::Healthy { after_seconds, recovery_seconds });
            }
            probe::Sign::Missed => {
                lock(&self.ill_since).get_or_insert_with(|| self.shared.clock.monotonic());
            }
            probe::Sign::Recovered => drop(lock(&self.ill_since).take()),
            probe::Sign::Cured => {
                if self.not_cured.swap(0, Ordering::Relaxed) > 0 {
                    self.note(Event::Cured);
                }
                self.put_back.store(false, Ordering::Relaxed);
                self.meters.not_cured.set(0.0);
                if let Err(error) = self.good.keep() {
                    warn!(child = %name, %error, "files could not be kept");
                }
            }
        }
    }

    /// Does what is asked for, until it is a restart.
    async fn heed(&self, group: Group, started: Timestamp) -> Request {
        let name = &self.child.name;
        let mut next = None;
        loop {
            let request = match next.take() {
                Some(request) => request,
                None => self.request.wait(started).await,
            };
            let Request { id, by, .. } = request.clone();
            match request.action {
                Wish::Restart => return request,
                Wish::Kill => {
                    warn!(child = %name, by, "kill was asked for");
                    self.note(Event::Killed { id, by });
                    group.kill();
                }
                Wish::Pause => {
                    let seconds = request.pause().as_secs_f64();
                    warn!(child = %name, by, seconds, "pause was asked for");
                    self.note(Event::Paused { id, by, seconds });
                    group.pause();
                    // Whoever asks for something else meanwhile does not wait for its end.
                    tokio::select! {
                        () = tokio::time::sleep(request.pause()) => {}
                        other = self.request.wait(started) => next = Some(other),
                    }
                    group.resume();
                    self.note(Event::Resumed);
                }
            }
        }
    }

    /// Ends what is left of it and writes down why; true if we end too.
    async fn bury(&self, child: &mut Child, end: End, born: Instant) -> bool {
        let name = self.child.name.clone();
        lock(&self.ill_since).get_or_insert_with(|| self.shared.clock.monotonic());
        let cause = match end {
            End::Exited => {
                let remains = Box::new(self.end(child, Duration::ZERO, None).await);
                let after_seconds = born.elapsed().as_secs_f64();
                warn!(child = %name, status = remains.status, after_seconds, "child ended by itself");
                let cause = if remains.out_of_memory { "out_of_memory" } else { "exited" };
                self.note(Event::Exited { after_seconds, remains });
                cause
            }
            End::Hung(reason) => {
                warn!(child = %name, reason, "child does not answer, restarting it");
                let evidence = self.evidence(child).await;
                let grace = self.shared.config.stop_grace;
                let remains = Box::new(self.end(child, grace, evidence).await);
                self.note(Event::Hung { reason, remains });
                "hung"
            }
            End::Over(resident, limit) => {
                warn!(child = %name, resident, limit, "child is over its memory limit, restarting it");
                let evidence = self.evidence(child).await;
                let remains = Box::new(self.end_in_order(child, evidence).await);
                self.note(Event::OverMemory { resident, limit, remains });
                "memory"
            }
            End::Asked(Request { id, by, reason, .. }) => {
                warn!(child = %name, by, reason, "restart was asked for");
                let evidence = self.evidence(child).await;
                let remains = Box::new(self.end_in_order(child, evidence).await);
                self.note(Event::Restarted { id, by, reason, remains });
                "asked"
            }
            End::Stopped => {
                let status = self.end_in_order(child, None).await.status;
                info!(child = %name, status, "child stopped");
                self.note(Event::Stopped { status });
                return true;
            }
        };
        self.meters.restarted(cause);
        false
    }

    /// What to do before the next start, after one that did not help: nothing, tell somebody, put files back, or hold.
    async fn judge(&self, stop: &Stop) -> Tick {
        let (config, name) = (Arc::clone(&self.shared.config), self.child.name.clone());
        let restarts = self.not_cured.fetch_add(1, Ordering::Relaxed) + 1;
        self.meters.not_cured.set(f64::from(restarts));
        if restarts == config.page_after {
            let words = format!("{restarts} restarts in a row have not cured {name}");
            self.note(Event::NotCured { restarts });
            self.shared.pager.page("WatchdogRestartsDoNotHelp", &name, &words);
        }
        if restarts < config.hold_after {
            return Tick::Elapsed;
        }
        if !self.put_back.swap(true, Ordering::Relaxed) {
            match self.good.put_back(self.shared.clock.now()) {
                Ok(files) if !files.is_empty() => {
                    warn!(child = %name, ?files, "restarts do not help, files were put back");
                    self.note(Event::FilesPutBack { files });
                    return Tick::Elapsed;
                }
                Ok(_) => {}
                Err(error) => error!(child = %name, %error, "files could not be put back"),
            }
        }
        let reason = format!("{restarts} restarts in a row have not cured {name}");
        let seconds = config.hold.as_secs_f64();
        error!(child = %name, reason, seconds, "nothing more is tried");
        self.shared.pager.page("WatchdogHolds", &name, &format!("{reason}; held for {seconds} s"));
        let since = self.shared.clock.now();
        self.note(Event::Held { seconds, reason });
        self.meters.held.set(1.0);
        let (tick, by, id) = tokio::select! {
            tick = stop.wait_for(config.hold) => (tick, "time".to_owned(), None),
            request = self.request.wait(since) => (Tick::Elapsed, request.by, Some(request.id)),
        };
        self.meters.held.set(0.0);
        self.note(Event::Released { by, id });
        self.not_cured.store(0, Ordering::Relaxed);
        tick
    }

    async fn evidence(&self, child: &Child) -> Option<String> {
        let (dir, now) = (&self.shared.config.dir, self.shared.clock.now());
        let taken = autopsy::take(dir, &self.child, child.pid(), now, &self.shared.client).await;
        taken.map_err(|error| error!(%error, "evidence could not be kept")).ok()
    }

    /// Asks it to drain first, where it can.
    async fn end_in_order(&self, child: &mut Child, evidence: Option<String>) -> Remains {
        if let Some(url) = &self.child.drain {
            let called = memory::call(&self.shared, &self.child, url, "{}");
            // It is ended all the same.
            if let Ok(Err(error)) = tokio::time::timeout(DRAIN, called).await {
                warn!(child = %self.child.name, error, "could not be asked to drain");
            }
        }
        self.end(child, self.shared.config.stop_grace, evidence).await
    }

    async fn end(&self, child: &mut Child, grace: Duration, evidence: Option<String>) -> Remains {
        // A stopped process hears no polite signal.
        child.group().resume();
        let status = match child.end(grace).await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let killed = status.contains("signal: 9") && grace.is_zero();
        Remains {
            out_of_memory: killed && self.has_memory_run_out(),
            status,
            last_lines: child.last_lines(),
            last_reading: lock(&self.last_reading).as_ref().map(autopsy::in_words),
            evidence,
        }
    }

    /// Whether the kernel has killed anybody for want of memory since the reading before the last: that one may have seen it done already.
    fn has_memory_run_out(&self) -> bool {
        let [before, _] = *lock(&self.oom_kills);
        before.zip(process::oom_kills()).is_some_and(|(before, now)| before < now)
    }

    fn note(&self, event: Event) {
        self.shared.journal.write(&self.child.name, &event);
    }
}

fn lock<T>(it: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}
