//! Texts with places to fill, in the form that Prometheus users know: `{{ $labels.job }} is at {{ $value | humanize }}`.

use std::collections::BTreeMap;

/// A text, cut at its places.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Place(What, Vec<Form>),
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Label(String),
    Value,
    Summary,
    Evidence,
    Literal(String),
}

#[derive(Clone, Debug, PartialEq)]
enum Form {
    Humanize,
    Humanize1024,
    Percentage,
    Duration,
    Digits(usize),
    Upper,
    Lower,
}

/// What fills the places.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filling<'a> {
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) value: f64,
    /// What the analyzer says in one line.
    pub(crate) summary: &'a str,
    /// The rest of what it says.
    pub(crate) evidence: &'a str,
}

impl Template {
    /// Parses a text; a fault is its place in characters and what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let at = text.len() - after.len();
            let place = || text.get(..at).map_or(0, |it| it.chars().count());
            let Some((inside, behind)) = after.split_once("}}") else {
                return Err((place(), "{{ has no closing }}".to_owned()));
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let inside = inside.trim().trim_matches('-').trim();
            parts.push(part(inside).map_err(|why| (place(), why))?);
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The text with its places filled.
    pub(crate) fn fill(&self, with: Filling<'_>) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Place(what, forms) => {
                    let mut text = match what {
                        What::Label(name) => with.labels.get(name).cloned().unwrap_or_default(),
                        What::Value => plain(with.value),
                        What::Summary => with.summary.to_owned(),
                        What::Evidence => with.evidence.to_owned(),
                        What::Literal(text) => text.clone(),
                    };
                    for form in forms {
                        text = form.apply(&text);
                    }
                    out.push_str(&text);
                }
            }
        }
        out
    }
}

fn part(inside: &str) -> Result<Part, String> {
    let mut stages = inside.split('|').map(str::trim);
    let first = stages.next().unwrap_or_default();
    let mut forms = Vec::new();
    let first = match first.strip_prefix("printf ") {
        Some(rest) => {
            let (format, what) =
                rest.trim().rsplit_once(' ').ok_or("printf takes a format and a value")?;
            forms.push(form(&format!("printf {}", format.trim()))?);
            what.trim()
        }
        None => match first.split_once(' ') {
            Some((name, what)) => {
                forms.push(form(name)?);
                what.trim()
            }
            None => first,
        },
    };
    let what = match first {
        "$value" | ".Value" => What::Value,
        "$summary" => What::Summary,
        "$evidence" => What::Evidence,
        _ => match first.strip_prefix("$labels.").or_else(|| first.strip_prefix(".Labels.")) {
            Some(name) if !name.is_empty() => What::Label(name.to_owned()),
            _ => match first.strip_prefix('"').and_then(|it| it.strip_suffix('"')) {
                Some(text) => What::Literal(text.to_owned()),
                None => {
                    return Err(format!(
                        "{first:?} cannot be filled in; known are $labels.NAME, $value, $summary and $evidence"
                    ));
                }
            },
        },
    };
    for stage in stages {
        forms.push(form(stage)?);
    }
    Ok(Part::Place(what, forms))
}

fn form(text: &str) -> Result<Form, String> {
    Ok(match text {
        "humanize" => Form::Humanize,
        "humanize1024" => Form::Humanize1024,
        "humanizePercentage" => Form::Percentage,
        "humanizeDuration" => Form::Duration,
        "toUpper" => Form::Upper,
        "toLower" => Form::Lower,
        _ => {
            let digits = text.strip_prefix("printf").map(|it| it.trim().trim_matches('"'));
            let digits =
                digits.and_then(|it| it.strip_prefix("%.")?.strip_suffix('f')?.parse().ok());
            match digits.filter(|digits| *digits <= 17) {
                Some(digits) => Form::Digits(digits),
                None => {
                    return Err(format!(
                        "the function {text:?} is not known; known are humanize, humanize1024, humanizePercentage, \
                         humanizeDuration, printf \"%.2f\", toUpper, toLower"
                    ));
                }
            }
        }
    })
}

impl Form {
    fn apply(&self, text: &str) -> String {
        match self {
            Self::Upper => return text.to_uppercase(),
            Self::Lower => return text.to_lowercase(),
            _ => {}
        }
        let Ok(value) = text.parse::<f64>() else { return text.to_owned() };
        match self {
            Self::Humanize => scaled(value, 1_000.0, &["", "k", "M", "G", "T", "P", "E"]),
            Self::Humanize1024 => scaled(value, 1_024.0, &["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]),
            Self::Percentage => format!("{}%", significant(value * 100.0)),
            Self::Duration => duration(value),
            Self::Digits(digits) => format!("{value:.digits$}"),
            Self::Upper | Self::Lower => String::new(),
        }
    }
}

fn plain(value: f64) -> String {
    if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

/// Four significant digits.
pub(crate) fn significant(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return plain(value);
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn scaled(value: f64, base: f64, prefixes: &[&str]) -> String {
    if value == 0.0 || !value.is_finite() {
        return plain(value);
    }
    let mut value = value;
    let mut at = 0;
    while value.abs() >= base && at + 1 < prefixes.len() {
        value /= base;
        at += 1;
    }
    format!("{}{}", significant(value), prefixes.get(at).copied().unwrap_or_default())
}

/// Seconds in words such as `1h 2m 3s`.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return plain(seconds);
    }
    if seconds.abs() < 60.0 {
        return format!("{}s", significant(seconds));
    }
    let whole = seconds.abs() as u64;
    let parts = [
        (whole / 86_400, "d"),
        (whole / 3_600 % 24, "h"),
        (whole / 60 % 60, "m"),
        (whole % 60, "s"),
    ];
    let from = parts.iter().position(|(n, _)| *n > 0).unwrap_or(3);
    let shown: Vec<String> =
        parts.iter().skip(from).take(3).map(|(n, unit)| format!("{n}{unit}")).collect();
    format!("{}{}", if seconds < 0.0 { "-" } else { "" }, shown.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str, value: f64) -> String {
        let labels = BTreeMap::from([("job".to_owned(), "api".to_owned())]);
        Template::parse(text).unwrap().fill(Filling {
            labels: &labels,
            value,
            summary: "grows",
            evidence: "",
        })
    }

    #[test]
    fn places_are_filled_as_prometheus_fills_them() {
        assert_eq!(
            fill("{{ $labels.job }} at {{ $value | humanize }}", 1_234_567.0),
            "api at 1.235M"
        );
        assert_eq!(fill("{{.Labels.job|toUpper}}: {{ $summary }}", 0.0), "API: grows");
        assert_eq!(fill("{{ $value | humanize1024 }}B", 536_870_912.0), "512MiB");
        assert_eq!(fill("{{ humanizePercentage $value }}", 0.8125), "81.25%");
        assert_eq!(
            fill("{{ printf \"%.1f\" $value }} {{ $value | humanizeDuration }}", 3_723.0),
            "3723.0 1h 2m 3s"
        );
        assert_eq!(fill("{{ $labels.none }}|{{ \"{{\" }}", 1.0), "|{{");
    }

    #[test]
    fn what_cannot_be_filled_is_told_with_its_place() {
        assert_eq!(
            Template::parse("abc {{ $value").unwrap_err(),
            (6, "{{ has no closing }}".to_owned())
        );
        let (at, why) = Template::parse("ä {{ query \"up\" }}").unwrap_err();
        assert!(at == 4 && why.contains("the function \"query\" is not known"), "{at} {why}");
        assert!(Template::parse("{{ $foo }}").unwrap_err().1.contains("known are $labels.NAME"));
    }
}
