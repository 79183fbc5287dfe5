use super::*;
use crate::experiment::{Fault, Schedule};
use crate::hands::Boxed;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tempfile::TempDir;

/// Notes what it is asked to do.
#[derive(Clone, Default)]
struct Noting {
    begun: Arc<Mutex<Vec<(String, Duration)>>>,
    ended: Arc<AtomicUsize>,
}

impl Hands for Noting {
    fn begin<'a>(
        &'a self,
        it: &'a Experiment,
        _: &'a str,
        lease: Duration,
    ) -> Boxed<'a, Result<(), String>> {
        self.begun.lock().push((it.name.clone(), lease));
        Box::pin(async { Ok(()) })
    }

    fn end<'a>(&'a self, _: &'a Experiment) -> Boxed<'a, Result<Option<u64>, String>> {
        self.ended.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(Some(7)) })
    }
}

/// Series that say that all is well, or not.
fn series(well: Arc<AtomicBool>) -> Ask {
    Ask(Arc::new(move |sql| {
        let well = well.load(Ordering::Relaxed);
        Box::pin(async move {
            let row = |name: &str, value: f64| {
                let value = json!({ name: value });
                vec![value.as_object().cloned().unwrap_or_default()]
            };
            Ok(match sql {
                sql if sql.contains("FROM up") => row("up", 1.0),
                sql if sql.contains("AS share") => row("share", if well { 0.0 } else { 0.9 }),
                sql if sql.contains("FROM alerts") => Vec::new(),
                sql if sql.contains("FROM findings") => Vec::new(),
                _ => row("n", 1.0),
            })
        })
    }))
}

/// Lets the paused clock go on, as if somebody waited.
async fn pass(time: Duration) {
    assert_eq!(Stop::new().wait_for(time).await, Tick::Elapsed);
}

fn latency(name: &str, seconds: u64) -> Experiment {
    let tool = Some("serpapi".to_owned());
    Experiment { tool, ..Experiment::new(name, Fault::Latency, Duration::from_secs(seconds)) }
}

struct Run {
    dir: TempDir,
    hands: Noting,
    well: Arc<AtomicBool>,
    clock: Clock,
}

impl Run {
    fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            hands: Noting::default(),
            well: Arc::new(AtomicBool::new(true)),
            clock: Clock::paused_at(Timestamp(1_700_000_000_000)),
        }
    }

    fn controller(&self, experiment: Vec<Experiment>) -> (Controller, Stop) {
        let config = ChaosConfig { experiment, ..ChaosConfig::default() };
        let book = Book::open(self.dir.path(), self.clock.now()).unwrap();
        let ask = series(Arc::clone(&self.well));
        let it = Controller::new(config, book, self.hands.clone(), ask, self.clock);
        let stop = Stop::new();
        tokio::spawn(it.clone().run(stop.clone()));
        (it, stop)
    }
}

#[tokio::test(start_paused = true)]
async fn r6_1_two_days_of_schedule_begin_within_a_second_and_a_restart_repeats_none() {
    let run = Run::new();
    let hour = Duration::from_secs(3_600);
    let experiment = Experiment {
        schedule: Some(Schedule {
            offset: hour * 6,
            every: Some(hour * 12),
            window: Duration::ZERO,
            seed: 0,
            count: None,
        }),
        ..latency("chaos window", 1_800)
    };
    let origin = run.clock.now();
    let (_, stop) = run.controller(vec![experiment.clone()]);
    pass(hour * 20).await;
    stop.request();
    pass(hour * 4).await;
    let (it, _stop) = run.controller(vec![experiment]);
    pass(hour * 24).await;
    let events = it.book().events();
    let begun: Vec<f64> =
        events.iter().rev().map(|it| seconds(origin, it.began.unwrap())).collect();
    let hours = [6, 18, 30, 42].map(|hour| f64::from(hour * 3_600));
    assert_eq!(begun.len(), hours.len(), "{events:?}");
    assert!(begun.iter().zip(hours).all(|(at, due)| (0.0..1.0).contains(&(at - due))), "{begun:?}");
    assert!(events.iter().all(|it| it.outcome == Outcome::Recovered), "{events:?}");
    assert!(events.iter().all(|it| it.hits == Some(7) && it.recovery_seconds == Some(0.0)));
    let leases = run.hands.begun.lock();
    assert!(leases.iter().all(|(_, lease)| *lease <= LEASE), "it ends by itself when we do");
    assert!(leases.len() > 4 * 300, "kept up for half an hour each: {}", leases.len());
}

#[tokio::test(start_paused = true)]
async fn what_was_due_while_nobody_was_there_is_missed_and_said_so() {
    let run = Run::new();
    let schedule = Schedule {
        offset: Duration::from_secs(60),
        every: Some(Duration::from_secs(600)),
        window: Duration::ZERO,
        seed: 0,
        count: None,
    };
    let experiment = Experiment { schedule: Some(schedule), ..latency("often", 5) };
    let (_, stop) = run.controller(vec![experiment.clone()]);
    pass(Duration::from_secs(30)).await;
    stop.request();
    pass(Duration::from_secs(300)).await;
    let (it, _stop) = run.controller(vec![experiment]);
    pass(Duration::from_secs(500)).await;
    let outcomes: Vec<Outcome> = it.book().events().iter().map(|it| it.outcome).collect();
    assert_eq!(outcomes, [Outcome::Recovered, Outcome::Missed]);
}

