//! Rules that change, keep or drop label sets, in the form and with the meaning of Prometheus'
//! `relabel_configs`.

use md5::{Digest, Md5};
use model::Labels;
use regex::Regex;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// Labels while rules work on them, the metric's name as `__name__`.
pub(crate) type Pairs = BTreeMap<String, String>;

/// One rule.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct RelabelConfig {
    /// The labels whose values are joined to what the rule looks at.
    pub source_labels: Vec<String>,
    /// Between the values. Default `;`.
    pub separator: String,
    /// What all of the joined values must match. Default `(.*)`.
    pub regex: Anchored,
    /// For `hashmod`.
    pub modulus: u64,
    /// The label that is set or compared.
    pub target_label: String,
    /// What it is set to; `$1` is the first group of `regex`. Default `$1`.
    pub replacement: String,
    /// What the rule does. Default `replace`.
    pub action: Action,
}

impl Default for RelabelConfig {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: ";".to_owned(),
            regex: Anchored::default(),
            modulus: 0,
            target_label: String::new(),
            replacement: "$1".to_owned(),
            action: Action::Replace,
        }
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Sets a label where the sources match.
    Replace,
    /// Sets a label to the sources in lower case.
    Lowercase,
    /// Sets a label to the sources in upper case.
    Uppercase,
    /// Drops all whose sources do not match.
    Keep,
    /// Drops all whose sources match.
    Drop,
    /// Drops all whose sources are not equal to a label.
    KeepEqual,
    /// Drops all whose sources are equal to a label.
    DropEqual,
    /// Sets a label to a hash of the sources, modulo `modulus`.
    HashMod,
    /// Copies labels whose names match to names made by the replacement.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
}

/// A regular expression that must match all of a text.
#[derive(Clone, Debug)]
pub struct Anchored {
    text: String,
    regex: Regex,
}

impl Anchored {
    fn new(text: &str) -> Result<Self, regex::Error> {
        Ok(Self { text: text.to_owned(), regex: Regex::new(&format!("^(?s:{text})$"))? })
    }
}

impl PartialEq for Anchored {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

#[expect(clippy::expect_used, reason = "a constant, in a test too")]
impl Default for Anchored {
    fn default() -> Self {
        Self::new("(.*)").expect("a valid expression")
    }
}

impl<'de> Deserialize<'de> for Anchored {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(input)?).map_err(serde::de::Error::custom)
    }
}

impl RelabelConfig {
    /// Everything that is wrong, each with the remedy.
    pub(crate) fn faults(&self, place: &str, faults: &mut Vec<String>) {
        let action = self.action;
        let sets = matches!(
            action,
            Action::Replace | Action::Lowercase | Action::Uppercase | Action::HashMod
        );
        let compares = matches!(action, Action::KeepEqual | Action::DropEqual);
        if (sets || compares) && self.target_label.is_empty() {
            faults.push(format!("{place}: {action:?} needs a target_label"));
        }
        if action == Action::HashMod && self.modulus == 0 {
            faults.push(format!("{place}: HashMod needs a modulus over 0"));
        }
        let names = matches!(action, Action::LabelMap | Action::LabelDrop | Action::LabelKeep);
        if names && !self.source_labels.is_empty() {
            faults
                .push(format!("{place}: {action:?} looks at all labels; leave out source_labels"));
        }
    }

    /// Works on `labels`. Whether they stay.
    fn apply(&self, labels: &mut Pairs) -> bool {
        let joined = || {
            let value = |name: &String| labels.get(name).map_or("", String::as_str);
            self.source_labels.iter().map(value).collect::<Vec<_>>().join(&self.separator)
        };
        let target = || labels.get(&self.target_label).map_or("", String::as_str);
        let regex = &self.regex.regex;
        match self.action {
            Action::Keep => return regex.is_match(&joined()),
            Action::Drop => return !regex.is_match(&joined()),
            Action::KeepEqual => return joined() == target(),
            Action::DropEqual => return joined() != target(),
            Action::Lowercase => set(labels, &self.target_label, joined().to_lowercase()),
            Action::Uppercase => set(labels, &self.target_label, joined().to_uppercase()),
            Action::HashMod => {
                let hash = hash(&joined()) % self.modulus.max(1);
                set(labels, &self.target_label, hash.to_string());
            }
            Action::Replace => {
                let text = joined();
                let Some(found) = regex.captures(&text) else { return true };
                let (mut name, mut value) = (String::new(), String::new());
                found.expand(&self.target_label, &mut name);
                found.expand(&self.replacement, &mut value);
                if !name.is_empty() {
                    set(labels, &name, value);
                }
            }
            Action::LabelMap => {
                let mapped = labels.iter().filter_map(|(name, value)| {
                    let mut new = String::new();
                    regex.captures(name)?.expand(&self.replacement, &mut new);
                    Some((new, value.clone()))
                });
                for (name, value) in mapped.collect::<Vec<_>>() {
                    set(labels, &name, value);
                }
            }
            Action::LabelDrop => labels.retain(|name, _| !regex.is_match(name)),
            Action::LabelKeep => labels.retain(|name, _| regex.is_match(name)),
        }
        true
    }
}

fn set(labels: &mut Pairs, name: &str, value: String) {
    if value.is_empty() {
        labels.remove(name); // an empty label is none
    } else {
        labels.insert(name.to_owned(), value);
    }
}

