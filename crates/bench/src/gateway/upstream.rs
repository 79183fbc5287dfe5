//! The tool behind the proxies: answers 77 bytes on connections that are kept, as many at once and as fast as told.

use crate::system::BenchError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// A tool that ends when dropped.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Upstream {
    /// Works on `at_once` requests at once, each for `service`; more wait.
    pub(super) async fn start(at_once: usize, service: Duration) -> Result<Self, BenchError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(BenchError::task)?;
        let address = listener.local_addr().map_err(BenchError::task)?;
        let places = Arc::new(Semaphore::new(at_once.min(Semaphore::MAX_PERMITS)));
        let serving = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let _ = socket.set_nodelay(true);
                tokio::spawn(serve(socket, Arc::clone(&places), service));
            }
        });
        Ok(Self { address, serving })
    }
}

async fn serve(mut socket: TcpStream, places: Arc<Semaphore>, service: Duration) {
    let body = "x".repeat(77);
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut buffer = Vec::with_capacity(4 << 10);
    loop {
        // Requests of the benchmark have no body.
        while let Some(end) = find(&buffer, b"\r\n\r\n") {
            buffer.drain(..end + 4);
            if !service.is_zero() {
                let Ok(_place) = places.acquire().await else { return };
                tokio::time::sleep(service).await;
            }
            if socket.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
        match socket.read_buf(&mut buffer).await {
            Ok(n) if n > 0 => {}
            _ => return,
        }
    }
}

pub(super) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
