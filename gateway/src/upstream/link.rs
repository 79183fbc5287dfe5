//! Connections to one tool: kept while idle for a little, apart for each thread of the data plane, and driven by whoever waits for an
//! answer. A connection with a task of its own costs some wake-ups a request more than the request itself.

use super::proxy::Upload;
use crate::lane;
use bytes::Bytes;
use futures_util::task::noop_waker_ref;
use http::header::{self, HeaderValue};
use http::{Request, Response, Uri};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How often idle connections are looked through; those that the tool has closed go then.
const SWEEP: Duration = Duration::from_secs(5);
/// One that was idle at so many looks in a row is closed.
const IDLE: u8 = 6;
/// Idle connections kept, for each thread.
const KEPT: usize = 64;
/// For the rest of a request whose answer is there already.
const REST: Duration = Duration::from_secs(30);
/// Addresses of a host that are tried.
const MOST_ADDRESSES: usize = 6;
/// For a connection to be made.
const CONNECT: Duration = Duration::from_secs(3);

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// The connections to one tool, and how more are made.
pub(crate) struct Links {
    host: String,
    port: u16,
    /// `Host` of each request.
    authority: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    shelves: Vec<Arc<Mutex<Shelf>>>,
}

/// Idle connections of one thread, those idle longest first.
#[derive(Default)]
struct Shelf {
    #[expect(clippy::vec_box, reason = "moved to a body and back for each request")]
    links: Vec<Box<Link>>,
    /// Whether somebody looks through them.
    swept: bool,
    /// Links that still send a request whose answer is there; more than are kept are closed.
    resting: usize,
}

/// One connection. It takes more than a kilobyte and changes hands twice a request, so that it is moved as a box.
struct Link {
    sender: SendRequest<Upload>,
    /// None when it is over; dropped then, for a request that waits in it comes back only so.
    connection: Option<Connection<TokioIo<Box<dyn Socket>>, Upload>>,
    /// Looks since it was used.
    looks: u8,
}

/// Why a tool gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) words: String,
    /// Whether there was a connection to it.
    pub(crate) reached: bool,
}

/// Why a connection gave no answer, and the request where nothing of it was sent.
struct Unanswered {
    words: String,
    unsent: Option<Box<Request<Upload>>>,
}

