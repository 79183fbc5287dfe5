//! The parts of the gateway that are not its data plane: each a task with a pulse, begun anew alone when it panics, ends, hangs or has
//! become slow. They run on threads of their own, so that one that blocks holds up no request.

use parking_lot::Mutex;
use runtime::{Clock, Stop, Tick};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use telemetry::CounterVec;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

/// An illness on purpose that slows a component down lasts no longer, whoever asked for it.
const SLOW_FOR: Duration = Duration::from_secs(60);
/// Between two looks at the pulses.
const LOOK: Duration = Duration::from_millis(250);
/// Gaps between beats that slowness is judged by.
const GAPS: u32 = 5;
/// Waits before it is begun anew: doubling, to this.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A fall is shown for so long.
const SHOWN: Duration = Duration::from_secs(10);
/// Why a component is begun anew.
const CAUSES: [&str; 5] = ["ended", "panic", "asked", "hang", "slow"];
/// After so long without a restart it begins with the shortest wait again.
const STEADY: Duration = Duration::from_secs(60);

/// What ails it, on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub(crate) enum Ailment {
    #[default]
    None,
    Panic,
    Hang,
    Slow,
}

/// A component as its supervisor sees it.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) name: &'static str,
    /// Time between two beats when all is well.
    period: Duration,
    beats: Mutex<Beats>,
    generation: AtomicU32,
    pub(crate) restarts: AtomicU64,
    ailment: AtomicU8,
    ill_since: Mutex<Instant>,
    kick: Notify,
    /// When it was last begun anew because it had to be, and why.
    fell: Mutex<Option<(Instant, &'static str)>>,
}

#[derive(Debug)]
struct Beats {
    last: Instant,
    /// Mean of the last gaps, and how many there were.
    gap: Duration,
    count: u32,
}

/// The sign of life of one run of a component.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    component: Arc<Component>,
    generation: u32,
}

impl Pulse {
    /// Of nobody's supervision: for the last unit of work before the end.
    pub(crate) fn alone() -> Self {
        let component = Component::new("alone", Duration::from_secs(1));
        component.begin()
    }

    /// Says that a unit of work is done. False when another run has taken its place: then it ends.
    pub(crate) async fn beat(&self) -> bool {
        match self.component.ailment.load(Ordering::Relaxed) {
            1 => {
                self.component.ailment.store(0, Ordering::Relaxed);
                std::panic::panic_any("a panic on purpose");
            }
            2 => {
                self.component.ailment.store(0, Ordering::Relaxed);
                std::future::pending().await
            }
            3 if self.component.ill_since.lock().elapsed() > SLOW_FOR => {
                self.component.ailment.store(0, Ordering::Relaxed);
            }
            3 => tokio::time::sleep(self.component.period * 4).await,
            _ => {}
        }
        if self.component.generation.load(Ordering::Relaxed) != self.generation {
            return false;
        }
        let mut beats = self.component.beats.lock();
        let gap = beats.last.elapsed();
        beats.last = Instant::now();
        beats.gap = (beats.gap * 4 + gap) / 5;
        beats.count += 1;
        true
    }
}

impl Component {
    fn new(name: &'static str, period: Duration) -> Arc<Self> {
        let beats = Beats { last: Instant::now(), gap: period, count: 0 };
        Arc::new(Self {
            name,
            period,
            beats: Mutex::new(beats),
            generation: AtomicU32::new(0),
            restarts: AtomicU64::new(0),
            ailment: AtomicU8::new(0),
            ill_since: Mutex::new(Instant::now()),
            kick: Notify::new(),
            fell: Mutex::default(),
        })
    }

    /// A new run begins.
    fn begin(self: &Arc<Self>) -> Pulse {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        *self.beats.lock() = Beats { last: Instant::now(), gap: self.period, count: 0 };
        Pulse { component: Arc::clone(self), generation }
    }

    /// What is wrong with its pulse.
    fn complaint(&self) -> Option<&'static str> {
        let beats = self.beats.lock();
        let hang = (self.period * 10).max(Duration::from_secs(5));
        if beats.last.elapsed() > hang {
            return Some("hang");
        }
        let slow = beats.count >= GAPS && beats.gap > (self.period * 3).max(LOOK);
        slow.then_some("slow")
    }

    /// Since its last sign of life.
    pub(crate) fn silence(&self) -> Duration {
        self.beats.lock().last.elapsed()
    }

    /// What is or was a moment ago wrong with it.
    pub(crate) fn illness(&self) -> Option<String> {
        if let Some(complaint) = self.complaint() {
            return Some(format!("{}: {complaint}, silent for {:?}", self.name, self.silence()));
        }
        let fell = *self.fell.lock();
        let (at, cause) = fell.filter(|(at, _)| at.elapsed() < SHOWN)?;
        Some(format!("{}: begun anew {} s ago after {cause}", self.name, at.elapsed().as_secs()))
    }

    /// Begins it anew.
    pub(crate) fn restart(&self) {
        self.kick.notify_one();
    }

    /// Makes it ill, on purpose.
    pub(crate) fn ail(&self, ailment: Ailment) {
        *self.ill_since.lock() = Instant::now();
        self.ailment.store(ailment as u8, Ordering::Relaxed);
    }
}

/// One run of a component.
pub(crate) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// All components of a gateway.
#[derive(Debug)]
pub(crate) struct Components {
    list: Vec<Arc<Component>>,
    threads: Handle,
    restarts: CounterVec<2>,
}

