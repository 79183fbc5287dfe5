//! Accepts connections within a limit, closes idle ones, and at the end lets open requests finish.

use crate::body::Body;
use crate::config::TlsConfig;
use crate::lane::{Arrival, Lanes};
use crate::pressure::Level;
use crate::request::DataPlane;
use crate::stall::{Heard, Seen, Unstalled};
use crate::{GatewayConfig, GatewayError};
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use listenfd::ListenFd;
use runtime::{Stop, Tick};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use telemetry::CounterVec;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

const UNKNOWN: HeaderValue = HeaderValue::from_static("unknown");
/// A write that waits longer has lost its client.
const STALL: Duration = Duration::from_secs(30);
/// Idle connections are closed after this while it is narrow.
const NARROW_IDLE: Duration = Duration::from_secs(2);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 128;

pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, GatewayError> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(GatewayError::bind(address))
}

/// The data listener that whoever started us holds and hands over, as systemd does with `LISTEN_FDS`: it stays open when we end, so that
/// our successor has it without a connection lost.
pub(crate) fn inherited() -> Result<Option<TcpListener>, GatewayError> {
    let unfit = |error| GatewayError::Setup(format!("LISTEN_FDS: not a listening socket: {error}"));
    let Some(listener) = ListenFd::from_env().take_tcp_listener(0).map_err(unfit)? else {
        return Ok(None);
    };
    listener.set_nonblocking(true).map_err(unfit)?;
    TcpListener::from_std(listener).map(Some).map_err(unfit)
}

