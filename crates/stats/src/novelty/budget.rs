//! Alarm threshold that keeps to a budget of alarms per series and day.
//!
//! The larger of two: what the budget needs on an average series (fitted once over a corpus), and
//! what this series' own scores need, so that a series that is odd by nature grows quiet. Assumes
//! that the coming weeks resemble the last. Cost: 0.4 KB, a scan of the histogram per alarm.

use super::history::History;
use serde::{Deserialize, Serialize};

/// Days after which the past counts half.
const HALF_LIFE_DAYS: f64 = 60.0;
/// Raw score that 0.05 unlabelled samples per series-day exceed on NAB (0.0101) and on
/// Microsoft's set (0.0086).
const FLOOR_AT_REFERENCE: f64 = 0.009;
/// Budget to which the floor above belongs, per day.
const REFERENCE_PER_DAY: f64 = 0.05;
/// Slope of log score against log budget on the same data, 0.02 to 0.2 per day.
const FLOOR_EXPONENT: f64 = 1.6;
/// Days without alarm at the start: before, the hours of a day are all new.
const QUIET_DAYS: f64 = 1.0;
/// Alarms in advance, as those of a bad week are mostly true: with 4, the false ones come to 0.04
/// to 0.05 a day on NAB and Microsoft's set at a budget of 0.05.
const ADVANCE: f64 = 4.0;

/// Score history and the threshold that it implies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Budget {
    per_day: f64,
    floor: f64,
    days: f64,
    spent: f64,
    scores: History,
}

impl Budget {
    /// A budget of `per_day` alarms per series-day; values out of range are brought into it.
    pub(crate) fn new(per_day: f64) -> Self {
        let per_day = if per_day.is_nan() { REFERENCE_PER_DAY } else { per_day };
        let per_day = per_day.clamp(1e-4, 100.0);
        let floor = FLOOR_AT_REFERENCE * (REFERENCE_PER_DAY / per_day).powf(FLOOR_EXPONENT);
        Self { per_day, floor, days: 0.0, spent: 0.0, scores: History::default() }
    }

    /// Threshold in force now, on the scale of the raw score. Where the budget is spent, only a
    /// record passes.
    pub(crate) fn threshold(&self) -> f64 {
        let earned = self.per_day * self.days + ADVANCE;
        let allowed = if self.spent < earned { earned } else { 0.0 };
        self.floor.max(self.scores.exceeded_at_most(allowed))
    }

    /// Whether a raw score is worth an alarm; cheap for the many that are not.
    pub(crate) fn exceeded_by(&self, score: f64) -> bool {
        self.days >= QUIET_DAYS && score >= self.floor && score >= self.threshold()
    }

    /// Takes in one raw score, the days since the one before, and whether it was an alarm.
    pub(crate) fn update(&mut self, score: f64, days: f64, alarmed: bool) {
        self.days += days;
        self.spent += f64::from(u8::from(alarmed));
        self.scores.insert(score);
        if self.days > 2.0 * HALF_LIFE_DAYS {
            self.days *= 0.5;
            self.spent *= 0.5;
            self.scores.halve();
        }
    }
}
