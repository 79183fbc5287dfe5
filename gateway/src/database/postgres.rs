//! A PostgreSQL: connections are made when needed, at most so many, and replaced after a while. One that failed is closed; none is used
//! by two at once.

use super::{Agent, DatabaseError, Record, SCHEMA};
use crate::config::DatabaseConfig;
use model::Timestamp;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row};

/// An idle connection is closed after this, down to one.
const IDLE: Duration = Duration::from_secs(60);

/// The connections to it.
#[derive(Debug)]
pub(super) struct Postgres {
    config: Config,
    places: Semaphore,
    /// Held by each connection to its very end, also by one that waits for an answer that nobody waits for any more.
    links: Arc<Semaphore>,
    idle: Mutex<Vec<Link>>,
    open: Arc<AtomicUsize>,
    lifetime: Duration,
    has_tables: AtomicBool,
}

#[derive(Debug)]
struct Link {
    client: Client,
    since: Instant,
    used: Instant,
}

impl Postgres {
    pub(super) fn new(config: &DatabaseConfig) -> Result<Self, String> {
        let words = config.postgres.as_deref().unwrap_or_default();
        let mut parsed: Config = words
            .parse()
            .map_err(|error| format!("gateway.database.postgres: {error}; write it as host=127.0.0.1 user=gateway dbname=gateway"))?;
        if let Some(file) = &config.password_file {
            let password = std::fs::read_to_string(file).map_err(|error| {
                format!("could not read gateway.database.password_file {}: {error}", file.display())
            })?;
            parsed.password(password.trim_end_matches(['\r', '\n']));
        }
        if parsed.get_options().is_none() {
            // The server ends what we no longer wait for.
            parsed.options(format!("-c statement_timeout={}", config.timeout.as_millis()));
        }
        parsed.connect_timeout(config.timeout).keepalives_idle(Duration::from_secs(15));
        if parsed.get_tcp_user_timeout().is_none() {
            // A server that vanished holds no connection for the quarter of an hour that TCP would.
            parsed.tcp_user_timeout(Duration::from_secs(10));
        }
        if parsed.get_application_name().is_none() {
            parsed.application_name("forerunner");
        }
        Ok(Self {
            config: parsed,
            places: Semaphore::new(config.max_connections),
            links: Arc::new(Semaphore::new(config.max_connections)),
            idle: Mutex::new(Vec::new()),
            open: Arc::default(),
            lifetime: config.max_lifetime,
            has_tables: AtomicBool::new(false),
        })
    }

    pub(super) fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Lends a connection to `question`. It comes back if the question was answered, even with a refusal.
    async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&mut Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DatabaseError> {
        let _place = self.places.acquire().await.map_err(|error| away(&error))?;
        let mut link = self.take().await?;
        let answer = question(&mut link.client).await;
        match answer {
            Ok(answer) => {
                self.give_back(link);
                Ok(answer)
            }
            Err(error) if is_refusal(&error) => {
                self.give_back(link);
                Err(DatabaseError::Refused(words(&error)))
            }
            Err(error) => {
                // The others of that time are most likely dead too.
                self.idle.lock().clear();
                Err(DatabaseError::Away(words(&error)))
            }
        }
    }

    async fn take(&self) -> Result<Link, DatabaseError> {
        loop {
            let Some(link) = self.idle.lock().pop() else { return self.connect().await };
            if !link.client.is_closed() && link.since.elapsed() < self.lifetime {
                return Ok(link);
            }
        }
    }

    fn give_back(&self, mut link: Link) {
        link.used = Instant::now();
        let mut idle = self.idle.lock();
        idle.push(link);
        // The last one in is the first one out, so those at the front are the ones that are not needed.
        while idle.len() > 1 && idle.first().is_some_and(|link| link.used.elapsed() > IDLE) {
            idle.remove(0);
        }
    }

