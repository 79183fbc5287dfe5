//! Texts of runbooks: labels and the value before a step are filled into expressions and URLs.

use crate::book::Alert;
use crate::expr::Expr;
use crate::expr::parse::parse;
use platform::http::percent;
use std::collections::BTreeMap;

/// Fills `{{ $labels.NAME }}` and `{{ $before }}` in. Values of labels are escaped by `escape`.
pub(crate) fn fill(
    text: &str,
    labels: &BTreeMap<String, String>,
    before: f64,
    escape: fn(&str) -> String,
) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once("{{") {
        let (inside, behind) = after.split_once("}}").ok_or("{{ has no closing }}")?;
        out.push_str(plain);
        match inside.trim() {
            "$before" => out.push_str(&before.to_string()),
            name => {
                let name = name.strip_prefix("$labels.").ok_or_else(|| {
                    format!("{name:?} cannot be filled in; known are $labels.NAME and $before")
                })?;
                out.push_str(&escape(labels.get(name).map_or("", String::as_str)));
            }
        }
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

/// Within quotes of an expression.
fn quoted(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\'', "\\'").replace('\n', "\\n")
}

/// Within a URL: only what is harmless in a host, a port or a path stays (RFC 3986).
pub(crate) fn in_url(value: &str) -> String {
    value.split(':').map(percent).collect::<Vec<_>>().join(":")
}

/// An expression of a runbook for one alert.
pub(crate) fn expression(text: &str, alert: &Alert, before: f64) -> Result<Expr, String> {
    let filled = fill(text, &alert.labels, before, quoted)?;
    parse(&filled).map_err(|fault| format!("character {}: {}", fault.at + 1, fault.why))
}

/// Whether a text is an expression once it is filled in, that labels cannot change, and that rests on samples.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let filled = fill(text, &BTreeMap::new(), 1.0, quoted)?;
    let expr =
        parse(&filled).map_err(|fault| format!("character {}: {}", fault.at + 1, fault.why))?;
    if !expr.rests_on_samples() {
        return Err("it rests on no sample, so nobody can tell how old it is; ask for a value instead of absent or gone".to_owned());
    }
    // What is filled in is escaped for double quotes: elsewhere a target could write the expression.
    let labelled = text.char_indices().any(|(at, _)| text.get(at..).is_some_and(is_label));
    if labelled && let Some(at) = text.find(['\'', '`', '#']) {
        let sign = text.get(at..=at).unwrap_or_default();
        return Err(format!("character {}: {sign} beside labels; quote with \" alone", at + 1));
    }
    let (mut within, mut escaped) = (false, false);
    for (at, sign) in text.char_indices() {
        if !within && text.get(at..).is_some_and(is_label) {
            return Err(format!(
                "character {}: a label must stand within double quotes, such as job=\"{{{{ $labels.job }}}}\"",
                at + 1
            ));
        }
        within ^= sign == '"' && !escaped;
        escaped = sign == '\\' && !escaped;
    }
    Ok(())
}

fn is_label(text: &str) -> bool {
    text.strip_prefix("{{").is_some_and(|rest| rest.trim_start().starts_with("$labels"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_can_neither_leave_their_quotes_nor_their_place_in_a_url() {
        let labels = BTreeMap::from([("job".to_owned(), "a\"} or vector(1) #".to_owned())]);
        let filled =
            fill("up{job=\"{{ $labels.job }}\"} == {{ $before }}", &labels, 2.5, quoted).unwrap();
        assert_eq!(filled, "up{job=\"a\\\"} or vector(1) #\"} == 2.5");
        assert_eq!(parse(&filled).unwrap().selectors().len(), 1);
        let url = fill("http://{{ $labels.job }}/x", &labels, 0.0, in_url).unwrap();
        assert_eq!(url, "http://a%22%7D%20or%20vector%281%29%20%23/x");
        assert!(check("up{").is_err() && check("up < 0.9 * {{ $before }}").is_ok());
        assert!(check("up{job=\"{{ $labels.job }}\"} == 0").is_ok());
        for open in
            ["up{job='{{ $labels.job }}'}", "up{job=`{{ $labels.job }}`}", "{{ $labels.job }} == 0"]
        {
            assert!(check(open).is_err(), "{open}");
        }
        for bare in ["absent(up)", "gone(up[1m])", "1 + 1"] {
            assert!(check(bare).unwrap_err().contains("rests on no sample"), "{bare}");
        }
    }
}
