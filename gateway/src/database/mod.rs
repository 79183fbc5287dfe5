//! Where agents, policies and the audit are kept: an embedded SQLite, or a PostgreSQL that several gateways share.
//!
//! - `sqlite`: one connection on a thread of its own; `postgres`: a few, each replaced after a while
//! - `audit`: records on their way, on disk while the database is away
//! - `directory`: what of agents and policies is at hand, also while the database is away

pub(crate) mod audit;
pub(crate) mod directory;
mod postgres;
mod sqlite;

use crate::access::policy::Policy;
use crate::chaos::lease::Lease;
use crate::config::DatabaseConfig;
use model::Timestamp;
use postgres::Postgres;
use serde::{Deserialize, Serialize};
use sqlite::Sqlite;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DatabaseError {
    /// It cannot be reached, or does not answer in time.
    #[error("the database is away: {0}")]
    Away(String),
    /// It answers, and refuses.
    #[error("the database refuses: {0}")]
    Refused(String),
}

/// Holds a lock for as long as it is told to; blocks.
pub(crate) type LockHolder = Box<dyn FnOnce(&dyn Fn() -> bool) + Send>;

/// Who calls.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created_by: String,
    pub(crate) role: String,
    /// PEM; the private key was given to the agent and is not kept.
    pub(crate) public_key: String,
    pub(crate) created: Timestamp,
}

/// What happened, for the audit: a decision, or a token that was given.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Record {
    /// A ULID: written twice it is kept once.
    pub(crate) id: String,
    pub(crate) time: Timestamp,
    /// `call`, `token`, `agent`, `policy`, `admin`.
    pub(crate) kind: String,
    pub(crate) agent: String,
    /// `tool:action`, or what else it was about.
    pub(crate) subject: String,
    pub(crate) status: u16,
    /// Why it was refused, or a note; never parameters: they may be private.
    pub(crate) detail: String,
    pub(crate) millis: u32,
}

/// Records that go at once: nobody else waits long for that.
pub(crate) const AT_ONCE: u64 = 5_000;

