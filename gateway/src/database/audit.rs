//! Audit records on their way: through a bounded queue to the database, and while that is away or slow to a journal on disk, bounded too.
//! What fits neither is counted as lost. A record has its id from the beginning, so that none is kept twice.

use super::{Database, DatabaseError, Record};
use crate::chaos::lease::Lease;
use crate::component::Pulse;
use platform::durable::{self, AppendFile};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tracing::{info, warn};

/// Records on the way at most.
const QUEUE: usize = 16_384;
/// Records written at once.
const BATCH: usize = 4_096;
/// Batches of the journal that go to the database at once, so that it is emptied faster than it can fill.
const DRAINS: usize = 16;
/// A record waits for others no longer than this.
const WAIT: Duration = Duration::from_millis(100);

/// Bytes of a record in the journal at most, with 500 characters of detail.
const LONGEST: u64 = 4_096;
/// While the database writes, the queue is looked at so often.
const LOOK: Duration = Duration::from_millis(20);

/// Takes records; clones share the queue.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    records: mpsc::Sender<Record>,
    counts: Arc<Counts>,
}

/// What became of them.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) written: AtomicU64,
    pub(crate) journaled: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) journal_bytes: AtomicU64,
    /// A fault on purpose: the disk takes no more.
    disk_full: Arc<Lease>,
}

/// Where they go. One at a time works on it.
#[derive(Debug)]
pub(crate) struct Sink {
    records: mpsc::Receiver<Record>,
    counts: Arc<Counts>,
    journal: PathBuf,
    /// The journal's end, once something was written there.
    file: Option<AppendFile>,
    /// It took nothing a moment ago: until then records rather wait in the queue.
    full_until: Option<Instant>,
    max_journal: u64,
    /// Up to here the journal is in the database.
    drained: u64,
    /// Taken from the queue and not yet settled: a restart of the component loses none.
    batch: Vec<Record>,
    /// The database was away a moment ago: until then it is not asked, and what comes goes to the journal.
    away_until: Option<Instant>,
}

/// After the database was away it is asked again.
const AWAY: Duration = Duration::from_secs(2);

/// An audit with its journal in `dir`.
pub(crate) fn open(dir: &Path, max_journal: u64) -> (Audit, Arc<Mutex<Sink>>) {
    let (sender, records) = mpsc::channel(QUEUE);
    let counts = Arc::new(Counts::default());
    let journal = dir.join("audit.journal");
    let left = std::fs::metadata(&journal).map_or(0, |meta| meta.len());
    counts.journal_bytes.store(left, Ordering::Relaxed);
    let sink = Sink {
        records,
        counts: Arc::clone(&counts),
        journal,
        file: None,
        full_until: None,
        max_journal,
        drained: 0,
        batch: Vec::new(),
        away_until: None,
    };
    (Audit { records: sender, counts }, Arc::new(Mutex::new(sink)))
}

impl Audit {
    /// Sends a record on its way; waits for nothing.
    pub(crate) fn note(&self, record: Record) {
        if self.records.try_send(record).is_err() {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// The fault that the journal finds no room.
    pub(crate) fn disk_full(&self) -> Arc<Lease> {
        Arc::clone(&self.counts.disk_full)
    }

    /// Records that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.records.max_capacity() - self.records.capacity()
    }
}

impl Sink {
    /// Takes what has come, writes it, and empties the journal when the database is there. False when another has taken its place.
    pub(crate) async fn work(&mut self, database: &Database, pulse: &Pulse) -> bool {
        if !pulse.beat().await {
            return false;
        }
        if self.batch.is_empty() {
            // By the clock and not by the record: to be woken for each would cost more than to write it.
            if self.records.len() < BATCH {
                tokio::time::sleep(WAIT).await;
            }
            while self.batch.len() < BATCH
                && let Ok(record) = self.records.try_recv()
            {
                self.batch.push(record);
            }
        }
        let away = self.away_until.is_some_and(|until| until > Instant::now());
        if !away && self.counts.journal_bytes.load(Ordering::Relaxed) > 0 {
            // In order: what waits in the journal goes first. What came meanwhile follows it to the database, and not back into the
            // journal: that would never be empty again.
            for _ in 0..DRAINS {
                self.drain(database).await;
                let away = self.away_until.is_some_and(|until| until > Instant::now());
                if away
                    || self.counts.journal_bytes.load(Ordering::Relaxed) == 0
                    || !pulse.beat().await
                {
                    break;
                }
            }
        }
        if !self.batch.is_empty() {
            self.settle(database).await;
        }
        true
    }

    /// Whether records were taken from the queue and are not settled.
    pub(crate) fn has_some(&self) -> bool {
        !self.batch.is_empty()
    }

