//! Rule files, in the form that Prometheus users know, with two more kinds of condition: `sql` and `finding`.

use super::template::Template;
use super::yaml::{Fault, Faults, Node};
use super::{Condition, KINDS, Level, Rule};
use crate::expr;
use model::label::is_plain_label_name;
use std::collections::BTreeMap;
use std::time::Duration;

/// Between two evaluations where nothing new comes.
const INTERVAL: Duration = Duration::from_secs(15);
/// Between two runs of an SQL rule.
const SQL_INTERVAL: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_millis(100);

/// The rules of a file, and what is wrong with it. A rule with a fault is left out.
pub(crate) fn rules(file: &str, text: &str) -> (Vec<Rule>, Vec<Fault>) {
    let mut faults = Faults::new(file);
    let mut found = Vec::new();
    if let Some(document) = faults.load(text) {
        let [groups] = Node(&document).fields("the file", ["groups"], &mut faults);
        let groups = groups.map(|it| (it, it.items()));
        match groups {
            None => faults.add(Node(&document), "has no groups; begin with `groups:`"),
            Some((node, None)) => faults.add(node, "groups must be a list of `- name: …`"),
            Some((_, Some(groups))) => {
                for node in groups {
                    group(file, node, &mut found, &mut faults);
                }
            }
        }
    }
    number(&mut found);
    let mut seen: BTreeMap<(String, String), String> = BTreeMap::new();
    for rule in &found {
        let key = (rule.group.clone(), rule.name.clone());
        if let Some(first) = seen.insert(key, rule.place.clone())
            && found.iter().filter(|it| is_the_same(it, rule)).count() > 1
        {
            let parts: Vec<usize> =
                rule.place.rsplit(':').take(2).filter_map(|it| it.parse().ok()).collect();
            let (column, line) =
                (parts.first().copied().unwrap_or(1), parts.get(1).copied().unwrap_or(1));
            let why = format!("the rule {} stands twice, first at {first}; remove one", rule.name);
            faults.all.push(Fault { file: file.to_owned(), line, column, why });
        }
    }
    (found, faults.all)
}

/// Rules of one name may differ in what they wait for and what they are labelled with.
fn is_the_same(one: &Rule, other: &Rule) -> bool {
    let place = (&one.group, &one.name) == (&other.group, &other.name);
    place && one.query() == other.query() && (&one.labels, one.hold) == (&other.labels, other.hold)
}

/// Gives each rule its id, over all files: by group, name, and number among its like.
pub(crate) fn number(rules: &mut [Rule]) {
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    for rule in rules {
        let like = seen.entry((rule.group.clone(), rule.name.clone())).or_default();
        rule.id = format!("{}/{}/{like}", rule.group, rule.name);
        *like += 1;
    }
}

fn group(file: &str, node: Node<'_>, found: &mut Vec<Rule>, faults: &mut Faults) {
    let known = ["name", "interval", "rules", "labels", "limit", "query_offset"];
    let [name, interval, rules, labels, limit, offset] = node.fields("a group", known, faults);
    for (given, what) in [(limit, "limit"), (offset, "query_offset")] {
        if let Some(given) = given {
            faults.add(
                given,
                format!("{what} is not taken; alerts are bounded by alerts.max_alerts_per_rule"),
            );
        }
    }
    let name = match name {
        Some(name) => name.want_text("the name of a group", faults),
        None => {
            faults.add(node, "a group has no name; add `name: …`");
            return;
        }
    };
    let interval = interval.map(|it| bounded(it, "interval", faults));
    let Some(items) = rules.and_then(Node::items) else {
        faults.add(rules.unwrap_or(node), "rules must be a list of `- alert: …`");
        return;
    };
    let mut all = Faults::new(file);
    let group_labels = labels.map(|it| templates(it, true, &mut all)).unwrap_or_default();
    faults.all.append(&mut all.all);
    for item in items {
        let before = faults.all.len();
        let rule = rule(file, &name, interval, item, faults);
        if let Some(mut rule) = rule.filter(|_| faults.all.len() == before) {
            for (name, value) in &group_labels {
                rule.labels.entry(name.clone()).or_insert_with(|| value.clone());
            }
            found.push(rule);
        }
    }
}