impl Links {
    /// To the host of `base`, with `tls` where that begins with `https`.
    pub(crate) fn new(base: &Uri, tls: Option<&TlsConnector>) -> Result<Self, String> {
        let authority = base.authority().ok_or("no host")?;
        let unfit = |error: &dyn std::fmt::Display| format!("{}: {error}", authority.host());
        if authority.as_str().contains('@') {
            return Err("user and password in a URL are not sent; use credential".to_owned());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let secure = base.scheme_str() == Some("https");
        let tls = match tls.filter(|_| secure) {
            Some(tls) => {
                let name = ServerName::try_from(host.clone()).map_err(|error| unfit(&error))?;
                Some((tls.clone(), name))
            }
            None if secure => return Err(unfit(&"no TLS")),
            None => None,
        };
        let usual = if secure { 443 } else { 80 };
        let port = authority.port_u16().filter(|port| *port != usual);
        let shown = match port {
            Some(port) => format!("{}:{port}", authority.host()),
            None => authority.host().to_owned(),
        };
        Ok(Self {
            port: port.unwrap_or(usual),
            authority: HeaderValue::from_str(&shown).map_err(|error| unfit(&error))?,
            // One for all threads that are none of the data plane's.
            shelves: (0..=lane::count()).map(|_| Arc::default()).collect(),
            host,
            tls,
        })
    }

    /// Sends a request, the URI of which is path and query alone. Of an idle connection that the tool had closed the request comes back
    /// and goes over another one.
    pub(crate) async fn ask(
        &self,
        mut request: Request<Upload>,
    ) -> Result<Response<Answer>, Failed> {
        request.headers_mut().insert(header::HOST, self.authority.clone());
        let Some(shelf) = self.shelves.get(lane::here()).or(self.shelves.last()) else {
            return Err(Failed { words: "no connections".to_owned(), reached: false });
        };
        loop {
            let kept = take(shelf);
            let was_kept = kept.is_some();
            let mut link = match kept {
                Some(link) => link,
                None => {
                    let made = Box::pin(self.connect()).await; // seldom, and large
                    made.map_err(|words| Failed { words, reached: false })?
                }
            };
            match link.ask(request).await {
                Ok(answer) => {
                    return Ok(answer.map(|body| Answer::new(body, link, shelf)));
                }
                Err(Unanswered { unsent: Some(again), .. }) if was_kept => request = *again,
                Err(Unanswered { words, .. }) => return Err(Failed { words, reached: true }),
            }
        }
    }

    /// The first of the host's addresses that answers; each has its part of the time, lest one that swallows packets takes all of it.
    async fn reach(&self) -> std::io::Result<TcpStream> {
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        let addresses: Vec<SocketAddr> = addresses.take(MOST_ADDRESSES).collect();
        let each = CONNECT.mul_f64(0.8) / u32::try_from(addresses.len()).unwrap_or(1).max(1);
        let mut failed = std::io::Error::new(std::io::ErrorKind::NotFound, "it has no address");
        for address in addresses {
            match timeout(each, TcpStream::connect(address)).await {
                Ok(Ok(socket)) => return Ok(socket),
                Ok(Err(error)) => failed = error,
                Err(_) => failed = std::io::ErrorKind::TimedOut.into(),
            }
        }
        Err(failed)
    }

    async fn connect(&self) -> Result<Box<Link>, String> {
        let connecting = async {
            let socket = self.reach().await?;
            socket.set_nodelay(true)?;
            std::io::Result::Ok(match &self.tls {
                None => Box::new(socket) as Box<dyn Socket>,
                Some((tls, name)) => Box::new(tls.connect(name.clone(), socket).await?),
            })
        };
        let socket = match timeout(CONNECT, connecting).await {
            Ok(socket) => socket.map_err(|error| format!("no connection: {error}"))?,
            Err(_) => return Err(format!("no connection within {CONNECT:?}")),
        };
        let made = handshake(TokioIo::new(socket)).await;
        let (sender, connection) = made.map_err(|error| error.to_string())?;
        Ok(Box::new(Link { sender, connection: Some(connection), looks: 0 }))
    }
}

impl Link {
    fn drive(&mut self, context: &mut Context<'_>) {
        drive(&mut self.connection, context);
    }

    async fn ask(&mut self, request: Request<Upload>) -> Result<Response<Incoming>, Unanswered> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let connection = &mut self.connection;
        let answer = poll_fn(|context| {
            drive(connection, context);
            answer.as_mut().poll(context)
        });
        answer.await.map_err(|mut error| {
            let unsent = error.take_message().map(Box::new);
            let error = error.into_error();
            let source = std::error::Error::source(&error).map(ToString::to_string);
            Unanswered { words: source.unwrap_or_else(|| error.to_string()), unsent }
        })
    }

    /// Whether another request may go over it.
    fn is_free(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }
}

/// Reads and writes what can be.
fn drive<F: Future + Unpin>(connection: &mut Option<F>, context: &mut Context<'_>) {
    if let Some(open) = connection
        && Pin::new(open).poll(context).is_ready()
    {
        *connection = None;
    }
}

/// The connection that was used last. Whether the tool has closed it shows when it is asked.
fn take(shelf: &Mutex<Shelf>) -> Option<Box<Link>> {
    shelf.lock().links.pop()
}

fn put(shelf: &Arc<Mutex<Shelf>>, mut link: Box<Link>) {
    if !link.is_free() {
        // What is left to do when an answer has come; nobody waits for it.
        link.drive(&mut Context::from_waker(noop_waker_ref()));
    }
    if !link.is_free() && link.connection.is_some() {
        // The answer was there before the request was: who sends it must not be cut off.
        let mut kept = shelf.lock();
        if kept.resting >= KEPT {
            return;
        }
        kept.resting += 1;
        drop(kept);
        let shelf = Arc::downgrade(shelf);
        tokio::spawn(async move {
            let done = poll_fn(|context| {
                link.drive(context);
                if !link.is_free() {
                    link.drive(context); // it takes another request only after the look that wrote the last byte
                }
                if link.is_free() || link.connection.is_none() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            });
            let rested = timeout(REST, done).await.is_ok();
            let Some(shelf) = shelf.upgrade() else { return };
            shelf.lock().resting -= 1;
            if rested && link.is_free() {
                keep(&shelf, link);
            }
        });
        return;
    }
    keep(shelf, link);
}

