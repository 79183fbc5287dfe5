//! A tool behind a gateway: many connections, each kept for many requests; answers as the test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// First line and headers, each line as it was.
    pub(crate) head: String,
    pub(crate) body: String,
}

type Reply = dyn Fn(&Asked) -> String + Send + Sync;

/// Answers on a port of its own until dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    asked: AtomicU64,
    inside: AtomicUsize,
    most_inside: AtomicUsize,
    ended: AtomicBool,
}

/// An answer in JSON with status 200.
pub(crate) fn json(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// An answer without a body.
pub(crate) fn status(code: u16) -> String {
    format!("HTTP/1.1 {code} x\r\ncontent-length: 0\r\n\r\n")
}

impl Upstream {
    pub(crate) fn start(reply: impl Fn(&Asked) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let (shared, reply): (_, Arc<Reply>) = (Arc::clone(&state), Arc::new(reply));
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (state, reply) = (Arc::clone(&shared), Arc::clone(&reply));
                std::thread::spawn(move || serve(socket, &state, &*reply));
            }
        });
        Self { address, state }
    }

    /// `base_url` of it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests that came.
    pub(crate) fn asked(&self) -> u64 {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// Requests at once, at most.
    pub(crate) fn most_at_once(&self) -> usize {
        self.state.most_inside.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(socket: TcpStream, state: &State, reply: &Reply) {
    let _ = socket.set_nodelay(true);
    let mut out = socket.try_clone().unwrap();
    let mut reader = BufReader::new(socket);
    while let Some(asked) = read(&mut reader) {
        if state.ended.load(Ordering::SeqCst) {
            return;
        }
        state.asked.fetch_add(1, Ordering::SeqCst);
        let inside = state.inside.fetch_add(1, Ordering::SeqCst) + 1;
        state.most_inside.fetch_max(inside, Ordering::SeqCst);
        let text = reply(&asked);
        state.inside.fetch_sub(1, Ordering::SeqCst);
        if text.is_empty() || out.write_all(text.as_bytes()).is_err() {
            return; // an empty answer is a connection that breaks off
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        if head[before..].trim_end().is_empty() {
            break;
        }
    }
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let mut body = Vec::new();
    if let Some(length) = header("content-length:") {
        body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
    } else if header("transfer-encoding:").is_some() {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }
    Some(Asked { head, body: String::from_utf8_lossy(&body).into_owned() })
}
