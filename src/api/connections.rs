//! Connections of the API: a bounded number, each with an end to its silence, and an orderly end when we are stopped.

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use runtime::{Stop, Tick};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::warn;

/// At once; more wait to be accepted.
const MOST: u32 = 512;
/// For the head of a request, the time before it included.
const SILENCE: Duration = Duration::from_secs(60);

/// Serves until stopped, and lets requests under way come to their end.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: Stop) {
    let slots = Arc::new(Semaphore::new(MOST as usize));
    loop {
        let slot = tokio::select! {
            () = stop.wait() => break,
            slot = Arc::clone(&slots).acquire_owned() => slot,
        };
        let accepted = tokio::select! {
            () = stop.wait() => break,
            accepted = listener.accept() => accepted,
        };
        match (accepted, slot) {
            (Ok((socket, _)), Ok(slot)) => {
                let (router, stop) = (router.clone(), stop.clone());
                tokio::spawn(async move {
                    connection(socket, router, stop).await;
                    drop(slot);
                });
            }
            (Err(error), _) => {
                // Out of handles, mostly: those in use will come back.
                warn!(%error, "connection could not be accepted");
                if stop.wait_for(Duration::from_millis(50)).await == Tick::Stopped {
                    break;
                }
            }
            (_, Err(_)) => break,
        }
    }
    drop(listener);
    let _ = slots.acquire_many(MOST).await;
}

async fn connection(socket: TcpStream, router: Router, stop: Stop) {
    let _ = socket.set_nodelay(true);
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(SILENCE);
    let service = TowerToHyperService::new(router);
    let mut served = pin!(builder.serve_connection(TokioIo::new(socket), service));
    tokio::select! {
        // Whoever breaks off knows it.
        _ = &mut served => return,
        () = stop.wait() => served.as_mut().graceful_shutdown(),
    }
    let _ = served.await;
}
