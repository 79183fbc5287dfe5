//! The embedded database: one connection on a thread of its own, asked through a bounded queue. After an error of the file it is opened
//! anew, so that a disk that was full or away is no lasting harm.

use super::{AT_ONCE, Agent, DatabaseError, Record, SCHEMA};
use model::Timestamp;
use platform::durable::identity;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::warn;

/// Questions that wait at most.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce(Result<&mut Connection, &DatabaseError>) -> bool + Send>;

/// A handle on the thread; it ends with the last handle.
#[derive(Debug)]
pub(super) struct Sqlite {
    jobs: SyncSender<Job>,
    open: Arc<AtomicUsize>,
    path: PathBuf,
}

impl Sqlite {
    pub(super) fn start(path: PathBuf) -> Result<Self, String> {
        let (jobs, todo) = sync_channel(QUEUE);
        let open = Arc::new(AtomicUsize::new(0));
        let (counted, own) = (Arc::clone(&open), path.clone());
        std::thread::Builder::new()
            .name("sqlite".to_owned())
            .spawn(move || work(&own, &todo, &counted))
            .map_err(|error| format!("could not start the database's thread: {error}"))?;
        Ok(Self { jobs, open, path })
    }

    /// What holds the lock by a connection of its own.
    pub(super) fn lock_holder(&self) -> super::LockHolder {
        let path = self.path.clone();
        Box::new(move |on| {
            let held = Connection::open(&path).and_then(|connection| {
                connection.busy_timeout(Duration::from_secs(1))?;
                connection.execute_batch("BEGIN EXCLUSIVE")?;
                while on() {
                    std::thread::park_timeout(Duration::from_millis(20));
                }
                connection.execute_batch("ROLLBACK")
            });
            if let Err(error) = held {
                warn!(%error, "the database could not be locked on purpose");
            }
        })
    }

    /// Has `question` answered by the thread.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            if tell.is_closed() {
                return true; // nobody waits any more
            }
            let answer = match connection {
                Ok(connection) => question(connection).map_err(|error| failure(&error)),
                Err(away) => Err(away.clone()),
            };
            let usable = !matches!(answer, Err(DatabaseError::Away(_)));
            let _ = tell.send(answer);
            usable
        });
        self.jobs.try_send(job).map_err(|error| {
            DatabaseError::Away(match error {
                TrySendError::Full(_) => format!("{QUEUE} questions wait already"),
                TrySendError::Disconnected(_) => "its thread has ended".to_owned(),
            })
        })?;
        told.await.unwrap_or_else(|_| Err(DatabaseError::Away("its thread has ended".to_owned())))
    }

    pub(super) fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

fn work(path: &Path, todo: &Receiver<Job>, open: &AtomicUsize) {
    let mut connection: Option<Connection> = None;
    let mut file = None;
    while let Ok(job) = todo.recv() {
        // A database of which the file was taken away would go on writing into nothing.
        if connection.is_some() && identity(path) != file {
            warn!(path = %path.display(), "the database's file is not the one that it was");
            connection = None;
        }
        let opened = match connection.take() {
            Some(connection) => Ok(connection),
            None => connect(path).map_err(|error| failure(&error)),
        };
        open.store(usize::from(opened.is_ok()), Ordering::Relaxed);
        match opened {
            Ok(mut ready) => {
                file = identity(path);
                if job(Ok(&mut ready)) {
                    connection = Some(ready);
                } else {
                    open.store(0, Ordering::Relaxed);
                }
            }
            Err(away) => {
                job(Err(&away));
            }
        }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.execute_batch(SCHEMA)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600));
    }
    Ok(connection)
}

/// Whether the file fails, or what was asked.
fn failure(error: &rusqlite::Error) -> DatabaseError {
    let words = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => {
            DatabaseError::Refused(words)
        }
        _ => DatabaseError::Away(words),
    }
}

pub(super) fn probe(connection: &mut Connection, now: Timestamp) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO probe VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET time = excluded.time",
        [now.millis()],
    )?;
    connection.query_row("SELECT time FROM probe WHERE id = 1", [], |row| row.get::<_, i64>(0))?;
    Ok(())
}

pub(super) fn policies(connection: &mut Connection) -> rusqlite::Result<Vec<String>> {
    let mut select = connection.prepare_cached("SELECT policy FROM policies ORDER BY id")?;
    select.query_map([], |row| row.get(0))?.collect()
}

pub(super) fn put_policy(
    connection: &mut Connection,
    id: &str,
    text: &str,
) -> rusqlite::Result<()> {
    let put = "INSERT INTO policies VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET policy = excluded.policy";
    connection.prepare_cached(put)?.execute([id, text]).map(drop)
}

pub(super) fn delete_policy(connection: &mut Connection, id: &str) -> rusqlite::Result<bool> {
    connection.execute("DELETE FROM policies WHERE id = ?1", [id]).map(|gone| gone > 0)
}

