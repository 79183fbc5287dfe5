//! Who sends what, and how far the run is: compressed, as fast as answers come; in real time, at the rates of the plan or of a file,
//! whatever the answers do.

use super::BurninArgs;
use ::burnin::client::{Client, STEADY};
use ::burnin::plan::{self, HOURS};
use ::burnin::readings::Progress;
use ::burnin::tally::Tally;
use runtime::{Stop, Tick};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Requests at once in a compressed run: more would measure the queue in front of the processor.
const AT_ONCE: usize = 32;
/// A fault of a compressed run lasts at least so long.
const LEAST: Duration = Duration::from_secs(12);

/// How time passes.
#[derive(Clone, Debug)]
pub(super) enum Pace {
    /// With requests.
    Requests(u64),
    /// With time, at the rates of the plan.
    Time(Duration),
    /// With time, at given rates: seconds and requests a second.
    Rates(Vec<(f64, f64)>),
}

impl Pace {
    pub(super) fn of(args: &BurninArgs) -> Result<Self, String> {
        if let Some(time) = args.realtime {
            return Ok(Self::Time(time));
        }
        let Some(path) = &args.replay else { return Ok(Self::Requests(args.requests)) };
        let fault = |why: String| format!("{}: {why}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().unwrap_or_default().split(',').map(str::trim).collect();
        let column = |name: &str| {
            let missing =
                || fault(format!("line 1: no column {name}; t_s and offered_rps are needed"));
            names.iter().position(|it| *it == name).ok_or_else(missing)
        };
        let (time, rate) = (column("t_s")?, column("offered_rps")?);
        let mut rates = Vec::new();
        for (number, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let cells: Vec<&str> = line.split(',').collect();
            let cell = |at: usize| cells.get(at).and_then(|cell| cell.trim().parse::<f64>().ok());
            let pair =
                cell(time).zip(cell(rate)).filter(|(t, r)| *t >= 0.0 && (0.0..=1e6).contains(r));
            let pair =
                pair.ok_or_else(|| fault(format!("line {}: no time and rate", number + 2)))?;
            if rates.last().is_some_and(|last: &(f64, f64)| last.0 >= pair.0) {
                return Err(fault(format!(
                    "line {}: its time is not after the one before",
                    number + 2
                )));
            }
            rates.push(pair);
        }
        if rates.is_empty() {
            return Err(fault("no line with a time and a rate".to_owned()));
        }
        Ok(Self::Rates(rates))
    }

    /// How long the run takes, where that is known.
    fn whole(&self) -> Option<Duration> {
        match self {
            Self::Requests(_) => None,
            Self::Time(time) => Some(*time),
            Self::Rates(rates) => rates.last().map(|last| Duration::from_secs_f64(last.0)),
        }
    }
}

/// A run and how far it is.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) pace: Pace,
    pub(super) tally: Tally,
    start: Instant,
}

impl Run {
    pub(super) fn new(pace: Pace, tally: Tally) -> Self {
        Self { pace, tally, start: Instant::now() }
    }

    /// How long a fault of so many hours lasts; by what the run has taken so far where nothing else is known.
    pub(super) fn lasting(&self, hours: f64) -> Duration {
        let whole = self
            .pace
            .whole()
            .unwrap_or_else(|| self.start.elapsed().mul_f64(HOURS / self.hour().clamp(0.5, HOURS)));
        plan::lasting(hours, whole, LEAST)
    }

    fn is_over(&self) -> bool {
        self.hour() >= HOURS
    }

    /// Requests a second now, in an open loop.
    fn rate(&self) -> f64 {
        match &self.pace {
            Pace::Rates(rates) => {
                let at = self.start.elapsed().as_secs_f64();
                let now = rates.iter().take_while(|(time, _)| *time <= at).last();
                now.or(rates.first()).map_or(0.0, |it| it.1)
            }
            _ => plan::rate(self.hour()),
        }
    }
}

impl Progress for Run {
    fn hour(&self) -> f64 {
        let share = match (&self.pace, self.pace.whole()) {
            (Pace::Requests(all), _) => self.tally.total() as f64 / (*all).max(1) as f64,
            (_, Some(whole)) => self.start.elapsed().as_secs_f64() / whole.as_secs_f64().max(1e-9),
            _ => 1.0,
        };
        (share * HOURS).min(HOURS)
    }
}

/// Sends until the run is over or stopped.
pub(super) async fn run(run: Arc<Run>, clients: usize, seed: u64, address: SocketAddr, stop: Stop) {
    let tally = run.tally.clone();
    let client = |number| Client::new(number, seed, address, tally.clone());
    match run.pace {
        Pace::Requests(_) => {
            let slots = Arc::new(Semaphore::new(AT_ONCE));
            let mut all = JoinSet::new();
            for number in 0..clients {
                let (run, slots, stop) = (Arc::clone(&run), Arc::clone(&slots), stop.clone());
                let mut client = client(number);
                all.spawn(async move {
                    while !run.is_over() && !stop.requested() {
                        let Ok(_slot) = slots.acquire().await else { return };
                        client.go(plan::mix(run.hour())).await;
                    }
                });
            }
            while all.join_next().await.is_some() {}
        }
        _ => open_loop(&run, (0..clients).map(client).collect(), stop).await,
    }
}

/// Requests leave at their rate; where no client is free, one is counted as not answered in time.
async fn open_loop(run: &Arc<Run>, clients: Vec<Client>, stop: Stop) {
    let free = Arc::new(Mutex::new(VecDeque::from(clients)));
    let mut next = run.start;
    let mut going = JoinSet::new();
    while !run.is_over() && stop.wait_until(next).await == Tick::Elapsed {
        let rate = run.rate();
        next += Duration::from_secs_f64(1.0 / rate.max(0.1));
        while going.try_join_next().is_some() {}
        if rate <= 0.0 {
            continue;
        }
        let taken = free.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(mut client) = taken else {
            run.tally.note(::burnin::tally::Kind::TimedOut, ::burnin::client::TIMEOUT);
            continue;
        };
        let mix = if matches!(run.pace, Pace::Rates(_)) { STEADY } else { plan::mix(run.hour()) };
        let free = Arc::clone(&free);
        going.spawn(async move {
            client.go(mix).await;
            free.lock().unwrap_or_else(PoisonError::into_inner).push_back(client);
        });
    }
    let rest = async { while going.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(::burnin::client::TIMEOUT, rest).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::burnin::tally::Kind;

    #[test]
    fn hours_pass_with_requests_or_with_time_and_rates_are_those_of_the_file() {
        let tally = Tally::default();
        let run = Run::new(Pace::Requests(96), tally.clone());
        assert_eq!(run.hour(), 0.0);
        (0..48).for_each(|_| tally.note(Kind::Due, Duration::ZERO));
        assert_eq!((run.hour(), run.is_over()), (24.0, false));
        (0..48).for_each(|_| tally.note(Kind::Due, Duration::ZERO));
        assert!(run.is_over());
        let run = Run::new(Pace::Rates(vec![(0.0, 7.0), (1e6, 9.0)]), tally);
        assert_eq!(run.rate(), 7.0);
        assert_eq!(run.lasting(0.5), Duration::from_secs_f64(1e6 / 96.0));
    }
}
