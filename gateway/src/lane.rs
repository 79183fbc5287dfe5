//! The data plane's threads. Each connection stays on one, with its own connections to tools: nothing that a request does wakes another
//! thread, which costs more than the request itself.

use crate::GatewayError;
use crate::admit::overload::Overload;
use crate::health::board::Board;
use runtime::{Clock, Stop, Tick};
use std::cell::Cell;
use std::future::Future;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Connections on their way to one thread.
const QUEUE: usize = 1_024;
/// Threads at most.
const MOST: usize = 64;

thread_local! {
    static HERE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The number of this thread among those of the data plane; past all of them elsewhere.
pub(crate) fn here() -> usize {
    HERE.get()
}

/// As many as the machine has processors.
pub(crate) fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST)
}

/// A connection that was accepted, and its place.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) socket: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) slot: OwnedSemaphorePermit,
}

/// The threads.
#[derive(Debug)]
pub(crate) struct Lanes {
    arrivals: Vec<mpsc::Sender<Arrival>>,
    next: AtomicUsize,
    threads: Vec<JoinHandle<()>>,
}

impl Lanes {
    /// Starts `number` threads, each of which does `serve` with every connection that it gets.
    pub(crate) fn start<F>(
        number: usize,
        (board, overload, clock): (&Arc<Board>, &Arc<[Overload]>, Clock),
        serve: impl Fn(Arrival) -> F + Clone + Send + 'static,
    ) -> Result<Self, GatewayError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut lanes =
            Self { arrivals: Vec::new(), next: AtomicUsize::new(0), threads: Vec::new() };
        for lane in 0..number {
            let (sender, mut arrivals) = mpsc::channel(QUEUE);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(GatewayError::Thread)?;
            let (board, overload) = (Arc::clone(board), Arc::clone(overload));
            let serve = serve.clone();
            let thread =
                std::thread::Builder::new().name(format!("data-{lane}")).spawn(move || {
                    HERE.set(lane);
                    runtime.block_on(async {
                        tokio::spawn(heartbeat(lane, board, overload, clock));
                        while let Some(arrival) = arrivals.recv().await {
                            tokio::spawn(serve(arrival));
                        }
                    });
                    runtime.shutdown_timeout(Duration::from_millis(100));
                });
            lanes.arrivals.push(sender);
            lanes.threads.push(thread.map_err(GatewayError::Thread)?);
        }
        Ok(lanes)
    }

    /// Hands a connection to the next thread; false when that has too many on their way already.
    pub(crate) fn hand(&self, arrival: Arrival) -> bool {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.arrivals.len().max(1);
        self.arrivals.get(next).is_some_and(|lane| lane.try_send(arrival).is_ok())
    }

    /// Ends the threads; connections that are still open are cut off.
    pub(crate) fn end(self) {
        drop(self.arrivals);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// A sign of life of one thread, and how late its tasks run.
async fn heartbeat(lane: usize, board: Arc<Board>, overload: Arc<[Overload]>, clock: Clock) {
    let forever = Stop::new();
    loop {
        let due = clock.monotonic() + Overload::EVERY;
        if forever.wait_until(due).await == Tick::Stopped {
            return;
        }
        // A timer is a millisecond late by itself.
        let late = clock.monotonic().saturating_duration_since(due);
        if let Some(overload) = overload.get(lane) {
            overload.woke(late.saturating_sub(Duration::from_millis(2)));
        }
        board.beat(lane);
    }
}
