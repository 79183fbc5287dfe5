//! Agents and policies at hand: decisions need no database. Policies are a snapshot that is swapped whole, and lie on disk too, so that
//! a gateway that starts while the database is away knows them. How old they may be is bounded.

use super::{Agent, Database, DatabaseError};
use crate::access::policy::{MOST, Policies, Policy};
use crate::cache::store::{Ages, Cache};
use arc_swap::ArcSwap;
use bytes::Bytes;
use model::Timestamp;
use platform::durable;
use runtime::Clock;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// Agents at hand, in bytes.
const AGENTS: usize = 2 << 20;
/// An agent that is not there is asked for again after this; one that is, never changes.
const AGENT_AGES: Ages =
    Ages { fresh: Duration::from_secs(600), stale: Duration::from_secs(24 * 3_600) };

/// What is at hand.
#[derive(Debug)]
pub(crate) struct Directory {
    policies: ArcSwap<Known>,
    agents: Cache,
    file: PathBuf,
    max_age: Duration,
    clock: Clock,
    /// One change at a time, so that an older reading never replaces a newer.
    changing: tokio::sync::Mutex<()>,
}

/// The policies and when the database last said so; none before it ever did.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) policies: Policies,
    pub(crate) read: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct OnDisk {
    read: Timestamp,
    policies: Vec<Policy>,
}

/// Why a policy was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("there are {MOST} policies already; delete some")]
    TooMany,
}

impl Directory {
    /// With the policies that were last known, if any were.
    pub(crate) fn open(dir: &Path, max_age: Duration, clock: Clock) -> Self {
        let file = dir.join("policies.json");
        let known = std::fs::read(&file).ok().and_then(|text| {
            let OnDisk { read, policies } = serde_json::from_slice(&text).ok()?;
            Some(Known { policies: Policies::new(policies), read: Some(read) })
        });
        Self {
            policies: ArcSwap::from_pointee(known.unwrap_or_default()),
            agents: Cache::new(AGENTS),
            file,
            max_age,
            clock,
            changing: tokio::sync::Mutex::new(()),
        }
    }

    /// The policies as last read.
    pub(crate) fn known(&self) -> Arc<Known> {
        self.policies.load_full()
    }

    /// How old the policies are, or why they cannot be gone by.
    pub(crate) fn age(&self, known: &Known) -> Result<Duration, String> {
        let Some(read) = known.read else {
            return Err("no policies are known yet, and the database is away".to_owned());
        };
        let age = self.clock.now().since(read);
        if age > self.max_age {
            let (age, most) = (age.as_secs(), self.max_age.as_secs());
            return Err(format!(
                "the policies are {age} s old, {most} s are allowed, and the database is away"
            ));
        }
        Ok(age)
    }

    /// Reads the policies anew.
    pub(crate) async fn refresh(&self, database: &Database) -> Result<(), DatabaseError> {
        let _turn = self.changing.lock().await;
        self.read_again(database).await
    }

    async fn read_again(&self, database: &Database) -> Result<(), DatabaseError> {
        let policies = database.policies().await?;
        let read = self.clock.now();
        let changed = self.policies.load().policies.all() != policies;
        if changed || !self.file.exists() || self.disk_is_old(read) {
            let (file, on_disk) = (self.file.clone(), OnDisk { read, policies: policies.clone() });
            // A disk may take its time, and others are served on this thread.
            let keep = tokio::task::spawn_blocking(move || {
                let text = serde_json::to_vec(&on_disk).unwrap_or_default();
                if let Err(error) = durable::replace(&file, &text) {
                    warn!(%error, "the policies could not be kept on disk for a start without the database");
                }
            });
            let _ = keep.await;
        }
        if changed {
            info!(policies = policies.len(), "policies read");
        }
        self.policies
            .store(Arc::new(Known { policies: Policies::new(policies), read: Some(read) }));
        Ok(())
    }

    /// Once in a quarter of the allowed age the time on disk is renewed.
    fn disk_is_old(&self, now: Timestamp) -> bool {
        let written = std::fs::metadata(&self.file).and_then(|meta| meta.modified());
        written.map_or(true, |at| now.since(Timestamp::from_system(at)) > self.max_age / 4)
    }

    /// Adds or replaces a policy. It counts from the return on.
    pub(crate) async fn put(
        &self,
        database: &Database,
        policy: &Policy,
    ) -> Result<(), ChangeError> {
        let _turn = self.changing.lock().await;
        let known = self.known();
        let all = known.policies.all();
        if all.len() >= MOST && all.iter().all(|other| other.id != policy.id) {
            return Err(ChangeError::TooMany);
        }
        database.put_policy(policy).await?;
        Ok(self.read_again(database).await?)
    }

    /// Removes a policy; false if there is none.
    pub(crate) async fn delete(
        &self,
        database: &Database,
        id: &str,
    ) -> Result<bool, DatabaseError> {
        let _turn = self.changing.lock().await;
        let gone = database.delete_policy(id).await?;
        self.read_again(database).await?;
        Ok(gone)
    }

    /// Adds an agent.
    pub(crate) async fn add(
        &self,
        database: &Database,
        agent: &Agent,
    ) -> Result<(), DatabaseError> {
        database.put_agent(agent).await?;
        self.remember(agent);
        Ok(())
    }

    /// The agent, from the database or as last known while that is away.
    pub(crate) async fn agent(
        &self,
        database: &Database,
        id: &str,
    ) -> Result<Option<Agent>, DatabaseError> {
        let at_hand = self.agents.get(id);
        let read = |body: &Bytes| serde_json::from_slice(body).ok();
        if let Some(found) = at_hand.as_ref().filter(|found| found.fresh)
            && let Some(agent) = read(&found.body)
        {
            return Ok(Some(agent));
        }
        match database.agent(id).await {
            Ok(agent) => {
                agent.iter().for_each(|agent| self.remember(agent));
                Ok(agent)
            }
            Err(error) => match at_hand.and_then(|found| read(&found.body)) {
                Some(agent) => Ok(Some(agent)),
                None => Err(error),
            },
        }
    }

    fn remember(&self, agent: &Agent) {
        let body = serde_json::to_vec(agent).unwrap_or_default();
        self.agents.put(&agent.id, Bytes::from(body), AGENT_AGES);
    }

    /// Agents not asked for make room; gives the bytes.
    pub(crate) fn shrink(&self, share: f64) -> usize {
        let freed = self.agents.shrink(share);
        self.agents.restore();
        freed
    }
}
