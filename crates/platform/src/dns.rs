//! Names to addresses and services, asked anew each time; for discovery.

use crate::PlatformError;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// For one answer.
const WAIT: Duration = Duration::from_secs(1);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Services with their ports.
    Srv,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// An address.
    Address(IpAddr),
    /// A host's name, without the dot at its end, and a port.
    Service(String, u16),
}

/// Asks name servers. Clones share it.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// Those of the system without.
    server: Option<SocketAddr>,
    /// None until it is asked, and after it did not answer: the system may have other servers by then.
    built: Arc<Mutex<Option<TokioResolver>>>,
}

impl Resolver {
    /// One that asks `server`, or those of the system without. Nothing is asked yet.
    pub fn new(server: Option<SocketAddr>) -> Self {
        Self { server, built: Arc::default() }
    }

    fn resolver(&self) -> Result<TokioResolver, PlatformError> {
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(built) = &*built {
            return Ok(built.clone());
        }
        let fresh = Self::build(self.server)?;
        *built = Some(fresh.clone());
        Ok(fresh)
    }

    fn build(server: Option<SocketAddr>) -> Result<TokioResolver, PlatformError> {
        let failed = |cause: &dyn ToString| PlatformError::Reading {
            what: "the system's name servers",
            cause: cause.to_string(),
        };
        let mut builder = match server {
            None => TokioResolver::builder_tokio().map_err(|error| failed(&error))?,
            Some(server) => {
                let connection = |mut connection: ConnectionConfig| {
                    connection.port = server.port();
                    connection
                };
                let connections =
                    vec![connection(ConnectionConfig::udp()), connection(ConnectionConfig::tcp())];
                let server = NameServerConfig::new(server.ip(), true, connections);
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options = builder.options_mut();
        options.cache_size = 0; // what is asked for anew shall be answered anew
        (options.timeout, options.attempts) = (WAIT, 2);
        builder.build().map_err(|error| failed(&error))
    }

    /// All answers, sorted; none where a server says that there is none.
    ///
    /// # Errors
    /// No server answered, or the system's configuration could not be read.
    pub async fn ask(&self, name: &str, question: Question) -> Result<Vec<Found>, PlatformError> {
        let kind = match question {
            Question::A => RecordType::A,
            Question::Aaaa => RecordType::AAAA,
            Question::Srv => RecordType::SRV,
        };
        let answer = match self.resolver()?.lookup(name, kind).await {
            Ok(answer) => answer,
            Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
            Err(error) => {
                *self.built.lock().unwrap_or_else(PoisonError::into_inner) = None;
                let (what, cause) = ("an answer of a name server", format!("{name}: {error}"));
                return Err(PlatformError::Reading { what, cause });
            }
        };
        let found = answer.answers().iter().filter_map(|record| match &record.data {
            RData::A(address) => Some(Found::Address(address.0.into())),
            RData::AAAA(address) => Some(Found::Address(address.0.into())),
            RData::SRV(service) => {
                let host = service.target.to_string();
                Some(Found::Service(host.trim_end_matches('.').to_owned(), service.port))
            }
            _ => None,
        });
        let mut found: Vec<Found> = found.collect();
        found.sort();
        found.dedup();
        Ok(found)
    }
}
