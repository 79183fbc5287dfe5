//! One job: its targets come and go with discovery, each scraped by a task of its own while it is there.

use crate::config::{CollectorConfig, ScrapeConfig};
use crate::discovery::{Discovery, Found};
use crate::scrape::client::JobClient;
use crate::scrape::cycle::Cycle;
use crate::target::{Identity, TargetBoard, targets};
use crate::{schedule, scrape};
use runtime::{Clock, Stop, Tick};
use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use store::Writer;
use tokio::task::{Id, JoinError, JoinSet};
use tracing::{info, warn};

/// After a scrape that ended badly.
const AGAIN: Duration = Duration::from_secs(1);

/// What every scrape needs.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) writer: Writer,
    pub(crate) clock: Clock,
    pub(crate) board: TargetBoard,
    pub(crate) meters: scrape::Meters,
}

/// A job ready to run.
#[derive(Debug)]
pub(crate) struct Job {
    scrape: ScrapeConfig,
    config: Arc<CollectorConfig>,
    discovery: Discovery,
    client: Arc<JobClient>,
    tools: Tools,
    /// How to end each target that is scraped now.
    running: HashMap<Identity, Stop>,
    tasks: JoinSet<()>,
    /// Which target each task scrapes.
    scraping: HashMap<Id, Identity>,
}

impl Job {
    pub(crate) fn new(scrape: &ScrapeConfig, config: &Arc<CollectorConfig>, tools: Tools) -> Self {
        Self {
            discovery: Discovery::new(scrape),
            client: Arc::new(JobClient::new(
                scrape.tls_config.as_ref().map(Into::into).unwrap_or_default(),
            )),
            scrape: scrape.clone(),
            config: Arc::clone(config),
            tools,
            running: HashMap::new(),
            tasks: JoinSet::new(),
            scraping: HashMap::new(),
        }
    }

    /// Scrapes until stopped.
    pub(crate) async fn run(mut self, stop: Stop) {
        loop {
            // Looking may wait for name servers; it is dropped whole.
            let found = tokio::select! {
                () = stop.wait() => break,
                found = self.discovery.look() => found,
            };
            self.follow(found);
            let wait = self.discovery.refresh().unwrap_or(Duration::MAX);
            if self.watch(wait, &stop).await == Tick::Stopped {
                break;
            }
        }
        // The series do not end here: another start goes on with them.
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Waits for the next look at what there is: for `wait`, or until a moment after a scrape has ended badly.
    async fn watch(&mut self, wait: Duration, stop: &Stop) -> Tick {
        let mut next = pin!(tokio::time::sleep(wait));
        loop {
            tokio::select! {
                () = stop.wait() => return Tick::Stopped,
                () = &mut next => return Tick::Elapsed,
                Some(ended) = self.tasks.join_next_with_id() => {
                    if self.note_end(ended) {
                        return stop.wait_for(AGAIN).await;
                    }
                }
            }
        }
    }

    /// A scrape has ended; true if it must begin anew.
    fn note_end(&mut self, ended: Result<(Id, ()), JoinError>) -> bool {
        let (id, panicked) = match ended {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(error)),
        };
        let identity = self.scraping.remove(&id);
        let (Some(identity), Some(error)) = (identity, panicked) else { return false };
        warn!(scrape_target = identity.0, %error, "a scrape ended badly, and begins anew");
        self.running.remove(&identity);
        true
    }

    /// Starts what is new and ends what is gone.
    fn follow(&mut self, found: BTreeSet<Found>) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.note_end(ended);
        }
        let wanted = targets(&self.scrape, &self.config, found);
        self.running.retain(|identity, stop| {
            let stays = wanted.contains_key(identity);
            if !stays {
                info!(scrape_target = identity.0, "target is gone");
                stop.request();
            }
            stays
        });
        for (identity, target) in wanted {
            if self.running.contains_key(&identity) {
                continue;
            }
            let stop = Stop::new();
            self.running.insert(identity.clone(), stop.clone());
            let cycle = Cycle::new(target, &self.tools, Arc::clone(&self.client));
            let task = self.tasks.spawn(schedule::scrape(cycle, stop));
            self.scraping.insert(task.id(), identity);
        }
    }
}

#[cfg(test)]
mod tests;
