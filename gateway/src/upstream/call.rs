//! A call of a tool: breaker → door → attempts, all within its time. Only what reads is tried again, and only within the budget.

use super::mock;
use super::proxy::Upload;
use super::tool::{Action, Tool};
use crate::admit::limiter::Ending;
use crate::chaos::fault::{Broken, Faults};
use crate::env::Flags;
use crate::meters::Outcome;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use runtime::{Backoff, Jitter};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The largest answer that is taken in whole.
const LARGEST: usize = 4 << 20;
/// Between attempts.
const BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(50), cap: Duration::from_millis(500), attempts: 3 };

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The tool has all the calls that it can take.
    Busy,
    /// It is left alone for so long.
    LeftAlone(Duration),
    /// It did not answer in time.
    Late,
    /// It cannot be reached, or failed.
    Failed(String),
    /// The client did not send all that it promised.
    Unsent,
    /// It refuses the request as it is.
    Refused(u16, String),
}

impl CallError {
    /// Whether a stale answer is better than none.
    pub(crate) fn is_of_the_tool(&self) -> bool {
        !matches!(self, Self::Refused(..) | Self::Unsent)
    }
}

/// What a call needs.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) tool: Arc<Tool>,
    /// Which of its actions.
    pub(crate) action: usize,
    /// The parameters as JSON, and as a query where the action has them there.
    pub(crate) params: Bytes,
    pub(crate) query: Option<String>,
    pub(crate) flags: Flags,
    pub(crate) credential: Option<String>,
    /// Nothing is tried again while it is narrow.
    pub(crate) narrow: bool,
    pub(crate) jitter: Jitter,
}

/// Makes the call; gives the tool's answer as JSON text.
pub(crate) async fn make(mut call: Call, faults: &Faults) -> Result<Bytes, CallError> {
    let tool = Arc::clone(&call.tool);
    let Some(action) = tool.actions.get(call.action) else {
        return Err(CallError::Failed("no such action".to_owned()));
    };
    let deadline = Instant::now() + tool.config.timeout;
    tool.budget.call();
    let mut attempt = 1;
    loop {
        let outcome = one(&mut call, &tool, action, faults, deadline).await;
        let Err(error) = &outcome else { return outcome };
        let transient = matches!(error, CallError::Failed(_));
        attempt += 1;
        let again = transient && action.reads() && call.flags.retry && !call.narrow;
        let wait = BACKOFF.before(attempt, &mut call.jitter).filter(|_| again);
        match wait {
            Some(wait) if Instant::now() + wait < deadline && tool.budget.retry() => {
                tool.meter.ended(Outcome::Retried);
                tokio::time::sleep(wait).await;
            }
            _ => return outcome,
        }
    }
}

/// One attempt.
async fn one(
    call: &mut Call,
    tool: &Arc<Tool>,
    action: &Action,
    faults: &Faults,
    deadline: Instant,
) -> Result<Bytes, CallError> {
    let (ticket, mut place) = tool.enter(call.flags.breakers).await?;
    let start = Instant::now();
    let asked = tool.asked(ticket, None, start);
    let answer = timeout_at(deadline, attempt(call, tool, action, faults)).await;
    tool.meter.seconds.observe(start.elapsed().as_secs_f64());
    let answer = answer.unwrap_or(Err(Failure::Late));
    let (outcome, ending) = match &answer {
        Ok(_) | Err(Failure::Refused(..)) => (Outcome::Good, Ending::Answered),
        Err(Failure::Late) => (Outcome::Late, Ending::Overloaded),
        Err(Failure::Overloaded(_)) => (Outcome::Failed, Ending::Overloaded),
        Err(Failure::Failed(_)) => (Outcome::Failed, Ending::Answered),
        Err(Failure::Unreachable(_)) => (Outcome::Unreachable, Ending::Overloaded),
    };
    if outcome != Outcome::Unreachable {
        place.ended(ending); // how soon a connection is refused says nothing of a tool's speed
    }
    drop(place);
    asked.ended(outcome);
    answer.map_err(|failure| match failure {
        Failure::Late => CallError::Late,
        Failure::Overloaded(words) | Failure::Failed(words) | Failure::Unreachable(words) => {
            CallError::Failed(words)
        }
        Failure::Refused(code, words) => CallError::Refused(code, words),
    })
}

enum Failure {
    Late,
    Overloaded(String),
    Failed(String),
    Unreachable(String),
    Refused(u16, String),
}

async fn attempt(
    call: &mut Call,
    tool: &Tool,
    action: &Action,
    faults: &Faults,
) -> Result<Bytes, Failure> {
    let Some(hit) = faults.draw(&tool.config.name) else {
        return sound(call, tool, action).await;
    };
    hit.before(call.jitter.unit()).await?;
    let answer = sound(call, tool, action).await?;
    hit.after(answer.len()).await?;
    Ok(answer)
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Failed(words) => Self::Failed(words.to_owned()),
            Broken::Unreachable(words) => Self::Unreachable(words.to_owned()),
        }
    }
}

/// An attempt that no fault on purpose meets.
async fn sound(call: &mut Call, tool: &Tool, action: &Action) -> Result<Bytes, Failure> {
    let Some(links) = tool.links.as_ref().filter(|_| !call.flags.mock) else {
        let chaos = call.flags.chaos;
        let (name, received) = (&action.config.name, call.params.len());
        let answer = mock::answer(&tool.config, name, received, chaos, &mut call.jitter).await;
        return answer.map_err(Failure::Failed);
    };
    let mut request = Request::builder().method(action.method.clone());
    request = match &call.query {
        Some(query) => request.uri(format!("{}?{query}", action.path)),
        None => request.uri(action.path.clone()).header(header::CONTENT_TYPE, "application/json"),
    };
    if let Some(credential) = &call.credential {
        request = request.header(header::AUTHORIZATION, format!("Bearer {credential}"));
    }
    let body = if call.query.is_some() { Bytes::new() } else { call.params.clone() };
    let request = request
        .body(Upload::whole(body))
        .map_err(|error| Failure::Refused(400, format!("the request cannot be made: {error}")))?;
    let answer = links.ask(request).await.map_err(|failed| Failure::Unreachable(failed.words))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LARGEST).collect().await;
    let body = body.map_err(|error| Failure::Failed(format!("its answer broke off: {error}")))?;
    let body = body.to_bytes();
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Err(Failure::Overloaded(format!("it answered {status}")))
        }
        status if status.is_success() => Ok(as_json(body)),
        status if status.is_client_error() => {
            let words: String = String::from_utf8_lossy(&body).chars().take(300).collect();
            Err(Failure::Refused(status.as_u16(), words))
        }
        status => Err(Failure::Failed(format!("it answered {status}"))),
    }
}

/// JSON as it is; anything else as a JSON text.
fn as_json(body: Bytes) -> Bytes {
    if serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() {
        return body;
    }
    let text = serde_json::Value::from(String::from_utf8_lossy(&body).into_owned());
    Bytes::from(text.to_string())
}