fn keep(shelf: &Arc<Mutex<Shelf>>, mut link: Box<Link>) {
    link.looks = 0;
    let mut kept = shelf.lock();
    if !link.is_free() || kept.links.len() >= KEPT {
        return;
    }
    kept.links.push(link);
    if !std::mem::replace(&mut kept.swept, true) {
        let shelf = Arc::downgrade(shelf);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(shelf) = shelf.upgrade() else { return };
                let mut kept = shelf.lock();
                kept.links.retain_mut(|link| {
                    link.drive(&mut Context::from_waker(noop_waker_ref()));
                    link.looks += 1;
                    link.is_free() && link.looks < IDLE
                });
                if kept.links.is_empty() {
                    kept.swept = false;
                    return;
                }
            }
        });
    }
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Links({:?})", self.authority)
    }
}

/// The body of an answer, which moves the connection that it comes over. At its end the connection is kept for others; a body that is
/// dropped before closes it.
pub(crate) struct Answer {
    body: Incoming,
    link: Option<Box<Link>>,
    shelf: Arc<Mutex<Shelf>>,
}

impl Answer {
    fn new(body: Incoming, link: Box<Link>, shelf: &Arc<Mutex<Shelf>>) -> Self {
        let mut answer = Self { body, link: Some(link), shelf: Arc::clone(shelf) };
        answer.keep_link_at_end(false);
        answer
    }

