//! Questions to a child, one after the other, and the verdict that it hangs.

use crate::config::{ChildConfig, WatchdogConfig};
use platform::http::{HttpClient, Method};
use runtime::Clock;
use std::time::Duration;
use tokio::time::Instant;

/// Until its first good answer a child is asked this often.
const FIRST: Duration = Duration::from_millis(100);

/// What a probe shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sign {
    /// The first good answer, so long after the start.
    Well(Duration),
    /// No good answer.
    Missed,
    /// A good answer after a missed one.
    Recovered,
    /// It has been well for long enough.
    Cured,
}

/// Asks until too many questions in a row were missed, and returns what the last one said. A child without a probe is well from its start.
pub(crate) async fn watch(
    child: &ChildConfig,
    config: &WatchdogConfig,
    client: &HttpClient,
    clock: Clock,
    mut tell: impl FnMut(Sign),
) -> String {
    let start = clock.monotonic();
    let Some(url) = &child.probe else {
        tell(Sign::Well(Duration::ZERO));
        tokio::time::sleep(config.cured_after).await;
        tell(Sign::Cured);
        return std::future::pending().await;
    };
    let (mut well_since, mut missed, mut cured) = (None::<Instant>, 0, false);
    loop {
        match probe(client, url, config.timeout, clock).await {
            Ok(()) => {
                if std::mem::take(&mut missed) > 0 && well_since.is_some() {
                    tell(Sign::Recovered);
                }
                let since = *well_since.get_or_insert_with(|| {
                    tell(Sign::Well(start.elapsed()));
                    clock.monotonic()
                });
                if !cured && since.elapsed() >= config.cured_after {
                    cured = true;
                    tell(Sign::Cured);
                }
            }
            // Until its first good answer a child may take its time.
            Err(_) if well_since.is_none() && start.elapsed() < config.start_grace => {}
            Err(reason) => {
                missed += 1;
                tell(Sign::Missed);
                if missed >= config.misses {
                    return reason;
                }
            }
        }
        let pause = if well_since.is_some() { config.interval } else { config.interval.min(FIRST) };
        tokio::time::sleep(pause).await;
    }
}

/// Asks `url` and returns why the answer is not good, if it is not.
async fn probe(
    client: &HttpClient,
    url: &str,
    timeout: Duration,
    clock: Clock,
) -> Result<(), String> {
    let deadline = clock.monotonic() + timeout;
    let answer = client.send(Method::GET, url, &[], "", deadline).await;
    match answer.map_err(|error| error.to_string())?.status {
        200..300 => Ok(()),
        status => Err(format!("answered with status {status}")),
    }
}
