//! Named tasks of one process that stop together. A task that fails or panics stops the process in
//! order, so that whoever supervises the process hears of it.

use crate::Stop;
use std::fmt::Display;
use std::future::Future;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::{error, warn};

/// The tasks of a process.
#[derive(Debug)]
pub struct Tasks {
    stop: Stop,
    set: JoinSet<(&'static str, Result<(), String>)>,
}

/// A task ended with an error, panicked, or did not stop in time.
#[derive(Debug)]
pub struct TaskFailed {
    /// The name it was spawned with.
    pub task: &'static str,
    /// What went wrong.
    pub cause: String,
}

impl Display for TaskFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "task {} failed: {}", self.task, self.cause)
    }
}

impl std::error::Error for TaskFailed {}

impl Tasks {
    /// No task yet; all that follow end when `stop` is requested.
    pub fn new(stop: Stop) -> Self {
        Self { stop, set: JoinSet::new() }
    }

    /// Starts a task. It gets the stop request and returns when it has ended its last unit of work.
    pub fn spawn<F, E>(&mut self, name: &'static str, task: impl FnOnce(Stop) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        let work = task(self.stop.clone());
        self.set.spawn(async move {
            // A second task, so that a panic is reported under the name of the one that panicked.
            let mut inner = JoinSet::new();
            inner.spawn(async move { work.await.map_err(|error| error.to_string()) });
            match inner.join_next().await {
                Some(Ok(outcome)) => (name, outcome),
                Some(Err(error)) => (name, Err(format!("panicked: {error}"))),
                None => (name, Ok(())),
            }
        });
    }

    /// Runs until stop is requested or a task fails, then gives the others `grace` to end.
    ///
    /// # Errors
    /// The first task that failed, or one that outlived `grace` and was dropped.
    pub async fn run(mut self, grace: Duration) -> Result<(), TaskFailed> {
        let mut first = None;
        while !self.stop.requested() {
            tokio::select! {
                () = self.stop.wait() => {}
                ended = self.set.join_next() => match ended {
                    None => self.stop.request(),
                    Some(ended) => {
                        if let Some(failed) = failure(ended) {
                            error!(task = failed.task, error = %failed.cause, "task failed, stopping");
                            first = Some(failed);
                            self.stop.request();
                        }
                    }
                },
            }
        }
        let drain = async {
            while let Some(ended) = self.set.join_next().await {
                if let Some(failed) = failure(ended) {
                    warn!(task = failed.task, error = %failed.cause, "task failed while stopping");
                    first.get_or_insert(failed);
                }
            }
        };
        if tokio::time::timeout(grace, drain).await.is_err() {
            let late =
                TaskFailed { task: "shutdown", cause: format!("tasks still ran after {grace:?}") };
            first.get_or_insert(late);
        }
        first.map_or(Ok(()), Err)
    }
}

fn failure(
    ended: Result<(&'static str, Result<(), String>), tokio::task::JoinError>,
) -> Option<TaskFailed> {
    match ended {
        Ok((_, Ok(()))) => None,
        Ok((task, Err(cause))) => Some(TaskFailed { task, cause }),
        Err(error) => Some(TaskFailed { task: "supervisor", cause: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failing_task_stops_the_others_and_is_named() {
        let stop = Stop::new();
        let mut tasks = Tasks::new(stop.clone());
        tasks.spawn("patient", |stop| async move {
            stop.wait().await;
            Ok::<_, String>(())
        });
        tasks.spawn("broken", |_| async { Err("out of luck") });
        let failed = tasks.run(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!((failed.task, failed.cause.as_str()), ("broken", "out of luck"));
        assert!(stop.requested());
    }

    #[tokio::test]
    async fn a_panic_is_reported_under_its_tasks_name() {
        let mut tasks = Tasks::new(Stop::new());
        tasks.spawn("careless", |_| async {
            if true {
                panic!("oh");
            }
            Ok::<_, String>(())
        });
        assert_eq!(tasks.run(Duration::from_secs(5)).await.unwrap_err().task, "careless");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_left_behind_after_the_grace_time() {
        let stop = Stop::new();
        let mut tasks = Tasks::new(stop.clone());
        tasks.spawn("stuck", |_| async {
            std::future::pending::<()>().await;
            Ok::<_, String>(())
        });
        stop.request();
        assert_eq!(tasks.run(Duration::from_secs(5)).await.unwrap_err().task, "shutdown");
    }
}
