//! One attempt to get a page: bounded bytes, one deadline.

use crate::target::Target;
use bytes::Bytes;
use model::exposition::Dialect;
use platform::http::{HttpClient, HttpError, Method};
use tokio::time::Instant;

/// What we ask for: OpenMetrics first, then the older text.
const ACCEPT: &str =
    "application/openmetrics-text;version=1.0.0;q=0.7,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// A page as it came.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) body: Bytes,
    pub(crate) dialect: Dialect,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("answered with status {0}")]
    Status(u16),
    #[error("page has more than the {0} samples allowed by max_samples")]
    TooManySamples(usize),
}

impl FetchError {
    /// A short constant name, the value of the label `reason`.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Http(error) => error.kind(),
            Self::Status(_) => "status",
            Self::TooManySamples(_) => "too_many_samples",
        }
    }

    /// Whether another attempt in the same scrape may go better.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Http(HttpError::Url(_) | HttpError::TooLarge(_)) | Self::TooManySamples(_) => {
                false
            }
            Self::Http(_) => true,
            Self::Status(status) => *status >= 500 || matches!(status, 408 | 425 | 429),
        }
    }
}

/// Gets the page, or says why not.
pub(crate) async fn fetch(
    client: &HttpClient,
    target: &Target,
    deadline: Instant,
) -> Result<Page, FetchError> {
    let seconds = target.timeout.as_secs_f64().to_string();
    let headers = [
        ("accept", ACCEPT),
        ("user-agent", concat!("forerunner/", env!("CARGO_PKG_VERSION"))),
        ("x-prometheus-scrape-timeout-seconds", &seconds),
    ];
    let answer = client.send(Method::GET, &target.url, &headers, Bytes::new(), deadline).await?;
    if answer.status != 200 {
        return Err(FetchError::Status(answer.status));
    }
    let dialect = Dialect::from_content_type(answer.content_type.as_deref().unwrap_or_default());
    let body = answer.body(target.max_body_size.as_usize()).await?;
    Ok(Page { body, dialect })
}
