//! Of many who ask for the same at once, one asks the tool and all have its answer.
//!
//! The asking is a task of its own: it ends though the first who asked goes away, and the others need not begin again.

use ahash::AHashMap;
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::watch;

/// Askings under way, by key. As many as there are requests in flight, at most.
#[derive(Debug)]
pub(crate) struct Flights<T>(Arc<Mutex<AHashMap<String, watch::Receiver<Option<T>>>>>);

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// Takes the asking off the list, whatever became of it.
struct Listed<T> {
    flights: Arc<Mutex<AHashMap<String, watch::Receiver<Option<T>>>>>,
    key: String,
}

impl<T> Drop for Listed<T> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// The answer to `key`: of an asking that is under way, or of `ask`. With it, whether it was ours. None if the asking panicked.
    pub(crate) async fn join<F>(&self, key: String, ask: impl FnOnce() -> F) -> (Option<T>, bool)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (mut answer, ours) = {
            let mut flights = self.0.lock();
            match flights.get(&key) {
                Some(under_way) => (under_way.clone(), false),
                None => {
                    let (tell, told) = watch::channel(None);
                    flights.insert(key.clone(), told.clone());
                    let listed = Listed { flights: Arc::clone(&self.0), key };
                    let ask = ask();
                    tokio::spawn(async move {
                        let answer = ask.await;
                        drop(listed); // before it is told: who comes now asks anew
                        let _ = tell.send(Some(answer));
                    });
                    (told, true)
                }
            }
        };
        let told = answer.wait_for(Option::is_some).await;
        (told.ok().and_then(|answer| answer.clone()), ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_for_the_same_ask_once_and_the_first_may_go_away() {
        let flights = Arc::new(Flights::default());
        let asked = Arc::new(AtomicU32::new(0));
        let join = |key: &str| {
            let (flights, asked, key) = (Arc::clone(&flights), Arc::clone(&asked), key.to_owned());
            tokio::spawn(async move {
                let ask = || async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    asked.fetch_add(1, Ordering::Relaxed)
                };
                flights.join(key, ask).await
            })
        };
        let first = join("a");
        tokio::task::yield_now().await;
        let others: Vec<_> = (0..50).map(|_| join("a")).collect();
        let other = join("b");
        tokio::task::yield_now().await;
        first.abort();
        for waiting in others {
            assert_eq!(waiting.await.unwrap(), (Some(0), false));
        }
        assert_eq!(other.await.unwrap(), (Some(1), true));
        assert_eq!(join("a").await.unwrap(), (Some(2), true));
        assert!(flights.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_panic_is_told_to_all_and_leaves_nothing_behind() {
        let flights: Flights<u32> = Flights::default();
        let (answer, ours) = flights.join("a".to_owned(), || async { panic!("oh") }).await;
        assert_eq!((answer, ours, flights.0.lock().len()), (None, true, 0));
    }
}