fn bounded(node: Node<'_>, what: &str, faults: &mut Faults) -> Duration {
    let given = node.want_duration(what, faults);
    if given < SHORTEST {
        faults.add(node, format!("{what} must be 100ms or more"));
    }
    given.max(SHORTEST)
}

const KEYS: [&str; 11] = [
    "alert",
    "expr",
    "sql",
    "finding",
    "at_least",
    "for",
    "keep_firing_for",
    "every",
    "labels",
    "annotations",
    "record",
];

fn rule(
    file: &str,
    group: &str,
    interval: Option<Duration>,
    node: Node<'_>,
    faults: &mut Faults,
) -> Option<Rule> {
    let [alert, expr, sql, finding, least, hold, keep, every, labels, annotations, record] =
        node.fields("a rule", KEYS, faults);
    if let Some(record) = record {
        faults.add(
            record,
            "recording rules are not taken: query the samples with SQL, or rollup_5m and rollup_1h",
        );
        return None;
    }
    let Some(alert) = alert else {
        faults.add(node, "a rule has no name; add `alert: …`");
        return None;
    };
    let name = alert.want_text("alert", faults);
    let condition = match (expr, sql, finding) {
        (Some(node), None, None) => threshold(node, faults)?,
        (None, Some(node), None) => Condition::Sql(node.want_text("sql", faults)),
        (None, None, Some(node)) => finding_condition(node, least, faults)?,
        _ => {
            faults.add(alert, format!("{name} needs one condition: expr, sql or finding"));
            return None;
        }
    };
    if let (Some(least), false) = (least, matches!(condition, Condition::Finding { .. })) {
        faults.add(least, "at_least belongs to a finding");
    }
    if let (Some(every), false) = (every, matches!(condition, Condition::Sql(_))) {
        faults.add(every, "every belongs to sql; an expr is evaluated as samples come");
    }
    let default = if matches!(condition, Condition::Sql(_)) { SQL_INTERVAL } else { INTERVAL };
    let interval = every.map(|it| bounded(it, "every", faults)).or(interval).unwrap_or(default);
    let (line, column) = alert.place();
    Some(Rule {
        hold: hold.map_or(Duration::ZERO, |it| it.want_duration("for", faults)),
        keep: keep.map_or(Duration::ZERO, |it| it.want_duration("keep_firing_for", faults)),
        labels: labels.map(|it| templates(it, true, faults)).unwrap_or_default(),
        annotations: annotations.map(|it| templates(it, false, faults)).unwrap_or_default(),
        place: format!("{file}:{line}:{column}"),
        group: group.to_owned(),
        id: String::new(),
        name,
        condition,
        interval,
    })
}

fn threshold(node: Node<'_>, faults: &mut Faults) -> Option<Condition> {
    let text = node.want_text("expr", faults);
    match expr::parse::parse(&text) {
        Ok(expr) if expr.is_scalar() => {
            faults.add(node, "a number is no reason for an alert: it is always there; compare series, or say vector(…)");
            None
        }
        Ok(expr) => Some(Condition::Threshold { text: text.trim().to_owned(), expr }),
        Err(fault) => {
            faults.add_within(node, fault.at, &fault.why);
            None
        }
    }
}