/// Reads certificate and key.
pub(crate) fn tls(config: &TlsConfig) -> Result<TlsAcceptor, GatewayError> {
    let unfit = |what: &str, file: &std::path::Path, cause: String| {
        GatewayError::Setup(format!("gateway.tls.{what} {}: {cause}", file.display()))
    };
    let cert = &config.cert_file;
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| unfit("cert_file", cert, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(&config.key_file)
        .map_err(|error| unfit("key_file", &config.key_file, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(chain, key))
        .map_err(|error| unfit("cert_file", cert, error.to_string()))?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

/// What all connections share.
struct Shared {
    plane: Arc<DataPlane>,
    config: GatewayConfig,
    acceptor: Option<TlsAcceptor>,
    builder: Builder<TokioExecutor>,
    /// Requested when open connections shall end after their request.
    close: Stop,
}

/// Serves the data listener until stopped, then drains. With `successor` another gateway has the same socket.
pub(crate) async fn serve(
    (listener, successor): (TcpListener, bool),
    plane: Arc<DataPlane>,
    config: GatewayConfig,
    acceptor: Option<TlsAcceptor>,
    stop: Stop,
) -> Result<(), GatewayError> {
    let slots = Arc::new(Semaphore::new(config.max_connections));
    let all = u32::try_from(config.max_connections).unwrap_or(u32::MAX);
    let drain_time = config.drain_time;
    let mut builder = Builder::new(TokioExecutor::new());
    let head = config.max_head_size.as_usize();
    // The parser's time runs while a connection is idle too; how long a head may take is looked at by `requests`.
    let longest = config.idle_timeout + config.read_timeout;
    builder.http1().timer(TokioTimer::new()).header_read_timeout(longest);
    builder.http1().max_buf_size(head).keep_alive(true).half_close(false);
    let head = u32::try_from(head).unwrap_or(u32::MAX);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
    builder.http2().max_header_list_size(head).keep_alive_interval(Duration::from_secs(20));
    let board = Arc::clone(&plane.board);
    let close = Stop::new();
    let (clock, overload) = (plane.clock, Arc::clone(&plane.overload));
    let handed = plane.meters.refused_connections.clone();
    let shared = Arc::new(Shared { plane, config, acceptor, builder, close: close.clone() });
    let lanes = Lanes::start(overload.len(), (&board, &overload, clock), move |arrival| {
        let shared = Arc::clone(&shared);
        async move { connection(&shared, arrival).await }
    })?;
    loop {
        let slot = tokio::select! {
            () = stop.wait() => break,
            slot = Arc::clone(&slots).acquire_owned() => slot,
        };
        let Ok(slot) = slot else { break };
        let accepted = tokio::select! {
            () = stop.wait() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => hand(&lanes, &handed, socket, peer, slot),
            Err(error) => {
                // Out of handles, mostly: those in use will come back.
                warn!(%error, "connection could not be accepted");
                stop.wait_for(Duration::from_millis(50)).await;
            }
        }
    }
    board.drain(true);
    // Connections that wait are the successor's; without one, those that the system has given to us are answered too.
    while !successor
        && let Ok(slot) = Arc::clone(&slots).try_acquire_owned()
        && let Some(Ok((socket, peer))) = listener.accept().now_or_never()
    {
        hand(&lanes, &handed, socket, peer, slot);
    }
    drop(listener);
    // A client that is just sending its next request must not find the connection closed: each answer asks it to connect anew, and who
    // is silent is closed later.
    let linger = if successor { drain_time / 3 } else { Duration::ZERO };
    let all_gone = slots.acquire_many(all);
    if timeout(linger, all_gone).await.is_ok() {
        lanes.end();
        return Ok(());
    }
    close.request();
    if timeout(drain_time - linger, slots.acquire_many(all)).await.is_err() {
        warn!("requests still open after the drain time were cut off");
    }
    lanes.end();
    Ok(())
}

/// Has a thread serve the connection. One that cannot take it has far too much to do already.
fn hand(
    lanes: &Lanes,
    ended: &CounterVec<1>,
    socket: TcpStream,
    peer: SocketAddr,
    slot: OwnedSemaphorePermit,
) {
    let handed = socket.into_std().is_ok_and(|socket| lanes.hand(Arrival { socket, peer, slot }));
    if !handed {
        ended.with(["no_thread"]).inc();
        debug!(%peer, "connection dropped: its thread has too many on their way already");
    }
}

async fn connection(shared: &Arc<Shared>, Arrival { socket, peer, slot }: Arrival) {
    let Ok(socket) = TcpStream::from_std(socket) else { return };
    let _ = socket.set_nodelay(true);
    let peer = peer.ip();
    let board = Arc::clone(&shared.plane.board);
    shared.plane.meters.connections.inc();
    board.connections.fetch_add(1, Ordering::Relaxed);
    let heard = Arc::<Heard>::default();
    let io = Unstalled::new(socket, STALL, Arc::clone(&heard));
    match &shared.acceptor {
        None => requests(shared, io, peer, heard).await,
        Some(acceptor) => match timeout(shared.config.read_timeout, acceptor.accept(io)).await {
            Ok(Ok(io)) => requests(shared, io, peer, heard).await,
            Ok(Err(error)) => {
                debug!(%error, "no TLS");
                shared.plane.meters.refused_connections.with(["tls"]).inc();
            }
            Err(_) => shared.plane.meters.refused_connections.with(["tls_timeout"]).inc(),
        },
    }
    board.connections.fetch_sub(1, Ordering::Relaxed);
    drop(slot);
}

/// What a connection does now: requests so far and under way, and when the last one ended.
#[derive(Debug, Default)]
struct Activity {
    begun: AtomicUsize,
    open: AtomicUsize,
    ended: AtomicU64,
    /// There comes more than requests between requests, then.
    http_2: AtomicBool,
}

async fn requests<T>(shared: &Arc<Shared>, io: T, peer: IpAddr, heard: Arc<Heard>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let begun = shared.plane.clock.monotonic();
    heard.nothing();
    let activity = Arc::new(Activity::default());
    let from = HeaderValue::try_from(peer.to_string()).unwrap_or(UNKNOWN);
    let service = service_fn(|request: Request<Incoming>| {
        let (plane, active) = (Arc::clone(&shared.plane), Arc::clone(&activity));
        let from = from.clone();
        let under_way = UnderWay::begin(active, begun, Arc::clone(&heard), request.version());
        async move {
            let mut answer = plane.answer(request, (peer, from)).await;
            answer.body_mut().ends(under_way);
            Ok::<Response<Body>, Infallible>(answer)
        }
    });
    let served = shared.builder.serve_connection(TokioIo::new(io), service);
    let mut served = pin!(served);
    let (mut closing, mut orderly, mut seen) = (false, false, Seen::default());
    let mut first = pin!(tokio::time::sleep(shared.config.read_timeout));
    let mut end = pin!(tokio::time::sleep(Duration::ZERO));
    loop {
        let silent = activity.begun.load(Ordering::Relaxed) == 0;
        tokio::select! {
            biased;
            ended = &mut served => {
                if let Err(error) = ended {
                    debug!(error = %error, "connection ended early");
                    shared.plane.meters.refused_connections.with([reason(&*error)]).inc();
                }
                return;
            }
            () = &mut first, if silent && !first.is_elapsed() => {
                // Nobody may hold a place without a word, nor with half of one.
                if activity.begun.load(Ordering::Relaxed) == 0 {
                    let reason = if heard.what().is_some() { "head_timeout" } else { "silent" };
                    shared.plane.meters.refused_connections.with([reason]).inc();
                    return;
                }
            }
            tick = shared.close.wait_for(NARROW_IDLE / 2), if !closing => {
                let narrow = shared.plane.pressure.level() >= Level::Elevated;
                let idle = if narrow { NARROW_IDLE } else { shared.config.idle_timeout };
                let last = Duration::from_millis(activity.ended.load(Ordering::Relaxed));
                let open = activity.open.load(Ordering::Relaxed);
                let head = heard.what().filter(|_| !activity.http_2.load(Ordering::Relaxed));
                let there = seen.look(head, shared.plane.clock.monotonic());
                let longest = if narrow { NARROW_IDLE } else { Duration::MAX };
                let longest = longest.min(shared.config.read_timeout);
                // An orderly end would wait for the rest of it.
                if open == 0 && there.is_some_and(|it| it >= longest) {
                    shared.plane.meters.refused_connections.with(["head_timeout"]).inc();
                    return;
                }
                let is_idle = open == 0 && head.is_none() && begun.elapsed() > last + idle;
                if tick == Tick::Stopped || is_idle {
                    (closing, orderly) = (true, is_idle);
                    end.as_mut().reset(tokio::time::Instant::now() + idle.max(STALL));
                    served.as_mut().graceful_shutdown();
                }
            }
            () = &mut end, if orderly => {
                // An orderly end waits for answers that an HTTP/2 client with a shut window never takes.
                shared.plane.meters.refused_connections.with(["stalled"]).inc();
                return;
            }
        }
    }
}

/// A request under way, until its answer is sent.
#[derive(Debug)]
pub(crate) struct UnderWay {
    active: Arc<Activity>,
    begun: tokio::time::Instant,
    heard: Arc<Heard>,
}

impl UnderWay {
    fn begin(
        active: Arc<Activity>,
        begun: tokio::time::Instant,
        heard: Arc<Heard>,
        version: http::Version,
    ) -> Self {
        active.begun.fetch_add(1, Ordering::Relaxed);
        active.open.fetch_add(1, Ordering::Relaxed);
        if version == http::Version::HTTP_2 {
            active.http_2.store(true, Ordering::Relaxed);
        }
        Self { active, begun, heard }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.heard.nothing();
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active.ended.store(now, Ordering::Relaxed);
        self.active.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a connection ended, from a closed set.
fn reason(error: &(dyn std::error::Error + 'static)) -> &'static str {
    let Some(error) = error.downcast_ref::<hyper::Error>() else { return "other" };
    if error.is_timeout() {
        "head_timeout"
    } else if error.is_parse_too_large() {
        "head_too_large"
    } else if error.is_parse() {
        "malformed"
    } else if error.is_incomplete_message() {
        "client_gone"
    } else {
        "other"
    }
}
