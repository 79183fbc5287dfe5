//! Tests of rules: series in, alerts out, in the form of promtool's.

use crate::expr::eval::evaluate;
use crate::expr::parse::parse;
use crate::expr::source::Source;
use crate::observe::{Instant, Limits, Seen, observe};
use crate::rule::parse::{number, rules};
use crate::rule::yaml::{Fault, Faults, Node, read};
use crate::rule::{Condition, Rule};
use crate::state::Phase;
use model::sample::STALE_BITS;
use model::{Labels, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use store::Points;

/// Steps of one test.
const LONGEST: i64 = 200_000;
/// Values of one series.
const MOST_VALUES: usize = 1_000_000;

/// Runs the tests of a file. Returns how many alerts were checked and which were not as expected.
///
/// # Errors
/// The file, or a rule file that it names, has faults.
pub fn test(path: &Path) -> Result<(usize, Vec<String>), Vec<Fault>> {
    let text = read(path).map_err(|fault| vec![fault])?;
    let mut faults = Faults::new(&path.display().to_string());
    let plan = faults.load(&text).map(|document| plan(Node(&document), path, &mut faults));
    let Some(plan) = plan.filter(|_| faults.all.is_empty()) else { return Err(faults.all) };
    let mut failed = Vec::new();
    let mut checked = 0;
    for (at, case) in plan.cases.iter().enumerate() {
        for expected in &case.expected {
            checked += 1;
            let firing = firing(&plan, case, expected.at, &expected.rule);
            if let Some(difference) = difference(&firing, &expected.alerts) {
                let place = case.name.clone().unwrap_or_else(|| format!("test {}", at + 1));
                let after = Duration::from_millis(expected.at.unsigned_abs());
                failed.push(format!(
                    "{}: {place}, {} after {after:?}: {difference}",
                    path.display(),
                    expected.rule
                ));
            }
        }
    }
    Ok((checked, failed))
}

struct Plan {
    rules: Vec<Rule>,
    /// Milliseconds.
    step: i64,
    cases: Vec<Case>,
}

struct Case {
    name: Option<String>,
    series: Vec<(String, Labels, Points)>,
    expected: Vec<Expected>,
}

struct Expected {
    at: i64,
    rule: String,
    alerts: Vec<Shown>,
}

/// Labels and annotations; the alert's name is left out.
type Shown = (BTreeMap<String, String>, BTreeMap<String, String>);

fn plan(node: Node<'_>, path: &Path, faults: &mut Faults) -> Plan {
    let known = ["rule_files", "evaluation_interval", "group_eval_order", "tests"];
    let [files, interval, _order, tests] = node.fields("the file", known, faults);
    let mut all = Vec::new();
    for file in files.and_then(Node::items).unwrap_or_default() {
        let name = file.want_text("a rule file", faults);
        let place = path.parent().unwrap_or(Path::new(".")).join(&name);
        match read(&place) {
            Ok(text) => {
                let (own, wrong) = rules(&place.display().to_string(), &text);
                all.extend(own);
                faults.all.extend(wrong);
            }
            Err(fault) => faults.add(file, fault.why),
        }
    }
    number(&mut all);
    if files.is_none() {
        faults.add(node, "has no rule_files; name the files whose rules are tested");
    }
    let step = interval
        .map_or(Duration::from_secs(60), |it| it.want_duration("evaluation_interval", faults));
    let step = i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1);
    let mut cases = Vec::new();
    for node in tests.and_then(Node::items).unwrap_or_default() {
        cases.push(case(node, faults));
    }
    Plan { rules: all, step, cases }
}

fn case(node: Node<'_>, faults: &mut Faults) -> Case {
    let known = ["name", "interval", "input_series", "alert_rule_test"];
    let [name, interval, input, expected] = node.fields("a test", known, faults);
    let step = interval.map_or(Duration::from_secs(60), |it| it.want_duration("interval", faults));
    let step = i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1);
    let mut series = Vec::new();
    for node in input.and_then(Node::items).unwrap_or_default() {
        let [name, values] = node.fields("a series", ["series", "values"], faults);
        let (Some(name), Some(values)) = (name, values) else {
            faults.add(node, "a series needs series and values");
            continue;
        };
        let text = name.want_text("series", faults);
        let key = match parse(&text) {
            Ok(crate::expr::Expr::Select(selector)) => {
                let pairs = selector.matchers.iter().filter_map(|it| match &it.test {
                    crate::expr::Test::Is(value) => Some((it.label.as_str(), value.as_str())),
                    _ => None,
                });
                (selector.metric.clone(), Labels::from_pairs(pairs))
            }
            Ok(_) => {
                faults.add(name, "must be a series such as up{job=\"api\"}");
                continue;
            }
            Err(fault) => {
                faults.add_within(name, fault.at, &fault.why);
                continue;
            }
        };
        match points(&values.want_text("values", faults), step) {
            Ok(points) => series.push((key.0, key.1, points)),
            Err(why) => faults.add(values, why),
        }
    }
    let expected = expected.and_then(Node::items).unwrap_or_default();
    let expected = expected.into_iter().map(|node| expectation(node, faults)).collect();
    Case { name: name.and_then(Node::text), series, expected }
}

