//! What identifies a series, and what kind of metric it belongs to.

use crate::Labels;
use std::fmt;

/// Metric name and labels; two samples belong to one series when these are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    /// The metric name, any UTF-8, not empty.
    pub metric: Box<str>,
    /// The labels, without the name.
    pub labels: Labels,
}

impl SeriesKey {
    /// A key from its two parts.
    pub fn new(metric: impl Into<Box<str>>, labels: Labels) -> Self {
        Self { metric: metric.into(), labels }
    }

    /// Bytes of text in names and values; what a length limit counts.
    pub fn text_len(&self) -> usize {
        self.labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
            + self.metric.len()
    }
}

/// The exposition form, `metric{label="value"}`.
impl fmt::Display for SeriesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(self.text_len() + 8 * self.labels.len() + 2);
        crate::exposition::encode::series(&mut text, &self.metric, self.labels.iter());
        f.write_str(&text)
    }
}

/// The declared type of a metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MetricKind {
    /// Only ever rises, but for resets.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
    /// Buckets of a gauge.
    GaugeHistogram,
    /// Quantiles, sum and count.
    Summary,
    /// Labels are the information, the value is 1.
    Info,
    /// One series per state, 1 for the current one.
    StateSet,
    /// Not declared.
    #[default]
    Unknown,
}

impl MetricKind {
    /// The word used in `# TYPE` lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::Unknown => "unknown",
        }
    }

    /// The kind that a `# TYPE` line names; `untyped` is the old word for `unknown`.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "counter" => Self::Counter,
            "gauge" => Self::Gauge,
            "histogram" => Self::Histogram,
            "gaugehistogram" => Self::GaugeHistogram,
            "summary" => Self::Summary,
            "info" => Self::Info,
            "stateset" => Self::StateSet,
            "unknown" | "untyped" => Self::Unknown,
            _ => return None,
        })
    }
}

/// What a target says of a metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricInfo {
    /// Its type.
    pub kind: MetricKind,
    /// Its unit, a word; empty where none was said.
    pub unit: Box<str>,
    /// What it means; empty where nothing was said.
    pub help: Box<str>,
}

impl MetricInfo {
    /// This, with `other` where this says nothing.
    pub fn or(self, other: &Self) -> Self {
        let text = |own: Box<str>, other: &str| if own.is_empty() { other.into() } else { own };
        Self {
            kind: if self.kind == MetricKind::Unknown { other.kind } else { self.kind },
            unit: text(self.unit, &other.unit),
            help: text(self.help, &other.help),
        }
    }

    /// This with texts of at most `longest` bytes.
    pub fn cut(mut self, longest: usize) -> Self {
        for text in [&mut self.unit, &mut self.help] {
            if text.len() > longest {
                let end = text.floor_char_boundary(longest);
                *text = text.get(..end).unwrap_or_default().into();
            }
        }
        self
    }
}
