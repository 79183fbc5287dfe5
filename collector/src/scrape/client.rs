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
    plain: HttpClient,
    tls: Tls,
    /// Made when the first target wants it.
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    client: HttpClient,
    looked: Instant,
    stamps: Vec<Option<SystemTime>>,
}

impl JobClient {
    /// With `tls` for targets that want it.
    pub(crate) fn new(tls: Tls) -> Self {
        Self { plain: HttpClient::new(), tls, held: Mutex::new(None) }
    }

    /// The client for `url` as of now.
    ///
    /// # Errors
    /// It wants TLS, and a file for that cannot be read or is unfit.
    pub(crate) fn get(&self, url: &str) -> Result<HttpClient, PlatformError> {
        if !url.starts_with("https://") {
            return Ok(self.plain.clone());
        }
        let mut held = self.held.lock();
        let stamps = || stamps(&self.tls);
        let Some(held) = &mut *held else {
            let client = HttpClient::with_tls(&self.tls)?;
            *held = Some(Held { client: client.clone(), looked: Instant::now(), stamps: stamps() });
            return Ok(client);
        };
        if held.looked.elapsed() >= LOOK {
            held.looked = Instant::now();
            let stamps = stamps();
            if stamps != held.stamps {
                held.stamps = stamps;
                match HttpClient::with_tls(&self.tls) {
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
        Ok(held.client.clone())
    }
}

fn stamps(tls: &Tls) -> Vec<Option<SystemTime>> {
    let modified = |path| std::fs::metadata(path).ok()?.modified().ok();
    tls.files().map(modified).collect()
}
