//! Who may do what: tokens with roles, and no change by the page of another site.

use super::{Api, error};
use crate::config::{ApiConfig, Role};
use crate::exit::{self, Failure};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::path::Path;
use std::sync::Arc;

/// The tokens; none means that everybody who can connect may do all.
#[derive(Clone, Default)]
pub(crate) struct Access(Arc<[(String, Arc<str>, Role)]>);

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _, role)| (name, role))).finish()
    }
}

/// Who asks, for the audit.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) name: String,
}

impl Access {
    /// Reads the tokens of a configuration.
    pub(crate) fn read(config: &ApiConfig) -> Result<Self, Failure> {
        let mut all = Vec::new();
        if let Some(file) = &config.token_file {
            all.push(("token".to_owned(), token("api.token_file", file)?, Role::Operate));
        }
        for it in &config.token {
            let place = format!("api.token {:?}", it.name);
            all.push((it.name.clone(), token(&place, &it.file)?, it.role));
        }
        Ok(Self(all.into()))
    }

    /// A token that may read, for ourselves.
    pub(crate) fn file_to_read(config: &ApiConfig) -> Option<std::path::PathBuf> {
        config.token_file.clone().or_else(|| config.token.first().map(|it| it.file.clone()))
    }

    /// Who sends this, if it is one of them.
    fn of(&self, headers: &HeaderMap) -> Option<(String, Role)> {
        if self.0.is_empty() {
            return Some(("local".to_owned(), Role::Operate));
        }
        let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let sent = sent.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let (name, _, role) =
            self.0.iter().find(|(_, token, _)| same(sent.as_bytes(), token.as_bytes()))?;
        Some((name.clone(), *role))
    }
}

fn token(place: &str, file: &Path) -> Result<Arc<str>, Failure> {
    let fault =
        |why: String| Failure::text(exit::CONFIG, format!("{place} {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| fault(error.to_string()))?;
    let token = text.trim();
    if token.len() < 16 {
        return Err(fault("needs a token of 16 characters or more".to_owned()));
    }
    Ok(Arc::from(token))
}

pub(crate) async fn authenticate(
    State(api): State<Api>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some((name, role)) = api.access.of(request.headers()) else {
        let text = "send a token of api.token_file or api.token as Authorization: Bearer …";
        return error::problem(StatusCode::UNAUTHORIZED, text).into_response();
    };
    let asks = request.method() == Method::GET || request.uri().path() == "/api/v1/sql";
    if !asks && role < Role::Operate {
        let text =
            format!("the token of {name} may only read; this needs one with the role operate");
        return error::problem(StatusCode::FORBIDDEN, &text).into_response();
    }
    if api.access.0.is_empty() && !is_by_address(request.headers()) {
        // A page of another site can give its own name our address (DNS rebinding).
        let text = "without a token only localhost or an address may stand in Host; set api.token_file to use a name";
        return error::problem(StatusCode::FORBIDDEN, text).into_response();
    }
    if !asks && is_of_another_site(request.headers()) {
        let text = "a page of another site may change nothing here";
        return error::problem(StatusCode::FORBIDDEN, text).into_response();
    }
    request.extensions_mut().insert(Caller { name });
    next.run(request).await
}

/// Whether we are called by `localhost` or an address, as nobody but us can be.
fn is_by_address(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true }; // no browser
    let host = host.to_str().unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok()
}

/// Browsers say from which site a page comes that changes something.
fn is_of_another_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = text(header::ORIGIN) else { return false };
    let host = text(header::HOST).unwrap_or_default();
    origin.split_once("://").is_none_or(|(_, from)| from != host)
}

/// Compares in a time that does not depend on where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}