    /// What is left when the end comes goes to the journal.
    pub(crate) fn save(&mut self) {
        loop {
            while self.batch.len() < BATCH
                && let Ok(record) = self.records.try_recv()
            {
                self.batch.push(record);
            }
            let batch = std::mem::take(&mut self.batch);
            if batch.is_empty() {
                return;
            }
            self.keep_on_disk(&batch);
        }
    }

    async fn settle(&mut self, database: &Database) {
        let n = self.batch.len() as u64;
        let away = self.away_until.is_some_and(|until| until > Instant::now());
        if !away && self.counts.journal_bytes.load(Ordering::Relaxed) == 0 {
            match self.append(database, self.batch.clone()).await {
                Ok(()) => {
                    self.counts.written.fetch_add(n, Ordering::Relaxed);
                    self.batch.clear();
                    return;
                }
                Err(error) => {
                    self.away_until = Some(Instant::now() + AWAY);
                    warn!(%error, "audit records go to the journal");
                }
            }
        }
        let batch = std::mem::take(&mut self.batch);
        self.keep_on_disk(&batch);
    }

    /// Writes to the database. While that takes its time, what fills the queue goes to the journal.
    async fn append(
        &mut self,
        database: &Database,
        records: Vec<Record>,
    ) -> Result<(), DatabaseError> {
        let mut written = pin!(database.append(records));
        loop {
            tokio::select! {
                outcome = &mut written => return outcome,
                () = tokio::time::sleep(LOOK) => self.spill(),
            }
        }
    }

    fn spill(&mut self) {
        let full = self.full_until.is_some_and(|until| until > Instant::now());
        if full || self.records.len() < QUEUE * 3 / 4 {
            return;
        }
        // Only where there is room: in the queue they wait for the database.
        let held = self.counts.journal_bytes.load(Ordering::Relaxed);
        let room = usize::try_from(self.max_journal.saturating_sub(held) / LONGEST);
        let most = room.unwrap_or(BATCH).min(BATCH);
        if most == 0 {
            return;
        }
        let mut some = Vec::with_capacity(most);
        while some.len() < most
            && let Ok(record) = self.records.try_recv()
        {
            some.push(record);
        }
        self.keep_on_disk(&some);
    }

    fn keep_on_disk(&mut self, records: &[Record]) {
        let n = records.len() as u64;
        match self.journal(records) {
            Ok(true) => self.counts.journaled.fetch_add(n, Ordering::Relaxed),
            Ok(false) => self.counts.lost.fetch_add(n, Ordering::Relaxed),
            Err(error) => {
                self.full_until = Some(Instant::now() + AWAY);
                warn!(%error, lost = n, "audit records could not be journaled");
                self.counts.lost.fetch_add(n, Ordering::Relaxed)
            }
        };
    }

    /// False when the journal is full.
    fn journal(&mut self, records: &[Record]) -> Result<bool, platform::PlatformError> {
        if self.counts.disk_full.hits() {
            let full = std::io::ErrorKind::StorageFull.into();
            return Err(platform::PlatformError::file("append to", &self.journal)(full));
        }
        // A line that an earlier end tore must not take the next one along.
        let mut text = "\n".to_owned();
        for record in records {
            if let Ok(line) = serde_json::to_string(record) {
                text.extend([line.as_str(), "\n"]);
            }
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open_journal()?,
        };
        if file.len() + text.len() as u64 > self.max_journal {
            self.file = Some(file);
            return Ok(false);
        }
        if let Err(error) = file.append(text.as_bytes()) {
            file.cut()?;
            return Err(error);
        }
        self.counts.journal_bytes.store(file.len(), Ordering::Relaxed);
        self.file = Some(file);
        Ok(true)
    }

    fn open_journal(&mut self) -> Result<AppendFile, platform::PlatformError> {
        match std::fs::metadata(&self.journal) {
            Ok(meta) => AppendFile::open_at(&self.journal, meta.len()),
            Err(_) => {
                self.drained = 0;
                AppendFile::create(&self.journal)
            }
        }
    }

    /// The journal is no more.
    fn forget_journal(&mut self) {
        self.file = None;
        self.drained = 0;
        self.counts.journal_bytes.store(0, Ordering::Relaxed);
    }

    /// Writes one batch of the journal to the database; removes the journal when all of it is there.
    async fn drain(&mut self, database: &Database) {
        let (records, end) = match self.next_of_journal() {
            Ok(next) => next,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                warn!("the audit's journal is gone; what waited in it is lost");
                return self.forget_journal();
            }
            Err(error) => {
                warn!(%error, "the audit's journal could not be read");
                return;
            }
        };
        if records.is_empty() {
            if durable::remove_file(&self.journal).is_ok() {
                info!("the audit's journal is in the database");
                self.forget_journal();
            }
            return;
        }
        let n = records.len() as u64;
        match self.append(database, records.clone()).await {
            Ok(()) => {
                self.drained = end;
                self.counts.written.fetch_add(n, Ordering::Relaxed);
            }
            Err(DatabaseError::Away(_)) => self.away_until = Some(Instant::now() + AWAY),
            Err(DatabaseError::Refused(_)) => self.by_halves(database, records, end).await,
        }
    }

