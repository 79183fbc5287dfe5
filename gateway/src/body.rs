//! Bodies of answers: whole, or passed on piece by piece while the tool's place is held.

use crate::admit::limiter::Ending;
use crate::admit::queue::Place;
use crate::chaos::body::Maimed;
use crate::listener::UnderWay;
use crate::request::InFlight;
use crate::upstream::link::Answer;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Why a body ended early.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// What is sent to a client.
#[derive(Debug)]
pub(crate) enum Body {
    Whole(Option<Bytes>),
    Passed(Box<Passed>),
}

/// A tool's body on its way.
#[derive(Debug)]
pub(crate) struct Passed {
    body: Answer,
    held: Held,
    /// By a fault on purpose.
    maimed: Option<Maimed>,
    /// For the next piece.
    pause: Duration,
    timer: Pin<Box<Sleep>>,
    /// Its request is under way for as long.
    under_way: Option<UnderWay>,
}

/// What an answer holds until all of it is sent: a place at the tool, and one among the requests in flight.
#[derive(Debug)]
enum Held {
    Here(Place, #[expect(dead_code, reason = "counted as in flight while it lives")] InFlight),
    /// With a limit on how long the client may take nothing.
    Limited(Arc<Limited>, #[expect(dead_code, reason = "it watches while it lives")] Watch),
}

/// Ends with what it watches.
#[derive(Debug)]
struct Watch(tokio::task::AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
struct Limited {
    held: Mutex<Option<(Place, InFlight)>>,
    /// Its request is under way for as long as it has its places.
    under_way: Mutex<Option<UnderWay>>,
    pieces: AtomicU64,
    /// The client has taken all that there is, and asks for more.
    waits_for_tool: AtomicBool,
}

/// A client that takes no piece for so long has lost its places.
const TAKES_NOTHING: Duration = Duration::from_secs(30);

impl Held {
    /// An HTTP/2 client may leave its window shut, and then nobody asks the body for anything.
    fn limited(place: Place, in_flight: InFlight) -> Self {
        let held = Mutex::new(Some((place, in_flight)));
        let (pieces, waits_for_tool) = (AtomicU64::new(0), AtomicBool::new(false));
        let under_way = Mutex::new(None);
        let limited = Arc::new(Limited { held, under_way, pieces, waits_for_tool });
        let watched = Arc::downgrade(&limited);
        let watch = tokio::spawn(async move {
            let mut seen = u64::MAX;
            loop {
                tokio::time::sleep(TAKES_NOTHING).await;
                let Some(limited) = watched.upgrade() else { return };
                let pieces = limited.pieces.load(Ordering::Relaxed);
                if pieces == seen && !limited.waits_for_tool.load(Ordering::Relaxed) {
                    limited.held.lock().take();
                    limited.under_way.lock().take();
                    return;
                }
                seen = pieces;
            }
        });
        Self::Limited(limited, Watch(watch.abort_handle()))
    }

    /// A piece is asked for. False when the places are lost.
    fn piece(&self) -> bool {
        match self {
            Self::Here(..) => true,
            Self::Limited(limited, _) => {
                limited.pieces.fetch_add(1, Ordering::Relaxed);
                limited.held.lock().is_some()
            }
        }
    }

    /// Whether the tool has none yet.
    fn waits_for_tool(&self, waits: bool) {
        if let Self::Limited(limited, _) = self {
            limited.waits_for_tool.store(waits, Ordering::Relaxed);
        }
    }

    /// The tool did not go on.
    fn failed(&mut self) {
        match self {
            Self::Here(place, _) => place.ended(Ending::Overloaded),
            Self::Limited(limited, _) => {
                if let Some((place, _)) = &mut *limited.held.lock() {
                    place.ended(Ending::Overloaded);
                }
            }
        }
    }
}

impl Body {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }

    pub(crate) fn pass(
        body: Answer,
        place: Place,
        in_flight: InFlight,
        pause: Duration,
        (with_http_2, maimed): (bool, Option<Maimed>),
    ) -> Self {
        if body.is_end_stream() {
            return Self::Whole(None);
        }
        let timer = Box::pin(tokio::time::sleep(pause));
        let held = match with_http_2 {
            true => Held::limited(place, in_flight),
            false => Held::Here(place, in_flight),
        };
        Self::Passed(Box::new(Passed { body, held, maimed, pause, timer, under_way: None }))
    }

    /// The request is under way until all of this is sent, or dropped.
    pub(crate) fn ends(&mut self, request: UnderWay) {
        if let Self::Passed(passed) = self {
            match &passed.held {
                Held::Here(..) => passed.under_way = Some(request),
                Held::Limited(limited, _) => *limited.under_way.lock() = Some(request),
            }
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let passed = match self.get_mut() {
            Self::Whole(bytes) => {
                let bytes = bytes.take().filter(|bytes| !bytes.is_empty());
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            Self::Passed(passed) => passed,
        };
        if !passed.held.piece() {
            return Poll::Ready(Some(Err("the client took nothing for too long".into())));
        }
        let Passed { body, maimed, .. } = &mut **passed;
        let next = |context: &mut Context<'_>| {
            let frame = Pin::new(body).poll_frame(context);
            frame.map(|frame| frame.map(|frame| frame.map_err(BodyError::from)))
        };
        let frame = match maimed {
            None => next(context),
            Some(maimed) => maimed.poll(context, next),
        };
        passed.held.waits_for_tool(frame.is_pending());
        match frame {
            Poll::Ready(Some(Ok(frame))) => {
                passed.timer.as_mut().reset(Instant::now() + passed.pause);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => {
                passed.held.failed();
                Poll::Ready(Some(Err(error)))
            }
            Poll::Pending => match passed.timer.as_mut().poll(context) {
                Poll::Ready(()) => {
                    passed.held.failed();
                    Poll::Ready(Some(Err("the tool paused for too long".into())))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            // A piece may still be held back.
            Self::Passed(passed) => passed.maimed.is_none() && passed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Passed(passed) => passed.body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admit::limiter::Limiter;
    use crate::admit::queue::{Door, Patience, Priority};
    use crate::chaos::fault::Faults;
    use crate::health::board::Board;
    use crate::upstream::link::Links;
    use crate::upstream::proxy::Upload;
    use http_body_util::BodyExt;
    use runtime::Clock;
    use serde_json::json;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    /// An answer of which one piece has come, and what it holds.
    async fn begun(with_http_2: bool, maimed: Option<Maimed>) -> (Body, Arc<Door>, Arc<Board>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npiece";
            socket.write_all(head).await.unwrap();
            std::future::pending::<()>().await;
        });
        let links = Links::new(&base, None).unwrap();
        let request = http::Request::get("/").body(Upload::whole(Bytes::new())).unwrap();
        let answer = links.ask(request).await.unwrap().into_body();
        let hour = Duration::from_secs(3_600);
        let patience = Patience { calm: hour, pressed: hour };
        let door = Door::new(Limiter::new(1, 1, 1), patience, 1);
        let board = Arc::new(Board::new(Clock::system(), 1));
        let held =
            (door.enter(Priority::Normal).await.unwrap(), InFlight::take(&board, 1).unwrap());
        (Body::pass(answer, held.0, held.1, hour, (with_http_2, maimed)), door, board)
    }

    async fn minutes(number: usize) {
        for _ in 0..number * 60 {
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_shuts_its_window_keeps_no_place() {
        let (mut body, door, board) = begun(true, None).await;
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "piece");
        assert_eq!((door.read().inside, board.in_flight.load(Ordering::Relaxed)), (1, 1));
        minutes(2).await;
        assert_eq!((door.read().inside, board.in_flight.load(Ordering::Relaxed)), (0, 0));
        let error = body.frame().await.unwrap().unwrap_err().to_string();
        assert!(error.contains("took nothing"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_waits_for_a_slow_tool_keeps_its_place() {
        let (mut body, door, _) = begun(true, None).await;
        assert!(body.frame().await.unwrap().is_ok());
        // As HTTP/2 does it: asked once, and not again before something comes.
        let asked = std::future::poll_fn(|context| {
            Poll::Ready(Pin::new(&mut body).poll_frame(context).is_pending())
        });
        assert!(asked.await, "the tool sends no more");
        minutes(10).await;
        assert_eq!(door.read().inside, 1);
    }

    fn hit(mode: &str, amount: f64) -> Option<Maimed> {
        let faults = Faults::default();
        let fault = json!({ "tool": "a", "mode": mode, "pct": 100.0, "amount": amount });
        faults.begin(serde_json::from_value(fault).unwrap()).unwrap();
        Maimed::by(faults.draw("a").unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn on_purpose_a_body_breaks_off_in_its_middle_or_comes_slowly() {
        let (mut body, door, _) = begun(false, hit("truncated_body", 1.0)).await;
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "pi");
        let error = body.frame().await.unwrap().unwrap_err().to_string();
        assert!(error.contains("on purpose"), "{error}");
        drop(body);
        assert_eq!(door.read().inside, 0);

        let (mut body, ..) = begun(false, hit("slow_body", 2.0)).await;
        assert!(!body.is_end_stream());
        let start = Instant::now();
        for (part, millis) in [("pi", 1_000), ("ec", 2_000), ("e", 2_500)] {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), part);
            assert_eq!(start.elapsed().as_millis(), millis);
        }
        assert!(hit("latency", 1.0).is_none());
    }
}
