//! The door to a tool: a place at once, a short wait, or a refusal within milliseconds.
//!
//! While waits are short now and then, who waits goes in order and may wait [`Patience::calm`]. When for that long there was always
//! somebody who had waited [`Patience::pressed`], or somebody was refused within that time, work comes faster than it is done: then the
//! newest goes first, for its client still waits, and nobody waits longer than [`Patience::pressed`]. (A queue that refusals emptied is
//! not calm: a tool whose answers come in bursts would look so at each of them.) Source: Maurer, "Fail at Scale", ACM Queue 13(8), 2015,
//! after CoDel (Nichols and Jacobson 2012), which asks for the time in the queue as well, not for its length.
//! Who waits with a lower priority goes after all with a higher one, and is the first to be turned away when the queue is full.

use super::limiter::{Ending, Limiter};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// How long a request may wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Patience {
    /// While waits are short now and then.
    pub(crate) calm: Duration,
    /// When they are not; and how long a short one is.
    pub(crate) pressed: Duration,
}

/// Who goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// The last to be let in, and the first to be refused.
    Low,
    /// As most are.
    #[default]
    Normal,
    /// Before all others.
    High,
}

/// The door to one tool.
#[derive(Debug)]
pub(crate) struct Door {
    state: Mutex<State>,
    patience: Patience,
    most_waiting: usize,
    start: Instant,
}

#[derive(Debug)]
struct State {
    limiter: Limiter,
    inside: usize,
    /// By priority, the longest waiting first.
    waiting: [VecDeque<Waiter>; 3],
    /// When nobody had waited for long.
    last_short: Instant,
    last_refused: Option<Instant>,
}

#[derive(Debug)]
struct Waiter {
    since: Instant,
    let_in: oneshot::Sender<()>,
}

/// No place, and none soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

/// What a door shows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DoorState {
    pub(crate) limit: usize,
    pub(crate) inside: usize,
    pub(crate) waiting: usize,
    pub(crate) pressed: bool,
}

impl Door {
    pub(crate) fn new(limiter: Limiter, patience: Patience, most_waiting: usize) -> Arc<Self> {
        let now = Instant::now();
        let waiting = [const { VecDeque::new() }; 3];
        let state = State { limiter, inside: 0, waiting, last_short: now, last_refused: None };
        Arc::new(Self { state: Mutex::new(state), patience, most_waiting, start: now })
    }

    /// Waits for a place, not for long.
    pub(crate) async fn enter(self: &Arc<Self>, priority: Priority) -> Result<Place, Refused> {
        let (waiter, patience) = {
            let mut state = self.state.lock();
            let now = Instant::now();
            if state.inside < state.limiter.limit() && state.waiting.iter().all(VecDeque::is_empty)
            {
                state.inside += 1;
                state.last_short = now;
                return Ok(self.place(now));
            }
            state.limiter.is_full();
            self.look(&mut state, now);
            if state.waits() >= self.most_waiting && !state.make_room(priority) {
                return Err(self.refuse(&mut state));
            }
            let patience = match self.is_pressed(&state, now) {
                true => self.patience.pressed,
                false => self.patience.calm,
            };
            let (let_in, waiter) = oneshot::channel();
            if let Some(queue) = state.waiting.get_mut(priority as usize) {
                queue.push_back(Waiter { since: now, let_in });
            }
            (waiter, patience)
        };
        match timeout(patience, Waiting { waiter, door: self, taken: false }.place()).await {
            Ok(Some(place)) => Ok(place),
            _ => Err(self.refuse(&mut self.state.lock())),
        }
    }

    fn place(self: &Arc<Self>, since: Instant) -> Place {
        Place { door: Arc::clone(self), since, ended: None }
    }

    fn refuse(&self, state: &mut State) -> Refused {
        state.last_refused = Some(Instant::now());
        Refused
    }

    fn is_pressed(&self, state: &State, now: Instant) -> bool {
        let recent = |at: Instant| now.duration_since(at) < self.patience.calm;
        state.last_refused.is_some_and(recent) || state.waits() > 0 && !recent(state.last_short)
    }

    pub(crate) fn read(&self) -> DoorState {
        let state = self.state.lock();
        DoorState {
            limit: state.limiter.limit(),
            inside: state.inside,
            waiting: state.waits(),
            pressed: self.is_pressed(&state, Instant::now()),
        }
    }

    /// Notes whether anybody has waited for long.
    fn look(&self, state: &mut State, now: Instant) {
        if state.oldest().is_none_or(|since| now.duration_since(since) < self.patience.pressed) {
            state.last_short = now;
        }
    }

    /// A place is free; whoever is next has it, or more places if the limit has grown.
    fn leave(&self, ended: Option<(Duration, Ending)>) {
        let mut state = self.state.lock();
        let now = Instant::now();
        if let Some((took, ending)) = ended {
            state.limiter.ended(now - self.start, took, ending);
        }
        state.inside = state.inside.saturating_sub(1);
        self.let_in(&mut state, now);
    }

    fn let_in(&self, state: &mut State, now: Instant) {
        self.look(state, now);
        let pressed = self.is_pressed(state, now);
        while state.inside < state.limiter.limit() {
            let Some(next) = state.next(pressed) else { return };
            // One that waits no longer, or whose client went away, is passed over.
            if next.let_in.send(()).is_ok() {
                state.inside += 1;
            }
        }
    }
}

