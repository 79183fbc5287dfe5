//! Bodies of answers: whole, or passed on piece by piece while the tool's place is held.

use crate::admit::limiter::Ending;
use crate::admit::queue::Place;
use crate::request::InFlight;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use std::pin::Pin;
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
    body: Incoming,
    place: Place,
    /// Counted as in flight until all is sent.
    _in_flight: InFlight,
    /// For the next piece.
    pause: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Body {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }

    pub(crate) fn pass(body: Incoming, place: Place, in_flight: InFlight, pause: Duration) -> Self {
        if body.is_end_stream() {
            return Self::Whole(None);
        }
        let timer = Box::pin(tokio::time::sleep(pause));
        Self::Passed(Box::new(Passed { body, place, _in_flight: in_flight, pause, timer }))
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
        match Pin::new(&mut passed.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                passed.timer.as_mut().reset(Instant::now() + passed.pause);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => {
                passed.place.ended(Ending::Overloaded);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Pending => match passed.timer.as_mut().poll(context) {
                Poll::Ready(()) => {
                    passed.place.ended(Ending::Overloaded);
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
