//! One question to a process, one verdict.

use platform::http::{HttpClient, Method};
use std::time::Duration;
use tokio::time::Instant;

/// Asks `url` and returns why the answer is not good, if it is not.
pub(crate) async fn probe(client: &HttpClient, url: &str, timeout: Duration) -> Result<(), String> {
    let deadline = Instant::now() + timeout;
    let answer = client.send(Method::GET, url, &[], "", deadline).await;
    match answer.map_err(|error| error.to_string())?.status {
        200..300 => Ok(()),
        status => Err(format!("answered with status {status}")),
    }
}
