//! What can keep a gateway from serving.

use std::io;
use std::net::SocketAddr;

/// A gateway that cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// An address that cannot be listened on.
    #[error("could not listen on {address}: {source}; is another program using it?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("could not start a thread: {0}")]
    Thread(io::Error),
    /// Something that it needs is not there or not fit.
    #[error("{0}")]
    Setup(String),
    /// A file or folder.
    #[error(transparent)]
    Platform(#[from] platform::PlatformError),
    /// The environment file.
    #[error(transparent)]
    Env(#[from] crate::env::EnvError),
    /// A task ended that should not have.
    #[error("{0}")]
    Task(String),
}

impl GatewayError {
    pub(crate) fn bind(address: SocketAddr) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Bind { address, source }
    }
}