    /// The database refuses one of them: it is found by halves, it is lost, and the others are written.
    async fn by_halves(&mut self, database: &Database, records: Vec<Record>, end: u64) {
        let mut parts = vec![records];
        while let Some(mut part) = parts.pop() {
            match database.append(part.clone()).await {
                Ok(()) => drop(self.counts.written.fetch_add(part.len() as u64, Ordering::Relaxed)),
                Err(DatabaseError::Refused(cause)) if part.len() <= 1 => {
                    let id = part.first().map(|it| it.id.clone());
                    warn!(cause, id, "the database refuses a record of the journal");
                    self.counts.lost.fetch_add(1, Ordering::Relaxed);
                }
                Err(DatabaseError::Refused(_)) => {
                    let rest = part.split_off(part.len() / 2);
                    parts.extend([rest, part]);
                }
                // All again later; what is there already stays as it is.
                Err(DatabaseError::Away(_)) => return,
            }
        }
        self.drained = end;
    }

    /// The next records of the journal and where they end. A line that a kill tore is passed over.
    fn next_of_journal(&self) -> std::io::Result<(Vec<Record>, u64)> {
        let mut file = std::fs::File::open(&self.journal)?;
        let drained = if file.metadata()?.len() < self.drained { 0 } else { self.drained };
        file.seek(SeekFrom::Start(drained))?;
        let mut reader = BufReader::new(file);
        let (mut records, mut end, mut line) = (Vec::new(), drained, Vec::new());
        while records.len() < BATCH {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            end += read as u64;
            if let Ok(record) = serde_json::from_slice(&line) {
                records.push(record);
            }
        }
        Ok((records, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DatabaseConfig;
    use model::Timestamp;

    fn record(n: u32) -> Record {
        Record {
            id: format!("{n:026}"),
            time: Timestamp(1),
            kind: "call".to_owned(),
            agent: String::new(),
            subject: String::new(),
            status: 200,
            detail: String::new(),
            millis: 1,
        }
    }

    #[tokio::test]
    async fn r4_2_what_comes_while_the_database_is_slow_goes_to_the_journal_before_the_queue_is_full()
     {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&DatabaseConfig::default(), dir.path()).unwrap();
        let (audit, sink) = open(dir.path(), 64 << 20);
        let (pulse, mut sink) = (Pulse::alone(), sink.lock().await);
        let count = |it: &AtomicU64| it.load(Ordering::Relaxed);
        let counts = audit.counts();
        database.slow.1.store(1_f64.to_bits(), Ordering::Release);
        database.slow.0.grant(Duration::from_secs(600));
        (0..BATCH as u32).for_each(|n| audit.note(record(n)));
        let come = async {
            (0..QUEUE as u32 * 3 / 4).for_each(|n| audit.note(record(1_000_000 + n)));
            while count(&counts.written) + count(&counts.journaled) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(sink.work(&database, &pulse), come);
        assert!(count(&counts.journaled) > 0, "all of it had to wait for the database");
        database.slow.0.end();
        let all = (BATCH + QUEUE * 3 / 4) as u64;
        for _ in 0..20 {
            sink.work(&database, &pulse).await;
        }
        assert_eq!((count(&counts.written), count(&counts.lost)), (all, 0));
        assert_eq!(count(&counts.journal_bytes), 0);
    }

    #[tokio::test]
    async fn r4_2_the_journal_comes_to_its_end_though_records_go_on_coming() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&DatabaseConfig::default(), dir.path()).unwrap();
        let (audit, sink) = open(dir.path(), 1 << 20);
        let (pulse, mut sink) = (Pulse::alone(), sink.lock().await);
        let mut n = 0_u32;
        let mut note = || {
            n += 1;
            audit.note(record(n));
        };
        database.away.grant(Duration::from_secs(600));
        note();
        sink.work(&database, &pulse).await;
        let waits = || audit.counts.journal_bytes.load(Ordering::Relaxed);
        assert!(waits() > 0);
        database.away.end();
        sink.away_until = None;
        // One more comes before each look: the journal must not be fed as fast as it is emptied.
        for _ in 0..2 {
            note();
            sink.work(&database, &pulse).await;
        }
        assert_eq!(waits(), 0);
        assert_eq!(audit.counts.written.load(Ordering::Relaxed), 3);
        assert_eq!(audit.counts.lost.load(Ordering::Relaxed), 0);
    }
}