fn finding_condition(
    node: Node<'_>,
    least: Option<Node<'_>>,
    faults: &mut Faults,
) -> Option<Condition> {
    let nodes = node.items().unwrap_or_else(|| vec![node]);
    let mut kinds = Vec::new();
    for node in nodes {
        let kind = node.want_text("finding", faults);
        if kind == "any" {
            kinds.extend(KINDS.map(str::to_owned));
        } else if KINDS.contains(&kind.as_str()) {
            kinds.push(kind);
        } else {
            faults.add(
                node,
                format!("no finding is of the kind {kind:?}; known are any, {}", KINDS.join(", ")),
            );
        }
    }
    let least = match least {
        None => Level::Ticket,
        Some(node) => {
            let text = node.want_text("at_least", faults);
            Level::from_name(&text).unwrap_or_else(|| {
                faults.add(node, format!("at_least is {text:?}; give note, ticket or page"));
                Level::Ticket
            })
        }
    };
    (!kinds.is_empty()).then_some(Condition::Finding { kinds, least })
}

fn templates(node: Node<'_>, labels: bool, faults: &mut Faults) -> BTreeMap<String, Template> {
    let what = if labels { "labels" } else { "annotations" };
    let Some(pairs) = node.pairs() else {
        faults.add(node, format!("{what} must be a mapping of names to texts"));
        return BTreeMap::new();
    };
    let mut found = BTreeMap::new();
    for (key, value) in pairs {
        let name = key.want_text("a name", faults);
        if labels && (!is_plain_label_name(&name) || name == "alertname") {
            faults.add(
                key,
                format!(
                    "{name:?} cannot be a label here; use letters, digits and _, and not alertname"
                ),
            );
        }
        let text = value.want_text(&format!("the {} {name}", what.trim_end_matches('s')), faults);
        match Template::parse(&text) {
            Ok(template) => drop(found.insert(name, template)),
            Err((at, why)) => faults.add_within(value, at, &why),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{BUILT_IN, BUILT_IN_FILE};

    #[test]
    fn the_built_in_rules_are_fit_for_use() {
        let (rules, faults) = rules(BUILT_IN_FILE, BUILT_IN);
        assert!(faults.is_empty(), "{faults:?}");
        assert!(rules.len() > 15);
        let summary = |rule: &Rule| rule.annotations.contains_key("summary");
        assert!(rules.iter().all(summary));
    }

    fn faults(text: &str) -> Vec<String> {
        rules("r.yml", text).1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_fault_has_line_column_and_remedy() {
        let text = r#"groups:
  - name: g
    rules:
      - alert: A
        expr: up == = 0
      - alert: B
        expr: |
          up == 0
          and foo(
        for: soon
      - alert: C
        expr: up
        sql: SELECT 1
      - alert: D
        finding: [leak, lekk]
      - alert: E
        expr: up
        labels: { severity: "{{ $labels }}" }
        anotations: {}
      - record: x
        expr: up
"#;
        let found = faults(text);
        for (at, start) in [
            "r.yml:5:21: a metric",
            "r.yml:9:15: the function foo",
            "r.yml:11:16: C needs one condition",
            "r.yml:15:25: no finding is of the kind \"lekk\"",
            "r.yml:18:",
            "r.yml:19:9: a rule has no key \"anotations\"",
            "r.yml:20:17: recording rules are not taken",
        ]
        .iter()
        .enumerate()
        {
            assert!(found.iter().any(|it| it.starts_with(start)), "{at}: {start}\n{found:#?}");
        }
        assert_eq!(rules("r.yml", text).0.len(), 0);
    }

    #[test]
    fn what_is_no_rule_file_is_told() {
        assert!(faults("groups: [")[0].contains("is no YAML"));
        assert!(faults("group: []").iter().any(|it| it.contains("no key \"group\"")));
        assert!(faults("groups: 1")[0].contains("groups must be a list"));
        assert!(faults("- a")[0].contains("must be a mapping"));
        let twice = "groups:\n  - name: g\n    rules: []\n    rules: []\n";
        assert_eq!(faults(twice), ["r.yml:4:5: the key \"rules\" stands twice; remove one"]);
        assert!(faults("groups: &a [*a]")[0].contains("aliases are not taken"));
        let deep = faults(&format!("groups: {}{}", "[".repeat(500), "]".repeat(500)));
        assert!(deep[0].contains("recursion limit"), "{deep:?}");
    }
}
