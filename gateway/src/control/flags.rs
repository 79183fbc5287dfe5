//! The environment file by way of the gateway: published, read again, and then watched for a while. If the gateway does worse with the new
//! values than before, or does not live to say, they are taken back.

use super::admin::{Admin, accepted, ok, read};
use crate::body::Body;
use crate::env::{Change, EnvError, EnvFile, Outcome};
use crate::refusal::Refusal;
use crate::settings;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::json as object;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// How long new values are watched unless the caller says otherwise.
const USUAL: f64 = 10.0;
const LONGEST: f64 = 600.0;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    unset: Vec<String>,
    /// The hash that the content must have.
    #[serde(default)]
    expected: Option<String>,
    /// Seconds for which the new values are watched; 0 keeps them at once.
    #[serde(default = "usual")]
    judge: f64,
}

fn usual() -> f64 {
    USUAL
}

impl From<EnvError> for Refusal {
    fn from(error: EnvError) -> Self {
        let code = match &error {
            EnvError::Moved { .. } => StatusCode::CONFLICT,
            EnvError::Edit(_) | EnvError::Unfit(_) | EnvError::NoVersion(_) => {
                StatusCode::BAD_REQUEST
            }
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(code, "Not changed", error.to_string())
    }
}

fn file(admin: &Admin) -> Result<EnvFile, Refusal> {
    let none = "the gateway was started without --env, so there is no file to change";
    admin.env.clone().ok_or_else(|| Refusal::not_found(none))
}

/// Runs `work` where it may wait for the disk.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EnvError> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Refusal::from),
        Err(error) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Internal error",
            error.to_string(),
        )),
    }
}

/// The switches in use, and the versions of the file.
pub(super) async fn show(admin: &Admin) -> Result<Response<Body>, Refusal> {
    let flags = admin.settings.load_full();
    let versions = match &admin.env {
        None => Vec::new(),
        Some(file) => {
            let file = file.clone();
            apart(move || file.history()).await?
        }
    };
    let versions: Vec<_> = versions
        .iter()
        .take(20)
        .map(|it| {
            object!({
                "version": it.number, "time": it.time, "author": it.author, "change": it.change,
                "state": it.state,
            })
        })
        .collect();
    let used = &flags.flags;
    Ok(ok(object!({
        "hash": flags.hash,
        "flags": {
            "FF_CACHE": used.cache, "FF_RETRY": used.retry, "FF_BREAKERS": used.breakers,
            "FF_CHAOS": used.chaos, "UPSTREAM_MODE": if used.mock { "mock" } else { "live" },
        },
        "versions": versions,
    })))
}

/// Publishes a change and has it judged.
pub(super) async fn change(admin: &Arc<Admin>, body: &Bytes) -> Result<Response<Body>, Refusal> {
    let asked: Asked = read(body)?;
    if !(0.0..=LONGEST).contains(&asked.judge) {
        return Err(Refusal::bad("judge must be 0 to 600 seconds"));
    }
    let change = match (asked.set.is_empty(), asked.unset.is_empty()) {
        (false, true) => Change::Set(asked.set.into_iter().collect()),
        (true, false) => Change::Unset(asked.unset),
        _ => return Err(Refusal::bad("give either set, such as {\"FF_CHAOS\": \"on\"}, or unset")),
    };
    let file = file(admin)?;
    let judged = asked.judge > 0.0;
    let ready_before = admin.board.is_ready();
    let (publishing, expected) = (file.clone(), asked.expected);
    let outcome =
        apart(move || publishing.commit(&change, "admin", expected.as_deref(), judged)).await?;
    let Outcome::Published { version, hash } = outcome else {
        return Ok(ok(object!({ "changed": false })));
    };
    let (reading, admin_too) = (file.clone(), Arc::clone(admin));
    apart(move || {
        settings::reload(Some(&reading), &admin_too.settings, &admin_too.board);
        Ok(())
    })
    .await?;
    admin.note(&format!("environment file, version {version}"), StatusCode::ACCEPTED);
    if judged {
        let time = Duration::from_secs_f64(asked.judge);
        tokio::spawn(judge(Arc::clone(admin), file, version, time, ready_before));
    }
    Ok(accepted(object!({
        "changed": true, "version": version, "hash": hash, "judged_for_seconds": asked.judge,
    })))
}

/// Watches the gateway for `time`, then keeps the version or takes it back.
async fn judge(admin: Arc<Admin>, file: EnvFile, version: u64, time: Duration, ready_before: bool) {
    let end = admin.clock.monotonic() + time;
    let mut verdict = None;
    while admin.clock.monotonic() < end && verdict.is_none() {
        tokio::time::sleep(LOOK).await;
        if ready_before && !admin.board.is_ready() && !admin.board.is_draining() {
            verdict = Some("the gateway was not ready with it");
        }
    }
    let judged = file.clone();
    let done = match verdict {
        None => {
            apart(move || {
                judged.keep(version).map(|kept| {
                    if !kept {
                        warn!(
                            version,
                            "the environment file had gone back before its time was over"
                        );
                    }
                })
            })
            .await
        }
        Some(reason) => {
            warn!(version, reason, "the environment file goes back");
            apart(move || judged.take_back(version, reason)).await
        }
    };
    let again = Arc::clone(&admin);
    let _ = apart(move || {
        settings::reload(Some(&file), &again.settings, &again.board);
        Ok(())
    })
    .await;
    match done {
        Ok(()) => info!(version, kept = verdict.is_none(), "the environment file was judged"),
        Err(refusal) => warn!(version, error = refusal.reason, "the verdict could not be written"),
    }
}
