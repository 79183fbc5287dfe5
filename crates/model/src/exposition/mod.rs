//! The text in which programs expose their metrics: Prometheus text 0.0.4 and OpenMetrics 1.0.
//!
//! [`parse`] reads a page line by line; a malformed line costs only itself. [`encode`] writes one.

pub mod encode;
pub mod parse;

/// Which of the two text formats a page is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Prometheus text 0.0.4: timestamps in integer milliseconds.
    Prometheus,
    /// OpenMetrics 1.0: timestamps in seconds, exemplars, `# EOF` at the end.
    OpenMetrics,
}

impl Dialect {
    /// The dialect that a `Content-Type` header announces; anything unknown is read as Prometheus text.
    pub fn from_content_type(content_type: &str) -> Self {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        if media.eq_ignore_ascii_case("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }
}

#[cfg(test)]
mod tests;
