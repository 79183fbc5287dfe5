//! What a fault on purpose does to the body of an answer that is passed on: it comes slowly, or breaks off in its middle.

use super::fault::Hit;
use crate::body::BodyError;
use bytes::Bytes;
use hyper::body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A piece of a body, its end, or why there is none.
pub(crate) type Piece = Option<Result<Frame<Bytes>, BodyError>>;

/// A body's fault and how far it is.
#[derive(Debug)]
pub(crate) struct Maimed {
    /// Bytes a second; none cuts the body off.
    rate: Option<f64>,
    /// A piece that is not there yet.
    held: Option<(Bytes, Pin<Box<Sleep>>)>,
    is_cut: bool,
}

impl Maimed {
    /// What `hit` does to a body, if it does anything to it.
    pub(crate) fn by(hit: Hit) -> Option<Self> {
        let rate = hit.body()?;
        Some(Self { rate, held: None, is_cut: false })
    }

    /// The next piece as the client gets it; `next` gives those of the tool.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        next: impl FnOnce(&mut Context<'_>) -> Poll<Piece>,
    ) -> Poll<Piece> {
        if self.is_cut {
            return Poll::Ready(Some(Err("the tool's answer broke off, on purpose".into())));
        }
        if self.held.is_none() {
            let Poll::Ready(piece) = next(context) else { return Poll::Pending };
            let data = match piece {
                Some(Ok(frame)) => frame.into_data(),
                other => return Poll::Ready(other),
            };
            let Ok(mut bytes) = data else { return Poll::Ready(None) }; // trailers are lost
            let Some(rate) = self.rate else {
                self.is_cut = true;
                bytes.truncate(bytes.len() / 2);
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            };
            self.hold(bytes, rate);
        }
        let Some((mut bytes, mut there)) = self.held.take() else { return Poll::Ready(None) };
        if there.as_mut().poll(context).is_pending() {
            self.held = Some((bytes, there));
            return Poll::Pending;
        }
        let rate = self.rate.unwrap_or(f64::INFINITY);
        let part = bytes.split_to(second_of(&bytes, rate));
        if !bytes.is_empty() {
            self.hold(bytes, rate);
        }
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    /// The next second's part of `bytes` is there when its time has passed: a tool that is slow sends little at a time.
    fn hold(&mut self, bytes: Bytes, rate: f64) {
        let takes = Duration::from_secs_f64(second_of(&bytes, rate) as f64 / rate);
        let there = tokio::time::sleep_until(Instant::now() + takes);
        self.held = Some((bytes, Box::pin(there)));
    }
}

fn second_of(bytes: &Bytes, rate: f64) -> usize {
    bytes.len().min((rate as usize).max(1))
}
