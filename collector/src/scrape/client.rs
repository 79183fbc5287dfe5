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
    /// Why those that came since are not used.
    unfit: String,
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
            let stamps = stamps(); // before they are read: a change meanwhile is seen
            let client = HttpClient::with_tls(&self.tls)?;
            let (looked, unfit) = (Instant::now(), String::new());
            *held = Some(Held { client: client.clone(), looked, stamps, unfit });
            return Ok(client);
        };
        if held.looked.elapsed() >= LOOK {
            held.looked = Instant::now();
            let stamps = stamps();
            if stamps != held.stamps {
                // Tried again until it works: leave to read them may come without a change.
                match HttpClient::with_tls(&self.tls) {
                    Ok(client) => {
                        (held.client, held.stamps) = (client, stamps);
                        held.unfit.clear();
                        info!("changed certificates read");
                    }
                    Err(error) => {
                        let why = error.to_string();
                        if why != held.unfit {
                            warn!(%error, "changed certificates are unfit; those before stay");
                            held.unfit = why;
                        }
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
