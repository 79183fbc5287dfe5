//! Threads of their own for what the query engine works out: a long aggregate delays neither scrapes nor alerts.

use crate::QueryError;
use std::future::Future;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// As many threads as there are processors.
pub(crate) struct Workers(Option<Runtime>);

impl Workers {
    pub(crate) fn new() -> Result<Self, QueryError> {
        let threads = Builder::new_multi_thread().thread_name("sql").enable_time().build();
        let threads = threads.map_err(|error| {
            QueryError::Failed(format!("no threads for queries could be begun: {error}"))
        })?;
        Ok(Self(Some(threads)))
    }

    /// Does `work` there. It is broken off, where it lets itself be, when nobody waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        let ended = || QueryError::Failed("the threads of queries have ended".to_owned());
        let threads = self.0.as_ref().ok_or_else(ended)?;
        let mut one = JoinSet::new();
        one.spawn_on(work, threads.handle());
        match one.join_next().await {
            Some(Ok(done)) => done,
            Some(Err(error)) => Err(QueryError::Failed(error.to_string())),
            None => Err(ended()),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // The last who asked may be a task, and a task may not wait for threads.
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}