fn expectation(node: Node<'_>, faults: &mut Faults) -> Expected {
    let [at, rule, alerts] =
        node.fields("an alert_rule_test", ["eval_time", "alertname", "exp_alerts"], faults);
    if at.is_none() || rule.is_none() {
        faults.add(node, "an alert_rule_test needs eval_time and alertname");
    }
    let at = at.map_or(Duration::ZERO, |it| it.want_duration("eval_time", faults));
    let mut shown = Vec::new();
    for node in alerts.and_then(Node::items).unwrap_or_default() {
        let [labels, annotations] =
            node.fields("an expected alert", ["exp_labels", "exp_annotations"], faults);
        let mut texts = |node: Option<Node<'_>>| -> BTreeMap<String, String> {
            let pairs = node.and_then(Node::pairs).unwrap_or_default().into_iter();
            pairs
                .map(|(name, value)| {
                    (name.want_text("a name", faults), value.want_text("a value", faults))
                })
                .collect()
        };
        shown.push((texts(labels), texts(annotations)));
    }
    let rule = rule.map_or(String::new(), |it| it.want_text("alertname", faults));
    Expected { at: i64::try_from(at.as_millis()).unwrap_or(i64::MAX), rule, alerts: shown }
}

/// Values as promtool writes them: `1+2x3` is 1 3 5 7, `_` none, `stale` the end of the series.
pub(crate) fn points(text: &str, step: i64) -> Result<Points, String> {
    let mut points = Points::default();
    let mut at = 0;
    let mut push = |value: Option<f64>, at: &mut i64| {
        if let Some(value) = value {
            points.times.push(*at * step);
            points.values.push(value);
        }
        *at += 1;
    };
    for word in text.split_whitespace() {
        let fault =
            || format!("{word:?} is no value; give one such as 1, 1+2x10, 3x5, _, _x5 or stale");
        let (value, times) =
            word.rsplit_once('x').map_or((word, None), |(value, times)| (value, Some(times)));
        let times: usize = times.map_or(Ok(0), str::parse).map_err(|_| fault())?;
        if times > MOST_VALUES || at as usize > MOST_VALUES {
            return Err(format!("more than {MOST_VALUES} values"));
        }
        match value {
            "_" => (0..times.max(1)).for_each(|_| push(None, &mut at)),
            "stale" => push(Some(f64::from_bits(STALE_BITS)), &mut at),
            _ => {
                let cut = value.get(1..).and_then(|rest| rest.find(['+', '-'])).map(|it| it + 1);
                let cut =
                    cut.filter(|cut| !value.get(..*cut).is_some_and(|it| it.ends_with(['e', 'E'])));
                let (first, by) = cut.map_or((value, "0"), |cut| value.split_at(cut));
                let first: f64 = first.parse().map_err(|_| fault())?;
                let by: f64 = by.parse().map_err(|_| fault())?;
                (0..=times).for_each(|n| push(Some(first + by * n as f64), &mut at));
            }
        }
    }
    Ok(points)
}

/// What fires of a rule at a time, in milliseconds from the start.
fn firing(plan: &Plan, case: &Case, until: i64, name: &str) -> Vec<Shown> {
    let source = Source::Stated(case.series.clone());
    let book = crate::book::Book::of(Vec::new());
    let limits = Limits { per_rule: 10_000, all: 50_000 };
    let steps = (until / plan.step).min(LONGEST);
    book.change(false, |kept| {
        for now in (0..=steps).map(|it| Timestamp(it * plan.step)) {
            for rule in plan.rules.iter().filter(|it| it.name == name) {
                let Condition::Threshold { expr, .. } = &rule.condition else { continue };
                let seen =
                    evaluate(expr, &source, now).unwrap_or_default().into_iter().map(|it| Seen {
                        labels: it
                            .labels
                            .iter()
                            .map(|(name, value)| (name.to_owned(), value.to_owned()))
                            .collect(),
                        value: it.value,
                        ..Seen::default()
                    });
                let at = Instant { evaluated: now, now };
                observe(kept, rule, seen.collect(), &BTreeSet::new(), (limits, at));
            }
        }
        let firing = kept.alerts.values().filter(|it| it.standing.phase == Phase::Firing);
        let shown = firing.map(|it| {
            let labels = it.labels.iter().filter(|(name, _)| *name != "alertname");
            (
                labels.map(|(name, value)| (name.clone(), value.clone())).collect(),
                it.annotations.clone(),
            )
        });
        shown.collect()
    })
}

fn difference(firing: &[Shown], expected: &[Shown]) -> Option<String> {
    let (have, want): (BTreeSet<&Shown>, BTreeSet<&Shown>) =
        (firing.iter().collect(), expected.iter().collect());
    if have == want {
        return None;
    }
    let lines = |all: &BTreeSet<&Shown>| -> String {
        if all.is_empty() {
            return "\n    nothing".to_owned();
        }
        all.iter()
            .map(|(labels, annotations)| format!("\n    {labels:?} {annotations:?}"))
            .collect()
    };
    Some(format!("\n  expected{}\n  firing{}", lines(&want), lines(&have)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_promtool_writes_them() {
        let shown = |text: &str| {
            let points = points(text, 10).unwrap();
            points
                .times
                .iter()
                .zip(points.values)
                .map(|(at, it)| format!("{at}:{it}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(shown("1+2x3 _ 5x2"), "0:1 10:3 20:5 30:7 50:5 60:5 70:5");
        assert_eq!(shown("-1-1x1 _x2 1e3 2.5-0.5x1"), "0:-1 10:-2 40:1000 50:2.5 60:2");
        assert!(points("1 stale", 1).unwrap().values.last().unwrap().is_nan());
        assert!(points("a", 1).is_err() && points("1x9999999999", 1).is_err());
    }
}
