//! Bodies of answers: whole, or passed on piece by piece while the tool's place is held.

use crate::admit::limiter::Ending;
use crate::admit::queue::Place;
use crate::request::InFlight;
use crate::upstream::link::Answer;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// For the next piece.
    pause: Duration,
    timer: Pin<Box<Sleep>>,
}

/// What an answer holds until all of it is sent: a place at the tool, and one among the requests in flight.
#[derive(Debug)]
enum Held {
    Here(Place, #[expect(dead_code, reason = "counted as in flight while it lives")] InFlight),
    /// With a limit on how long the client may take nothing.
    Limited(Arc<Limited>),
}

#[derive(Debug)]
struct Limited {
    held: Mutex<Option<(Place, InFlight)>>,
    pieces: AtomicU64,
}

/// A client that takes no piece for so long has lost its places.
const TAKES_NOTHING: Duration = Duration::from_secs(30);

impl Held {
    /// An HTTP/2 client may leave its window shut, and then nobody asks the body for anything.
    fn limited(place: Place, in_flight: InFlight) -> Self {
        let held = Mutex::new(Some((place, in_flight)));
        let limited = Arc::new(Limited { held, pieces: AtomicU64::new(0) });
        let watched = Arc::downgrade(&limited);
        tokio::spawn(async move {
            let mut seen = u64::MAX;
            loop {
                tokio::time::sleep(TAKES_NOTHING).await;
                let Some(limited) = watched.upgrade() else { return };
                let pieces = limited.pieces.load(Ordering::Relaxed);
                if pieces == seen {
                    limited.held.lock().take();
                    return;
                }
                seen = pieces;
            }
        });
        Self::Limited(limited)
    }

    /// A piece was taken. False when the places are lost.
    fn piece(&self) -> bool {
        match self {
            Self::Here(..) => true,
            Self::Limited(limited) => {
                limited.pieces.fetch_add(1, Ordering::Relaxed);
                limited.held.lock().is_some()
            }
        }
    }

    /// The tool did not go on.
    fn failed(&mut self) {
        match self {
            Self::Here(place, _) => place.ended(Ending::Overloaded),
            Self::Limited(limited) => {
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
        with_http_2: bool,
    ) -> Self {
        if body.is_end_stream() {
            return Self::Whole(None);
        }
        let timer = Box::pin(tokio::time::sleep(pause));
        let held = match with_http_2 {
            true => Held::limited(place, in_flight),
            false => Held::Here(place, in_flight),
        };
        Self::Passed(Box::new(Passed { body, held, pause, timer }))
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
        match Pin::new(&mut passed.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                passed.timer.as_mut().reset(Instant::now() + passed.pause);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => {
                passed.held.failed();
                Poll::Ready(Some(Err(error.into())))
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
            Self::Passed(passed) => passed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Passed(passed) => passed.body.size_hint(),
        }
    }
}
