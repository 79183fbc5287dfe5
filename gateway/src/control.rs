//! The control listener, on a thread and a runtime of its own: it answers while the data plane is overloaded.

use crate::GatewayError;
use crate::health::Vitals;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use model::MetricKind;
use runtime::Stop;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use telemetry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at once; monitors and people are few.
const CONNECTIONS: usize = 64;

/// Starts the thread. It ends when stop is requested.
pub(crate) fn start(
    listener: TcpListener,
    vitals: Arc<Vitals>,
    registry: Registry,
    stop: Stop,
) -> Result<JoinHandle<()>, GatewayError> {
    expose(&registry, &vitals);
    let listener = listener.into_std().map_err(GatewayError::Thread)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(GatewayError::Thread)?;
    std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                if let Ok(listener) = TcpListener::from_std(listener) {
                    serve(listener, vitals, registry, stop).await;
                }
            });
        })
        .map_err(GatewayError::Thread)
}

fn expose(registry: &Registry, vitals: &Arc<Vitals>) {
    let gauge = |name: &str, help: &str, read: fn(&Vitals) -> f64| {
        let vitals = Arc::clone(vitals);
        registry.computed(name, help, MetricKind::Gauge, move || read(&vitals));
    };
    gauge("gateway_requests_in_flight", "Requests being answered.", |vitals| {
        vitals.in_flight.load(Ordering::Relaxed) as f64
    });
    gauge("gateway_connections", "Open connections.", |vitals| {
        vitals.connections.load(Ordering::Relaxed) as f64
    });
    gauge("gateway_heartbeat_age_seconds", "Since the data plane's last sign of life.", |vitals| {
        vitals.beat_age().as_secs_f64()
    });
    gauge("gateway_ready", "Whether traffic should be sent here.", |vitals| {
        f64::from(u8::from(vitals.is_ready()))
    });
}

async fn serve(listener: TcpListener, vitals: Arc<Vitals>, registry: Registry, stop: Stop) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.wait() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else {
            stop.wait_for(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let (vitals, registry) = (Arc::clone(&vitals), registry.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&request, &vitals, &registry);
                async { Ok::<_, Infallible>(response) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(5))
                .serve_connection(TokioIo::new(socket), service)
                .await;
            drop(slot);
            served
        });
    }
}

fn answer(
    request: &Request<Incoming>,
    vitals: &Vitals,
    registry: &Registry,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return respond(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET here\n".to_owned());
    }
    match request.uri().path() {
        "/live" => respond(StatusCode::OK, "text/plain", "live\n".to_owned()),
        "/ready" if vitals.is_ready() => {
            respond(StatusCode::OK, "text/plain", "ready\n".to_owned())
        }
        "/ready" => {
            respond(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "not ready\n".to_owned())
        }
        "/health" => {
            let code =
                if vitals.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let body = serde_json::to_string(&vitals.report()).unwrap_or_default();
            respond(code, "application/json", body)
        }
        "/metrics" => {
            respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", registry.page())
        }
        _ => {
            let paths = "nothing here; try /live, /ready, /health or /metrics\n";
            respond(StatusCode::NOT_FOUND, "text/plain", paths.to_owned())
        }
    }
}

fn respond(code: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    let value = http::HeaderValue::from_static(content_type);
    response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    response
}
