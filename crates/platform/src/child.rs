//! Child processes: started without a shell, their output streamed line by line into a bounded log and
//! a ring of last lines, their whole group ended.

use crate::PlatformError;
use crate::log::RollingLog;
use std::collections::VecDeque;
use std::net::TcpListener;
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
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// The program; looked up in `PATH` when it has no separator.
    pub program: PathBuf,
    /// Its arguments, handed over as they are.
    pub args: Vec<String>,
    /// Variables of its environment besides ours.
    pub env: Vec<(String, String)>,
    /// A listening socket that it is handed as handle 3, as systemd does; Unix only.
    pub socket: Option<Arc<TcpListener>>,
}

impl Command {
    /// A program and its arguments, nothing else.
    pub fn new(program: impl Into<PathBuf>, args: Vec<String>) -> Self {
        Self { program: program.into(), args, ..Self::default() }
    }
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
            .envs(command.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        spawn.kill_on_drop(true);
        #[cfg(unix)]
        spawn.process_group(0);
        #[cfg(unix)]
        if let Some(socket) = &command.socket {
            use command_fds::{CommandFdExt, FdMapping};
            let refused =
                |source| PlatformError::Start { program: command.program.clone(), source };
            let parent_fd = socket.try_clone().map_err(refused)?.into();
            let taken = spawn.fd_mappings(vec![FdMapping { parent_fd, child_fd: 3 }]);
            taken.map_err(|error| refused(std::io::Error::other(error)))?;
        }
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
            self.group().kill(); // it is gone; what it started may not be
            return self.inner.wait().await;
        }
        self.group().terminate();
        let status = match tokio::time::timeout(grace, self.wait()).await {
            Ok(status) => status,
            Err(_) => {
                warn!(pid = self.pid, ?grace, "child did not end in time, killing its group");
                self.group().kill();
                let _ = self.inner.start_kill();
                self.inner.wait().await
            }
        };
        // Whatever it started in its group and left behind ends with it.
        self.group().kill();
        status
    }

    /// Its process group, to be signalled while somebody waits for the child.
    pub fn group(&self) -> Group {
        Group { pid: self.pid }
    }
}

/// The process group of a child. Where the system has no signals, nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pid: u32,
}

impl Group {
    /// Asks all of it to end.
    pub fn terminate(self) {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::TERM);
    }

    /// Ends all of it at once.
    pub fn kill(self) {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::KILL);
    }

    /// Stops all of it, as it is, until [`Group::resume`].
    pub fn pause(self) {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::STOP);
    }

    /// Lets all of it go on.
    pub fn resume(self) {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::CONT);
    }

    #[cfg(unix)]
    fn signal(self, signal: rustix::process::Signal) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw) {
            // The group may be gone already.
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }
}

/// The variable that names the process that a bound command belongs to.
pub const BOUND_TO: &str = "FORERUNNER_BOUND_TO";

/// Has the system kill the calling process when its parent ends, however that ends, and becomes the program of `command`; its
/// process id stays. Only the environment and the handles of this process are taken over. Returns only when that fails.
///
/// # Errors
/// The parent is gone already, or the program is missing or may not be run.
pub fn become_bound(command: &Command) -> PlatformError {
    let program = command.program.clone();
    let failed = |source| PlatformError::Start { program, source };
    #[cfg(target_os = "linux")]
    {
        let kill = Some(rustix::process::Signal::KILL);
        if let Err(error) = rustix::process::set_parent_process_death_signal(kill) {
            return failed(error.into());
        }
    }
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        // It may have ended before the system was asked.
        let parent = rustix::process::getppid().map(|it| it.as_raw_nonzero().get().to_string());
        let meant = std::env::var(BOUND_TO).ok();
        if meant.is_some() && meant != parent {
            return failed(std::io::Error::other("whoever started this has ended"));
        }
        let mut exec = std::process::Command::new(&command.program);
        exec.args(&command.args);
        exec.envs(command.env.iter().map(|(name, value)| (name, value)));
        failed(exec.exec())
    }
    #[cfg(not(unix))]
    failed(std::io::Error::other("not on this system"))
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
        Child::start(&Command::new("/bin/sh", args), None).unwrap()
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
    async fn a_socket_is_handed_over_and_stays_open_when_the_child_ends() {
        use std::io::Read;
        let socket = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let mut client = std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        // Python takes what waits at handle 3; sh cannot.
        let script = "import socket,os; s=socket.socket(fileno=3); c,_=s.accept(); c.sendall(os.environ['WORD'].encode())";
        let mut command =
            Command::new("/usr/bin/python3", vec!["-c".to_owned(), script.to_owned()]);
        command.env.push(("WORD".to_owned(), "handed".to_owned()));
        command.socket = Some(Arc::clone(&socket));
        let mut child = Child::start(&command, None).unwrap();
        assert!(child.wait().await.unwrap().success(), "{:?}", child.last_lines());
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "handed");
        std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn r5_1_a_gigabyte_of_output_takes_no_memory() {
        let mut child = sh("head -c 1073741824 /dev/zero | tr '\\0' x; echo; echo end; read hold");
        let resident = || crate::process::read(std::process::id()).unwrap().resident;
        let before = resident();
        wait_for_line(&child, "end").await;
        let grown = resident().saturating_sub(before);
        assert!(grown < 16 << 20, "{grown} bytes more");
        child.end(Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn r5_4_nothing_ends_a_child_that_runs_for_days() {
        let mut child = sh("echo begun; read hold; exit 7");
        wait_for_line(&child, "begun").await;
        let days = Duration::from_secs(3 * 86_400);
        assert!(tokio::time::timeout(days, child.wait()).await.is_err(), "it has ended");
        let pid = rustix::process::Pid::from_raw(child.pid() as i32).unwrap();
        rustix::process::test_kill_process(pid).unwrap();
        child.inner.stdin = None;
        assert_eq!(child.wait().await.unwrap().code(), Some(7));
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
