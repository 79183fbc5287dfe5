//! The life of one request: find → admit → grant → answer → record. The branches are here; the work is below.

use crate::access::decide::{Denied, count, decide};
use crate::access::policy::{Policies, Wish};
use crate::access::quota::Quotas;
use crate::access::token::{Claims, Signer};
use crate::admit::overload::Overload;
use crate::api::{self, call::Served};
use crate::body::Body;
use crate::cache::flight::Flights;
use crate::cache::second::Second;
use crate::cache::store::Cache;
use crate::cache::warmer::Orders;
use crate::chaos::body::Maimed;
use crate::chaos::fault::{Broken, Faults};
use crate::config::Permission;
use crate::database::audit::Audit;
use crate::database::directory::Directory;
use crate::database::{Database, Record};
use crate::health::board::Board;
use crate::lane;
use crate::meters::{Meters, RouteMeter};
use crate::pressure::{Level, Pressure};
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::target::{Api, Target, Targets};
use crate::upstream::call::CallError;
use crate::upstream::proxy::{self, Upload};
use crate::upstream::tool::Tool;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use runtime::{Clock, Jitter};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Bodies up to this many bytes are read before they are passed on.
const SMALL: u64 = 64 << 10;

/// What every request needs.
#[derive(Debug)]
pub(crate) struct DataPlane {
    pub(crate) clock: Clock,
    pub(crate) targets: Targets,
    pub(crate) meters: Meters,
    pub(crate) board: Arc<Board>,
    /// Of each thread.
    pub(crate) overload: Arc<[Overload]>,
    pub(crate) pressure: Arc<Pressure>,
    pub(crate) signer: Signer,
    pub(crate) quotas: Quotas,
    pub(crate) anonymous: Policies,
    pub(crate) directory: Arc<Directory>,
    pub(crate) database: Arc<Database>,
    pub(crate) audit: Audit,
    pub(crate) cache: Arc<Cache>,
    pub(crate) second: Option<Arc<Second>>,
    pub(crate) orders: Orders,
    pub(crate) flights: Flights<Result<Served, CallError>>,
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    pub(crate) faults: Arc<Faults>,
    /// For those who manage agents and policies, and those who administer the gateway.
    pub(crate) management_token: Option<String>,
    pub(crate) admin_token: Option<String>,
    pub(crate) registry: telemetry::Registry,
    /// Keys are made on threads that may block, so many at once.
    pub(crate) key_makers: tokio::sync::Semaphore,
    /// Bodies that are being read: no more than half of the places may wait for slow clients.
    pub(crate) readers: tokio::sync::Semaphore,
    pub(crate) max_in_flight: usize,
    pub(crate) max_body: usize,
    pub(crate) read_timeout: Duration,
    pub(crate) seed: u64,
    pub(crate) number: AtomicU64,
}

/// One of the places for requests in flight; given back when dropped, also when the client goes away.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Board>);

impl InFlight {
    pub(crate) fn take(board: &Arc<Board>, most: usize) -> Option<Self> {
        let take = |n| (n < most).then_some(n + 1);
        board.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(Self(Arc::clone(board)))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Under which status a request stands whose client went away before its answer.
const CLIENT_GONE: u16 = 499;

/// Counts a request that is dropped before its answer.
struct Unanswered<'a> {
    meter: &'a RouteMeter,
    start: Instant,
    open: bool,
}

impl Unanswered<'_> {
    fn answered(mut self, status: StatusCode) {
        self.open = false;
        self.meter.answered(status, self.start.elapsed().as_secs_f64());
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let (true, Ok(gone)) = (self.open, StatusCode::from_u16(CLIENT_GONE)) {
            self.meter.answered(gone, self.start.elapsed().as_secs_f64());
        }
    }
}

/// Writes the audit of a call, also where its client goes away: the tool may have done it all the same.
pub(crate) struct Audited<'a> {
    plane: &'a DataPlane,
    caller: &'a Caller,
    agent: &'a str,
    /// The tool and what is asked of it.
    subject: (&'a str, &'a str),
    open: bool,
}

impl Audited<'_> {
    /// With what came of it.
    pub(crate) fn end(mut self, status: StatusCode, detail: &str) {
        self.write(status, detail);
        self.open = false;
    }

    /// Nothing is to be written.
    pub(crate) fn leave(mut self) {
        self.open = false;
    }

    fn write(&self, status: StatusCode, detail: &str) {
        let subject = format!("{}:{}", self.subject.0, self.subject.1);
        self.plane.note(self.caller, "call", self.agent, subject, status, detail);
    }
}