impl Components {
    /// None yet; their work runs on `threads`.
    pub(crate) fn new(threads: Handle, restarts: CounterVec<2>) -> Self {
        Self { list: Vec::new(), threads, restarts }
    }

    /// Adds a component that beats every `period`. The future returned keeps it running until stopped.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        period: Duration,
        work: Box<dyn Fn(Pulse, Stop) -> Work + Send + Sync>,
    ) -> impl FnOnce(Stop) -> Work + Send + use<> {
        let component = Component::new(name, period);
        for cause in CAUSES {
            // A counter that begins with its first event has no increase to be seen.
            self.restarts.with([name, cause]);
        }
        self.list.push(Arc::clone(&component));
        let (threads, restarts) = (self.threads.clone(), self.restarts.clone());
        move |stop| Box::pin(keep(component, work, threads, restarts, stop))
    }

    pub(crate) fn list(&self) -> &[Arc<Component>] {
        &self.list
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Component>> {
        self.list.iter().find(|component| component.name == name)
    }
}

/// Does a unit of work again and again.
pub(crate) async fn every<F: Future<Output = ()>>(
    period: Duration,
    pulse: Pulse,
    stop: Stop,
    unit: impl Fn() -> F,
) {
    while pulse.beat().await && stop.wait_for(period).await == Tick::Elapsed {
        // Cut off as a restart of the component would: a unit that takes its time must not hold up the end of the process.
        tokio::select! { () = stop.wait() => return, () = unit() => {} }
    }
}

async fn keep(
    component: Arc<Component>,
    work: Box<dyn Fn(Pulse, Stop) -> Work + Send + Sync>,
    threads: Handle,
    restarts: CounterVec<2>,
    stop: Stop,
) {
    let clock = Clock::system();
    let mut tries = 0;
    loop {
        let begun = clock.monotonic();
        let mut run = threads.spawn(work(component.begin(), stop.clone()));
        let cause = loop {
            tokio::select! {
                ended = &mut run => break match ended {
                    _ if stop.requested() => return,
                    Ok(()) => "ended",
                    Err(_) => "panic",
                },
                () = component.kick.notified() => break "asked",
                tick = stop.wait_for(LOOK) => {
                    if tick == Tick::Stopped {
                        let _ = (&mut run).await;
                        return;
                    }
                    if let Some(complaint) = component.complaint() {
                        break complaint;
                    }
                }
            }
        };
        run.abort();
        tries = if begun.elapsed() > STEADY { 0 } else { tries + 1 };
        let wait = Duration::from_millis(100 << tries.min(8)).min(LONGEST_WAIT);
        component.restarts.fetch_add(1, Ordering::Relaxed);
        restarts.with([component.name, cause]).inc();
        if cause == "asked" {
            info!(component = component.name, "begun anew, as asked");
            continue;
        }
        *component.fell.lock() = Some((clock.monotonic(), cause));
        warn!(component = component.name, cause, ?wait, "component is begun anew");
        if stop.wait_for(wait).await == Tick::Stopped {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::Registry;

    struct Bench {
        components: Arc<Components>,
        stop: Stop,
        registry: Registry,
        runs: Arc<AtomicU64>,
        _keeping: tokio::task::JoinHandle<()>,
    }

    fn bench() -> Bench {
        let registry = Registry::new();
        let restarts = registry.counters("restarts_total", "x", ["component", "cause"], 100);
        let mut components = Components::new(Handle::current(), restarts);
        let runs = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&runs);
        let keep = components.add(
            "stats",
            Duration::from_millis(100),
            Box::new(move |pulse, stop| {
                counted.fetch_add(1, Ordering::Relaxed);
                Box::pin(every(Duration::from_millis(100), pulse, stop, || async {}))
            }),
        );
        let stop = Stop::new();
        let _keeping = tokio::spawn(keep(stop.clone()));
        Bench { components: Arc::new(components), stop, registry, runs, _keeping }
    }

    impl Bench {
        async fn until(&self, line: &str) {
            for _ in 0..10_000 {
                if self.registry.page().contains(line) {
                    return;
                }
                tokio::time::advance(Duration::from_millis(10)).await;
                tokio::task::yield_now().await;
            }
            panic!("{line} never came:\n{}", self.registry.page());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn r4_4_a_component_that_panics_hangs_or_slows_is_begun_anew_and_runs_on() {
        let bench = bench();
        let stats = Arc::clone(bench.components.find("stats").unwrap());
        for (ailment, cause) in
            [(Ailment::Panic, "panic"), (Ailment::Hang, "hang"), (Ailment::Slow, "slow")]
        {
            let before = bench.runs.load(Ordering::Relaxed);
            stats.ail(ailment);
            bench
                .until(&format!("restarts_total{{cause=\"{cause}\",component=\"stats\"}} 1"))
                .await;
            stats.ail(Ailment::None);
            for _ in 0..2_000 {
                tokio::time::advance(Duration::from_millis(10)).await;
                tokio::task::yield_now().await;
            }
            assert!(
                bench.runs.load(Ordering::Relaxed) > before && stats.illness().is_none(),
                "{cause}"
            );
        }
        stats.restart();
        bench.until("restarts_total{cause=\"asked\",component=\"stats\"} 1").await;
        bench.stop.request();
        bench._keeping.await.unwrap();
    }
}
