//! How many calls a tool gets at once.
//!
//! The limit follows the tool: while answers come as fast as when it is left alone, it grows where it is in use; when they take half as
//! long again, the calls wait in the tool and not here, and it shrinks. Each time that it shrank much and the answers came no faster, the
//! tool itself is slower than it was, and the new time is taken for its own. The idea is that of TCP Vegas (Brakmo and Peterson 1995,
//! doi:10.1109/49.464716); the probe at a lower limit is that of BBR (Cardwell et al. 2016, doi:10.1145/3009824).

use std::time::Duration;

/// Least answers, and least time, that a judgement rests on: the mean of fewer scatters so much that the least of several says nothing.
const WINDOW_ANSWERS: u32 = 50;
const WINDOW: Duration = Duration::from_millis(100);
/// Answers that take this many times the tool's own time wait in the tool.
const WAITING: f64 = 1.5;
/// Up to here there is room for more.
const ROOM: f64 = 1.3;
/// The tool's own time is asked for anew after this.
const EPOCH: Duration = Duration::from_secs(30);

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Answered, whatever the answer.
    Answered,
    /// Not in time, or the tool said that it has too much to do.
    Overloaded,
}

/// The limit of one tool, and what it is found from.
#[derive(Clone, Debug)]
pub(crate) struct Limiter {
    limit: f64,
    least: f64,
    most: f64,
    window: Window,
    /// The tool's own time in seconds: in this epoch, and in the one before.
    own: [f64; 2],
    epoch_since: Duration,
    /// The limit before the probe that is being made.
    probing: Option<f64>,
    /// Whether the window before this one was slow too.
    slow_before: bool,
    /// Limit and mean time before the last shrinking.
    shrank: Option<(f64, f64)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    since: Duration,
    answers: u32,
    overloaded: u32,
    seconds: f64,
    /// Whether all of the limit was in use at some time.
    full: bool,
}

impl Limiter {
    /// Begins at `first` and stays within `least` and `most`.
    pub(crate) fn new(least: usize, first: usize, most: usize) -> Self {
        Self {
            limit: first.clamp(least, most) as f64,
            least: least.max(1) as f64,
            most: most.max(1) as f64,
            window: Window::default(),
            own: [f64::INFINITY; 2],
            epoch_since: Duration::ZERO,
            probing: None,
            slow_before: false,
            shrank: None,
        }
    }

    /// Calls at once.
    pub(crate) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// All of the limit is in use.
    pub(crate) fn is_full(&mut self) {
        self.window.full = true;
    }

    /// A call ended at `now`, counted from any fixed instant, after `took`.
    pub(crate) fn ended(&mut self, now: Duration, took: Duration, ending: Ending) {
        match ending {
            Ending::Overloaded => self.window.overloaded += 1,
            // One that began before the window tells of the limit that was then.
            Ending::Answered if now.saturating_sub(took) < self.window.since => return,
            Ending::Answered => self.window.seconds += took.as_secs_f64(),
        }
        self.window.answers += 1;
        let age = now.saturating_sub(self.window.since);
        // In a window not much longer than the answers take, only the fastest would be counted.
        let mean = self.window.seconds / f64::from(self.window.answers.max(1));
        let long = age >= WINDOW && age.as_secs_f64() >= 3.0 * mean;
        if long && self.window.answers >= WINDOW_ANSWERS {
            let window = std::mem::take(&mut self.window);
            self.window.since = now;
            self.judge(now, window);
        }
    }

    fn judge(&mut self, now: Duration, window: Window) {
        let good = window.answers - window.overloaded;
        if f64::from(window.overloaded) > 0.1 * f64::from(window.answers) {
            self.set(self.limit * 0.7);
            self.probing = None;
            return;
        }
        if good == 0 {
            return;
        }
        let mean = window.seconds / f64::from(good);
        self.learn(now, mean, window.full);
        let own = self.own[0].min(self.own[1]);
        if self.probing.is_some() {
            return;
        }
        if mean <= own * WAITING {
            self.shrank = None;
            self.slow_before = false;
            if window.full && mean < own * ROOM {
                self.set(self.limit + (self.limit * 0.1).max(1.0));
            }
            return;
        }
        // One window may be half of what was before; the next tells.
        if std::mem::replace(&mut self.slow_before, true) {
            if let Some((limit, before)) = self.shrank
                && self.limit < 0.75 * limit
                && mean > 0.85 * before
            {
                // It waits no less with fewer calls: this is the tool's own time now.
                self.own = [mean; 2];
                self.shrank = None;
                self.set(limit);
                return;
            }
            self.shrank.get_or_insert((self.limit, mean));
            self.set(self.limit * (own * WAITING / mean).max(0.7));
        }
    }