impl Drop for Audited<'_> {
    fn drop(&mut self) {
        if let (true, Ok(gone)) = (self.open, StatusCode::from_u16(CLIENT_GONE)) {
            self.write(gone, "the client went away before the answer");
        }
    }
}

/// What is known of a request besides its head and body.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) peer: IpAddr,
    /// The same as text.
    pub(crate) from: HeaderValue,
    /// `X-Correlation-Id` of the answer, and in the audit.
    pub(crate) id: String,
    pub(crate) number: u64,
    pub(crate) start: Instant,
}

impl DataPlane {
    /// Answers a request.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        (peer, from): (IpAddr, HeaderValue),
    ) -> Response<Body> {
        let start = self.clock.monotonic();
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:016x}", self.seed.wrapping_add(number));
        let caller = Caller { peer, from, id, number, start };
        let host = request
            .uri()
            .host()
            .or_else(|| request.headers().get(header::HOST).and_then(|host| host.to_str().ok()));
        let target = self.targets.find(request.uri(), host);
        let unanswered = Unanswered { meter: self.targets.meter(&target), start, open: true };
        let answered = match self.admit(&target) {
            Ok(in_flight) => self.admitted(request, target, &caller, in_flight).await,
            Err(refusal) => Err(refusal),
        };
        let mut response = answered.unwrap_or_else(|refusal| refusal.respond());
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&caller.id) {
            headers.insert("x-correlation-id", id);
        }
        if self.board.is_draining() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        unanswered.answered(response.status());
        response
    }

    /// A place for the request, or at once the reason why there is none.
    fn admit(&self, target: &Target) -> Result<InFlight, Refusal> {
        let most = if matches!(target, Target::Own) { usize::MAX } else { self.max_in_flight };
        let shed = |reason: &'static str, words: &str| {
            self.meters.shed.with([reason]).inc();
            Refusal::unavailable(words, Duration::from_secs(1))
        };
        if most != usize::MAX {
            if self.pressure.level() >= Level::Emergency {
                return Err(shed("pressure", "the gateway is out of resources, try again"));
            }
            if self.overload.get(lane::here()).is_some_and(Overload::refuses) {
                return Err(shed("overload", "the gateway has too much to do, try again"));
            }
        }
        InFlight::take(&self.board, most)
            .ok_or_else(|| shed("in_flight", "too many requests in flight, try again"))
    }

    async fn admitted(
        self: &Arc<Self>,
        request: Request<Incoming>,
        target: Target,
        caller: &Caller,
        in_flight: InFlight,
    ) -> Result<Response<Body>, Refusal> {
        let answer = match target {
            Target::Own => api::own::answer(self, request.uri().path()),
            Target::Api(Api::ProxyRequest) => api::call::proxy_request(self, request, caller).await,
            // Calls that come seldom are on the heap, so that the others need not carry their size along.
            Target::Api(Api::CreateAgent) => {
                Box::pin(api::agents::create(self, request, caller)).await
            }
            Target::Api(Api::GenerateToken) => {
                Box::pin(api::agents::token(self, request, caller)).await
            }
            Target::Api(Api::Policies | Api::Policy) => {
                Box::pin(api::policies::answer(self, request, caller)).await
            }
            Target::Api(Api::Chaos) => Box::pin(api::chaos::answer(self, request, caller)).await,
            Target::Action(tool, action) => {
                api::call::by_path(self, request, (tool, action), caller).await
            }
            Target::Pass { tool, action, to, audit, .. } => {
                return self.pass(request, (tool, &action, audit), to, caller, in_flight).await;
            }
            Target::Unknown(reason) => Err(Refusal::not_found(reason)),
        };
        drop(in_flight);
        answer
    }

    /// What a fault on purpose does to a request that is passed on, before its answer; and what it will do to its body.
    async fn maim(&self, tool: &Tool, caller: &Caller) -> Result<Option<Maimed>, CallError> {
        let Some(hit) = self.faults.draw(&tool.config.name) else { return Ok(None) };
        let met = hit.before(self.jitter(caller).unit());
        match tokio::time::timeout(tool.config.timeout, met).await {
            Ok(Ok(())) => Ok(Maimed::by(hit)),
            Ok(Err(Broken::Failed(words) | Broken::Unreachable(words))) => {
                Err(CallError::Failed(words.to_owned()))
            }
            Err(_) => Err(CallError::Late),
        }
    }

    /// Passes a request on, if that is granted.
    async fn pass(
        self: &Arc<Self>,
        request: Request<Incoming>,
        (tool, action, audit): (usize, &str, bool),
        to: http::Uri,
        caller: &Caller,
        in_flight: InFlight,
    ) -> Result<Response<Body>, Refusal> {
        let Some(tool) = self.targets.tools.get(tool) else {
            return Err(Refusal::not_found("no such tool"));
        };
        let safe = request.method().is_safe();
        let permission = if safe { Permission::Read } else { Permission::Write };
        let subject = (&*tool.config.name, action);
        let claims = self.claims_of(bearer(&request), caller, subject)?;
        let wish = Wish {
            agent: claims.as_ref().map_or("", |claims| &claims.agent),
            role: claims.as_ref().map_or("anonymous", |claims| &claims.role),
            tool: &tool.config.name,
            action,
            // Streamed: how much it is, and where it leads, is the tool's to know, so that guards of either do not grant it.
            size: length_of(&request),
            host: Some(""),
        };
        let granted = self.grant(claims.as_deref(), permission, wish);
        let granted = granted.and_then(|_| self.count(claims.as_deref(), wish));
        let granted = granted.and_then(|()| self.live());
        let audited = self.audited(caller, wish.agent, (&tool.config.name, action));
        let answer = match granted {
            Ok(()) => match self.upload(request).await {
                Ok(request) => {
                    let settings = self.settings.load();
                    let breakers = settings.flags.breakers;
                    let own = settings.credential(tool.config.credential.as_deref());
                    drop(settings);
                    match self.maim(tool, caller).await {
                        Ok(maimed) => {
                            let (from, faults) = (&caller.from, (breakers, maimed));
                            proxy::pass(tool, request, to, from, in_flight, faults, own)
                                .await
                                .map_err(Refusal::from)
                        }
                        Err(error) => Err(error.into()),
                    }
                }
                Err(refused) => Err(refused),
            },
            Err(denied) => Err(denied),
        };
        let status = answer.as_ref().map_or_else(|refusal| refusal.code, Response::status);
        let detail = answer.as_ref().err().map_or("", |refusal| &refusal.reason);
        if audit || answer.is_err() {
            audited.end(status, detail);
        } else {
            audited.leave();
        }
        answer
    }

    /// Refuses what would go over the network while no tool is to be called.
    fn live(&self) -> Result<(), Refusal> {
        if self.settings.load().flags.mock {
            let words = "UPSTREAM_MODE=mock: nothing is passed on to tools; calls of their actions are answered by mocks";
            return Err(Refusal::unavailable(words, Duration::from_secs(60)));
        }
        Ok(())
    }

    pub(crate) fn audited<'a>(
        &'a self,
        caller: &'a Caller,
        agent: &'a str,
        subject: (&'a str, &'a str),
    ) -> Audited<'a> {
        Audited { plane: self, caller, agent, subject, open: true }
    }

    /// A small body is read before the tool's door, so that a slow client holds no place of the tool's; a larger one is passed on as it comes.
    async fn upload(&self, request: Request<Incoming>) -> Result<Request<Upload>, Refusal> {
        let (head, body) = request.into_parts();
        let size = hyper::body::Body::size_hint(&body).exact();
        let body = match size {
            Some(1..=SMALL) => Upload::whole(self.read(body).await?),
            _ => Upload::coming(body),
        };
        Ok(Request::from_parts(head, body))
    }

    /// What the token says; none where there is no token.
    pub(crate) fn claims(&self, token: Option<&str>) -> Result<Option<Arc<Claims>>, Refusal> {
        let Some(token) = token else { return Ok(None) };
        let checked = self.signer.check(token, self.clock.now());
        checked.map(Some).map_err(|refused| self.denied(Denied::Token(refused)))
    }

    /// The same; a token that is refused is noted in the audit.
    pub(crate) fn claims_of(
        &self,
        token: Option<&str>,
        caller: &Caller,
        subject: (&str, &str),
    ) -> Result<Option<Arc<Claims>>, Refusal> {
        self.claims(token).inspect_err(|refused| {
            self.audited(caller, "", subject).end(refused.code, &refused.reason);
        })
    }

    /// Whether `wish` is granted, and how old the policies are that say so.
    pub(crate) fn grant(
        &self,
        claims: Option<&Claims>,
        permission: Permission,
        wish: Wish<'_>,
    ) -> Result<Duration, Refusal> {
        let now = self.clock.now();
        let Some(claims) = claims else {
            let wish = Wish { role: "anonymous", ..wish };
            let granted = self.anonymous.check(wish, now);
            return granted.map(|()| Duration::ZERO).map_err(|_| self.denied(Denied::NoToken));
        };
        let known = self.directory.known();
        let age = self.directory.age(&known);
        let age = age.map_err(|reason| self.denied(Denied::Unknown(reason)))?;
        let decided = decide(claims, permission, wish, &known.policies, now);
        decided.map(|()| age).map_err(|denied| self.denied(denied))
    }

    /// Counts what was granted against its quotas.
    pub(crate) fn count(&self, claims: Option<&Claims>, wish: Wish<'_>) -> Result<(), Refusal> {
        if claims.is_none() {
            return Ok(());
        }
        let known = self.directory.known();
        let counted = count(wish, &known.policies, &self.quotas, self.clock.now());
        counted.map_err(|denied| self.denied(denied))
    }

    fn denied(&self, denied: Denied) -> Refusal {
        self.meters.denied.with([denied.kind()]).inc();
        denied.into()
    }

    /// Writes the audit.
    pub(crate) fn note(
        &self,
        caller: &Caller,
        kind: &str,
        agent: &str,
        subject: String,
        status: StatusCode,
        detail: &str,
    ) {
        let millis = u32::try_from(caller.start.elapsed().as_millis()).unwrap_or(u32::MAX);
        self.audit.note(Record {
            id: self.new_id(caller),
            time: self.clock.now(),
            kind: kind.to_owned(),
            agent: agent.to_owned(),
            subject,
            status: status.as_u16(),
            // Tools may say anything; a database need not take it.
            detail: detail
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .take(500)
                .collect(),
            millis,
        });
    }

    /// An id that no other has: time, this process, and a number.
    pub(crate) fn new_id(&self, caller: &Caller) -> String {
        let at = u64::try_from(self.clock.now().millis()).unwrap_or(0);
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let rest = u128::from(self.seed.wrapping_add(caller.number)) << 16;
        ulid::Ulid::from_parts(at, rest | u128::from(number & 0xffff)).to_string()
    }

    pub(crate) fn jitter(&self, caller: &Caller) -> Jitter {
        Jitter::seeded(self.seed.wrapping_add(caller.number))
    }

    /// The whole body, within size and time.
    pub(crate) async fn read(&self, body: Incoming) -> Result<Bytes, Refusal> {
        let refuse = |code, reason: &str| Err(Refusal::new(code, "Bad request", reason));
        let Ok(_reader) = self.readers.try_acquire() else {
            self.meters.shed.with(["readers"]).inc();
            let words = "too many bodies are being read, try again";
            return Err(Refusal::unavailable(words, Duration::from_secs(1)));
        };
        match timeout(self.read_timeout, Limited::new(body, self.max_body).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let words = format!("the body is over {} bytes", self.max_body);
                refuse(StatusCode::PAYLOAD_TOO_LARGE, &words)
            }
            Ok(Err(_)) => refuse(StatusCode::BAD_REQUEST, "the body could not be read"),
            Err(_) => refuse(StatusCode::REQUEST_TIMEOUT, "the body came too slowly"),
        }
    }

    /// The body as JSON of the shape `T`.
    pub(crate) async fn read_json<T: serde::de::DeserializeOwned>(
        &self,
        body: Incoming,
    ) -> Result<T, Refusal> {
        let body = self.read(body).await?;
        serde_json::from_slice(&body).map_err(|error| Refusal::bad(format!("the body: {error}")))
    }
}

/// Bytes of the body as its head says; as many as there can be when it does not.
fn length_of(request: &Request<Incoming>) -> u64 {
    let body = hyper::body::Body::size_hint(request.body());
    body.exact().unwrap_or(u64::MAX)
}

/// The token of `Authorization: Bearer …`.
pub(crate) fn bearer<B>(request: &Request<B>) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
