//! Days whose raw samples are gone, from the figures that were made of them.

use super::shape::{Get, Groups, LabelTest, Select};
use crate::QueryError;
use model::{Labels, SeriesKey};
use store::{Resolution, Scan, Snapshot};

/// The label of rollups that says which figure a series is.
pub(super) const STAT: &str = "stat";
/// What a label of that name has become in rollups.
const MOVED: &str = "exported_stat";
const DAY: i64 = 86_400_000;

/// Scans of the figures of the days before the first that has raw samples, if `select` asks for buckets that
/// they add up to. A bucket of theirs that reaches over an end of the range is left out.
pub(super) fn open(select: &Select, raw: &Snapshot, parts: usize) -> Result<Vec<Scan>, QueryError> {
    let Some(step) = select.groups.as_ref().and_then(|groups| groups.step) else {
        return Ok(Vec::new());
    };
    let fits = |it: &Resolution| it.step().is_some_and(|own| step % own == 0);
    let resolution = [Resolution::Hour, Resolution::FiveMinutes].into_iter().find(fits);
    let (Some(resolution), Some(first)) = (resolution, raw.first_stored(&select.metric)) else {
        return Ok(Vec::new());
    };
    let own = resolution.step().unwrap_or(1);
    let whole_days = first.div_euclid(DAY).saturating_mul(DAY);
    let (from, to) = select.range;
    let from = from.saturating_add(own - 1).div_euclid(own).saturating_mul(own);
    let end = to.saturating_add(1).min(whole_days).div_euclid(own).saturating_mul(own);
    let figures = raw.at(resolution);
    if from >= end || names_stat(select) || !figures.has_metric(&select.metric) {
        return Ok(Vec::new());
    }
    let wanted = stats(select);
    let keep = |_: u64, key: &SeriesKey| {
        let stat = key.labels.get(STAT).is_some_and(|stat| wanted.contains(&stat));
        stat && select.keeps(&raw_key(key))
    };
    let scans = figures.scan(&select.metric, &keep, from, end.saturating_sub(own), parts);
    scans.map_err(|error| QueryError::Failed(error.to_string()))
}

/// Whether the question speaks of a label whose name means something else in rollups.
fn names_stat(select: &Select) -> bool {
    let ours = |name: &str| matches!(name, STAT | MOVED);
    let tests = select.labels.iter().any(|test| match test {
        LabelTest::In { column, .. } | LabelTest::Absent { column, .. } => ours(column),
    });
    let groups = select.groups.iter().flat_map(|groups: &Groups| &groups.labels).any(|it| ours(it));
    tests || groups || !select.values.is_empty()
}

/// The figures that are needed; how many samples there were, always.
fn stats(select: &Select) -> Vec<&'static str> {
    use super::shape::Figure;
    let figures = select.columns.iter().filter_map(|column| match column.get {
        Get::Figure(Figure::Sum | Figure::Average) => Some("sum"),
        Get::Figure(Figure::Least) => Some("min"),
        Get::Figure(Figure::Greatest) => Some("max"),
        Get::Figure(Figure::Last) => Some("last"),
        _ => None,
    });
    figures.chain(["count"]).collect()
}

/// The series that a figure was made of.
pub(crate) fn raw_key(key: &SeriesKey) -> SeriesKey {
    let labels = key.labels.iter().filter(|(name, _)| *name != STAT);
    let labels = labels.map(|(name, value)| (if name == MOVED { STAT } else { name }, value));
    SeriesKey::new(key.metric.clone(), Labels::from_pairs(labels))
}
