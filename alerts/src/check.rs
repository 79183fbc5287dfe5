//! Rule files before they are used: everything that is wrong, with line, column and remedy.

use crate::AlertsError;
use crate::config::AlertsConfig;
use crate::rule::yaml::{Fault, read};
use crate::rule::{BUILT_IN, BUILT_IN_FILE, Condition, Rule, parse};
use model::text::nearest;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Rules of all kinds.
const MOST: usize = 5_000;

/// What rule files hold.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Rules that are fit for use.
    pub rules: usize,
    /// The queries among their conditions, each with its place and nothing wrong with it so far.
    pub queries: Vec<(Fault, String)>,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// What is wrong with rule files; with `known`, also metrics that are not among them.
pub fn check(files: &[PathBuf], known: Option<&BTreeSet<String>>) -> Checked {
    let (mut faults, mut queries) = (Vec::new(), Vec::new());
    let mut count = 0;
    for file in files {
        let text = match read(file) {
            Ok(text) => text,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        let (rules, own) = parse::rules(&file.display().to_string(), &text);
        count += rules.len();
        faults.extend(own);
        queries.extend(rules.iter().filter_map(query));
        let Some(known) = known else { continue };
        for rule in &rules {
            faults.extend(unknown(rule, known, &text, &file.display().to_string()));
        }
    }
    faults.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    Checked { rules: count, queries, faults }
}

/// The query of a rule on SQL, with the rule's place.
fn query(rule: &Rule) -> Option<(Fault, String)> {
    let Condition::Sql(sql) = &rule.condition else { return None };
    let mut parts = rule.place.rsplitn(3, ':');
    let mut number = || parts.next().and_then(|it| it.parse().ok()).unwrap_or(1);
    let (column, line) = (number(), number());
    let file = parts.next().unwrap_or_default().to_owned();
    Some((Fault { file, line, column, why: String::new() }, sql.clone()))
}

/// Whether the rule files of a configuration are fit for use.
///
/// # Errors
/// All faults of all files.
pub fn check_config(config: &AlertsConfig) -> Result<(), AlertsError> {
    load(config).map(drop)
}

fn unknown(rule: &Rule, known: &BTreeSet<String>, text: &str, file: &str) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    let start: usize = rule.place.rsplit(':').nth(1).and_then(|it| it.parse().ok()).unwrap_or(1);
    for (metric, _) in rule.metrics() {
        if known.contains(&metric)
            || faults.iter().any(|it| it.why.contains(&format!(" {metric}:")))
        {
            continue;
        }
        // Where its name stands after the rule's own line.
        let lines = text.lines().enumerate().skip(start - 1);
        let place = lines.filter_map(|(at, line)| Some((at + 1, line.find(&metric)? + 1))).next();
        let (line, column) = place.unwrap_or((start, 1));
        let near = nearest(&metric, known.iter().map(String::as_str));
        let hint = near.map(|name| format!("did you mean {name}? else ")).unwrap_or_default();
        faults.push(Fault {
            file: file.to_owned(),
            line,
            column,
            why: format!(
                "no target has ever exposed {metric}: {hint}the rule {} can never fire; --allow-unknown-metrics takes it all the same",
                rule.name
            ),
        });
    }
    faults
}

/// The rules of a configuration: built-in ones, unless a file has one of the same name, and those of files.
///
/// # Errors
/// All faults of all files.
pub(crate) fn load(config: &AlertsConfig) -> Result<Vec<Rule>, AlertsError> {
    let mut faults = Vec::new();
    let mut rules = Vec::new();
    for pattern in &config.rules {
        let fault = |why: String| Fault { file: pattern.clone(), line: 1, column: 1, why };
        let paths: Vec<PathBuf> = match glob::glob(pattern) {
            Ok(paths) => paths.flatten().collect(),
            Err(error) => {
                faults.push(fault(format!("is no pattern of files: {error}")));
                continue;
            }
        };
        if paths.is_empty() {
            faults
                .push(fault("no file is there; remove it from alerts.rules or add it".to_owned()));
        }
        for path in paths {
            match read(&path) {
                Ok(text) => {
                    let (own, wrong) = parse::rules(&path.display().to_string(), &text);
                    rules.extend(own);
                    faults.extend(wrong);
                }
                Err(wrong) => faults.push(wrong),
            }
        }
    }
    if config.built_in {
        let (own, wrong) = parse::rules(BUILT_IN_FILE, BUILT_IN);
        let names: BTreeSet<String> = rules.iter().map(|it: &Rule| it.name.clone()).collect();
        rules.extend(own.into_iter().filter(|it| !names.contains(&it.name)));
        faults.extend(wrong);
    }
    if rules.len() > MOST {
        let why = format!("{} rules are more than {MOST}", rules.len());
        faults.push(Fault { file: "alerts.rules".to_owned(), line: 1, column: 1, why });
    }
    parse::number(&mut rules);
    if faults.is_empty() { Ok(rules) } else { Err(AlertsError::Rules(faults)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_one_group_and_name_in_two_files_are_two_rules() {
        let dir = tempfile::tempdir().unwrap();
        let rule = "groups:\n  - name: api\n    rules:\n      - alert: HighErrors\n        expr: errors > ";
        for (name, limit) in [("a.yml", "1"), ("b.yml", "2")] {
            platform::durable::replace(
                &dir.path().join(name),
                format!("{rule}{limit}\n").as_bytes(),
            )
            .unwrap();
        }
        let pattern = dir.path().join("*.yml").display().to_string();
        let config =
            AlertsConfig { rules: vec![pattern], built_in: false, ..AlertsConfig::default() };
        let ids: Vec<String> = load(&config).unwrap().into_iter().map(|it| it.id).collect();
        assert_eq!(ids, ["api/HighErrors/0", "api/HighErrors/1"]);
    }
}
