//! Texts of runbooks: labels and the value before a step are filled into expressions and URLs.

use crate::book::Alert;
use crate::expr::Expr;
use crate::expr::parse::parse;
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
    value.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Within a URL: only what is harmless in a host, a port or a path stays (RFC 3986).
pub(crate) fn in_url(value: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
            (byte as char).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    value.bytes().map(one).collect()
}

/// An expression of a runbook for one alert.
pub(crate) fn expression(text: &str, alert: &Alert, before: f64) -> Result<Expr, String> {
    let filled = fill(text, &alert.labels, before, quoted)?;
    parse(&filled).map_err(|fault| format!("character {}: {}", fault.at + 1, fault.why))
}

/// Whether a text is an expression once it is filled in.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let filled = fill(text, &BTreeMap::new(), 1.0, quoted)?;
    parse(&filled).map(drop).map_err(|fault| format!("character {}: {}", fault.at + 1, fault.why))
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
    }
}
