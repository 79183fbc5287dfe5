//! Accepts connections within a limit, and at the end lets open requests finish.

use crate::health::Vitals;
use crate::request::DataPlane;
use crate::{GatewayConfig, GatewayError};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use runtime::Stop;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

/// How long open requests may take after stop was requested.
const DRAIN: Duration = Duration::from_secs(3);

pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, GatewayError> {
    TcpListener::bind(address).await.map_err(GatewayError::bind(address))
}

/// Serves the data listener until stopped, then drains.
pub(crate) async fn serve(
    listener: TcpListener,
    plane: Arc<DataPlane>,
    config: GatewayConfig,
    vitals: Arc<Vitals>,
    stop: Stop,
) -> Result<(), GatewayError> {
    let slots = Arc::new(Semaphore::new(config.max_connections));
    let graceful = GracefulShutdown::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
        let accepted = tokio::select! {
            () = stop.wait() => break,
            accepted = listener.accept() => accepted,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of handles, mostly: those in use will come back.
                warn!(%error, "connection could not be accepted");
                stop.wait_for(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = socket.set_nodelay(true);
        plane.meters.connections.inc();
        vitals.connections.fetch_add(1, Ordering::Relaxed);
        let (plane, vitals) = (Arc::clone(&plane), Arc::clone(&vitals));
        let service = service_fn(move |request| {
            let plane = Arc::clone(&plane);
            async move { Ok::<_, Infallible>(plane.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(config.read_timeout)
            .serve_connection(TokioIo::new(socket), service);
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                debug!(%error, "connection ended early");
            }
            vitals.connections.fetch_sub(1, Ordering::Relaxed);
            drop(slot);
        });
    }
    vitals.drain();
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        warn!("requests still open after the drain time were cut off");
    }
    Ok(())
}
