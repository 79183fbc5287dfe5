//! Child processes: started without a shell, their output streamed line by line into a bounded log and
//! a ring of last lines, their whole group ended.

use crate::PlatformError;
use crate::log::RollingLog;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tracing::warn;

/// Longest line of output that is kept whole; the rest of a longer one is dropped.
pub const LINE_LIMIT: usize = 8 << 10;
/// Lines of output kept as evidence.
pub const LAST_LINES: usize = 50;

/// What to start.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The program; looked up in `PATH` when it has no separator.
    pub program: PathBuf,
    /// Its arguments, handed over as they are.
    pub args: Vec<String>,
}

/// A running child with its output. Dropping it kills the child.
#[derive(Debug)]
pub struct Child {
    inner: tokio::process::Child,
    pid: u32,
    last: Arc<Mutex<VecDeque<String>>>,
}

impl Child {
    /// Starts `command` as leader of its own process group, its standard input a pipe that ends when this
    /// process does. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The program is missing or may not be run.
    pub fn start(command: &Command, log: Option<RollingLog>) -> Result<Self, PlatformError> {
        let mut spawn = tokio::process::Command::new(&command.program);
        spawn
            .args(&command.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        spawn.kill_on_drop(true);
        #[cfg(unix)]
        spawn.process_group(0);
        let program = command.program.clone();
        let mut inner = spawn.spawn().map_err(|source| PlatformError::Start { program, source })?;
        let pid = inner.id().unwrap_or(0);
        let last = Arc::new(Mutex::new(VecDeque::with_capacity(LAST_LINES)));
        let log = Arc::new(Mutex::new(log));
        if let Some(out) = inner.stdout.take() {
            tokio::spawn(drain(out, Arc::clone(&last), Arc::clone(&log)));
        }
        if let Some(err) = inner.stderr.take() {
            tokio::spawn(drain(err, Arc::clone(&last), log));
        }
        Ok(Self { inner, pid, last })
    }

    /// The process id, also that of its group.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end. Cancel-safe. Its standard input stays open meanwhile.
    ///
    /// # Errors
    /// The system lost track of it.
    pub async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        // tokio's wait would close standard input first, and so tell the child that we died.
        let stdin = self.inner.stdin.take();
        let guard = StdinGuard { child: &mut self.inner, stdin };
        guard.child.wait().await
    }

    /// The last lines of its output, oldest first.
    pub fn last_lines(&self) -> Vec<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Ends it and its group: the polite signal first, the hard one after `grace`.
    ///
    /// # Errors
    /// The system lost track of it.
    pub async fn end(&mut self, grace: Duration) -> std::io::Result<ExitStatus> {
        if self.inner.id().is_none() {
            return self.inner.wait().await;
        }
        self.signal_group(GroupSignal::Terminate);
        let status = match tokio::time::timeout(grace, self.wait()).await {
            Ok(status) => status,
            Err(_) => {
                warn!(pid = self.pid, ?grace, "child did not end in time, killing its group");
                self.signal_group(GroupSignal::Kill);
                let _ = self.inner.start_kill();
                self.inner.wait().await
            }
        };
        // Whatever it started in its group and left behind ends with it.
        self.signal_group(GroupSignal::Kill);
        status
    }

    fn signal_group(&self, signal: GroupSignal) {
        #[cfg(unix)]
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw) {
            let signal = match signal {
                GroupSignal::Terminate => rustix::process::Signal::TERM,
                GroupSignal::Kill => rustix::process::Signal::KILL,
            };
            // The group may be gone already, which is what we want.
            let _ = rustix::process::kill_process_group(pid, signal);
        }
        #[cfg(not(unix))]
        let _ = signal;
    }
}

enum GroupSignal {
    Terminate,
    Kill,
}

/// Puts standard input back when a wait is cancelled.
struct StdinGuard<'a> {
    child: &'a mut tokio::process::Child,
    stdin: Option<tokio::process::ChildStdin>,
}

impl Drop for StdinGuard<'_> {
    fn drop(&mut self) {
        self.child.stdin = self.stdin.take();
    }
}

async fn drain(
    output: impl AsyncRead + Unpin,
    last: Arc<Mutex<VecDeque<String>>>,
    log: Arc<Mutex<Option<RollingLog>>>,
) {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    while let Ok(chunk) = reader.fill_buf().await {
        if chunk.is_empty() {
            break;
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
        let room = LINE_LIMIT.saturating_sub(line.len()).min(part.len());
        line.extend_from_slice(part.get(..room).unwrap_or_default());
        let taken = end.map_or(chunk.len(), |end| end + 1);
        reader.consume(taken);
        if end.is_some() {
            keep(&line, &last, &log);
            line.clear();
        }
    }
    if !line.is_empty() {
        keep(&line, &last, &log);
    }
}

fn keep(line: &[u8], last: &Mutex<VecDeque<String>>, log: &Mutex<Option<RollingLog>>) {
    let text = String::from_utf8_lossy(line).into_owned();
    if let Some(log) = log.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        // A full disk must not stop the child by blocking its output; the ring still has the line.
        let _ = log.line(&text);
    }
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    if last.len() == LAST_LINES {
        last.pop_front();
    }
    last.push_back(text);
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Child {
        let args = vec!["-c".to_owned(), script.to_owned()];
        Child::start(&Command { program: "/bin/sh".into(), args }, None).unwrap()
    }

    async fn wait_for_line(child: &Child, text: &str) {
        while !child.last_lines().iter().any(|line| line == text) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_last_lines_of_endless_output_are_kept_and_no_more() {
        let mut child = sh(
            "seq 1 100000; head -c 100000 /dev/zero | tr '\\0' x; echo; echo end >&2; read hold",
        );
        wait_for_line(&child, "end").await;
        while child.last_lines().iter().all(|line| line.len() != LINE_LIMIT) {
            tokio::task::yield_now().await;
        }
        assert_eq!(child.last_lines().len(), LAST_LINES);
        child.end(Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test]
    async fn a_child_that_ignores_the_polite_signal_is_killed_with_its_group() {
        let mut child = sh("trap '' TERM; (exec sleep 600) & echo ready; wait"); // both ignore it
        wait_for_line(&child, "ready").await;
        let pid = child.pid();
        let status = child.end(Duration::from_millis(50)).await.unwrap();
        assert!(!status.success());
        let group_is_gone = || {
            let group = rustix::process::Pid::from_raw(pid as i32).unwrap();
            rustix::process::test_kill_process_group(group).is_err()
        };
        while !group_is_gone() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_cancelled_wait_leaves_standard_input_open() {
        let mut child = sh("read line; echo closed");
        tokio::time::timeout(Duration::ZERO, child.wait()).await.unwrap_err();
        assert!(child.last_lines().is_empty());
        assert!(child.inner.stdin.is_some());
        child.inner.stdin = None;
        wait_for_line(&child, "closed").await;
        assert!(child.wait().await.unwrap().success());
    }
}
