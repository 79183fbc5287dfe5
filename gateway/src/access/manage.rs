//! Who may manage and administer: the holder of the token; where none is set, whoever is on this machine, but no page in a browser.

use crate::refusal::Refusal;
use http::{HeaderMap, StatusCode, header};
use std::net::IpAddr;
use std::path::Path;

/// The token in a file, without line ends.
pub(crate) fn token_in(file: Option<&Path>) -> Result<Option<String>, String> {
    let Some(file) = file else { return Ok(None) };
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("could not read {}: {error}", file.display()))?;
    match text.trim() {
        short if short.len() < 16 => {
            Err(format!("{}: a token must have 16 characters or more", file.display()))
        }
        token => Ok(Some(token.to_owned())),
    }
}

/// Whether the caller may; `setting` is what the remedy names.
pub(crate) fn may(
    headers: &HeaderMap,
    given: Option<&str>,
    token: Option<&str>,
    peer: IpAddr,
    setting: &str,
) -> Result<(), Refusal> {
    let refuse = |reason: String| Refusal::new(StatusCode::FORBIDDEN, "Not allowed", reason);
    if let Some(token) = token {
        return match given {
            Some(given) if same(given, token) => Ok(()),
            Some(_) => Err(refuse("the token is not the right one".to_owned())),
            None => Err(refuse(format!("send the token of {setting} as Authorization: Bearer"))),
        };
    }
    if !peer.is_loopback() {
        return Err(refuse(format!("only from this machine, as {setting} is not set")));
    }
    // Through a proxy on this machine anybody would be here.
    let through = ["forwarded", "x-forwarded-for", "via"];
    if let Some(name) = through.iter().find(|name| headers.contains_key(**name)) {
        return Err(refuse(format!("it came through a proxy ({name}); set {setting}")));
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or("localhost");
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let local = name == "localhost" || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let from_page = text(header::ORIGIN)
        .is_some_and(|origin| origin.split_once("://").is_none_or(|(_, from)| from != host));
    if !local || from_page {
        return Err(refuse(format!(
            "not for a page of another site; set {setting} to call from there"
        )));
    }
    Ok(())
}

/// Whether two secrets are the same; how long it takes says nothing of how much they have in common.
fn same(one: &str, other: &str) -> bool {
    let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest(one).as_ref() == digest(other).as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn without_a_token_only_this_machine_may_and_no_page_in_its_browser() {
        let asked = |pairs: &[(&'static str, &'static str)], peer: &str, token, given| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            may(&headers, given, token, peer.parse().unwrap(), "x").is_ok()
        };
        let here = "127.0.0.1";
        assert!(asked(&[("host", "localhost:9491")], here, None, None));
        assert!(asked(&[("host", "127.0.0.1:9491")], "::1", None, None));
        assert!(!asked(&[("host", "evil.example:9491")], here, None, None));
        assert!(!asked(&[("host", "localhost"), ("origin", "http://evil")], here, None, None));
        assert!(asked(&[("host", "localhost"), ("origin", "http://localhost")], here, None, None));
        assert!(!asked(&[], "10.0.0.1", None, None));
        assert!(!asked(&[("host", "127.0.0.1:9480"), ("via", "1.1 proxy")], here, None, None));
        let token = Some("0123456789abcdef");
        assert!(asked(&[], "10.0.0.1", token, token));
        assert!(!asked(&[], here, token, None) && !asked(&[], here, token, Some("x")));
    }
}