    async fn connect(&self) -> Result<Link, DatabaseError> {
        let link = Arc::clone(&self.links).try_acquire_owned();
        let link = link.map_err(|_| DatabaseError::Away("all connections hang".to_owned()))?;
        let connected = self.config.connect(NoTls).await;
        let (client, connection) = connected.map_err(|error| DatabaseError::Away(words(&error)))?;
        let open = Arc::clone(&self.open);
        open.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let _ = connection.await; // ends with the client, or with the server
            open.fetch_sub(1, Ordering::Relaxed);
            drop(link);
        });
        if !self.has_tables.load(Ordering::Relaxed) {
            // Two gateways that start at once may both try; the second try finds the tables there.
            let mut made = client.batch_execute(SCHEMA).await;
            if made.is_err() {
                made = client.batch_execute(SCHEMA).await;
            }
            made.map_err(|error| DatabaseError::Away(words(&error)))?;
            self.has_tables.store(true, Ordering::Relaxed);
        }
        let now = Instant::now();
        Ok(Link { client, since: now, used: now })
    }

    pub(super) async fn probe(&self, now: Timestamp) -> Result<(), DatabaseError> {
        let write =
            "INSERT INTO probe VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET time = excluded.time";
        self.ask(async |client| {
            client.execute(write, &[&now.millis()]).await?;
            client.query_one("SELECT time FROM probe WHERE id = 1", &[]).await.map(drop)
        })
        .await
    }

    pub(super) async fn policies(&self) -> Result<Vec<String>, DatabaseError> {
        let rows = self
            .ask(async |client| client.query("SELECT policy FROM policies ORDER BY id", &[]).await)
            .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    pub(super) async fn put_policy(&self, id: &str, text: &str) -> Result<(), DatabaseError> {
        let put = "INSERT INTO policies VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET policy = excluded.policy";
        self.ask(async |client| client.execute(put, &[&id, &text]).await.map(drop)).await
    }

    pub(super) async fn delete_policy(&self, id: &str) -> Result<bool, DatabaseError> {
        let delete = "DELETE FROM policies WHERE id = $1";
        self.ask(async |client| Ok(client.execute(delete, &[&id]).await? > 0)).await
    }

    pub(super) async fn put_agent(&self, agent: &Agent) -> Result<(), DatabaseError> {
        let insert = "INSERT INTO agents VALUES ($1, $2, $3, $4, $5, $6)";
        let Agent { id, name, created_by, role, public_key, created } = agent;
        let created = created.millis();
        self.ask(async |client| {
            client.execute(insert, &[id, name, created_by, role, public_key, &created]).await
        })
        .await
        .map(drop)
    }

    pub(super) async fn agent(&self, id: &str) -> Result<Option<Agent>, DatabaseError> {
        let select =
            "SELECT id, name, created_by, role, public_key, created FROM agents WHERE id = $1";
        let row = self.ask(async |client| client.query_opt(select, &[&id]).await).await?;
        Ok(row.map(|row| Agent {
            id: row.get(0),
            name: row.get(1),
            created_by: row.get(2),
            role: row.get(3),
            public_key: row.get(4),
            created: Timestamp(row.get(5)),
        }))
    }

    /// One statement, however many: a question for each would take as long as the way there and back, each time.
    pub(super) async fn append(&self, records: &[Record]) -> Result<(), DatabaseError> {
        let insert = "INSERT INTO audit SELECT * FROM UNNEST(
             $1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::int[], $7::text[], $8::int[])
             ON CONFLICT (id) DO NOTHING";
        let texts = |of: fn(&Record) -> &str| records.iter().map(of).collect::<Vec<_>>();
        let times: Vec<i64> = records.iter().map(|it| it.time.millis()).collect();
        let codes: Vec<i32> = records.iter().map(|it| i32::from(it.status)).collect();
        let millis = |it: &Record| i32::try_from(it.millis).unwrap_or(i32::MAX);
        let millis: Vec<i32> = records.iter().map(millis).collect();
        let (ids, kinds) = (texts(|it| &it.id), texts(|it| &it.kind));
        let (agents, subjects) = (texts(|it| &it.agent), texts(|it| &it.subject));
        let details = texts(|it| &it.detail);
        self.ask(async |client| {
            let all: [&(dyn ToSql + Sync); 8] =
                [&ids, &times, &kinds, &agents, &subjects, &codes, &details, &millis];
            client.execute(insert, &all).await.map(drop)
        })
        .await
    }

    pub(super) async fn forget(&self, time: Timestamp) -> Result<u64, DatabaseError> {
        let some =
            "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE time < $1 LIMIT 5000)";
        self.ask(async |client| client.execute(some, &[&time.millis()]).await).await
    }

    /// By the server's own estimate, made anew when it is over: to count them would take long.
    pub(super) async fn surplus(&self, most: u64) -> Result<u64, DatabaseError> {
        let estimate = "SELECT reltuples::bigint FROM pg_class WHERE oid = 'audit'::regclass";
        let over =
            move |row: Row| u64::try_from(row.get::<_, i64>(0)).unwrap_or(0).saturating_sub(most);
        self.ask(async |client| {
            if over(client.query_one(estimate, &[]).await?) == 0 {
                return Ok(0);
            }
            client.batch_execute("ANALYZE audit").await?;
            client.query_one(estimate, &[]).await.map(over)
        })
        .await
    }

    pub(super) async fn forget_oldest(&self, number: u64) -> Result<u64, DatabaseError> {
        let some = "DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY time LIMIT $1)";
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.ask(async |client| client.execute(some, &[&number]).await).await
    }
}

/// Whether it is what was asked that the server refuses: a value (class 22) or a rule of the tables (23). Anything else may be over later.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    let of_values =
        |code: &SqlState| code.code().starts_with("22") || code.code().starts_with("23");
    !error.is_closed() && error.code().is_some_and(of_values)
}

fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(told) => told.message().to_owned(),
        None => {
            std::error::Error::source(error).map_or_else(|| error.to_string(), |it| it.to_string())
        }
    }
}

fn away(error: &dyn std::error::Error) -> DatabaseError {
    DatabaseError::Away(error.to_string())
}
