//! A connection on which writing may not stall for long: a client that takes nothing must not hold what it was promised. It tells since
//! when something has come, too.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The connection `T`, with a limit on how long a write may wait.
#[derive(Debug)]
pub(crate) struct Unstalled<T> {
    io: T,
    limit: Duration,
    /// Set while a write waits.
    timer: Option<Pin<Box<Sleep>>>,
    heard: Arc<Heard>,
}

/// Whether something has come that was not dealt with. To ask for the time at each head would cost more than the rest of it.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Twice the number of times that all was dealt with, and one while something is there.
    state: AtomicU64,
}

impl Heard {
    fn something(&self) {
        if self.state.load(Ordering::Relaxed).is_multiple_of(2) {
            self.state.fetch_or(1, Ordering::Relaxed);
        }
    }

    /// What came is dealt with.
    pub(crate) fn nothing(&self) {
        let next = |state: u64| Some((state | 1).wrapping_add(1));
        let _ = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// What is there, by a number of its own; none while there is nothing.
    pub(crate) fn what(&self) -> Option<u64> {
        Some(self.state.load(Ordering::Relaxed)).filter(|state| !state.is_multiple_of(2))
    }
}

/// Since which look the same has been there.
#[derive(Debug, Default)]
pub(crate) struct Seen(Option<(u64, Instant)>);

impl Seen {
    /// For how long `what` has been there, as far as looks tell; none while there is nothing.
    pub(crate) fn look(&mut self, what: Option<u64>, now: Instant) -> Option<Duration> {
        let same = self.0.filter(|(known, _)| what == Some(*known));
        self.0 = same.or(what.map(|what| (what, now)));
        self.0.map(|(_, at)| now.saturating_duration_since(at))
    }
}

impl<T> Unstalled<T> {
    pub(crate) fn new(io: T, limit: Duration, heard: Arc<Heard>) -> Self {
        Self { io, limit, timer: None, heard }
    }

    /// Passes on what a write gave; while it waits, the timer runs.
    fn judge<R>(
        &mut self,
        written: Poll<io::Result<R>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let limit = self.limit;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Unstalled<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.heard.something();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Unstalled<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.judge(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, bytes);
        self.judge(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        self.judge(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(context);
        self.judge(shut, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[test]
    fn what_is_there_is_told_from_what_came_after_it() {
        let (heard, mut seen, start) = (Heard::default(), Seen::default(), Instant::now());
        let second = |n| start + Duration::from_secs(n);
        assert_eq!(seen.look(heard.what(), second(0)), None);
        heard.something();
        heard.something();
        assert_eq!(seen.look(heard.what(), second(1)), Some(Duration::ZERO));
        assert_eq!(seen.look(heard.what(), second(4)), Some(Duration::from_secs(3)));
        heard.nothing();
        heard.something();
        assert_eq!(seen.look(heard.what(), second(5)), Some(Duration::ZERO), "it is another");
        heard.nothing();
        assert_eq!(seen.look(heard.what(), second(6)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut io = Unstalled::new(ours, Duration::from_secs(30), Arc::default());
        let slow = tokio::spawn(async move {
            let mut byte = [0; 4];
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                tokio::io::AsyncReadExt::read_exact(&mut theirs, &mut byte).await.unwrap();
            }
            theirs
        });
        io.write_all(&[0; 40]).await.unwrap(); // in 24 s and more, but never 30 without a byte
        let _theirs = slow.await.unwrap();
        let start = Instant::now();
        let error = io.write_all(&[0; 40]).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 30));
    }
}