#[tokio::test(start_paused = true)]
async fn r6_2_it_does_not_begin_when_not_all_is_well_and_is_broken_off_when_too_much_fails() {
    let run = Run::new();
    let (it, _stop) = run.controller(Vec::new());
    run.well.store(false, Ordering::Relaxed);
    let person = || Source::Person("test".to_owned());
    let first = it.ask(latency("first", 60), person()).unwrap();
    pass(Duration::from_secs(15)).await;
    assert_eq!(it.book().event(&first).unwrap().outcome, Outcome::NotSteady);
    assert!(run.hands.begun.lock().is_empty());

    run.well.store(true, Ordering::Relaxed);
    let second = it.ask(latency("second", 60), person()).unwrap();
    pass(Duration::from_secs(5)).await;
    run.well.store(false, Ordering::Relaxed);
    pass(Duration::from_secs(2)).await;
    let event = it.book().event(&second).unwrap();
    assert!(event.ended.is_some() && event.detail.contains("90.0 %"), "{event:?}");
    run.well.store(true, Ordering::Relaxed);
    pass(Duration::from_secs(30)).await;
    let event = it.book().event(&second).unwrap();
    assert_eq!(event.outcome, Outcome::Aborted);
    assert!(event.recovery_seconds.unwrap() >= 1.0, "{event:?}");

    let third = it.ask(latency("third", 1), person()).unwrap();
    pass(Duration::from_secs(1)).await;
    run.well.store(false, Ordering::Relaxed);
    pass(Duration::from_secs(200)).await;
    assert_eq!(it.book().event(&third).unwrap().outcome, Outcome::NotRecovered);
    assert_eq!(run.hands.ended.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn r6_4_what_ran_when_the_controller_ended_is_known_as_interrupted() {
    let run = Run::new();
    let (it, _stop) = run.controller(Vec::new());
    let id = it.ask(latency("long", 600), Source::Person("test".to_owned())).unwrap();
    pass(Duration::from_secs(5)).await;
    assert_eq!(it.book().event(&id).unwrap().outcome, Outcome::Running);
    // As after `kill -9`: another opens the same journal.
    let again = Book::open(run.dir.path(), run.clock.now()).unwrap();
    assert_eq!(again.event(&id).unwrap().outcome, Outcome::Interrupted);
    assert!(it.ask(latency("", 5), Source::Schedule(0)).is_err());
    assert!(it.end("nothing").is_err());
    it.end(&id).unwrap();
    pass(Duration::from_secs(40)).await;
    assert_eq!(it.book().event(&id).unwrap().outcome, Outcome::Aborted);
}

/// The controller with series of its own, and one experiment of an hour begun.
async fn hour_long(answer: impl Fn(&str) -> Result<f64, String> + Send + Sync + 'static) -> Event {
    let run = Run::new();
    let ask = Ask(Arc::new(move |sql| {
        let answer = answer(&sql)
            .map(|value| vec![json!({ "up": value }).as_object().cloned().unwrap_or_default()]);
        Box::pin(async move { answer })
    }));
    let book = Book::open(run.dir.path(), run.clock.now()).unwrap();
    let it = Controller::new(ChaosConfig::default(), book, run.hands.clone(), ask, run.clock);
    tokio::spawn(it.clone().run(Stop::new()));
    let id = it.ask(latency("an hour", 3_600), Source::Person("me".to_owned())).unwrap();
    pass(Duration::from_secs(300)).await;
    it.book().event(&id).unwrap()
}

#[tokio::test(start_paused = true)]
async fn r6_2_what_did_not_survive_a_fault_is_not_hurt_again() {
    let event = hour_long(|sql| match sql {
        sql if sql.contains("AS newest") => Ok(4e9),
        sql if sql.contains("AS share") => Ok(0.0),
        _ => Ok(1.0),
    });
    let event = event.await;
    assert!(event.ended.is_some() && event.detail.contains("started anew"), "{event:?}");
}

#[tokio::test(start_paused = true)]
async fn r6_2_what_nobody_can_look_at_any_more_is_broken_off() {
    let looks = AtomicUsize::new(0);
    let event = hour_long(move |sql| match sql {
        _ if looks.fetch_add(1, Ordering::Relaxed) > 20 => Err("no answer".to_owned()),
        sql if sql.contains("AS share") => Ok(0.0),
        sql if sql.contains("AS newest") => Ok(1.0),
        _ => Ok(1.0),
    });
    let event = event.await;
    let (began, ended) = (event.began.unwrap(), event.ended.unwrap());
    assert!(ended.since(began) < Duration::from_secs(60), "{event:?}");
}