impl State {
    fn waits(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// Since when the longest has waited of those who still do.
    fn oldest(&mut self) -> Option<Instant> {
        for queue in &mut self.waiting {
            while queue.front().is_some_and(|waiter| waiter.let_in.is_closed()) {
                queue.pop_front();
            }
        }
        self.waiting.iter().filter_map(|queue| Some(queue.front()?.since)).min()
    }

    fn next(&mut self, pressed: bool) -> Option<Waiter> {
        let queue = self.waiting.iter_mut().rev().find(|queue| !queue.is_empty())?;
        if pressed { queue.pop_back() } else { queue.pop_front() }
    }

    /// Turns away the longest waiting of the lowest priority under `priority`, or one that left.
    fn make_room(&mut self, priority: Priority) -> bool {
        for queue in &mut self.waiting {
            let before = queue.len();
            queue.retain(|waiter| !waiter.let_in.is_closed());
            if queue.len() < before {
                return true;
            }
        }
        let below = self.waiting.iter_mut().take(priority as usize);
        below.into_iter().any(|queue| queue.pop_front().is_some())
    }
}

/// One who waits. When it is let in while it gives up, its place goes to the next.
struct Waiting<'a> {
    waiter: oneshot::Receiver<()>,
    door: &'a Arc<Door>,
    taken: bool,
}

impl Waiting<'_> {
    async fn place(mut self) -> Option<Place> {
        (&mut self.waiter).await.ok()?;
        self.taken = true;
        Some(self.door.place(Instant::now()))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waiter.close();
        if !self.taken && self.waiter.try_recv().is_ok() {
            self.door.leave(None);
        }
    }
}

/// A place inside, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    door: Arc<Door>,
    since: Instant,
    /// How long the tool took, and what became of the call; none if that says nothing of the tool.
    ended: Option<(Duration, Ending)>,
}

impl Place {
    /// What became of the call. The place is kept until it is dropped: an answer may still be on its way to a slow client.
    pub(crate) fn ended(&mut self, ending: Ending) {
        self.ended_after(self.took(), ending);
    }

    /// The same of a call that took so long.
    pub(crate) fn ended_after(&mut self, took: Duration, ending: Ending) {
        self.ended = Some((took, ending));
    }

    /// When it was let in.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Since it was let in.
    pub(crate) fn took(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.door.leave(self.ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::yield_now;

    const PATIENCE: Patience =
        Patience { calm: Duration::from_millis(100), pressed: Duration::from_millis(5) };

    fn door(places: usize, most_waiting: usize) -> Arc<Door> {
        Door::new(Limiter::new(places, places, places), PATIENCE, most_waiting)
    }

    #[tokio::test(start_paused = true)]
    async fn r4_1_who_finds_no_place_waits_a_little_and_is_then_refused() {
        let door = door(1, 10);
        let place = door.enter(Priority::Normal).await.unwrap();
        let start = Instant::now();
        assert!(door.enter(Priority::Normal).await.is_err());
        assert_eq!(start.elapsed(), Duration::from_millis(100));
        drop(place);
        assert!(door.enter(Priority::Normal).await.is_ok());
        assert!(door.read().pressed, "somebody was just refused");
        tokio::time::advance(PATIENCE.calm).await;
        assert_eq!(door.read(), DoorState { limit: 1, inside: 0, waiting: 0, pressed: false });
    }

    #[tokio::test(start_paused = true)]
    async fn r4_1_under_pressure_the_newest_goes_first_and_refusals_come_within_ten_milliseconds() {
        let door = door(1, 10);
        let place = door.enter(Priority::Normal).await.unwrap();
        let wait = |name: &'static str| {
            let door = Arc::clone(&door);
            tokio::spawn(async move {
                let start = Instant::now();
                (name, door.enter(Priority::Normal).await, start.elapsed())
            })
        };
        let old = wait("old");
        yield_now().await;
        tokio::time::advance(Duration::from_millis(99)).await;
        let filler = wait("filler"); // the queue does not empty
        yield_now().await;
        tokio::time::advance(Duration::from_millis(2)).await;
        assert!(old.await.unwrap().1.is_err());
        assert!(door.read().pressed);
        let (first, second) = (wait("first"), wait("second"));
        for _ in 0..10 {
            yield_now().await;
        }
        drop(place);
        let (name, let_in, _) = second.await.unwrap();
        assert!(name == "second" && let_in.is_ok(), "the newest goes first");
        let (_, refused, after) = first.await.unwrap();
        assert!(refused.is_err() || after <= Duration::from_millis(6));
        assert!(after <= Duration::from_millis(10), "{after:?}");
        drop(filler);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_while_waiting_leaves_its_turn_to_the_next() {
        let door = door(1, 10);
        let place = door.enter(Priority::Normal).await.unwrap();
        let gone = {
            let door = Arc::clone(&door);
            tokio::spawn(async move { door.enter(Priority::Normal).await.is_ok() })
        };
        yield_now().await;
        let stays = {
            let door = Arc::clone(&door);
            tokio::spawn(async move { door.enter(Priority::Normal).await.map(drop).is_ok() })
        };
        yield_now().await;
        gone.abort();
        let _ = gone.await;
        drop(place);
        assert!(stays.await.unwrap());
        assert_eq!(door.read().inside, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_turns_the_lower_priority_away() {
        let door = door(1, 2);
        let place = door.enter(Priority::High).await.unwrap();
        let wait = |priority| {
            let door = Arc::clone(&door);
            tokio::spawn(async move { door.enter(priority).await.map(drop) })
        };
        let (low, normal) = (wait(Priority::Low), wait(Priority::Normal));
        yield_now().await;
        assert!(door.enter(Priority::Low).await.is_err(), "full");
        let high = wait(Priority::High);
        yield_now().await;
        assert_eq!(low.await.unwrap(), Err(Refused), "turned away for the higher one");
        drop(place);
        assert_eq!((high.await.unwrap(), normal.await.unwrap()), (Ok(()), Ok(())));
        assert_eq!(door.read().inside, 0);
    }
}
