//! The HTTP client of a job. Certificates and keys are read anew when their files change.

use parking_lot::Mutex;
use platform::PlatformError;
use platform::http::HttpClient;
use platform::tls::Tls;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tracing::{info, warn};

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(10);

/// A client that all targets of a job share.
#[derive(Debug)]
pub(crate) struct JobClient {
    tls: Option<Tls>,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    client: HttpClient,
    looked: Instant,
    stamps: Vec<Option<SystemTime>>,
}

impl JobClient {
    /// For `https` too with `tls`.
    ///
    /// # Errors
    /// A file of `tls` cannot be read.
    pub(crate) fn new(tls: Option<Tls>) -> Result<Self, PlatformError> {
        let client = tls.as_ref().map_or_else(|| Ok(HttpClient::new()), HttpClient::with_tls)?;
        let stamps = stamps(tls.as_ref());
        Ok(Self { tls, held: Mutex::new(Held { client, looked: Instant::now(), stamps }) })
    }

    /// The client as of now.
    pub(crate) fn get(&self) -> HttpClient {
        let mut held = self.held.lock();
        let Some(tls) = &self.tls else { return held.client.clone() };
        if held.looked.elapsed() >= LOOK {
            held.looked = Instant::now();
            let stamps = stamps(Some(tls));
            if stamps != held.stamps {
                held.stamps = stamps;
                match HttpClient::with_tls(tls) {
                    Ok(client) => {
                        held.client = client;
                        info!("changed certificates read");
                    }
                    Err(error) => {
                        warn!(%error, "changed certificates are unfit; those before stay")
                    }
                }
            }
        }
        held.client.clone()
    }
}

fn stamps(tls: Option<&Tls>) -> Vec<Option<SystemTime>> {
    let modified = |path| std::fs::metadata(path).ok()?.modified().ok();
    tls.into_iter().flat_map(Tls::files).map(modified).collect()
}