/// Tables of both.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS agents (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, created_by TEXT NOT NULL, role TEXT NOT NULL,
    public_key TEXT NOT NULL, created BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS policies (id TEXT PRIMARY KEY, policy TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS audit (
    id TEXT PRIMARY KEY, time BIGINT NOT NULL, kind TEXT NOT NULL, agent TEXT NOT NULL,
    subject TEXT NOT NULL, status INTEGER NOT NULL, detail TEXT NOT NULL, millis INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS audit_time ON audit (time);
CREATE TABLE IF NOT EXISTS probe (id INTEGER PRIMARY KEY, time BIGINT NOT NULL);
";

/// The database. Each question has an end: an answer, or that it is away.
#[derive(Debug)]
pub(crate) struct Database {
    kind: Kind,
    timeout: Duration,
    /// A fault on purpose: it gives no answer.
    pub(crate) away: Arc<Lease>,
    /// A fault on purpose: each question takes so many seconds longer, as the bits of a float.
    pub(crate) slow: (Arc<Lease>, AtomicU64),
}

#[derive(Debug)]
enum Kind {
    Sqlite(Sqlite),
    Postgres(Box<Postgres>),
}

impl Database {
    /// As configured; nothing is asked yet, so it cannot be away.
    pub(crate) fn open(config: &DatabaseConfig, dir: &Path) -> Result<Self, String> {
        let kind = match &config.postgres {
            Some(_) => Kind::Postgres(Box::new(Postgres::new(config)?)),
            None => Kind::Sqlite(Sqlite::start(dir.join("gateway.sqlite"))?),
        };
        Ok(Self { kind, timeout: config.timeout, away: Arc::default(), slow: Default::default() })
    }

    /// Whether it reads and writes, and how long that takes.
    pub(crate) async fn probe(&self, now: Timestamp) -> Result<Duration, DatabaseError> {
        let start = Instant::now();
        let asked = async {
            match &self.kind {
                Kind::Sqlite(sqlite) => sqlite.ask(move |it| sqlite::probe(it, now)).await,
                Kind::Postgres(postgres) => postgres.probe(now).await,
            }
        };
        self.within(asked).await.map(|()| start.elapsed())
    }

    pub(crate) async fn policies(&self) -> Result<Vec<Policy>, DatabaseError> {
        let texts = self
            .within(async {
                match &self.kind {
                    Kind::Sqlite(sqlite) => sqlite.ask(sqlite::policies).await,
                    Kind::Postgres(postgres) => postgres.policies().await,
                }
            })
            .await?;
        let read = |text: &String| serde_json::from_str(text);
        texts.iter().map(read).collect::<Result<_, _>>().map_err(|error| {
            DatabaseError::Refused(format!("a policy in it cannot be read: {error}"))
        })
    }

    pub(crate) async fn put_policy(&self, policy: &Policy) -> Result<(), DatabaseError> {
        let id = policy.id.clone();
        let text = serde_json::to_string(policy).unwrap_or_default();
        self.within(async {
            match &self.kind {
                Kind::Sqlite(sqlite) => {
                    sqlite.ask(move |it| sqlite::put_policy(it, &id, &text)).await
                }
                Kind::Postgres(postgres) => postgres.put_policy(&id, &text).await,
            }
        })
        .await
    }

    /// True if it was there.
    pub(crate) async fn delete_policy(&self, id: &str) -> Result<bool, DatabaseError> {
        let id = id.to_owned();
        self.within(async {
            match &self.kind {
                Kind::Sqlite(sqlite) => sqlite.ask(move |it| sqlite::delete_policy(it, &id)).await,
                Kind::Postgres(postgres) => postgres.delete_policy(&id).await,
            }
        })
        .await
    }

    pub(crate) async fn put_agent(&self, agent: &Agent) -> Result<(), DatabaseError> {
        let agent = agent.clone();
        self.within(async {
            match &self.kind {
                Kind::Sqlite(sqlite) => sqlite.ask(move |it| sqlite::put_agent(it, &agent)).await,
                Kind::Postgres(postgres) => postgres.put_agent(&agent).await,
            }
        })
        .await
    }

    pub(crate) async fn agent(&self, id: &str) -> Result<Option<Agent>, DatabaseError> {
        let id = id.to_owned();
        self.within(async {
            match &self.kind {
                Kind::Sqlite(sqlite) => sqlite.ask(move |it| sqlite::agent(it, &id)).await,
                Kind::Postgres(postgres) => postgres.agent(&id).await,
            }
        })
        .await
    }

    /// Keeps records, all or none; one that is there already stays as it is.
    pub(crate) async fn append(&self, records: Vec<Record>) -> Result<(), DatabaseError> {
        self.within(async {
            match &self.kind {
                Kind::Sqlite(sqlite) => sqlite.ask(move |it| sqlite::append(it, &records)).await,
                Kind::Postgres(postgres) => postgres.append(&records).await,
            }
        })
        .await
    }

    /// Records from before `time` go, [`AT_ONCE`] at a time; gives how many.
    pub(crate) async fn forget(&self, time: Timestamp) -> Result<u64, DatabaseError> {
        self.within(async {
            match &self.kind {
                Kind::Sqlite(sqlite) => sqlite.ask(move |it| sqlite::forget(it, time)).await,
                Kind::Postgres(postgres) => postgres.forget(time).await,
            }
        })
        .await
    }

    /// How many records there are over `most`.
    pub(crate) async fn surplus(&self, most: u64) -> Result<u64, DatabaseError> {
        self.within(async {
            match &self.kind {
                Kind::Sqlite(sqlite) => sqlite.ask(move |it| sqlite::surplus(it, most)).await,
                Kind::Postgres(postgres) => postgres.surplus(most).await,
            }
        })
        .await
    }

    /// The oldest records go, so many; gives how many there were.
    pub(crate) async fn forget_oldest(&self, number: u64) -> Result<u64, DatabaseError> {
        self.within(async {
            match &self.kind {
                Kind::Sqlite(sqlite) => {
                    sqlite.ask(move |it| sqlite::forget_oldest(it, number)).await
                }
                Kind::Postgres(postgres) => postgres.forget_oldest(number).await,
            }
        })
        .await
    }

    /// What holds the database's lock while it is told to, on purpose.
    pub(crate) fn lock_holder(&self) -> Result<LockHolder, String> {
        match &self.kind {
            Kind::Sqlite(sqlite) => Ok(sqlite.lock_holder()),
            Kind::Postgres(_) => {
                Err("only the embedded database can be locked from here".to_owned())
            }
        }
    }

    /// Connections open now.
    pub(crate) fn connections(&self) -> usize {
        match &self.kind {
            Kind::Sqlite(sqlite) => sqlite.connections(),
            Kind::Postgres(postgres) => postgres.connections(),
        }
    }

    /// On the heap: the client's futures take kilobytes, which every request would carry along, asked or not.
    fn within<'a, T: 'a>(
        &'a self,
        asked: impl Future<Output = Result<T, DatabaseError>> + Send + 'a,
    ) -> Pin<Box<dyn Future<Output = Result<T, DatabaseError>> + Send + 'a>> {
        Box::pin(async move {
            if self.away.hits() {
                return Err(DatabaseError::Away("a fault on purpose".to_owned()));
            }
            let late = || DatabaseError::Away(format!("no answer within {:?}", self.timeout));
            let asked = async {
                if self.slow.0.hits() {
                    let seconds = f64::from_bits(self.slow.1.load(Ordering::Acquire));
                    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
                }
                asked.await
            };
            timeout(self.timeout, asked).await.unwrap_or_else(|_| Err(late()))
        })
    }
}