    fn keep_link_at_end(&mut self, is_last: bool) {
        if (is_last || self.body.is_end_stream())
            && let Some(link) = self.link.take()
        {
            put(&self.shelf, link);
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_pending()
            && let Some(link) = &mut self.link
        {
            link.drive(context);
            frame = Pin::new(&mut self.body).poll_frame(context);
        }
        match &frame {
            Poll::Ready(Some(Err(_))) => self.link = None,
            Poll::Ready(None) => self.keep_link_at_end(true),
            // Nobody asks for more after trailers.
            Poll::Ready(Some(Ok(frame))) => self.keep_link_at_end(frame.is_trailers()),
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.body.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A tool that answers each connection's requests with `answer`, closes after `most` of them, and counts connections begun and open.
    struct Tool {
        links: Links,
        begun: Arc<AtomicUsize>,
        open: Arc<AtomicUsize>,
    }

    async fn tool(answer: &'static str, most: usize) -> Tool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base: Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (begun, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&begun), Arc::clone(&open));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                counts.0.fetch_add(1, Ordering::Relaxed);
                counts.1.fetch_add(1, Ordering::Relaxed);
                let open = Arc::clone(&counts.1);
                tokio::spawn(async move {
                    let mut asked = Vec::new();
                    for _ in 0..most {
                        while !asked.ends_with(b"\r\n\r\n") {
                            if socket.read_buf(&mut asked).await.is_ok_and(|n| n > 0) {
                                continue;
                            }
                            open.fetch_sub(1, Ordering::Relaxed);
                            return;
                        }
                        asked.clear();
                        socket.write_all(answer.as_bytes()).await.unwrap();
                    }
                    drop(socket);
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Tool { links: Links::new(&base, None).unwrap(), begun, open }
    }

    impl Tool {
        async fn ask(&self) -> Result<Bytes, String> {
            let request = Request::get("/x?y=1").body(Upload::whole(Bytes::new())).unwrap();
            let answer = self.links.ask(request).await.map_err(|failed| failed.words)?;
            Ok(answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes())
        }

        fn begun(&self) -> usize {
            self.begun.load(Ordering::Relaxed)
        }

        async fn open_becomes(&self, number: usize) {
            while self.open.load(Ordering::Relaxed) != number {
                tokio::task::yield_now().await;
            }
        }
    }

    const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    const PIECES: &str =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n";
    const NOTHING: &str = "HTTP/1.1 204 No Content\r\n\r\n";

    #[tokio::test]
    async fn one_connection_serves_one_request_after_another() {
        for (answer, body) in [(WHOLE, "ok"), (PIECES, "ok"), (NOTHING, "")] {
            let tool = tool(answer, usize::MAX).await;
            for _ in 0..20 {
                assert_eq!(tool.ask().await.unwrap(), body);
            }
            assert_eq!(tool.begun(), 1, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_the_tool_closed_costs_no_request() {
        let tool = tool(WHOLE, 1).await;
        for _ in 0..50 {
            assert_eq!(tool.ask().await.unwrap(), "ok");
        }
        assert_eq!(tool.begun(), 50);
    }

    #[tokio::test]
    async fn what_is_not_read_to_its_end_ends_its_connection() {
        let tool = tool("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun", 2).await;
        let request = Request::get("/").body(Upload::whole(Bytes::new())).unwrap();
        let mut answer = tool.links.ask(request).await.unwrap();
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "begun");
        drop(answer);
        tool.open_becomes(0).await;
        assert!(tool.links.shelves.iter().all(|shelf| shelf.lock().links.is_empty()));
    }

    #[tokio::test]
    async fn a_request_whose_answer_is_there_first_is_sent_to_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base: Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let size = 8 << 20; // more than the system's buffers take
        let tool = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut some = vec![0; 1 << 10];
            let mut got = socket.read(&mut some).await.unwrap();
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            while got < size {
                let n = socket.read(&mut some).await.unwrap();
                assert!(n > 0, "cut off after {got} bytes");
                got += n;
            }
            socket
        });
        let links = Links::new(&base, None).unwrap();
        let body = Upload::whole(Bytes::from(vec![b'x'; size]));
        let answer = links.ask(Request::post("/").body(body).unwrap()).await.unwrap();
        assert!(answer.into_body().collect().await.is_ok());
        let _open = tool.await.unwrap();
        while links.shelves.iter().all(|shelf| shelf.lock().links.is_empty()) {
            tokio::task::yield_now().await; // and the connection serves others
        }
    }

    #[test]
    fn the_host_that_is_named_has_no_password_and_no_usual_port() {
        let named = |base: &str| {
            let links = Links::new(&base.parse().unwrap(), None);
            links.map(|links| links.authority.to_str().unwrap().to_owned())
        };
        assert_eq!(named("http://tool:80/v1").unwrap(), "tool");
        assert_eq!(named("http://tool:8080").unwrap(), "tool:8080");
        assert_eq!(named("http://[::1]:81").unwrap(), "[::1]:81");
        let refused = named("http://me:secret@tool").unwrap_err();
        assert!(refused.contains("credential") && !refused.contains("secret"), "{refused}");
    }

    #[tokio::test]
    async fn no_answer_is_told_as_such() {
        let silent = tool("", 1).await; // closes when it was asked
        assert!(silent.ask().await.unwrap_err().contains("closed"));
        let none: Uri = "http://127.0.0.1:1".parse().unwrap();
        let none = Links::new(&none, None).unwrap();
        let request = Request::get("/").body(Upload::whole(Bytes::new())).unwrap();
        let failed = none.ask(request).await.unwrap_err();
        assert!(failed.words.starts_with("no connection: ") && !failed.reached, "{failed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connections_are_closed_after_half_a_minute_and_those_in_use_kept() {
        let second = || tokio::time::advance(Duration::from_secs(1));
        let tool = tool(WHOLE, usize::MAX).await;
        for _ in 0..5 {
            tool.ask().await.unwrap();
            for _ in 0..20 {
                second().await;
            }
        }
        assert_eq!(tool.begun(), 1);
        let mut seconds = 20;
        while tool.open.load(Ordering::Relaxed) > 0 {
            second().await;
            seconds += 1;
        }
        assert!((25..40).contains(&seconds), "{seconds}");
        let shelf = tool.links.shelves.last().unwrap().lock();
        assert!(shelf.links.is_empty() && !shelf.swept);
    }
}
