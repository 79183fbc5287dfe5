//! A target to scrape: serves what the test says, and counts.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Makes the whole answer, head included, to the n-th request (from 1).
type Answer = Box<dyn FnMut(u64) -> String + Send>;

/// Serves pages on a port of its own until dropped.
pub(crate) struct PageServer {
    pub(crate) address: SocketAddr,
    served: Arc<AtomicU64>,
}

/// An answer with status 200 and this body.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

impl PageServer {
    /// Answers each request with what `answer` makes of its number.
    pub(crate) fn start(answer: impl FnMut(u64) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::new(AtomicU64::new(0));
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
        let count = Arc::clone(&served);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let text = (answer.lock().unwrap())(count.load(Ordering::SeqCst) + 1);
                // Counted first: whoever sees the value in the store finds it counted.
                count.fetch_add(1, Ordering::SeqCst);
                let _ = reply(socket, &text);
            }
        });
        Self { address, served }
    }

    /// Requests answered so far.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }
}

fn reply(mut socket: TcpStream, text: &str) -> std::io::Result<()> {
    let mut request = [0; 4096];
    let _ = socket.read(&mut request)?;
    socket.write_all(text.as_bytes())
}

/// Gets `path` and returns status and body.
pub(crate) fn get(address: &str, path: &str) -> Option<(u16, String)> {
    get_with(address, path, &[])
}

/// The same, with headers.
pub(crate) fn get_with(
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Option<(u16, String)> {
    let mut socket = TcpStream::connect(address).ok()?;
    let mut head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(b"\r\n")).ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
}

/// Posts `body` to `path` and returns status and body; `None` when no answer came.
pub(crate) fn post(
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<(u16, String)> {
    let mut socket = TcpStream::connect(address).ok()?;
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(body)).ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
}
