//! The control listener, on a thread and a runtime of its own: it answers while the data plane is overloaded or hangs.
//!
//! - `admin`: what an administrator, or a monitor, may have the gateway do
//! - `flags`: the environment file, changed and judged

mod admin;
mod flags;

pub(crate) use admin::Admin;

use crate::GatewayError;
use crate::api::own;
use crate::body::Body;
use crate::refusal::Refusal;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::Stop;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Connections at once; monitors and people are few.
const CONNECTIONS: usize = 64;
/// For the head and for the body of a request, each.
const READ: Duration = Duration::from_secs(5);
/// The largest body.
const LARGEST: usize = 64 << 10;

/// Starts the thread. It ends when `stop` is requested.
pub(crate) fn start(
    listener: TcpListener,
    admin: Arc<Admin>,
    stop: Stop,
) -> Result<JoinHandle<()>, GatewayError> {
    let listener = listener.into_std().map_err(GatewayError::Thread)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(GatewayError::Thread)?;
    std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                if let Ok(listener) = TcpListener::from_std(listener) {
                    serve(listener, admin, stop).await;
                }
            });
            runtime.shutdown_background();
        })
        .map_err(GatewayError::Thread)
}

async fn serve(listener: TcpListener, admin: Arc<Admin>, stop: Stop) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.wait() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, peer)) = accepted else {
            stop.wait_for(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let admin = Arc::clone(&admin);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let admin = Arc::clone(&admin);
                async move {
                    let answer = answer(&admin, request, peer.ip()).await;
                    Ok::<_, Infallible>(answer.unwrap_or_else(|refusal| refusal.respond()))
                }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(READ)
                .serve_connection(TokioIo::new(socket), service)
                .await;
            drop(slot);
            served
        });
    }
}

async fn answer(
    admin: &Arc<Admin>,
    request: Request<Incoming>,
    peer: IpAddr,
) -> Result<Response<Body>, Refusal> {
    let path = request.uri().path().to_owned();
    if let Some(page) = own::page(&path, &admin.board, &admin.registry) {
        if request.method() != http::Method::GET {
            let code = StatusCode::METHOD_NOT_ALLOWED;
            return Err(Refusal::new(code, "Method not allowed", "only GET here"));
        }
        return Ok(page);
    }
    if !path.starts_with("/admin/") {
        let words = "nothing here; try /live, /ready, /health, /metrics or /admin/…";
        return Err(Refusal::not_found(words));
    }
    let (head, body) = request.into_parts();
    let body = timeout(READ, Limited::new(body, LARGEST).collect()).await;
    let body = body.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes);
    let words = "the body is over 64 KiB, or came too slowly";
    let body = body.ok_or_else(|| Refusal::bad(words))?;
    admin.answer(&head, &path, body, peer).await
}