    /// Keeps the least mean of this epoch and the last; at the turn, where the limit was in use, a window at half of it shows the
    /// tool's own time.
    fn learn(&mut self, now: Duration, mean: f64, full: bool) {
        self.own[0] = self.own[0].min(mean);
        if let Some(limit) = self.probing.take() {
            self.limit = limit;
        } else if now.saturating_sub(self.epoch_since) >= EPOCH {
            self.epoch_since = now;
            self.own = [mean, self.own[0]];
            if full {
                self.probing = Some(self.limit);
                self.limit = (self.limit / 2.0).max(self.least);
            }
        }
    }

    fn set(&mut self, limit: f64) {
        self.limit = limit.clamp(self.least, self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::Jitter;

    /// A tool that works on `capacity` calls at once, each for about `service` seconds, offered more than it can do.
    struct Tool {
        limiter: Limiter,
        now: f64,
        jitter: Jitter,
        trail: Vec<usize>,
    }

    impl Tool {
        fn new(first: usize) -> Self {
            let limiter = Limiter::new(1, first, 1_000);
            Self { limiter, now: 0.0, jitter: Jitter::seeded(1), trail: Vec::new() }
        }

        fn run(&mut self, seconds: f64, capacity: f64, service: f64, spread: f64, demand: f64) {
            let end = self.now + seconds;
            while self.now < end {
                let calls = (self.limiter.limit() as f64).min(demand);
                if calls >= self.limiter.limit() as f64 {
                    self.limiter.is_full();
                }
                let waits = (calls / capacity).max(1.0);
                let took = service * waits * (1.0 + spread * (self.jitter.unit() - 0.5));
                self.now += took / calls; // so often does one of them end
                let at = Duration::from_secs_f64(self.now);
                self.limiter.ended(at, Duration::from_secs_f64(took), Ending::Answered);
                self.trail.push(self.limiter.limit());
            }
        }

        fn typical(&self) -> usize {
            let mut last = self.trail[self.trail.len() / 2..].to_vec();
            last.sort_unstable();
            last[last.len() / 2]
        }
    }

    #[test]
    fn r4_1_the_limit_finds_the_tools_capacity_from_below_and_from_above() {
        for first in [1, 20, 400] {
            let mut tool = Tool::new(first);
            if first > 20 {
                tool.run(5.0, 12.0, 0.012, 0.3, 4.0); // it was quiet before
            }
            tool.run(120.0, 12.0, 0.012, 0.3, 1e9);
            assert!((12..=19).contains(&tool.typical()), "{first}: {}", tool.typical());
        }
    }

    #[test]
    fn a_limit_that_is_not_needed_stays_and_scattered_answers_do_not_shrink_it() {
        let mut tool = Tool::new(64);
        tool.run(300.0, 1e9, 0.5, 1.6, 50.0);
        assert!(tool.typical() >= 60, "{}", tool.typical());
        // From below it grows to what is asked for.
        let mut tool = Tool::new(5);
        tool.run(120.0, 1e9, 0.5, 1.6, 50.0);
        assert!(tool.typical() >= 50, "{}", tool.typical());
    }

    #[test]
    fn a_tool_that_became_slower_by_itself_keeps_its_calls() {
        let mut tool = Tool::new(40);
        tool.run(20.0, 1e9, 0.02, 0.3, 30.0);
        tool.trail.clear();
        tool.run(20.0, 1e9, 0.1, 0.3, 30.0);
        assert!(tool.typical() >= 30, "{}", tool.typical());
        assert!(tool.limiter.own[0] > 0.08);
    }

    #[test]
    fn calls_that_fail_for_overload_shrink_it() {
        let mut limiter = Limiter::new(2, 100, 1_000);
        for n in 0..2_000 {
            limiter.ended(
                Duration::from_millis(10 * n),
                Duration::from_secs(1),
                Ending::Overloaded,
            );
        }
        assert_eq!(limiter.limit(), 2);
    }
}