/// The last eight bytes of the text's MD5, as Prometheus takes them, so that both shard alike.
fn hash(text: &str) -> u64 {
    let digest = Md5::digest(text.as_bytes());
    digest.iter().skip(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// Works on `labels`, rule after rule. Whether they stay.
pub(crate) fn relabel(rules: &[RelabelConfig], labels: &mut Pairs) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

/// Works on a series of a page. `None` where it is dropped.
pub(crate) fn relabel_series(
    rules: &[RelabelConfig],
    metric: &str,
    labels: &Labels,
) -> Option<(String, Labels)> {
    let mut pairs: Pairs =
        labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    pairs.insert("__name__".to_owned(), metric.to_owned());
    if !relabel(rules, &mut pairs) {
        return None;
    }
    let metric = pairs.remove("__name__")?;
    Some((metric, Labels::from_pairs(pairs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The labels after the rules, as text; `-` where they were dropped.
    fn after(rules: &str, labels: &[(&str, &str)]) -> String {
        #[derive(Deserialize)]
        struct Rules {
            rules: Vec<RelabelConfig>,
        }
        let Rules { rules } = toml::from_str(rules).unwrap();
        let mut pairs =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        if !relabel(&rules, &mut pairs) {
            return "-".to_owned();
        }
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn rules_do_what_prometheus_does() {
        let abc = [("a", "foo"), ("b", "bar"), ("c", "baz")];
        // Cases of Prometheus' own table of relabelling, their results by its documentation.
        for (rules, expected) in [
            (
                r#"source_labels = ["a"], regex = "f(.*)", target_label = "d", replacement = "ch${1}-ch${1}""#,
                "a=foo b=bar c=baz d=choo-choo",
            ),
            (
                r#"source_labels = ["a", "b"], regex = "f(.*);(.*)r", target_label = "a", replacement = "b${1}${2}m""#,
                "a=boobam b=bar c=baz",
            ),
            (r#"source_labels = ["a"], regex = ".*o.*", action = "drop""#, "-"),
            (r#"source_labels = ["a"], regex = "o", action = "drop""#, "a=foo b=bar c=baz"),
            (r#"source_labels = ["a"], regex = "no-match", action = "keep""#, "-"),
            (r#"source_labels = ["a"], regex = "f.*", action = "keep""#, "a=foo b=bar c=baz"),
            (r#"regex = "(b.*)", target_label = "d", action = "replace""#, "a=foo b=bar c=baz"),
            (
                r#"source_labels = ["a"], regex = "f", target_label = "b", replacement = "x""#,
                "a=foo b=bar c=baz",
            ),
            (r#"source_labels = ["a"], target_label = "b", replacement = """#, "a=foo c=baz"),
            (
                r#"source_labels = ["c"], target_label = "d", action = "hashmod", modulus = 1000"#,
                "a=foo b=bar c=baz d=976",
            ),
            (
                r#"regex = "(b|c)", action = "labelmap", replacement = "x_$1""#,
                "a=foo b=bar c=baz x_b=bar x_c=baz",
            ),
            (r#"regex = "b|c", action = "labeldrop""#, "a=foo"),
            (r#"regex = "b|c", action = "labelkeep""#, "b=bar c=baz"),
            (
                r#"source_labels = ["a"], target_label = "a", action = "uppercase""#,
                "a=FOO b=bar c=baz",
            ),
            (r#"source_labels = ["a"], target_label = "b", action = "keepequal""#, "-"),
            (
                r#"source_labels = ["a"], target_label = "b", action = "dropequal""#,
                "a=foo b=bar c=baz",
            ),
            (
                r#"source_labels = ["a"], regex = "(f).*", target_label = "${1}oo", replacement = "y""#,
                "a=foo b=bar c=baz foo=y",
            ),
        ] {
            assert_eq!(after(&format!("rules = [{{ {rules} }}]"), &abc), expected, "{rules}");
        }
    }

    #[test]
    fn an_unfit_rule_says_what_it_needs() {
        let bad = RelabelConfig { action: Action::HashMod, ..RelabelConfig::default() };
        let mut faults = Vec::new();
        bad.faults("here", &mut faults);
        assert_eq!(
            faults,
            ["here: HashMod needs a target_label", "here: HashMod needs a modulus over 0"]
        );
        let error = toml::from_str::<RelabelConfig>("regex = \"(\"").unwrap_err().to_string();
        assert!(error.contains("unclosed group"), "{error}");
    }

    #[test]
    fn a_series_is_renamed_or_dropped() {
        let rule = |source: &str, regex: &str, target: &str, action| RelabelConfig {
            source_labels: vec![source.to_owned()],
            regex: Anchored::new(regex).unwrap(),
            target_label: target.to_owned(),
            action,
            ..RelabelConfig::default()
        };
        let labels = Labels::from_pairs([("le", "1")]);
        let rename = [rule("__name__", "go_(.*)", "__name__", Action::Replace)];
        let (metric, kept) = relabel_series(&rename, "go_threads", &labels).unwrap();
        assert_eq!((metric.as_str(), &kept), ("threads", &labels));
        let drop = [rule("__name__", "go_.*", "", Action::Drop)];
        assert_eq!(relabel_series(&drop, "go_threads", &labels), None);
    }
}
