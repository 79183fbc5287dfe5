//! The requests to end that the system sends.

use std::io;
#[cfg(unix)]
use tokio::io::AsyncReadExt;

/// Waits for SIGTERM, SIGINT or SIGHUP; elsewhere for Ctrl-C. Returns its name.
///
/// # Errors
/// The handlers could not be installed.
pub async fn stop_requested() -> io::Result<&'static str> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::select! {
            _ = terminate.recv() => Ok("SIGTERM"),
            _ = interrupt.recv() => Ok("SIGINT"),
            _ = hangup.recv() => Ok("SIGHUP"),
        }
    }
    #[cfg(not(unix))]
    {
        tokio::signal::ctrl_c().await?;
        Ok("Ctrl-C")
    }
}

/// Waits until standard input ends. A parent that holds the other end of a pipe ends it by dying,
/// however it dies; so a child that waits for this cannot outlive it unnoticed.
pub async fn stdin_closed() {
    // A thread that blocks in read would keep the runtime from shutting down; a non-blocking pipe does not.
    #[cfg(unix)]
    if let Ok(mut pipe) = stdin_pipe() {
        let mut sink = [0; 64];
        while matches!(pipe.read(&mut sink).await, Ok(n) if n > 0) {}
        return;
    }
    std::future::pending().await
}

#[cfg(unix)]
fn stdin_pipe() -> io::Result<tokio::net::unix::pipe::Receiver> {
    use std::os::fd::AsFd;
    let owned = io::stdin().as_fd().try_clone_to_owned()?;
    tokio::net::unix::pipe::Receiver::from_owned_fd(owned)
}
