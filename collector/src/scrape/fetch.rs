//! One attempt to get a page: bounded bytes, one deadline.

use super::client::JobClient;
use crate::target::Target;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use model::exposition::Dialect;
use platform::PlatformError;
use platform::http::{HttpError, Method};
use std::io::{self, Read};
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
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error("answered with status {0}")]
    Status(u16),
    #[error("page has more than the {0} samples allowed by max_samples")]
    TooManySamples(usize),
    #[error("credentials could not be read from {0}")]
    Credentials(String),
    #[error("body in encoding {0:?}, which is none of gzip, zstd and identity")]
    Encoding(String),
    #[error("compressed body is damaged: {0}")]
    Compressed(String),
}

impl FetchError {
    /// A short constant name, the value of the label `reason`.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Http(error) => error.kind(),
            Self::Platform(_) => "tls",
            Self::Status(_) => "status",
            Self::TooManySamples(_) => "too_many_samples",
            Self::Credentials(_) => "credentials",
            Self::Encoding(_) | Self::Compressed(_) => "encoding",
        }
    }

    /// Whether another attempt in the same scrape may go better.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Http(HttpError::Url(_) | HttpError::TooLarge(_))
            | Self::Platform(_)
            | Self::TooManySamples(_)
            | Self::Credentials(_)
            | Self::Encoding(_) => false,
            Self::Http(_) | Self::Compressed(_) => true,
            Self::Status(status) => *status >= 500 || matches!(status, 408 | 425 | 429),
        }
    }
}

/// Gets the page, or says why not.
pub(crate) async fn fetch(
    client: &JobClient,
    target: &Target,
    deadline: Instant,
) -> Result<Page, FetchError> {
    let seconds = target.manner.timeout.as_secs_f64().to_string();
    let mut headers = vec![
        ("accept", ACCEPT),
        ("accept-encoding", "gzip, zstd"),
        ("user-agent", concat!("forerunner/", env!("CARGO_PKG_VERSION"))),
        ("x-prometheus-scrape-timeout-seconds", &seconds),
    ];
    let credentials = target.manner.credentials.header()?;
    headers.extend(credentials.as_ref().map(|value| ("authorization", value.as_str())));
    let client = client.get(&target.url)?;
    let answer = client.send(Method::GET, &target.url, &headers, Bytes::new(), deadline).await?;
    if answer.status != 200 {
        return Err(FetchError::Status(answer.status));
    }
    let dialect = Dialect::from_content_type(answer.content_type.as_deref().unwrap_or_default());
    let encoding = answer.content_encoding.clone().unwrap_or_default();
    let limit = target.manner.max_body_size.as_usize();
    let body = decode(&encoding, answer.body(limit).await?, limit)?;
    Ok(Page { body, dialect })
}

/// The body as it was before it was compressed; never more than `limit` bytes of it are held.
fn decode(encoding: &str, body: Bytes, limit: usize) -> Result<Bytes, FetchError> {
    let damaged = |error: io::Error| FetchError::Compressed(error.to_string());
    let mut plain = Vec::new();
    let more = limit as u64 + 1;
    match encoding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => return Ok(body),
        "gzip" | "x-gzip" => {
            MultiGzDecoder::new(&*body).take(more).read_to_end(&mut plain).map_err(damaged)?
        }
        "zstd" => zstd::Decoder::new(&*body)
            .map_err(damaged)?
            .take(more)
            .read_to_end(&mut plain)
            .map_err(damaged)?,
        other => return Err(FetchError::Encoding(other.to_owned())),
    };
    if plain.len() > limit {
        return Err(HttpError::TooLarge(limit).into());
    }
    Ok(plain.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap().into()
    }

    #[test]
    fn bodies_are_unpacked_within_the_limit_and_damage_is_told() {
        let text = b"a 1\nb 2\n".repeat(100);
        let zstd = Bytes::from(zstd::encode_all(&*text, 1).unwrap());
        for (encoding, body) in
            [("gzip", gzip(&text)), ("ZSTD", zstd), ("", Bytes::from(text.clone()))]
        {
            assert_eq!(decode(encoding, body, text.len()).unwrap(), text);
        }
        let reason = |encoding: &str, body: Bytes, limit: usize| {
            decode(encoding, body, limit).unwrap_err().reason()
        };
        assert_eq!(reason("gzip", gzip(&text), text.len() - 1), "too_large");
        assert_eq!(reason("gzip", gzip(&text).slice(..20), 10_000), "encoding");
        assert_eq!(reason("br", Bytes::new(), 10), "encoding");
        let bomb = gzip(&vec![b'a'; 50 << 20]);
        assert_eq!(reason("gzip", bomb, 1 << 20), "too_large");
    }
}
