//! A page or two for whoever looks in: GET alone, a few connections at once, each for a bounded time. What serves traffic is not built
//! on this.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at once; more wait.
const CONNECTIONS: usize = 16;
/// For the head of a request.
const READ: Duration = Duration::from_secs(5);
/// For a whole connection.
const LIFE: Duration = Duration::from_secs(60);

/// A page: status and text. None where there is no such page.
pub type Page = Option<(u16, String)>;

/// Serves pages by their paths, for ever.
pub async fn serve(listener: TcpListener, page: impl Fn(&str) -> Page + Send + Sync + 'static) {
    let (page, slots) = (Arc::new(page), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await; // out of handles
            continue;
        };
        let page = Arc::clone(&page);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(&request, page.as_ref());
                async { Ok::<_, Infallible>(answer) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(READ)
                .serve_connection(TokioIo::new(socket), service);
            let _ = tokio::time::timeout(LIFE, served).await;
            drop(slot);
        });
    }
}

fn answer(request: &Request<Incoming>, page: &impl Fn(&str) -> Page) -> Response<Full<Bytes>> {
    let found = (request.method() == Method::GET).then(|| page(request.uri().path())).flatten();
    let (code, text) = found.unwrap_or_else(|| (404, "no such page\n".to_owned()));
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::OK);
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HttpClient;
    use tokio::time::Instant;

    #[tokio::test]
    async fn pages_are_served_and_all_else_is_not_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, |path| (path == "/a").then(|| (200, "text".to_owned()))));
        let client = HttpClient::new();
        for (method, path, status) in
            [(Method::GET, "/a", 200), (Method::GET, "/b", 404), (Method::POST, "/a", 404)]
        {
            let deadline = Instant::now() + Duration::from_secs(5);
            let url = format!("http://{address}{path}");
            let answer = client.send(method, &url, &[], "", deadline).await.unwrap();
            assert_eq!(answer.status, status, "{path}");
        }
    }
}
