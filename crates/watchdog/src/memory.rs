//! The memory of a child against its limit: calls that may ease it, each judged by what it changed, and when none does, its end.

use crate::config::ChildConfig;
use crate::evidence::Event;
use crate::restart::Shared;
use platform::http::Method;
use platform::process::{self, Process};
use std::time::Duration;
use tokio::time::Instant;

/// Looks over the limit in a row before anything is done.
const LOOKS: u32 = 2;
/// A call that helped, and was needed again so soon, has not helped.
const AGAIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_secs(5);

/// Watches the memory of process `pid`, tells `note` of what it did and `seen` of each reading; returns resident bytes and limit when
/// nothing has helped.
pub(crate) async fn watch(
    shared: &Shared,
    child: &ChildConfig,
    pid: u32,
    note: impl Fn(Event),
    seen: impl Fn(&Process),
) -> (u64, u64) {
    let (interval, clock) = (shared.config.interval, shared.clock);
    let limit = child.memory_limit.map_or(u64::MAX, model::Bytes::get);
    let mut over = 0;
    // When each call was last tried.
    let mut tried: Vec<Option<Instant>> = vec![None; child.ease.len()];
    loop {
        tokio::time::sleep(interval).await;
        let Ok(reading) = process::read(pid) else { continue };
        seen(&reading);
        let resident = reading.resident;
        over = if resident > limit { over + 1 } else { 0 };
        if over < LOOKS {
            continue;
        }
        let now = clock.monotonic();
        let fresh = |it: &Option<Instant>| it.is_none_or(|at| now.duration_since(at) > AGAIN);
        let Some(at) = tried.iter().position(fresh) else { return (resident, limit) };
        let Some(step) = child.ease.get(at) else { return (resident, limit) };
        if let Some(tried) = tried.get_mut(at) {
            *tried = Some(now);
        }
        let deadline = clock.monotonic() + step.within;
        let called = call(shared, child, &step.call, &step.body).await;
        let mut after = self::resident(pid).unwrap_or(resident);
        while called.is_ok() && after > limit && clock.monotonic() < deadline {
            tokio::time::sleep(PAUSE).await;
            after = self::resident(pid).unwrap_or(after);
        }
        let step = step.name.clone();
        if after <= limit {
            over = 0;
            note(Event::Eased { step, before: resident, after });
            continue;
        }
        let detail = match called {
            Ok(()) => format!("{resident} bytes before, {after} after, {limit} allowed"),
            Err(error) => error,
        };
        note(Event::EaseUseless { step, detail });
    }
}

fn resident(pid: u32) -> Option<u64> {
    process::read(pid).ok().map(|it| it.resident)
}

/// Posts to a URL, with the child's token; why it did not go well, if it did not.
pub(crate) async fn call(
    shared: &Shared,
    child: &ChildConfig,
    url: &str,
    body: &str,
) -> Result<(), String> {
    let token = child.token_file.as_ref().map(std::fs::read_to_string).transpose();
    let token = token.map_err(|error| format!("token_file: {error}"))?;
    let authorization = token.map(|token| format!("Bearer {}", token.trim()));
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(authorization.as_deref().map(|it| ("authorization", it)));
    let deadline = shared.clock.monotonic() + TIMEOUT;
    let answer = shared.client.send(Method::POST, url, &headers, body.to_owned(), deadline).await;
    match answer.map_err(|error| format!("{url}: {error}"))?.status {
        200..300 => Ok(()),
        status => Err(format!("{url} answered with status {status}")),
    }
}
