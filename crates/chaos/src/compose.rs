//! Which faults may be there together: a budget, one to a target, and what ends a process alone. Who has waited longest comes first, so
//! that none waits for ever; who has waited too long is left out, and that is said.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// Events that wait at most.
const MOST: usize = 64;

/// What is needed to decide.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wish<T> {
    pub(crate) it: T,
    pub(crate) target: String,
    pub(crate) alone: bool,
    /// Waits until then at most.
    pub(crate) until: Instant,
}

/// Faults that are there, and those that wait.
#[derive(Debug)]
pub(crate) struct Floor<T> {
    budget: usize,
    there: Vec<(T, String, bool)>,
    waiting: VecDeque<Wish<T>>,
}

/// Who may begin now, and who has waited in vain.
#[derive(Debug, PartialEq)]
pub(crate) struct Turn<T> {
    pub(crate) begin: Vec<T>,
    pub(crate) left_out: Vec<T>,
}

impl<T: Clone + PartialEq> Floor<T> {
    pub(crate) fn new(budget: usize) -> Self {
        Self { budget: budget.max(1), there: Vec::new(), waiting: VecDeque::new() }
    }

    /// Takes a wish in; false when too many wait.
    pub(crate) fn wish(&mut self, wish: Wish<T>) -> bool {
        let room = self.waiting.len() < MOST;
        if room {
            self.waiting.push_back(wish);
        }
        room
    }

    /// Who may begin now. They are there from now on, until [`Floor::ended`].
    pub(crate) fn turn(&mut self, now: Instant) -> Turn<T> {
        let mut turn = Turn { begin: Vec::new(), left_out: Vec::new() };
        let mut left = VecDeque::new();
        let mut held_back = false;
        for wish in std::mem::take(&mut self.waiting) {
            let same = |target: &String| *target == wish.target;
            let taken = self.there.iter().any(|(_, target, _)| same(target))
                || left.iter().any(|it: &Wish<T>| same(&it.target));
            let crowded = self.there.len() >= if wish.alone { 1 } else { self.budget };
            let shut = held_back || self.there.iter().any(|(_, _, alone)| *alone);
            let fits = !(taken || crowded || shut);
            if fits {
                self.there.push((wish.it.clone(), wish.target, wish.alone));
                turn.begin.push(wish.it);
            } else if now >= wish.until {
                turn.left_out.push(wish.it);
            } else {
                // What must be alone would never have its turn if others went past it.
                held_back |= wish.alone;
                left.push_back(wish);
            }
        }
        self.waiting = left;
        turn
    }

    pub(crate) fn ended(&mut self, it: &T) {
        self.there.retain(|(other, ..)| other != it);
    }

    /// Takes back a wish that waits; false if it does not.
    pub(crate) fn take_back(&mut self, it: &T) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|wish| wish.it != *it);
        self.waiting.len() < before
    }

    pub(crate) fn waiting(&self) -> Vec<T> {
        self.waiting.iter().map(|wish| wish.it.clone()).collect()
    }
}

/// How long an event waits for its turn.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Start, length, target and whether it must be alone.
    type Wanted = (u64, u64, u8, bool);

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn r6_5_whatever_overlaps_the_budget_holds_targets_are_not_shared_and_all_have_their_turn(
            wanted in prop::collection::vec((0..200_u64, 1..40_u64, 0..4_u8, any::<bool>()), 1..40),
            budget in 1..4_usize,
        ) {
            let start = Instant::now();
            let at = |seconds: u64| start + Duration::from_secs(seconds);
            let mut floor = Floor::new(budget);
            let mut running: Vec<(usize, u64)> = Vec::new();
            let (mut begun, mut order) = (0, Vec::new());
            for now in 0..3_000 {
                for (number, _) in running.iter().filter(|(_, end)| *end <= now) {
                    floor.ended(number);
                }
                running.retain(|(_, end)| *end > now);
                for (number, (_, _, target, alone)) in wanted.iter().enumerate().filter(|(_, it)| it.0 == now) {
                    order.push(number);
                    let target = if *alone { "process".to_owned() } else { target.to_string() };
                    let wish = Wish { it: number, target, alone: *alone, until: at(100_000) };
                    prop_assert!(floor.wish(wish));
                }
                let turn = floor.turn(at(now));
                prop_assert!(turn.left_out.is_empty());
                for number in turn.begin {
                    begun += 1;
                    running.push((number, now + wanted[number].1));
                }
                prop_assert!(running.len() <= budget);
                let of = |number: usize| -> Wanted { wanted[number] };
                let alone = running.iter().any(|(number, _)| of(*number).3);
                prop_assert!(!alone || running.len() == 1, "with what must be alone: {:?}", running);
                let mut targets: Vec<u8> = running.iter().map(|(number, _)| of(*number).2).collect();
                targets.sort_unstable();
                targets.dedup();
                prop_assert!(targets.len() == running.len(), "a target is shared: {:?}", running);
            }
            prop_assert_eq!(begun, wanted.len(), "each has its turn in the end");
        }
    }

    #[test]
    fn who_waits_too_long_is_left_out_and_too_many_are_refused() {
        let now = Instant::now();
        let wish = |it, until| Wish { it, target: "t".to_owned(), alone: false, until };
        let mut floor = Floor::new(1);
        assert!(floor.wish(wish(1, now + PATIENCE)));
        assert_eq!(floor.turn(now).begin, [1]);
        assert!(floor.wish(wish(2, now)));
        assert_eq!(floor.turn(now).left_out, [2]);
        for n in 0..MOST {
            assert!(floor.wish(wish(n, now + PATIENCE)));
        }
        assert!(!floor.wish(wish(99, now + PATIENCE)));
        assert!(floor.take_back(&5) && !floor.take_back(&5));
        assert_eq!(floor.waiting().len(), MOST - 1);
    }
}
