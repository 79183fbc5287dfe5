//! Answers that are asked for again and again are fetched anew shortly before they are too old, so that nobody waits for the tool.

use crate::component::Pulse;
use runtime::{Stop, Tick};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

/// Orders that wait; more are dropped, and who asks after the end of an answer waits for the tool.
const QUEUE: usize = 64;
/// Askings at once.
const AT_ONCE: usize = 8;
/// Between two signs of life.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// An asking that nobody waits for.
type Order = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where orders are given.
#[derive(Clone, Debug)]
pub(crate) struct Orders(mpsc::Sender<Order>);

/// Where they come out.
#[derive(Debug)]
pub(crate) struct Warmer(Mutex<mpsc::Receiver<Order>>);

/// Both ends.
pub(crate) fn open() -> (Orders, Warmer) {
    let (orders, ordered) = mpsc::channel(QUEUE);
    (Orders(orders), Warmer(Mutex::new(ordered)))
}

impl Orders {
    /// Has `asking` done soon, if there is room for it.
    pub(crate) fn order(&self, asking: impl Future<Output = ()> + Send + 'static) -> bool {
        self.0.try_send(Box::pin(asking)).is_ok()
    }
}

impl Warmer {
    /// Does what is ordered until stopped. What is under way is dropped then.
    pub(crate) async fn work(&self, pulse: Pulse, stop: Stop) {
        let mut ordered = self.0.lock().await;
        let mut asking = JoinSet::new();
        while pulse.beat().await {
            let mut over = std::pin::pin!(stop.wait_for(EVERY));
            loop {
                tokio::select! {
                    tick = &mut over => match tick {
                        Tick::Stopped => return,
                        Tick::Elapsed => break,
                    },
                    Some(order) = ordered.recv(), if asking.len() < AT_ONCE => {
                        asking.spawn(order);
                    }
                    Some(_) = asking.join_next() => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn orders_are_done_a_few_at_a_time_and_those_past_the_queue_are_refused() {
        let (orders, warmer) = open();
        let (now, most, done) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let order = || {
            let (now, most, done) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&done));
            orders.order(async move {
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
                now.fetch_sub(1, Ordering::Relaxed);
                done.fetch_add(1, Ordering::Relaxed);
            })
        };
        assert_eq!((0..QUEUE + 5).filter(|_| order()).count(), QUEUE);
        let stop = Stop::new();
        let working = {
            let stop = stop.clone();
            tokio::spawn(async move { warmer.work(Pulse::alone(), stop).await })
        };
        while done.load(Ordering::Relaxed) < QUEUE {
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(most.load(Ordering::Relaxed), AT_ONCE);
        stop.request();
        working.await.unwrap();
    }
}