pub(super) fn put_agent(connection: &mut Connection, agent: &Agent) -> rusqlite::Result<()> {
    let Agent { id, name, created_by, role, public_key, created } = agent;
    connection
        .prepare_cached("INSERT INTO agents VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![id, name, created_by, role, public_key, created.millis()])
        .map(drop)
}

pub(super) fn agent(connection: &mut Connection, id: &str) -> rusqlite::Result<Option<Agent>> {
    let select = "SELECT id, name, created_by, role, public_key, created FROM agents WHERE id = ?1";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Agent {
            id: row.get(0)?,
            name: row.get(1)?,
            created_by: row.get(2)?,
            role: row.get(3)?,
            public_key: row.get(4)?,
            created: Timestamp(row.get(5)?),
        })
    };
    connection.prepare_cached(select)?.query_row([id], read).optional()
}

pub(super) fn append(connection: &mut Connection, records: &[Record]) -> rusqlite::Result<()> {
    let all = connection.transaction()?;
    {
        let insert = "INSERT OR IGNORE INTO audit VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let mut insert = all.prepare_cached(insert)?;
        for it in records {
            let time = it.time.millis();
            insert.execute(params![
                it.id, time, it.kind, it.agent, it.subject, it.status, it.detail, it.millis
            ])?;
        }
    }
    all.commit()
}

pub(super) fn forget(connection: &mut Connection, time: Timestamp) -> rusqlite::Result<u64> {
    let some =
        "DELETE FROM audit WHERE rowid IN (SELECT rowid FROM audit WHERE time < ?1 LIMIT ?2)";
    let gone = connection.execute(some, params![time.millis(), AT_ONCE as i64]);
    gone.map(|gone| gone as u64)
}

/// Rows are numbered in the order of their coming: to count them would take long.
pub(super) fn surplus(connection: &mut Connection, most: u64) -> rusqlite::Result<u64> {
    let span = "SELECT coalesce(max(rowid) - min(rowid) + 1, 0) FROM audit";
    let span: i64 = connection.query_row(span, [], |row| row.get(0))?;
    Ok(u64::try_from(span).unwrap_or(0).saturating_sub(most))
}

pub(super) fn forget_oldest(connection: &mut Connection, number: u64) -> rusqlite::Result<u64> {
    let some = "DELETE FROM audit WHERE rowid IN (SELECT rowid FROM audit ORDER BY rowid LIMIT ?1)";
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    connection.execute(some, [number]).map(|gone| gone as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn r4_2_a_file_that_was_taken_away_is_told_and_its_return_needs_no_restart() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("db");
        std::fs::create_dir(&folder).unwrap();
        let sqlite = Sqlite::start(folder.join("gateway.sqlite")).unwrap();
        let probe = || sqlite.ask(|it| probe(it, Timestamp(1)));
        assert_eq!(probe().await, Ok(()));
        assert_eq!(sqlite.connections(), 1);
        let away = dir.path().join("away");
        platform::durable::rename(&folder, &away).unwrap();
        assert!(matches!(probe().await, Err(DatabaseError::Away(_))));
        assert_eq!(sqlite.connections(), 0);
        platform::durable::rename(&away, &folder).unwrap();
        assert_eq!(probe().await, Ok(()));
    }

    #[tokio::test]
    async fn a_record_that_is_written_twice_is_kept_once_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::start(dir.path().join("gateway.sqlite")).unwrap();
        let record = |id: &str, time| Record {
            id: id.to_owned(),
            time: Timestamp(time),
            kind: "call".to_owned(),
            agent: "a".to_owned(),
            subject: "serpapi:search".to_owned(),
            status: 200,
            detail: String::new(),
            millis: 3,
        };
        for _ in 0..2 {
            let records = vec![record("1", 1), record("2", 9)];
            sqlite.ask(move |it| append(it, &records)).await.unwrap();
        }
        let count = || {
            sqlite.ask(|it| {
                it.query_row("SELECT count(*) FROM audit", [], |row| row.get::<_, i64>(0))
            })
        };
        assert_eq!(count().await, Ok(2));
        assert_eq!(sqlite.ask(|it| forget(it, Timestamp(9))).await, Ok(1));
        assert_eq!(count().await, Ok(1));
        let many: Vec<Record> = (0..9).map(|n| record(&format!("more {n}"), 50)).collect();
        sqlite.ask(move |it| append(it, &many)).await.unwrap();
        assert_eq!(sqlite.ask(|it| surplus(it, 4)).await, Ok(6));
        assert_eq!(sqlite.ask(|it| forget_oldest(it, 6)).await, Ok(6));
        assert_eq!(sqlite.ask(|it| surplus(it, 4)).await, Ok(0));
        assert_eq!(count().await, Ok(4));
    }
}
